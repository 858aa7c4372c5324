"""The engine: run the missing jobs of a grid on a pool, store their results, then write tables.

`reproduce` runs a configuration; its cells are folders of files, and it can be resumed unit by
unit. `run_sweep` runs a grid of configurations; its cells are rows. The caller hands in the
function that draws the figures.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

from malfl_algos.experiments.cell import check_parts, needs_transitions
from malfl_algos.experiments.config import ExperimentConfig
from malfl_algos.experiments.folder import LEFTOVERS, TABLES, RunFolder, open_run
from malfl_algos.experiments.grid import Sweep
from malfl_algos.experiments.jobs import Outcome, died, run_cell, run_unit
from malfl_algos.experiments.makers import check_makers
from malfl_algos.experiments.records import versions_that_count
from malfl_algos.experiments.rows import Row, write_run_tables, write_sweep_tables
from malfl_algos.experiments.sweep_folder import SweepFolder
from malfl_algos.storage.durable import clear_leftovers
from malfl_algos.storage.lock import run_lock
from malfl_algos.work.clusters import open_pool
from malfl_algos.work.pool import Pool, local_pool
from malfl_algos.work.progress import Progress
from malfl_env.errors import InputError

__all__ = ["RunFailed", "reproduce", "run_jobs", "run_sweep"]

Log = Callable[[str], None]


class RunFailed(RuntimeError):
    """Jobs that failed, one line each. The results of all other jobs are in the folder.

    Args:
        message: the lines.
        tracebacks: of the failures, each with the job's name.
    """

    def __init__(self, message: str, tracebacks: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.tracebacks = tuple(tracebacks)


def run_jobs(
    phase: str,
    jobs: Sequence[Any],
    work: Callable[[Any], Outcome],
    add: Callable[[Outcome], None],
    *,
    pool: Pool,
    retries: int = 0,
    log: Log,
) -> None:
    """Run jobs on a pool and add the outcome of each as soon as it ends.

    Args:
        phase: its name in the log.
        jobs: the jobs, in the order in which they start.
        work: runs one job and returns its outcome; a failure is an outcome, too.
        add: stores an outcome.
        pool: the workers.
        retries: how often a job that failed, or ended its worker, runs again, after all others.
        log: receives one line of progress at a time.
    """
    if not jobs:
        log(f"{phase}: nothing is missing")
        return
    with Progress(phase, len(jobs), log=log) as progress:
        waiting = list(jobs)
        for remaining in range(retries, -1, -1):
            failed = []
            outcomes = pool.run(
                work, waiting, on_death=died, retries=retries, log=log, notes=progress.notes
            )
            with closing(outcomes):  # stops the workers first, also when interrupted
                for outcome in map(_of_same_versions, outcomes):
                    if outcome.faults and remaining and not outcome.lost:
                        log(f"failed, will run again: {outcome.job}: {outcome.faults[0]}")
                        failed.append(outcome.job)
                        continue
                    add(outcome)
                    came = "failed" if outcome.faults else "done"
                    progress.step(f"{outcome.job}: {came} ({outcome.seconds:.1f} s)")
            waiting = failed
            if not waiting:
                break


def _of_same_versions(outcome: Outcome) -> Outcome:
    """The outcome; a failure if its worker has other versions than this process."""
    made, own = outcome.versions, versions_that_count()
    if made is None or made == own:
        return outcome
    differing = [
        f"{name} is {made.get(name)} on the worker, {number} here"
        for name, number in own.items()
        if made.get(name) != number
    ]
    fault = f"the worker on {outcome.host} has other versions: {'; '.join(differing)}"
    return replace(outcome, rows=(), faults=(fault,), tracebacks=(fault,))


def reproduce(
    config: ExperimentConfig,
    output_dir: str | Path,
    *,
    jobs: int | None = None,
    overwrite: bool = False,
    draw: Callable[..., list[Path]] | None = None,
    log: Log,
) -> dict[str, Any]:
    """Run an experiment, or finish an interrupted one.

    Args:
        config: the experiment. Seeds, families and observers that are in the folder already stay.
        output_dir: the run folder; absent, empty or the folder of such a run.
        jobs: worker processes; None: one per processor. Results do not depend on it.
        overwrite: start afresh in the folder of a run.
        draw: draws the figures, as `malfl_algos.report.figures.write_figures` does; None: no
            figures.
        log: receives one line of progress at a time.

    Returns:
        The content of `summary.json`.

    Raises:
        InputError, PluginError: for an experiment that cannot run, before anything is written.
        RunLocked: if another process works in the folder.
        NoSpace: if the disk is full; it names the file.
        RunFailed: if a learner or an observer failed; everything else was done.
    """
    pool = local_pool(jobs)
    if pool.note:
        log(pool.note)
    root = Path(output_dir)
    looked = open_run(root, config, overwrite=overwrite)
    plugins = check_parts(looked.config)
    made = [*looked.units("learner"), *looked.units("observer")]
    for line in check_makers(made, looked.parts, looked.recorded, plugins):
        log(line)
    with run_lock(root, log=log):
        clear_leftovers(root, *LEFTOVERS)
        # again: another process may have changed the folder in between
        folder = open_run(root, config, overwrite=overwrite)
        if folder.config != looked.config:
            plugins = check_parts(folder.config)
        try:
            for line in folder.begin(plugins):
                log(line)
            _run_units(folder, pool=pool, log=log)
            summary = _tables(folder, log=log)
            if draw is not None:
                _figures(folder, partial(draw, jobs=jobs), log=log)
            return summary
        finally:
            clear_leftovers(root, *LEFTOVERS)


def _run_units(folder: RunFolder, *, pool: Pool, log: Log) -> None:
    """Learners first, then observers of all learners that did not fail."""
    if folder.earlier_versions:
        log("parts of this run were made with other versions: see earlier_versions in run.json")
    transitions = needs_transitions(folder.config)
    learners = [
        replace(unit, intact=bool(folder.whole(f"{unit.name}/")))
        for unit in folder.units("learner")
        if not folder.is_done(unit, transitions=transitions)
    ]
    run_jobs("learning", learners, run_unit, folder.add, pool=pool, log=log)
    folder.save()
    failed = {outcome.job.learner_folder for outcome in folder.failures}
    observers = [
        unit
        for unit in folder.units("observer")
        if unit.learner_folder not in failed and not folder.is_done(unit)
    ]
    # units of one observer take about equally long, so the workers end at about the same time
    observers.sort(key=lambda unit: folder.config.observers.index(unit.plugin))
    run_jobs("recovering", observers, run_unit, folder.add, pool=pool, log=log)
    folder.save()
    if folder.failures:
        raise RunFailed(
            "\n".join(fault for outcome in folder.failures for fault in outcome.faults),
            [f"{o.job}: {story}" for o in folder.failures for story in o.tracebacks],
        )


def _tables(folder: RunFolder, *, log: Log) -> dict[str, Any]:
    """Write the tables if any is missing, damaged or out of date."""
    tables = [name for name in TABLES if folder.config.trend or name != "trend.csv"]
    if folder.is_current("tables") and all(folder.whole(name) for name in tables):
        summary = json.loads((folder.root / "summary.json").read_text(encoding="utf-8"))
        assert isinstance(summary, dict)
        return summary
    log("scoring")
    started = perf_counter()
    with Progress("scoring", None, log=log):
        summary = write_run_tables(folder.root, folder.config)
    folder.add_seconds("scores", perf_counter() - started)
    folder.add_part("tables", [folder.root / name for name in tables])
    return summary


def _figures(folder: RunFolder, draw: Callable[..., list[Path]], *, log: Log) -> None:
    """Draw the figures that are missing, damaged or out of date."""
    known = folder.known("figures/")
    sound = folder.sound("figures/") if folder.is_current("figures") else set()
    if folder.is_complete("figures") and known == sound:
        return
    log("drawing")
    started = perf_counter()
    if not folder.is_current("figures"):
        folder.begin_part("figures")
    skip: Collection[str] = {Path(path).stem for path in sound}
    with Progress("drawing", None, log=log):
        drawn = draw(folder.root, skip=skip, drawn=folder.add_figure)
    folder.add_seconds("figures", perf_counter() - started)
    folder.add_part("figures", drawn)


def run_sweep(
    sweep: Sweep,
    output_dir: str | Path,
    *,
    pool: AbstractContextManager[Pool] | None = None,
    retries: int = 1,
    overwrite: bool = False,
    draw: Callable[[Sequence[Row], Path], Path | None] | None = None,
    log: Log,
) -> list[Path]:
    """Run the missing runs of a sweep, then write its tables and draw its figure.

    Tables and figure do not depend on the pool, the order in which runs end, or how often the sweep
    was interrupted.

    Args:
        sweep: the runs.
        output_dir: absent, empty, or the folder of this sweep or of a part of it.
        pool: opened if runs are missing, as by `malfl_algos.work.clusters.open_pool`; None:
            processes of this machine.
        retries: how often a run that failed is tried again.
        overwrite: start afresh in the folder of a sweep.
        draw: draws the figure of the table's rows into a folder; None: no figure.
        log: receives one line of progress at a time.

    Returns:
        The files written; the figure, if there is one, is the last.

    Raises:
        InputError, ImportError: for a sweep that cannot run, before anything is written.
        RunFailed: if runs failed; everything else was done.
    """
    if retries < 0:
        raise InputError(f"retries must be a whole number >= 0, got {retries}")
    folder = SweepFolder(Path(output_dir), sweep)
    folder.check(overwrite=overwrite)
    # with --overwrite all runs are missing, but nothing is removed before the pool is there
    missing = list(sweep.runs) if overwrite else folder.missing(log)
    # the lock comes last: a cluster may take minutes to answer
    opening = (pool or open_pool("loky")) if missing else nullcontext()
    with opening as opened, run_lock(folder.root, log=log):
        note = folder.check(overwrite=overwrite)
        for line in (*filter(None, [note]), *folder.begin(overwrite=overwrite)):
            log(line)
        if opened is None:
            log(f"all {len(sweep.runs)} runs are there")
        else:
            _run_missing(folder, missing, opened, retries, log)
        rows, failures, tracebacks = folder.results()
        files = list(write_sweep_tables(folder.root, rows, keys=sweep.keys, log=log))
        figure = draw(rows, folder.root / "figures") if draw else None
        files += [] if figure is None else [figure]
        folder.finish(files)
    if failures:
        raise RunFailed("\n".join(failures), tracebacks)
    return files


def _run_missing(
    folder: SweepFolder, missing: Sequence[Any], pool: Pool, retries: int, log: Log
) -> None:
    if pool.note:
        log(pool.note)
    log(f"{len(missing)} of {len(folder.sweep.runs)} runs to do: {pool.description}")
    run_jobs("sweep", missing, run_cell, folder.add, pool=pool, retries=retries, log=log)
