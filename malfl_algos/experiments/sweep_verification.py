"""Check the folder of a sweep: its records, every run, and the tables against the runs."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from malfl_algos.experiments.grid import Sweep, sweep_from_mapping
from malfl_algos.experiments.records import DamagedRecord, versions_that_count
from malfl_algos.experiments.rows import write_sweep_tables
from malfl_algos.experiments.sweep_folder import (
    SWEEP_NAME,
    SweepFolder,
    known_runs,
    read_run,
    read_sweep,
)
from malfl_algos.experiments.verification import Verdict, check_lock, fault_of_file
from malfl_algos.plugins.loading import PluginError
from malfl_algos.storage.durable import leftovers
from malfl_env.errors import InputError

__all__ = ["is_sweep", "verify_sweep"]


def is_sweep(root: Path) -> bool:
    """Whether a folder is that of a sweep, even if `sweep.json` is lost."""
    return (root / SWEEP_NAME).is_file() or bool(known_runs(root)[0])


def verify_sweep(root: Path) -> Verdict:
    """Check a sweep's records, runs, tables and figure. Writes nothing.

    While a process works in the folder, missing parts are no faults.
    """
    notes, faults = check_lock(root)
    at_work = bool(notes)
    if not at_work:
        faults += [
            f"{path.relative_to(root).as_posix()}: left unfinished by a process that died"
            for path in leftovers(root, ".*", "runs/.*", "figures/.*")
        ]
    try:
        record = read_sweep(root)
    except DamagedRecord as fault:
        n_runs = len(known_runs(root)[0])
        words = f"{_short(root, fault)}; {n_runs} runs are sound, the same command continues"
        return Verdict(tuple(notes), (*faults, words))
    faults += _check_runs(root, record["runs"], at_work=at_work)
    if not at_work:
        files = record.get("files", {})
        found = {name: fault_of_file(root / name, own, SWEEP_NAME) for name, own in files.items()}
        faults += [f"{name}: {fault}" for name, fault in found.items() if fault]
        if not (files or faults):
            faults.append("tables: missing")
        if not faults:
            faults += _check_tables(root, record["sweep"], len(record["runs"]))
    return Verdict(tuple(notes), tuple(faults))


def _check_runs(root: Path, runs: list[str], *, at_work: bool) -> Iterator[str]:
    for run in runs:
        path = root / "runs" / f"{run}.json"
        name = f"runs/{run}.json"
        try:
            if path.is_file():
                yield from (
                    f"{name}: failed: {fault.strip().splitlines()[-1]}"
                    for fault in map(str, read_run(path)["faults"])
                )
            elif not at_work:
                yield f"{name}: missing"
        except DamagedRecord as fault:
            yield _short(root, fault)


def _check_tables(root: Path, mapping: dict[str, object], n_runs: int) -> Iterator[str]:
    """Compare the tables with new ones, if the runs were made with the installed versions."""
    try:
        sweep: Sweep = sweep_from_mapping(mapping, max_runs=max(n_runs, 1))
    except (InputError, PluginError):  # of plugins that are not installed here
        return
    if any(
        read_run(root / "runs" / f"{run.id}.json")["versions"] != versions_that_count()
        for run in sweep.runs
    ):
        return
    rows = SweepFolder(root, sweep).results()[0]
    with tempfile.TemporaryDirectory() as place:
        try:
            made = write_sweep_tables(Path(place), rows, keys=sweep.keys, log=lambda line: None)
        # files with the right checksum may still hold values that do not fit
        except (ValueError, KeyError, TypeError) as fault:
            yield f"table.csv: cannot be made from the runs: {fault}"
            return
        for path in made:
            own = root / path.name
            if own.is_file() and own.read_bytes() != path.read_bytes():
                yield f"{path.name}: its content differs from what the runs give"


def _short(root: Path, fault: Exception) -> str:
    return str(fault).replace(f"{root}/", "", 1)
