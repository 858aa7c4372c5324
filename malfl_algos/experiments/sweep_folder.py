"""The folder of a sweep: `sweep.json`, which holds the grid, and one small file per run.

The calling process writes all files, each as a whole or not at all.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from malfl_algos.experiments.grid import Sweep, SweepRun
from malfl_algos.experiments.jobs import Outcome
from malfl_algos.experiments.records import (
    DamagedRecord,
    holds_nothing,
    read_checked,
    versions_that_count,
    write_checked,
)
from malfl_algos.storage.durable import clear_leftovers, clear_the_way, file_checksum
from malfl_algos.storage.outputs import check_writable
from malfl_env.errors import InputError

__all__ = [
    "SWEEP_NAME",
    "SweepFolder",
    "known_files",
    "known_runs",
    "read_run",
    "read_sweep",
]

SWEEP_NAME = "sweep.json"
TABLES = ("table.csv", "table.parquet", "summary.csv")
_SWEEP, _RUN = ("malfl sweep", 1), ("malfl sweep run", 1)


@dataclass(frozen=True)
class SweepFolder:
    """The folder of a sweep. Nothing is written before `begin`."""

    root: Path
    sweep: Sweep

    def check(self, *, overwrite: bool = False) -> str:
        """Reject a folder in which the sweep cannot run.

        A folder may hold an earlier sweep if all its runs belong to this sweep, too. If
        `sweep.json` is lost or damaged, the files of the runs tell which sweep it is.

        Args:
            overwrite: allow another sweep, whose files `begin` then removes.

        Returns:
            A line if `sweep.json` has to be made again; else empty.

        Raises:
            InputError: naming the folder and what is wrong.
        """
        check_writable(self.root)
        if holds_nothing(self.root):
            return ""
        before, fault = known_runs(self.root)
        if not (before or (self.root / SWEEP_NAME).is_file()):
            raise InputError(
                f"the output folder {self.root} is not empty and not the folder of a sweep "
                f"(no {SWEEP_NAME}): choose another folder"
            )
        gone = set(before) - {run.id for run in self.sweep.runs}
        if gone and not overwrite:
            raise InputError(
                f"{self.root} holds another sweep: {len(gone)} of its {len(before)} runs are not "
                "in this sweep, which may add runs but not leave any out: choose another folder, "
                "or add --overwrite"
            )
        return f"{fault}; it is made again from the files of the runs" if fault else ""

    def begin(self, *, overwrite: bool = False) -> list[str]:
        """Write `sweep.json`, and remove the partial files of a process that died.

        Returns:
            A line for everything that was moved because it stands in the place of a file or folder.
        """
        clear_leftovers(self.root, ".*", "runs/.*", "figures/.*")
        if overwrite:
            for name in (*known_files(self.root), *TABLES):
                remove_file(self.root / name)
            for run in known_runs(self.root)[0]:
                remove_file(self.root / "runs" / f"{run}.json")
        files = {*TABLES, SWEEP_NAME, *(f"runs/{run.id}.json" for run in self.sweep.runs)}
        lines = clear_the_way(self.root, files=files, folders={"runs", "figures"})
        self._write({})
        return lines

    def finish(self, written: Sequence[Path]) -> None:
        """Record the checksums of the tables and the figure."""
        names = {path.relative_to(self.root).as_posix(): file_checksum(path) for path in written}
        self._write(names)

    def _write(self, files: Mapping[str, str]) -> None:
        runs = [run.id for run in self.sweep.runs]
        record = {"sweep": self.sweep.mapping, "runs": runs, "files": files}
        write_checked(self.root / SWEEP_NAME, _SWEEP, record)

    def missing(self, log: Callable[[str], None]) -> list[SweepRun]:
        """Runs that are missing, damaged or failed, in the order of the sweep."""
        missing, n_others = [], 0
        for run in self.sweep.runs:
            try:
                stored = self._read(run)
            except DamagedRecord as fault:
                log(f"{fault}; the run is done again")
                stored = None
            if stored is None or stored["faults"]:
                missing.append(run)
            elif stored["versions"] != versions_that_count():
                n_others += 1
        if n_others:
            log(f"{n_others} kept runs were made with other versions of packages: see their files")
        return missing

    def add(self, outcome: Outcome) -> None:
        """Write the file of a run."""
        run: SweepRun = outcome.job
        content = {
            "run": {"id": run.id, "point": run.point, "family": run.family, "seed": run.seed},
            "versions": outcome.versions,
            "host": outcome.host,
            "seconds": round(outcome.seconds, 3),
            "faults": outcome.tracebacks,
            "rows": outcome.rows,
        }
        write_checked(self._path(run), _RUN, content)

    def results(self) -> tuple[list[dict[str, Any]], list[str], list[str]]:
        """All rows, a line for each failed run, and the tracebacks; no run may be missing."""
        rows: list[dict[str, Any]] = []
        failures: list[str] = []
        tracebacks: list[str] = []
        for run in self.sweep.runs:
            stored = self._read(run)
            assert stored is not None
            place = {"run": run.id, **run.point, "family": run.family, "seed": run.seed}
            rows += [{**place, **row} for row in stored["rows"]]
            for fault in stored["faults"]:
                last = fault.strip().splitlines()[-1]
                failures.append(f"{run}: {last} (see {self._path(run)})")
                tracebacks.append(f"{run}: {fault}")
        return rows, failures, tracebacks

    def _path(self, run: SweepRun) -> Path:
        return self.root / "runs" / f"{run.id}.json"

    def _read(self, run: SweepRun) -> dict[str, Any] | None:
        """The file of a run; None if there is no file.

        Raises:
            DamagedRecord: naming the file and what is wrong.
        """
        path = self._path(run)
        return read_run(path) if os.path.lexists(path) else None


def read_run(path: Path) -> dict[str, Any]:
    """The content of the file of a run.

    Raises:
        DamagedRecord: naming the file and what is wrong.
    """
    try:
        if not path.is_file():
            raise DamagedRecord("it is no regular file")
        content = read_checked(path, _RUN)
        run = content.get("run")
        if not isinstance(run, dict) or run.get("id") != path.stem:
            raise DamagedRecord("it belongs to another run")
        for key, kind in (("faults", list), ("rows", list), ("versions", dict)):
            if not isinstance(content.get(key), kind):
                raise DamagedRecord(f"its {key} are missing")
    except DamagedRecord as fault:
        raise DamagedRecord(f"{path}: {fault}") from fault
    return content


def read_sweep(root: Path) -> dict[str, Any]:
    """The content of `sweep.json`.

    Raises:
        DamagedRecord: naming the file and what is wrong.
    """
    path = root / SWEEP_NAME
    try:
        if not path.is_file():
            raise DamagedRecord("it is missing, or no regular file")
        content = read_checked(path, _SWEEP)
        runs, files = content.get("runs"), content.get("files", {})
        if not isinstance(runs, list) or not all(isinstance(run, str) for run in runs):
            raise DamagedRecord("its runs must be a list of ids")
        if not isinstance(files, dict) or not all(map(_is_inside, files)):
            raise DamagedRecord("its files must lie in its folder")
        if not isinstance(content.get("sweep"), dict):
            raise DamagedRecord("its sweep must be a mapping")
    except DamagedRecord as fault:
        raise DamagedRecord(f"{path}: {fault}") from fault
    return content


def known_runs(root: Path) -> tuple[list[str], str]:
    """The ids of the runs in a folder, and what is wrong with `sweep.json`; empty if nothing is."""
    try:
        return list(read_sweep(root)["runs"]), ""
    except DamagedRecord as fault:
        found = []
        for path in sorted((root / "runs").glob("*.json")):
            with suppress(DamagedRecord):
                found.append(read_run(path)["run"]["id"])
        return found, str(fault)


def known_files(root: Path) -> dict[str, str]:
    """The checksums of tables and figure, by their path in the folder; empty if not recorded."""
    with suppress(DamagedRecord):
        return dict(read_sweep(root).get("files", {}))
    return {}


def remove_file(path: Path) -> None:
    """Remove a file or a link; folders stay."""
    if path.is_symlink() or not path.is_dir():
        path.unlink(missing_ok=True)


def _is_inside(name: str) -> bool:
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts and path.as_posix() == name
