"""The folder of a sweep: `sweep.json`, which holds the grid, and one small file per run.

The calling process writes all files, each as a whole or not at all.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from malfl_algos.experiments.folder import check_writable
from malfl_algos.experiments.grid import Sweep, SweepRun
from malfl_algos.experiments.jobs import Outcome
from malfl_algos.experiments.records import (
    DamagedRecord,
    holds_nothing,
    read_checked,
    versions_that_count,
    write_checked,
)
from malfl_algos.storage.durable import clear_leftovers
from malfl_env.errors import InputError

__all__ = ["SweepFolder"]

_SWEEP, _RUN = ("malfl sweep", 1), ("malfl sweep run", 1)


@dataclass(frozen=True)
class SweepFolder:
    """The folder of a sweep. Nothing is written before `begin`."""

    root: Path
    sweep: Sweep

    def check(self) -> None:
        """Reject a folder in which the sweep cannot run.

        A folder may hold an earlier sweep if all its runs belong to this sweep, too.

        Raises:
            InputError: naming the folder and what is wrong.
        """
        check_writable(self.root)
        if holds_nothing(self.root):
            return
        path = self.root / "sweep.json"
        if not path.is_file():
            raise InputError(
                f"the output folder {self.root} is not empty and not the folder of a sweep "
                "(no sweep.json): choose another folder"
            )
        try:
            before = read_checked(path, _SWEEP)["runs"]
        except DamagedRecord as fault:
            raise InputError(f"{path}: {fault}: choose another folder") from fault
        gone = set(before) - {run.id for run in self.sweep.runs}
        if gone:
            raise InputError(
                f"{self.root} holds another sweep: {len(gone)} of its {len(before)} runs are not "
                "in this sweep, which may add runs but not leave any out: choose another folder"
            )

    def begin(self) -> None:
        """Write `sweep.json`, and remove the partial files of a process that died."""
        clear_leftovers(self.root, ".*", "runs/.*", "figures/.*")
        record = {"sweep": self.sweep.mapping, "runs": [run.id for run in self.sweep.runs]}
        write_checked(self.root / "sweep.json", _SWEEP, record)

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
        if not path.exists():
            return None
        try:
            content = read_checked(path, _RUN)
            if content["run"]["id"] != run.id:
                raise DamagedRecord("it belongs to another run")
        except DamagedRecord as fault:
            raise DamagedRecord(f"{path}: {fault}") from fault
        return content
