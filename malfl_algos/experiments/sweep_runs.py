"""One run of a sweep, in memory: the learner learns, all observers recover, rows come back.

Workers share no file system with whoever started them: what they are given and what they return
are plain values.
"""

from __future__ import annotations

import json
import signal
import socket
import threading
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from malfl_algos.experiments.config import PluginConfig
from malfl_algos.experiments.grid import SweepRun
from malfl_algos.experiments.parts import make_observer
from malfl_algos.experiments.played import Played, play
from malfl_algos.experiments.record import versions
from malfl_algos.experiments.recovery import Problem, recover
from malfl_algos.experiments.scoring import scored_rows
from malfl_algos.work.threads import one_blas_thread

__all__ = ["RunResult", "do_run", "run_here", "run_in_worker", "versions_that_count"]


@dataclass(frozen=True)
class RunResult:
    """What came of a run.

    Args:
        run: the run.
        rows: one per observer and agent, in plain values.
        faults: tracebacks: of the learner, or of each observer that failed.
        seconds: wall time.
        versions: under which it was made.
        host: where.
    """

    run: SweepRun
    rows: Sequence[Mapping[str, Any]]
    faults: Sequence[str]
    seconds: float
    versions: Mapping[str, str]
    host: str


def run_here(run: SweepRun) -> RunResult:
    """Do a run in this process."""
    with one_blas_thread():  # sums must not depend on how many processors share them
        return do_run(run)


def run_in_worker(run: SweepRun) -> RunResult:
    """Do a run in a process that is there for runs alone, in whichever thread of it."""
    from malfl_algos.work.compilation import tell_of_compilation_in_worker

    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that started it
    tell_of_compilation_in_worker()
    return run_here(run)


def do_run(run: SweepRun) -> RunResult:
    """Do a run. A failure is a result, not an exception, so that other runs go on."""
    started = perf_counter()
    rows: list[dict[str, Any]] = []
    faults: list[str] = []
    try:
        played = play(run.config)
        for observer in run.config.observers:
            try:
                rows += _observe(played, observer)
            except (Exception, SystemExit):
                faults.append(f"observer {observer.label!r}: {traceback.format_exc()}")
    except (Exception, SystemExit):
        faults.append(f"learner {run.config.learner.label!r}: {traceback.format_exc()}")
    return RunResult(
        run, rows, faults, perf_counter() - started, versions_that_count(), socket.gethostname()
    )


def versions_that_count() -> dict[str, str]:
    """Versions that results may depend on; hosts may differ in their kernels."""
    return {name: number for name, number in versions().items() if name != "platform"}


def _observe(played: Played, observer: PluginConfig) -> list[dict[str, Any]]:
    config = played.config
    problem = Problem(
        played.game,
        config.discount,
        config.temperature,
        config.seat,
        played.truth.joint_policies,
    )
    made = make_observer(config, observer, seed=config.seeds[0])
    recovered = recover(made, played.trace, problem)
    rows = [{"observer": observer.label, **row} for row in scored_rows(played.base, recovered)]
    return list(json.loads(json.dumps(rows, allow_nan=False)))  # as a file gives them back
