"""A whole sweep: its runs wherever there is room for them, its tables and its picture here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from malfl_algos.experiments.grid import Sweep, SweepRun
from malfl_algos.experiments.scoring import OF_A_RUN
from malfl_algos.experiments.sweep_folder import (
    add_result,
    begin_sweep,
    check_folder,
    read_run,
    run_path,
)
from malfl_algos.experiments.sweep_runs import versions_that_count
from malfl_algos.experiments.sweep_tables import Row, write_tables
from malfl_algos.experiments.sweep_waves import run_all
from malfl_algos.plugins.options import suggestion
from malfl_algos.report import write_sweep_figure
from malfl_algos.scores.registry import score_names
from malfl_algos.storage.lock import run_lock
from malfl_algos.work.clusters import BackendName, open_backend
from malfl_algos.work.progress import Progress
from malfl_env.errors import InputError

__all__ = ["Picture", "SweepFailed", "picture_of", "run_sweep"]

_FURTHER_KEYS = ("observer", "family", "seed", "agent")


class SweepFailed(RuntimeError):
    """Runs that failed for good, one line each. The tables are of all others.

    Args:
        message: the lines.
        tracebacks: of the errors.
    """

    def __init__(self, message: str, tracebacks: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.tracebacks = tuple(tracebacks)


@dataclass(frozen=True)
class Picture:
    """What the picture of a sweep shows.

    Args:
        x: the key along the horizontal axis.
        hue: the key that tells lines apart; None: there is one line.
        measure: the name of a score of a run.
    """

    x: str
    hue: str | None
    measure: str


def picture_of(sweep: Sweep, *, x: str | None, hue: str | None, measure: str) -> Picture:
    """What to draw; keys left out are the first two that vary.

    Raises:
        InputError: for a key that is not in the sweep, or the same key twice.
    """
    known = (*sweep.keys, *_FURTHER_KEYS)
    for option, key in (("--x", x), ("--hue", hue)):
        if key is not None and key not in known:
            hint = suggestion(key, known) or ";"
            raise InputError(f"{option}: unknown key {key!r}{hint} known: {', '.join(known)}")
    measures = score_names(*OF_A_RUN)
    if measure not in measures:
        hint = suggestion(measure, measures) or ";"
        raise InputError(f"--measure: unknown {measure!r}{hint} known: {', '.join(measures)}")
    several = [key for key in sweep.keys if len({repr(r.point[key]) for r in sweep.runs}) > 1]
    several += ["observer"] * (len(sweep.observers) > 1)
    several += ["family"] * (len({run.family for run in sweep.runs}) > 1)
    free = [key for key in several if key not in (x, hue)]
    if x is None:
        x = free.pop(0) if free else "observer"
    if hue is None:
        hue = free[0] if free else None
    if x == hue:
        raise InputError(f"--x and --hue must be two keys, got {x!r} twice")
    return Picture(x, hue, measure)


def run_sweep(
    sweep: Sweep,
    output_dir: str | Path,
    *,
    picture: Picture,
    backend: BackendName = "loky",
    address: str | None = None,
    jobs: int | None = None,
    retries: int = 1,
    connect_timeout: int = 20,
    log: Callable[[str], None],
) -> list[Path]:
    """Do the runs of a sweep, or what is missing of them; then make its tables and its picture.

    Tables and picture do not depend on the backend, the number of jobs, the order in which runs
    end, or how often the sweep was interrupted.

    Args:
        sweep: what to run.
        output_dir: absent, empty, or the folder of this sweep or of a part of it.
        picture: what to draw.
        backend, address, jobs, connect_timeout: see `open_backend`.
        retries: how often a run that failed is done again before it is given up.
        log: takes the lines that tell how far it is.

    Returns:
        The files made, the picture last where there is one.

    Raises:
        InputError, ImportError: for what cannot be run, before anything is written.
        SweepFailed: where runs failed; everything else was done.
    """
    if retries < 0:
        raise InputError(f"retries must be a whole number >= 0, got {retries}")
    root = Path(output_dir)
    check_folder(root, sweep)
    missing = _missing(root, sweep, log)
    if missing:
        with (
            open_backend(
                backend, address=address, jobs=jobs, connect_timeout=connect_timeout
            ) as opened,
            run_lock(root, log=log),
        ):
            begin_sweep(root, sweep)
            log(f"{len(missing)} of {len(sweep.runs)} runs to do: {opened.told}")
            with Progress("sweep", len(missing), log=log) as progress:
                for result in run_all(opened, missing, retries=retries, log=log):
                    add_result(root, result)
                    came = "failed" if result.faults else "done"
                    progress.step(f"{result.run}: {came} ({result.seconds:.1f} s)")
    else:
        log(f"all {len(sweep.runs)} runs are there")
    with run_lock(root, log=log):
        return _report(root, sweep, picture, log)


def _missing(root: Path, sweep: Sweep, log: Callable[[str], None]) -> list[SweepRun]:
    """Runs that are not there, are damaged, or failed; the order is that of the sweep."""
    missing, n_others = [], 0
    for run in sweep.runs:
        try:
            stored = read_run(root, run)
        except ValueError as fault:
            log(f"{fault}; it is made again")
            stored = None
        if stored is None or stored.faults:
            missing.append(run)
        elif stored.versions != versions_that_count():
            n_others += 1
    if n_others:
        log(f"{n_others} runs that are kept were made with other versions: see their files")
    return missing


def _report(root: Path, sweep: Sweep, picture: Picture, log: Callable[[str], None]) -> list[Path]:
    rows: list[Row] = []
    failures, tracebacks = [], []
    for run in sweep.runs:
        stored = read_run(root, run)
        assert stored is not None
        told = {"run": run.id, **run.point, "family": run.family, "seed": run.seed}
        rows += [{**told, **row} for row in stored.rows]
        for fault in stored.faults:
            last = fault.strip().splitlines()[-1]
            failures.append(f"{run}: {last} (see {run_path(root, run)})")
            tracebacks.append(f"{run}:\n{fault}")
    written: list[Path] = write_tables(root, rows, keys=sweep.keys, log=log)
    figure = write_sweep_figure(
        rows, root / "figures", x=picture.x, hue=picture.hue, measure=picture.measure
    )
    if failures:
        raise SweepFailed("\n".join(failures), tracebacks)
    return [*written, *([] if figure is None else [figure])]
