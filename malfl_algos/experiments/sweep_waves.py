"""The runs of a sweep, each until it is done or has failed for good, whatever becomes of workers.

A run that fails is done again, later. A worker that is lost takes all runs with it that were handed
out; which of them ended it, if any, is not known. They are done again together, after all others.
Those that are lost a second time are done one by one, where it is plain whose fault it is.
"""

from __future__ import annotations

import sys
from asyncio import CancelledError
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from malfl_algos.experiments.grid import SweepRun
from malfl_algos.experiments.sweep_runs import (
    RunResult,
    run_here,
    run_in_worker,
    versions_that_count,
)
from malfl_algos.work.clusters import Backend, GivenUp, work_through

__all__ = ["run_all"]


@dataclass
class _Try:
    """A run on its way: how often it failed, was lost with a worker, and was so while alone."""

    run: SweepRun
    failures: int = 0
    losses: int = 0
    deaths: int = 0


def run_all(
    backend: Backend, runs: Sequence[SweepRun], *, retries: int, log: Callable[[str], None]
) -> Iterator[RunResult]:
    """Do all runs; each has one result, a failure if need be.

    Args:
        backend: where.
        runs: begun in this order.
        retries: how often a run that failed, or ended its worker, is done again.
        log: is told of what is done again.

    Raises:
        RuntimeError: where the backend fails before any run is handed out.
    """
    waiting = {run.id: _Try(run) for run in runs}
    while waiting:
        wave = _next_wave(list(waiting.values()))
        handed_out: dict[str, _Try] = {}
        try:
            for result in _results(backend, wave, handed_out):
                tried = handed_out.pop(result.run.id)
                checked = _of_same_versions(result)
                if checked.faults and tried.failures < retries:
                    tried.failures += 1
                    log(f"failed, will be done again: {result.run}: {_last_line(checked)}")
                    continue
                del waiting[result.run.id]
                yield checked
        except _WorkerLost as loss:
            lost = list(handed_out.values())
            for tried in lost:
                tried.losses += 1
            wave[0].deaths += len(wave) == 1
            if wave[0].deaths > retries:
                del waiting[wave[0].run.id]
                yield _given_up(wave[0].run, f"{wave[0].deaths} time(s) while alone: {loss}")
            else:
                log(f"a worker was lost, {len(lost)} run(s) will be done again: {loss}")


class _WorkerLost(Exception):
    """A wave broke."""


def _next_wave(waiting: Sequence[_Try]) -> list[_Try]:
    """Those that were lost least often; one alone where all were lost in company, and again."""
    fewest = min(tried.losses for tried in waiting)
    wave = [tried for tried in waiting if tried.losses == fewest]
    return wave[:1] if fewest > 1 else wave


def _results(
    backend: Backend, wave: Sequence[_Try], handed_out: dict[str, _Try]
) -> Iterator[RunResult]:
    def hand_out() -> Iterator[SweepRun]:
        for tried in wave:
            handed_out[tried.run.id] = tried
            yield tried.run

    if backend.make is None:
        yield from map(run_here, hand_out())
        return
    results = work_through(backend, run_in_worker, hand_out())
    came = False
    while True:
        try:
            result = next(results)
        except StopIteration:
            return
        except (Exception, CancelledError) as fault:
            words = " ".join(f"{type(fault).__name__}: {fault}".split())[:300]
            if not (handed_out or came):
                raise RuntimeError(f"{backend.told}: {words}") from fault
            raise _WorkerLost(words) from fault
        came = True
        if isinstance(result, GivenUp):  # the backend did it again itself, and knows who it was
            handed_out[result.item.id].failures = sys.maxsize
            yield _given_up(result.item, result.fault)
        else:
            yield result


def _of_same_versions(result: RunResult) -> RunResult:
    """The result; a failure where the worker has other versions than we."""
    own = versions_that_count()
    differing = [
        f"{name} is {result.versions.get(name)} there, {number} here"
        for name, number in own.items()
        if result.versions.get(name) != number
    ]
    if not differing:
        return result
    fault = f"the worker on {result.host} has other versions: {'; '.join(differing)}"
    return RunResult(result.run, [], [fault], result.seconds, result.versions, result.host)


def _given_up(run: SweepRun, fault: str) -> RunResult:
    told = f"it ended its worker process, {fault}"
    return RunResult(run, [], [told], 0.0, versions_that_count(), "")


def _last_line(result: RunResult) -> str:
    return result.faults[0].strip().splitlines()[-1]
