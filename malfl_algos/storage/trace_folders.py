"""Traces with observations on disk: a folder with a manifest and a file per stage and column.

`manifest.json` describes the trace, with the number of steps and the checksum of every chunk of
every column, and contains its own checksum. The columns of stage h are `stage_<h>/<name>.npy`.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from malfl_algos.storage.arrays import check_manifest
from malfl_algos.storage.columns import ColumnWriter, map_column
from malfl_algos.storage.durable import (
    is_of_system,
    partial_folder,
    replace_folder,
    sync_folder,
    value_hash,
    write_json,
)
from malfl_algos.storage.trace_names import names_from_json, names_to_json
from malfl_algos.trace import LearningTrace, Stage
from malfl_algos.trace.transitions import COLUMNS, OBSERVED, Transitions, blocks
from malfl_env.arguments import typed
from malfl_env.errors import InputError
from malfl_env.spaces import AnySpace, space_from_json, space_to_json

__all__ = ["CHUNK_STEPS", "TraceWriter", "load_folder", "save_folder"]

CHUNK_STEPS = 1 << 16
"""Steps per chunk of a stage that is written at once."""

_FORMAT, _VERSION = "malfl observation trace", 1
_MANIFEST = "manifest.json"
_MAX_MANIFEST_BYTES = 64 * 2**20


@typed
class TraceWriter:
    """Write a trace to a folder, stage by stage and chunk by chunk; a context manager.

    The trace appears in the folder when the context ends without an exception. Until then, and
    after an exception, the folder is as it was before. Public as `malfl_algos.TraceWriter`.

    Args:
        folder: where to write; a trace that exists there is replaced.
        agents: ids in agent order.
        n_actions: number of actions of each agent.
        spaces: observation space of each agent.
        names: further entries of the manifest, as `names_to_json` gives them.

    Raises:
        InputError: if the folder exists and is not a trace.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        agents: Sequence[str],
        n_actions: Sequence[int],
        spaces: Sequence[AnySpace],
        names: Mapping[str, Any] | None = None,
    ) -> None:
        self._folder = Path(folder)
        if self._folder.exists() and not _is_trace(self._folder):
            raise InputError(f"{folder}: exists and is not a trace; choose another folder")
        self._agents = tuple(agents)
        self._n_actions, self._spaces = tuple(n_actions), tuple(spaces)
        self._names = dict(names or {})
        self._partial = partial_folder(self._folder)
        self._stages: list[dict[str, Any]] = []
        self._open: dict[str, ColumnWriter] = {}
        self._complete, self._terminates = True, False

    def __enter__(self) -> TraceWriter:
        shutil.rmtree(self._partial, ignore_errors=True)
        self._partial.mkdir(parents=True)
        return self

    def append(self, steps: Transitions) -> None:
        """Add a chunk to the present stage; an episode may continue in the next chunk.

        Raises:
            InputError: for steps that do not fit the trace or the previous chunks.
            NoSpace: if the disk is full.
        """
        ends = np.ones(len(steps.joint_actions), dtype=bool)  # a chunk need not end an episode
        chunk = Transitions(**{**vars(steps), "episode_ends": ends, "terminations": None})
        LearningTrace((Stage(transitions=chunk),), self._agents, self._n_actions, self._spaces)
        columns = dict(_columns(steps, self._agents))
        stage = self._partial / f"stage_{len(self._stages)}"
        if not self._open:
            stage.mkdir()
            self._complete, self._terminates = True, False
            for name, rows in columns.items():
                self._open[name] = ColumnWriter(stage / f"{name}.npy", rows)
        if columns.keys() != self._open.keys():
            raise InputError(
                f"all chunks of a stage must have the same columns {sorted(self._open)}, this one "
                f"has {sorted(columns)}"
            )
        for name, rows in columns.items():
            self._open[name].append(rows)
        self._complete &= bool(steps.complete)
        self._terminates |= bool(columns["terminations"].any())

    def end_stage(self) -> None:
        """Finish the present stage; the next chunk begins a new one.

        Raises:
            InputError: for a stage without steps.
        """
        if not self._open:
            raise InputError(f"stage {len(self._stages)} has no steps")
        entries = {name: column.close() for name, column in self._open.items()}
        folder = self._partial / f"stage_{len(self._stages)}"
        if not self._terminates:
            del entries["terminations"]
            (folder / "terminations.npy").unlink()
        sync_folder(folder)
        self._stages.append({"complete": self._complete, "columns": entries})
        self._open = {}

    def __exit__(
        self,
        kind: type[BaseException] | None,
        fault: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for column in self._open.values():
            column.abandon()
        try:
            if kind is None:
                self._finish()
        finally:
            shutil.rmtree(self._partial, ignore_errors=True)

    def _finish(self) -> None:
        if self._open or not self._stages:
            raise InputError("the last stage is not finished: call end_stage() first")
        content = {
            "format": _FORMAT,
            "version": _VERSION,
            "agents": list(self._agents),
            "n_actions": list(self._n_actions),
            "spaces": [space_to_json(space) for space in self._spaces],
            "stages": self._stages,
            **self._names,
        }
        write_json(self._partial / _MANIFEST, {**content, "checksum": value_hash(content)})
        replace_folder(self._partial, self._folder)


def save_folder(trace: LearningTrace, folder: str | Path) -> None:
    """Write a complete trace in chunks of `CHUNK_STEPS` steps; errors as `TraceWriter`."""
    assert trace.spaces is not None
    writer = TraceWriter(
        folder,
        agents=trace.agents,
        n_actions=trace.n_actions,
        spaces=trace.spaces,
        names=names_to_json(trace),
    )
    with writer:
        for stage in trace.stages:
            assert stage.transitions is not None
            for part in blocks(stage.transitions.n_steps, CHUNK_STEPS):
                writer.append(stage.transitions.slice(part.start, part.stop))
            writer.end_stage()


def load_folder(folder: str | Path, *, verify: bool = True) -> LearningTrace:
    """Map a trace that was written by `save_folder` or a `TraceWriter`.

    Args:
        folder: of the trace.
        verify: whether every column is read once and compared with its checksums.

    Raises:
        InputError: if a file is missing, truncated, damaged or foreign; the message names it.
    """
    root = Path(folder)
    manifest = _read_manifest(root / _MANIFEST)
    try:
        names = tuple(manifest["agents"])
        if not all(isinstance(agent, str) for agent in names):
            raise InputError(f"its agents must be texts, got {str(names)[:60]}")
        _check_files(root, manifest["stages"])
        stages = tuple(
            Stage(transitions=_load_steps(root / f"stage_{index}", stage, names, verify=verify))
            for index, stage in enumerate(manifest["stages"])
        )
        spaces = tuple(space_from_json(space) for space in manifest["spaces"])
        n_actions = tuple(int(number) for number in manifest["n_actions"])
        return LearningTrace(stages, names, n_actions, spaces, **names_from_json(manifest))
    except (KeyError, TypeError, AttributeError, ValueError) as fault:
        raise InputError(f"{folder}: not a trace: {fault}") from fault


def _columns(steps: Transitions, agents: Sequence[str]) -> Iterator[tuple[str, NDArray[Any]]]:
    """Columns by their name in the file; agents by their index, because an id may be any text."""
    for name in COLUMNS:
        column = getattr(steps, name)
        if name == "terminations" and column is None:
            column = np.zeros(len(steps.joint_actions), dtype=bool)
        if column is not None:
            yield name, column
    for kind in OBSERVED:
        for index, agent in enumerate(agents):
            yield f"{kind}_{index}", getattr(steps, kind)[agent]


def _load_steps(
    folder: Path, stage: Mapping[str, Any], agents: Sequence[str], *, verify: bool
) -> Transitions:
    arrays = {
        name: map_column(folder / f"{name}.npy", entry, verify=verify)
        for name, entry in stage["columns"].items()
    }
    observed: dict[str, Any] = {
        kind: {agent: arrays.pop(f"{kind}_{index}") for index, agent in enumerate(agents)}
        for kind in OBSERVED
    }
    columns: dict[str, Any] = {name: arrays.pop(name, None) for name in COLUMNS}
    if arrays:
        raise InputError(f"{folder}: unknown column {min(arrays)!r}")
    if type(stage["complete"]) is not bool:
        raise InputError(f"{folder}: complete must be true or false")
    return Transitions(complete=stage["complete"], **columns, **observed)


def _check_files(root: Path, stages: Sequence[Mapping[str, Any]]) -> None:
    """Reject files that are not in the manifest, except those of systems."""
    wanted = {root / _MANIFEST}
    for index, stage in enumerate(stages):
        folder = root / f"stage_{index}"
        for name in stage["columns"]:
            if Path(name).name != name:
                raise InputError(f"its manifest has a column with the invalid name {name!r}")
            wanted |= {folder, folder / f"{name}.npy"}
    found = {
        path for path in root.rglob("*") if not any(map(is_of_system, path.relative_to(root).parts))
    }
    foreign = sorted(found - wanted)
    if foreign:
        raise InputError(f"{foreign[0]} does not belong to this trace")


def _read_manifest(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > _MAX_MANIFEST_BYTES:
            raise InputError(f"{path}: larger than {_MAX_MANIFEST_BYTES} bytes")
        manifest = json.loads(path.read_bytes())
    except OSError as fault:
        raise InputError(f"{path}: cannot be read: {fault.strerror}") from fault
    except (ValueError, RecursionError) as fault:
        raise InputError(f"{path}: not JSON, or truncated: {str(fault)[:100]}") from fault
    if not isinstance(manifest, dict):
        raise InputError(f"{path}: must be a JSON mapping")
    check_manifest(path, manifest, _FORMAT, version=_VERSION)
    content = {key: value for key, value in manifest.items() if key != "checksum"}
    try:
        own = value_hash(content)
    except (ValueError, RecursionError) as fault:
        raise InputError(f"{path}: damaged: {str(fault)[:100]}") from fault
    if manifest.get("checksum") != own:
        raise InputError(f"{path}: damaged or edited: its checksum differs")
    return manifest


def _is_trace(folder: Path) -> bool:
    if not folder.is_dir():
        return False
    if all(is_of_system(path.name) for path in folder.iterdir()):
        return True
    try:
        _read_manifest(folder / _MANIFEST)
    except ValueError:
        return False
    return True
