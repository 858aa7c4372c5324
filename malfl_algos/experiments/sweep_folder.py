"""The folder of a sweep: `sweep.json`, which says what is swept, and one small file per run.

All files are written by the process that was called, and whole or not at all.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from malfl_algos.experiments.folder import check_writable
from malfl_algos.experiments.grid import Sweep, SweepRun
from malfl_algos.experiments.record import holds_nothing
from malfl_algos.experiments.sweep_runs import RunResult
from malfl_algos.storage.durable import clear_leftovers, value_hash, write_bytes
from malfl_env.errors import InputError

__all__ = ["StoredRun", "add_result", "begin_sweep", "check_folder", "read_run", "run_path"]

_RECORD, _RUN = "malfl sweep", "malfl sweep run"


@dataclass(frozen=True)
class StoredRun:
    """What the file of a run says, but for how long it took and where.

    Args:
        rows: one per observer and agent.
        faults: tracebacks; empty where the run succeeded.
        versions: under which it was made.
    """

    rows: Sequence[Mapping[str, Any]]
    faults: Sequence[str]
    versions: Mapping[str, str]


def check_folder(root: Path, sweep: Sweep) -> None:
    """Look whether a sweep may be done in a folder. Writes nothing.

    A folder may hold an earlier sweep all of whose runs are runs of this one, too.

    Raises:
        InputError: naming the folder and what is wrong.
    """
    check_writable(root)
    if holds_nothing(root):
        return
    path = root / "sweep.json"
    if not path.is_file():
        raise InputError(
            f"the output folder {root} is not empty and not the folder of a sweep "
            "(no sweep.json): choose another"
        )
    try:
        before = _read(path, _RECORD)["runs"]
    except ValueError as fault:
        raise InputError(f"{path}: {fault}: choose another folder") from fault
    gone = set(before) - {run.id for run in sweep.runs}
    if gone:
        raise InputError(
            f"{root} holds another sweep: {len(gone)} of its {len(before)} runs are not in this "
            "one, which may add runs but not leave any out: choose another folder"
        )


def begin_sweep(root: Path, sweep: Sweep) -> None:
    """Write `sweep.json`, and clear away what a process that died left half written."""
    clear_leftovers(root, ".*", "runs/.*", "figures/.*")
    record = {"sweep": sweep.mapping, "runs": [run.id for run in sweep.runs]}
    _write(root / "sweep.json", _RECORD, record)


def run_path(root: Path, run: SweepRun) -> Path:
    """Where the file of a run lies."""
    return root / "runs" / f"{run.id}.json"


def add_result(root: Path, result: RunResult) -> None:
    """Write the file of a run."""
    run = result.run
    content = {
        "run": {"id": run.id, "point": run.point, "family": run.family, "seed": run.seed},
        "versions": result.versions,
        "host": result.host,
        "seconds": round(result.seconds, 3),
        "faults": result.faults,
        "rows": result.rows,
    }
    _write(run_path(root, run), _RUN, content)


def read_run(root: Path, run: SweepRun) -> StoredRun | None:
    """What the file of a run says; None: there is none.

    Raises:
        InputError: where it is not as it was written, naming it.
    """
    path = run_path(root, run)
    if not path.exists():
        return None
    try:
        content = _read(path, _RUN)
        if content["run"]["id"] != run.id:
            raise InputError("it is of another run")
        return StoredRun(content["rows"], content["faults"], content["versions"])
    except ValueError as fault:
        raise InputError(f"{path}: {fault}") from fault


def _write(path: Path, kind: str, content: Mapping[str, Any]) -> None:
    whole = {"format": kind, "version": 1, **content}
    checked = {**whole, "checksum": value_hash(json.loads(json.dumps(whole, allow_nan=False)))}
    write_bytes(path, (json.dumps(checked, indent=1, allow_nan=False) + "\n").encode())


def _read(path: Path, kind: str) -> dict[str, Any]:
    """The content of a file. Raises `ValueError` where it is not to the value what was written."""
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as fault:
        raise InputError(f"it cannot be read: {fault}") from fault
    if not isinstance(content, dict) or content.get("format") != kind:
        raise InputError(f"it is not the file of a {kind}")
    checksum = content.pop("checksum", None)
    try:
        fits = checksum == value_hash(content)
    except (ValueError, RecursionError):
        fits = False
    if not fits:
        raise InputError("it is damaged, or was edited: its checksum does not fit")
    return content
