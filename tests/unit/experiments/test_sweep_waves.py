"""What becomes of runs when they fail and when workers die, on a backend made of nothing."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from malfl_algos.experiments import sweep_waves
from malfl_algos.experiments.config import ExperimentConfig
from malfl_algos.experiments.grid import SweepRun
from malfl_algos.experiments.sweep_runs import RunResult, versions_that_count
from malfl_algos.experiments.sweep_waves import run_all
from malfl_algos.work.clusters import Backend

FATES = ("sound", "fails once", "fails", "kills once", "kills")
CONFIG = ExperimentConfig(reward_families=("homogeneous",), seeds=(0,))


class FakeCluster:
    """Hands out some runs at a time; a run that kills takes all that were handed out with it."""

    def __init__(self, fates: dict[str, str], ahead: int) -> None:
        self.fates, self.ahead, self.begun = fates, ahead, Counter[str]()

    def work_through(
        self, backend: Backend, work: Callable[[Any], Any], items: Iterator[SweepRun]
    ) -> Iterator[RunResult]:
        handed_out: deque[SweepRun] = deque()
        while True:
            while len(handed_out) < self.ahead and (run := next(items, None)) is not None:
                handed_out.append(run)
            if not handed_out:
                return
            run = handed_out.pop()  # the last first: results come in any order
            yield self._done(run)

    def _done(self, run: SweepRun) -> RunResult:
        self.begun[run.id] += 1
        fate = self.fates[run.id]
        if fate.endswith("once") and self.begun[run.id] > 1:
            fate = "sound"
        if fate.startswith("kills"):
            raise ConnectionError("worker gone")
        faults = ["Traceback\nRuntimeError: on fire"] if fate.startswith("fails") else []
        return RunResult(run, [], faults, 0.0, versions_that_count(), "here")


def _runs(fates: list[str]) -> list[SweepRun]:
    return [SweepRun({}, CONFIG, str(number)) for number in range(len(fates))]


def _backend(ahead: int) -> Backend:
    return Backend(lambda: None, ahead, ahead, "a fake")


@given(
    fates=st.lists(st.sampled_from(FATES), max_size=12),
    ahead=st.integers(1, 5),
    retries=st.integers(0, 2),
)
def test_each_run_has_one_result_and_only_the_guilty_fail(
    fates: list[str], ahead: int, retries: int
) -> None:
    runs = _runs(fates)
    cluster = FakeCluster(dict(zip((run.id for run in runs), fates, strict=True)), ahead)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sweep_waves, "work_through", cluster.work_through)
        results = list(run_all(_backend(ahead), runs, retries=retries, log=lambda line: None))
    assert sorted(int(result.run.id) for result in results) == list(range(len(fates)))
    for result in results:
        fate = cluster.fates[result.run.id]
        guilty = fate in ("fails", "kills") or (fate == "fails once" and retries == 0)
        if not (fate == "kills once" and retries == 0):  # alone or in company, as it happens
            assert bool(result.faults) == guilty
        if fate == "fails":
            assert cluster.begun[result.run.id] == 1 + retries
        if fate == "kills":
            assert 1 + retries <= cluster.begun[result.run.id] <= 3 + retries


def test_a_backend_that_takes_nothing_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def work_through(*_: Any) -> Iterator[RunResult]:
        raise ConnectionError("the scheduler is gone")
        yield

    monkeypatch.setattr(sweep_waves, "work_through", work_through)
    with pytest.raises(RuntimeError, match="a fake: ConnectionError: the scheduler is gone"):
        list(run_all(_backend(2), _runs(["sound"]), retries=1, log=lambda line: None))


def test_what_was_made_with_other_versions_is_not_mixed_in(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = _runs(["sound"])[0]
    row = {"agent": "agent_0"}
    other = RunResult(run, [row], [], 0.0, {**versions_that_count(), "numpy": "0.1"}, "far")

    def work_through(backend: Backend, work: Any, items: Iterator[Any]) -> Iterator[RunResult]:
        for item in items:
            yield replace(other, run=item)

    monkeypatch.setattr(sweep_waves, "work_through", work_through)
    (result,) = run_all(_backend(2), [run], retries=0, log=lambda line: None)
    assert result.rows == []
    assert result.faults[0].startswith("the worker on far has other versions: numpy is 0.1 there")
