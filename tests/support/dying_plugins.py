"""Plugins that wait or die, depending on an environment variable."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from fake_plugins import CountingObserver, FakeLearner

from malfl_algos.contract import LearnedStage, RecoveredRewards
from malfl_algos.trace import LearningTrace
from malfl_algos.work.telling import say

ENTRIES = {
    "malfl.learners": {"dying-learner": "dying_plugins:DyingLearner"},
    "malfl.observers": {
        "dying": "dying_plugins:DyingObserver",
        "waiting": "dying_plugins:WaitingObserver",
    },
}


def _perhaps_die() -> None:
    death = os.environ.get("DEATH")
    if death == "exit":
        os._exit(0)
    if death == "sys.exit":
        sys.exit("gone")
    if death == "exception":
        raise RuntimeError("out of order")


@dataclass(frozen=True)
class DyingLearner(FakeLearner):
    """Dies in the middle of its second stage, on one seed."""

    seed: int = 0

    def learn(self, env: Any, *, n_stages: int, rng: np.random.Generator) -> Iterator[LearnedStage]:
        for number, stage in enumerate(super().learn(env, n_stages=n_stages, rng=rng)):
            if number == 1 and self.seed == 1:
                _perhaps_die()
            yield stage


@dataclass(frozen=True)
class DyingObserver(CountingObserver):
    """Dies on one seed."""

    def recover(self, trace: LearningTrace, **given: Any) -> RecoveredRewards:
        if self.seed == 1:
            _perhaps_die()
        return super().recover(trace, **given)


@dataclass(frozen=True)
class WaitingObserver(CountingObserver):
    """Waits until the file named by the environment variable `WAIT_FOR` exists."""

    def recover(self, trace: LearningTrace, **given: Any) -> RecoveredRewards:
        until = time.monotonic() + 100
        while not Path(os.environ.get("WAIT_FOR", "/")).exists() and time.monotonic() < until:
            time.sleep(0.02)
        return super().recover(trace, **given)


def halved(number: int) -> float:
    """Half of a number. Ends the process for 13, raises for 99."""
    if number == 13:
        os._exit(1)
    if number == 99:
        raise KeyError(number)
    time.sleep(0.02)
    return number / 2


def said_until_heard(stop: str) -> None:
    """Work that says something and goes on until a file is there."""
    say("half of it", 0.5)
    end = time.monotonic() + 20
    while not os.path.exists(stop):
        assert time.monotonic() < end
        time.sleep(0.01)
