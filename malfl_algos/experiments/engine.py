"""A whole reproduction: learners, observers, scores, pictures, in a folder that can be resumed."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from time import perf_counter
from typing import Any

from malfl_algos.experiments.cell import Unit, died, run_unit
from malfl_algos.experiments.config import ExperimentConfig
from malfl_algos.experiments.folder import LEFTOVERS, TABLES, RunFolder, open_run
from malfl_algos.experiments.parts import check_parts, needs_transitions
from malfl_algos.experiments.rows import write_tables
from malfl_algos.report.figures import write_figures
from malfl_algos.storage.durable import clear_leftovers
from malfl_algos.storage.lock import run_lock
from malfl_algos.work.pool import in_parallel
from malfl_algos.work.progress import Progress
from malfl_env.errors import InputError

__all__ = ["RunFailed", "reproduce"]


class RunFailed(RuntimeError):
    """Units that failed, one line each. What succeeded is in the run folder.

    Args:
        message: the lines.
        tracebacks: of the errors, where there are any.
    """

    def __init__(self, message: str, tracebacks: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.tracebacks = tuple(tracebacks)


def reproduce(
    config: ExperimentConfig,
    output_dir: str | Path,
    *,
    jobs: int | None = None,
    overwrite: bool = False,
    log: Callable[[str], None],
) -> dict[str, Any]:
    """Run an experiment, or finish what is missing of it.

    Args:
        config: what to run. Seeds, families and observers that are in the folder already stay.
        output_dir: the run folder; absent, empty or the folder of such a run.
        jobs: worker processes; None: one per processor. Results do not depend on it.
        overwrite: start afresh in the folder of a run.
        log: takes the lines that tell how far it is.

    Returns:
        The content of `summary.json`.

    Raises:
        InputError, PluginError: for what cannot be run, before anything is written.
        RunLocked: where another process works in the folder.
        NoSpace: where the disk is full; it names the file.
        RunFailed: where a learner or an observer failed; everything else was done.
    """
    if jobs is not None and jobs < 1:
        raise InputError(f"jobs must be a whole number >= 1, got {jobs}")
    root = Path(output_dir)
    looked = open_run(root, config, overwrite=overwrite)
    plugins = check_parts(looked.config)
    with run_lock(root, log=log):
        clear_leftovers(root, *LEFTOVERS)
        # again: another process may have been at work since
        folder = open_run(root, config, overwrite=overwrite)
        if folder.config != looked.config:
            plugins = check_parts(folder.config)
        try:
            folder.begin(plugins)
            return _finish(folder, jobs=jobs, log=log)
        finally:
            clear_leftovers(root, *LEFTOVERS)


def _finish(folder: RunFolder, *, jobs: int | None, log: Callable[[str], None]) -> dict[str, Any]:
    if folder.earlier_versions:
        log("parts of this run were made with other versions: see earlier_versions in run.json")
    transitions = needs_transitions(folder.config)
    learners = [
        u for u in folder.units("learner") if not folder.is_done(u, transitions=transitions)
    ]
    _run_phase("learning", learners, folder, jobs=jobs, log=log)
    failed = {outcome.unit.learner_folder for outcome in folder.failures}
    observers = [
        unit
        for unit in folder.units("observer")
        if unit.learner_folder not in failed and not folder.is_done(unit)
    ]
    # an observer's units take about as long as each other, so that workers end together
    observers.sort(key=lambda unit: folder.config.observers.index(unit.plugin))
    _run_phase("recovering", observers, folder, jobs=jobs, log=log)
    if folder.failures:
        raise RunFailed(
            "\n".join(str(outcome.fault) for outcome in folder.failures),
            [f"{o.unit}:\n{o.traceback}" for o in folder.failures if o.traceback],
        )
    summary = _tables(folder, log=log)
    _figures(folder, jobs=jobs, log=log)
    return summary


def _run_phase(
    name: str,
    units: Sequence[Unit],
    folder: RunFolder,
    *,
    jobs: int | None,
    log: Callable[[str], None],
) -> None:
    if not units:
        log(f"{name}: nothing is missing")
        return
    outcomes = in_parallel(run_unit, units, jobs=jobs, on_death=died)
    # closing: workers end before anything else happens, also when this is interrupted
    with Progress(name, len(units), log=log) as progress, closing(outcomes):
        for outcome in outcomes:
            folder.add(outcome)
            progress.step(
                f"{outcome.unit}: {'failed' if outcome.fault else 'done'} ({outcome.seconds:.1f} s)"
            )


def _tables(folder: RunFolder, *, log: Callable[[str], None]) -> dict[str, Any]:
    """Write the tables, where any is missing, damaged or made from something else."""
    tables = [name for name in TABLES if folder.config.trend or name != "trend.csv"]
    if folder.is_current("tables") and all(folder.whole(name) for name in tables):
        summary = json.loads((folder.root / "summary.json").read_text(encoding="utf-8"))
        assert isinstance(summary, dict)
        return summary
    log("scoring")
    started = perf_counter()
    summary = write_tables(folder.root, folder.config)
    folder.add_seconds("scores", perf_counter() - started)
    folder.add_part("tables", [folder.root / name for name in tables])
    return summary


def _figures(folder: RunFolder, *, jobs: int | None, log: Callable[[str], None]) -> None:
    """Draw the pictures that are missing, damaged or made from something else."""
    known = {path for path in folder.files if path.startswith("figures/")}
    sound = folder.sound("figures/") if folder.is_current("figures") else set()
    if folder.is_current("figures") and known == sound:
        return
    log("drawing")
    started = perf_counter()
    skip = {Path(path).stem for path in sound}
    figures = write_figures(folder.root, jobs=jobs, skip=skip)
    folder.add_seconds("figures", perf_counter() - started)
    folder.add_part("figures", figures)
