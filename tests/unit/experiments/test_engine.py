"""The loop of the engine: failed jobs run again, results of other versions are rejected."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from malfl_algos.experiments.config import ExperimentConfig
from malfl_algos.experiments.engine import run_jobs
from malfl_algos.experiments.grid import SweepRun
from malfl_algos.experiments.jobs import Outcome
from malfl_algos.experiments.records import versions_that_count
from malfl_algos.work.pool import local_pool

CONFIG = ExperimentConfig(reward_families=("homogeneous",), seeds=(0,))
FATES = ("sound", "fails once", "fails", "sound")
RUNS = [SweepRun({}, CONFIG, str(number)) for number in range(len(FATES))]


@pytest.mark.parametrize("retries", [0, 1, 3])
def test_failed_jobs_run_again_after_all_others(retries: int) -> None:
    starts: Counter[str] = Counter()
    order: list[str] = []

    def work(run: SweepRun) -> Outcome:
        starts[run.id] += 1
        order.append(run.id)
        fate = FATES[int(run.id)]
        fails = fate == "fails" or (fate == "fails once" and starts[run.id] == 1)
        return Outcome(run, 0.0, ("RuntimeError: on fire",) if fails else ())

    results: list[Outcome] = []
    lines: list[str] = []
    run_jobs(
        "phase", RUNS, work, results.append, pool=local_pool(1), retries=retries, log=lines.append
    )
    assert order[:4] == ["0", "1", "2", "3"]
    assert {r.job.id for r in results} == {"0", "1", "2", "3"}
    assert len(results) == 4
    assert {r.job.id for r in results if r.faults} == ({"1", "2"} if retries == 0 else {"2"})
    assert starts["2"] == 1 + retries
    assert sum("failed, will run again" in line for line in lines) == (
        0 if retries == 0 else 1 + retries
    )


def test_results_of_other_versions_are_rejected() -> None:
    row = {"agent": "agent_0"}
    other = Outcome(
        None, 0.0, rows=[row], versions={**versions_that_count(), "numpy": "0.1"}, host="far"
    )
    results: list[Outcome] = []
    run_jobs(
        "phase",
        RUNS[:1],
        lambda run: replace(other, job=run),
        results.append,
        pool=local_pool(1),
        log=lambda line: None,
    )
    (result,) = results
    assert result.rows == ()
    assert result.faults[0].startswith(
        "the worker on far has other versions: numpy is 0.1 on the worker"
    )


def test_an_empty_list_of_jobs_is_logged() -> None:
    lines: list[str] = []
    run_jobs(
        "learning",
        [],
        lambda job: Outcome(job, 0.0),
        lambda outcome: None,
        pool=local_pool(1),
        log=lines.append,
    )
    assert lines == ["learning: nothing is missing"]
