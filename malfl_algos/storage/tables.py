"""Tables and data sets: CSV, Parquet, and Minari's HDF5.

`write_table` writes rows of results; every column has one type, the same in CSV and in Parquet.
`export_parquet` and `export_minari` write learning traces with observations for other tools (extra
`data`). These formats have no stages of learning, so every episode carries the number of its stage.
"""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from importlib.util import find_spec
from itertools import pairwise
from math import prod
from pathlib import Path
from typing import Any, Literal

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from malfl_algos.storage.durable import partial_file, partial_folder, write_bytes
from malfl_algos.storage.extras import needed
from malfl_algos.storage.origins import stage_hashes
from malfl_algos.storage.trace_folders import CHUNK_STEPS
from malfl_algos.storage.trace_names import names_to_json
from malfl_algos.trace import LearningTrace
from malfl_algos.trace.transitions import Transitions, blocks
from malfl_env.errors import InputError
from malfl_env.spaces import space_to_json

__all__ = ["export_minari", "export_parquet", "write_table"]

Kind = Literal["integer", "number", "boolean", "text"]


def write_table(
    path: Path,
    rows: Iterable[Mapping[str, Any]],
    names: Sequence[str] | None = None,
    *,
    numbers: Collection[str] = (),
) -> bool:
    """Write a table as CSV or Parquet, by the suffix of the path (`.csv` or `.parquet`).

    Numbers have full precision; a missing value is an empty cell (in Parquet null); values that are
    not numbers, booleans or text are written as JSON. Equal rows give equal bytes (in Parquet, with
    the same version of pyarrow).

    Args:
        path: of the file, which is written atomically.
        rows: mappings of column names to values; absent values are missing.
        names: of the columns, in order; default: all names in the rows.
        numbers: columns of floating-point numbers, even if all values are integers or missing.

    Returns:
        Whether the table was written: Parquet needs pyarrow.
    """
    rows = list(rows)
    if names is None:
        names = list(dict.fromkeys(name for row in rows for name in row))
    columns = {
        name: _typed([row.get(name) for row in rows], number=name in numbers) for name in names
    }
    if path.suffix == ".csv":
        write_bytes(path, _csv_bytes(columns))
    elif find_spec("pyarrow") is None:
        return False
    else:
        write_bytes(path, _parquet_bytes(columns))
    return True


def export_parquet(trace: LearningTrace, path: str | Path) -> None:
    """Write a trace as one table, a row per step, in row groups of at most 65 536 steps.

    Columns: `stage`, `episode` and `step` (numbers from 0, episodes within a stage, steps within
    an episode), `episode_end`, `terminated`, per agent `action/<id>`, `observation/<id>` and
    `next_observation/<id>` (fixed-size lists, row-major, if observations are arrays), and `state`,
    `next_state` if the trace has them. The table's metadata holds the agents, their numbers of
    actions and their observation spaces as JSON under `malfl`, and what else `malfl import` needs
    to restore the trace.

    Raises:
        ModuleNotFoundError: if pyarrow is missing; the message says how to install it.
        InputError: if the path exists.
    """
    pyarrow = _module("pyarrow")
    parquet = _module("pyarrow.parquet")
    target = _new(path)
    partial = partial_file(target)
    about = _about(trace)
    writer: Any = None
    try:
        for columns in _tables(trace):
            table = pyarrow.table({name: _arrow(pyarrow, own) for name, own in columns.items()})
            table = table.replace_schema_metadata({"malfl": json.dumps(about)})
            writer = writer or parquet.ParquetWriter(partial, table.schema)
            writer.write_table(table)
        writer.close()
        os.replace(partial, target)
    finally:
        partial.unlink(missing_ok=True)


