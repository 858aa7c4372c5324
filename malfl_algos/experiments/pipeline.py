"""A whole reproduction: learners, observers, scores, pictures, in a folder that can be resumed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

from malfl_algos.experiments.config import ExperimentConfig
from malfl_algos.experiments.parallel import in_parallel
from malfl_algos.experiments.parts import check_parts, needs_transitions
from malfl_algos.experiments.progress import Progress
from malfl_algos.experiments.run_folder import RunFolder, open_run
from malfl_algos.experiments.tables import write_tables
from malfl_algos.experiments.units import Unit, run_unit
from malfl_algos.report.figures import write_figures

__all__ = ["RunFailed", "reproduce"]


class RunFailed(RuntimeError):
    """Units that failed, one line each. What succeeded is in the run folder."""


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
        ValueError, PluginError: for what cannot be run, before anything is written.
        RunFailed: where a learner or an observer failed; everything else was done.
    """
    if jobs is not None and jobs < 1:
        raise ValueError(f"jobs must be a whole number >= 1, got {jobs}")
    folder = open_run(Path(output_dir), config, overwrite=overwrite)
    folder.begin(check_parts(folder.config))
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
        raise RunFailed("\n".join(str(outcome.fault) for outcome in folder.failures))
    return _report(folder, jobs=jobs, log=log)


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
    with Progress(name, len(units), log=log) as progress:
        for outcome in in_parallel(run_unit, units, jobs=jobs):
            folder.add(outcome)
            progress.step(
                f"{outcome.unit}: {'failed' if outcome.fault else 'done'} ({outcome.seconds:.1f} s)"
            )


def _report(folder: RunFolder, *, jobs: int | None, log: Callable[[str], None]) -> dict[str, Any]:
    started = perf_counter()
    summary = write_tables(folder.root, folder.config)
    tables = ["summary.json", "cross_correlation.csv", *(["trend.csv"] * folder.config.trend)]
    folder.add_seconds("scores", perf_counter() - started)
    folder.add_files([folder.root / table for table in tables])
    started = perf_counter()
    log("drawing")
    figures = write_figures(folder.root, jobs=jobs)
    folder.add_seconds("figures", perf_counter() - started)
    folder.add_files(figures)
    return summary
