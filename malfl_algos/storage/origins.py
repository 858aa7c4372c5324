"""Files that belong together: hashes of their inputs, and folders whose files appear together.

A result's folder has the record `result.json`. It holds a hash of each stage and of the dynamics
that the rewards were recovered from, the discount and the temperature, and the checksum of each
file. The manifest of a ground truth holds the same hashes. Readers compare them, so that files of
different runs are not combined.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from malfl_algos.storage.durable import (
    clear_leftovers,
    file_checksum,
    folder_checksums,
    make_folder,
    naming_no_space,
    partial_folder,
    sync_folder,
    write_json,
)
from malfl_algos.trace import LearningTrace, Stage
from malfl_algos.trace.transitions import COLUMNS, OBSERVED, blocks
from malfl_env.errors import InputError
from malfl_env.markov_game import MarkovGame

__all__ = [
    "RESULT_NAME",
    "Origin",
    "files_together",
    "game_hash",
    "read_result",
    "stage_hashes",
    "write_result",
]

RESULT_NAME = "result.json"
_FORMAT, _VERSION = "malfl recovered rewards", 1
_MAX_BYTES = 64 * 2**20


@dataclass(frozen=True)
class Origin:
    """What recovered rewards, or a ground truth, belong to.

    Args:
        stages: a hash of each stage, in order.
        game: a hash of the dynamics; None: they were estimated from the trace.
        discount, temperature: of the learners; None: estimated.
    """

    stages: Sequence[str]
    game: str | None
    discount: float | None
    temperature: float | None

    @classmethod
    def of(
        cls,
        trace: LearningTrace,
        game: MarkovGame | None,
        discount: float | None,
        temperature: float | None,
    ) -> Origin:
        """The origin of a result that was made from these arguments."""
        found = None if game is None else game_hash(game)
        return cls(stage_hashes(trace), found, discount, temperature)

    def to_mapping(self) -> dict[str, Any]:
        """The fields in plain values; `from_mapping` is the inverse."""
        return {**vars(self), "stages": list(self.stages)}

    @classmethod
    def from_mapping(cls, given: Any) -> Origin:
        """Read the fields from JSON.

        Raises:
            InputError: if they are not an origin.
        """
        try:
            game, *numbers = (given[key] for key in ("game", "discount", "temperature"))
            stages = tuple(given["stages"])
        except (TypeError, KeyError) as fault:
            raise InputError(f"its origin is incomplete: {fault}") from fault
        texts = [*stages, *([] if game is None else [game])]
        if not all(isinstance(text, str) for text in texts) or not all(
            number is None or type(number) in (int, float) for number in numbers
        ):
            raise InputError("its origin holds values of wrong types")
        return cls(stages, game, *numbers)


def stage_hashes(trace: LearningTrace) -> list[str]:
    """A hash of the data of each stage.

    In a trace with counts, ordered steps are not hashed: a trace is the same with and without them.
    """
    return [_stage_hash(stage) for stage in trace.stages]


def game_hash(game: MarkovGame) -> str:
    """A hash of a game's dynamics, without its rewards."""
    shape = ((*game.n_actions,), (game.start,), (*game.observation_shape,))
    digest = sha256(repr([[int(own) for own in part] for part in shape]).encode())
    for factor in game.factors:
        digest.update(repr([int(agent) for agent in factor.agents]).encode())
        _add(digest, factor.successors)
        _add(digest, factor.probabilities)
    return digest.hexdigest()


def write_result(folder: Path, origin: Origin | None, **further: Any) -> None:
    """Write `result.json` with the origin, further entries, and a checksum of each file there.

    The origin is None for a result that was saved in Python, which does not hold its trace.
    """
    write_json(
        folder / RESULT_NAME,
        {
            "format": _FORMAT,
            "version": _VERSION,
            "made_from": None if origin is None else origin.to_mapping(),
            **further,
            "files": folder_checksums(folder),
        },
    )


def read_result(path: Path) -> dict[str, Any] | None:
    """The content of a `result.json`; None if there is no such file.

    Raises:
        InputError: naming the file and what is wrong.
    """
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise InputError(f"{path}: larger than {_MAX_BYTES} bytes")
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as fault:
        raise InputError(f"{path}: cannot be read: {fault.strerror}") from fault
    except (ValueError, RecursionError) as fault:
        raise InputError(f"{path}: not JSON, or truncated: {str(fault)[:100]}") from fault
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        raise InputError(f"{path}: not the record of recovered rewards")
    if content.get("version") != _VERSION:
        raise InputError(f"{path}: its version is not {_VERSION}, which this malfl reads")
    files = content.get("files")
    if not isinstance(files, dict) or not all(isinstance(own, str) for own in files.values()):
        raise InputError(f"{path}: its files must be a mapping of names to checksums")
    return content


@contextmanager
def files_together(folder: Path) -> Iterator[Path]:
    """Give a folder for new files; at the end of the context they move to `folder` together.

    If `folder` is absent, it appears with all files at once. If it exists, a new `result.json`
    moves first, so that a reader rejects the files if the process dies in between. Files that the
    former `result.json` lists and the new files do not have are removed; other files are kept.
    After an exception, `folder` is as it was before.

    Raises:
        NoSpace: if the disk is full.
    """
    fresh = not folder.exists()
    partial = partial_folder(folder.absolute() if fresh else folder.absolute() / "new")
    clear_leftovers(partial.parent, partial.name)
    try:
        with naming_no_space(partial):
            make_folder(partial)
        yield partial
        if fresh:
            os.replace(partial, folder)
            sync_folder(folder.absolute().parent)
        else:
            _move_into(folder, partial)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _move_into(folder: Path, partial: Path) -> None:
    stale = _stale(folder, partial)
    names = [path.relative_to(partial) for path in sorted(partial.rglob("*")) if path.is_file()]
    for name in sorted(names, key=lambda own: own.name != RESULT_NAME):
        make_folder((folder / name).parent)
        os.replace(partial / name, folder / name)
    for path in stale:
        path.unlink(missing_ok=True)
    sync_folder(folder)


def _stale(folder: Path, partial: Path) -> list[Path]:
    """Files of the former result that the new files do not replace, unless changed since."""
    try:
        files: Mapping[str, str] = (read_result(folder / RESULT_NAME) or {}).get("files", {})
    except InputError:
        return []
    return [
        folder / name
        for name, checksum in files.items()
        if Path(name).name == name
        and not (partial / name).exists()
        and (folder / name).is_file()
        and file_checksum(folder / name) == checksum
    ]


def _stage_hash(stage: Stage) -> str:
    digest = sha256()
    if stage.joint_counts is not None:
        seen = stage.next_state_counts
        further = () if seen is None else (seen.rows, seen.next_states, seen.counts)
        for array in (stage.counts, *further):
            _add(digest, np.asarray(array, dtype=np.int64))
        return digest.hexdigest()
    steps = stage.transitions
    assert steps is not None
    columns = [(name, getattr(steps, name)) for name in COLUMNS]
    for kind in OBSERVED:
        columns += [(f"{kind}/{agent}", own) for agent, own in (getattr(steps, kind) or {}).items()]
    for name, column in columns:
        if column is not None:
            digest.update(name.encode())
            _add(digest, column)
    return digest.hexdigest()


def _add(digest: Any, array: NDArray[Any]) -> None:
    """Add shape, type and content of an array to a hash, in blocks if it is mapped from a file."""
    digest.update(f"{array.shape} {array.dtype.str}".encode())
    for part in blocks(len(array)):
        digest.update(np.ascontiguousarray(array[part]).tobytes())