def export_minari(trace: LearningTrace, folder: str | Path) -> None:
    """Write a trace as a dataset for `minari.MinariDataset(folder)`, in HDF5.

    Minari supports single agents only, so observations and actions are dictionaries with an entry
    per agent. Rewards are NaN, because a trace has none. Every episode has the option `stage`, the
    number of its stage from 0; joint states, if the trace has them, are the info `state`. The
    metadata `malfl_made_from` is JSON with the hash of each stage, `malfl` what `malfl import`
    needs to restore the trace.

    Raises:
        ModuleNotFoundError: if minari is missing; the message says how to install it.
        InputError: if the folder exists, or an agent's id has a slash, which HDF5 does not allow.
    """
    _module("h5py")
    minari, buffer = _module("minari"), _module("minari.data_collector").EpisodeBuffer
    storage_class = _module("minari.dataset.minari_storage").MinariStorage
    if any("/" in agent for agent in trace.agents):
        raise InputError(f"HDF5 does not allow agent ids with a slash, got {trace.agents}")
    target = _new(folder)
    partial = partial_folder(target.absolute())  # Minari does not handle relative paths
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        storage = storage_class.new(
            partial,
            observation_space=spaces.Dict(dict(zip(trace.agents, trace.spaces or (), strict=True))),
            action_space=spaces.Dict(
                {
                    agent: spaces.Discrete(n)
                    for agent, n in zip(trace.agents, trace.n_actions, strict=True)
                }
            ),
            data_format="hdf5",
            jpeg_encoding=False,
        )
        storage.update_metadata(
            {
                "dataset_id": f"malfl/{re.sub(r'[^A-Za-z0-9_-]', '-', target.name)}-v0",
                "minari_version": minari.__version__,
                "description": "Agents that learn, stage by stage; rewards are not recorded (NaN).",
                "malfl_made_from": json.dumps(_made_from(trace)),
                "malfl": json.dumps(_about(trace)),
            }
        )
        storage.update_episodes(_episodes(trace, buffer))
        os.replace(partial, target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _about(trace: LearningTrace) -> dict[str, Any]:
    """What `malfl import` needs to restore the trace besides the steps."""
    steps = [stage.transitions for stage in trace.stages]
    about: dict[str, Any] = {
        "agents": list(trace.agents),
        "n_actions": list(trace.n_actions),
        "spaces": [space_to_json(space) for space in trace.spaces or ()],
        "made_from": _made_from(trace),
        "complete": [own is not None and own.complete for own in steps],
        "terminates": [own is not None and own.terminations is not None for own in steps],
        "type_of_actions": [own and own.joint_actions.dtype.str for own in steps],
        **names_to_json(trace),
    }
    if trace.is_tabular:
        about["n_states"] = trace.n_states
    return about


def _made_from(trace: LearningTrace) -> dict[str, Any]:
    return {"stages": stage_hashes(trace)}


def _typed(values: Sequence[Any], *, number: bool) -> tuple[Kind, list[Any]]:
    """The type of a column, and its values in this type."""
    kinds = {type(value) for value in values if value is not None}
    kind: Kind = "text"
    if number or (float in kinds and kinds <= {float, int}):
        kind = "number"
    elif kinds == {bool}:
        kind = "boolean"
    elif kinds == {int} and all(-(2**63) <= v < 2**63 for v in values if v is not None):
        kind = "integer"
    convert: Mapping[Kind, Callable[[Any], Any]] = {"number": float, "text": _text}
    if kind in convert:
        values = [None if value is None else convert[kind](value) for value in values]
    return kind, list(values)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _csv_bytes(columns: Mapping[str, tuple[Kind, list[Any]]]) -> bytes:
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(columns)
    cells = [
        [_text(value) if kind == "boolean" and value is not None else value for value in values]
        for kind, values in columns.values()
    ]
    table.writerows(zip(*cells, strict=True))
    return text.getvalue().encode()


def _parquet_bytes(columns: Mapping[str, tuple[Kind, list[Any]]]) -> bytes:
    import pyarrow as pa
    from pyarrow import parquet

    types = {
        "integer": pa.int64(),
        "number": pa.float64(),
        "boolean": pa.bool_(),
        "text": pa.string(),
    }
    arrays = {name: pa.array(values, types[kind]) for name, (kind, values) in columns.items()}
    buffer = io.BytesIO()
    parquet.write_table(pa.table(arrays), buffer)
    return buffer.getvalue()


def _tables(trace: LearningTrace) -> Iterator[dict[str, NDArray[Any]]]:
    for stage, steps in _observed(trace):
        episode, step = 0, 0
        for rows in blocks(steps.n_steps, CHUNK_STEPS):
            part = steps.slice(rows.start, rows.stop)
            episodes, numbers = _numbered(np.asarray(part.episode_ends), episode, step)
            yield {
                "stage": np.full(len(numbers), stage, dtype=np.int32),
                "episode": episodes,
                "step": numbers,
                **_columns(part, trace),
            }
            over = bool(part.episode_ends[-1])
            episode, step = int(episodes[-1]) + over, 0 if over else int(numbers[-1]) + 1


def _numbered(
    ends: NDArray[np.bool_], episode: int, step: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Episode number and step number of steps that continue `episode` at `step`."""
    episodes = episode + np.cumsum(ends) - ends
    index = np.arange(len(ends))
    firsts = np.concatenate([[-step], index[1:][ends[:-1]]])
    return episodes.astype(np.int64), (index - firsts[episodes - episode]).astype(np.int64)


def _columns(steps: Transitions, trace: LearningTrace) -> dict[str, NDArray[Any]]:
    ended = steps.terminations
    columns: dict[str, NDArray[Any]] = {
        "episode_end": steps.episode_ends,
        "terminated": np.zeros(len(steps.joint_actions), bool) if ended is None else ended,
    }
    for index, agent in enumerate(trace.agents):
        columns[f"action/{agent}"] = steps.joint_actions[:, index]
        for kind in ("observation", "next_observation"):
            columns[f"{kind}/{agent}"] = getattr(steps, f"{kind}s")[agent]
    if steps.states is not None and steps.next_states is not None:
        columns |= {"state": steps.states, "next_state": steps.next_states}
    return columns


def _arrow(pyarrow: Any, column: NDArray[Any]) -> Any:
    """A column in Arrow's form; rows that are arrays become lists of one length."""
    flat = pyarrow.array(np.ascontiguousarray(column).reshape(-1))
    if column.ndim == 1:
        return flat
    return pyarrow.FixedSizeListArray.from_arrays(flat, prod(column.shape[1:]))


def _episodes(trace: LearningTrace, buffer: Any) -> Iterator[Any]:
    for stage, steps in _observed(trace):
        firsts = np.concatenate([[0], np.flatnonzero(steps.episode_ends) + 1])
        for first, stop in pairwise(firsts.tolist()):
            yield _episode(trace, steps.slice(first, stop), buffer, stage=stage)


def _episode(trace: LearningTrace, steps: Transitions, buffer: Any, *, stage: int) -> Any:
    terminated, truncated = np.zeros((2, steps.n_steps), dtype=bool)
    terminated[-1] = steps.terminations is not None and steps.terminations[-1]
    truncated[-1] = not terminated[-1]
    seen: Any = steps.observations
    following: Any = steps.next_observations
    infos = None
    if steps.states is not None and steps.next_states is not None:
        infos = {"state": np.concatenate([steps.states, steps.next_states[-1:]])}
    return buffer(
        infos=infos,
        observations={
            agent: np.concatenate([seen[agent], following[agent][-1:]]) for agent in trace.agents
        },
        actions={
            agent: np.asarray(steps.joint_actions[:, index], dtype=np.int64)
            for index, agent in enumerate(trace.agents)
        },
        rewards=np.full(steps.n_steps, np.nan),
        terminations=terminated,
        truncations=truncated,
        options={"stage": stage},
    )


def _observed(trace: LearningTrace) -> Iterator[tuple[int, Transitions]]:
    """Number and steps of every stage."""
    for number, stage in enumerate(trace.stages):
        if trace.spaces is None or stage.transitions is None:
            raise InputError(
                f"stage {number} holds no steps with observations: add them with "
                "LearningTrace.with_observations"
            )
        yield number, stage.transitions


def _new(path: str | Path) -> Path:
    if Path(path).exists():
        raise InputError(f"{path}: exists already; choose another name")
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    return Path(path)


def _module(name: str) -> Any:
    return needed(name, "this export", note=" (Minari needs Python 3.11 or newer)")
