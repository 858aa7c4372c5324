"""The contract with plugins: learners make a learning trace, observers recover rewards from it.

```
game -> Learner.learn -> Stage, ... -> LearningTrace -> Observer.recover -> RecoveredRewards
```
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from pettingzoo import ParallelEnv

from malfl_algos.problem import Problem
from malfl_algos.recovered import (
    NOT_JUDGED as NOT_JUDGED,
)
from malfl_algos.recovered import (
    Diagnostics,
    RecoveredRewards,
    RewardFunction,
    Source,
)
from malfl_algos.trace import LearningTrace, NextStateCounts, Stage, Transitions
from malfl_algos.verdict import Verdict
from malfl_env.markov_game import MarkovGame

__all__ = [
    "API_VERSION",
    "Diagnostics",
    "LearnedStage",
    "Learner",
    "LearningTrace",
    "NextStateCounts",
    "Observer",
    "Problem",
    "RecoveredRewards",
    "RewardFunction",
    "Source",
    "Stage",
    "StageTruth",
    "Transitions",
    "Verdict",
]

API_VERSION = (2, 0)
"""(major, minor). A plugin states the version that it is written for; only our major is allowed."""

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class StageTruth:
    """Ground truth of one stage. It is used for scoring only and is never part of a trace.

    Args:
        policies: per agent id, probabilities of its actions: `(n_states, n_actions)` for a stage
            with counts; otherwise `(n_steps, n_actions)`, for the observation of every step.
        rewards: per agent id, `(n_steps,)`, for a stage without counts.
    """

    policies: Mapping[str, FloatArray]
    rewards: Mapping[str, FloatArray] | None = None


@dataclass(frozen=True, eq=False)
class LearnedStage:
    """One stage of a learner.

    Args:
        observed: the part that enters the learning trace.
        truth: the policies that were played, and the rewards of steps, for scoring only.
    """

    observed: Stage
    truth: StageTruth

    @property
    def joint_policy(self) -> Mapping[str, FloatArray]:
        """Shorthand of `truth.policies`."""
        return self.truth.policies


@runtime_checkable
class Learner(Protocol):
    """Agents that learn in stages. A learner is a frozen dataclass; its fields are its options."""

    def learn(
        self, env: ParallelEnv[str, Any, Any], *, n_stages: int, rng: np.random.Generator
    ) -> Iterator[LearnedStage]:
        """Yield the stages one by one; the first is played under the initial joint policy.

        A learner of tabular games yields stages with counts. A learner of any parallel environment
        yields stages with steps and the agents' observations. A learner of both yields counts if
        `malfl_env.markov_game` has a model of the environment.

        Args:
            env: the game; nothing else uses it while the generator exists.
            n_stages: number of stages to yield.
            rng: the only source of randomness: the same seed gives the same bytes.

        Raises:
            InputError: for an environment that the learner cannot play, before its first step.
        """
        ...


@runtime_checkable
class Observer(Protocol):
    """A method that recovers rewards. It is a frozen dataclass; its fields are its options.

    With the class attribute `needs_transitions = True` it gets ordered transitions. The optional
    method `check_size(n_states, n_actions, n_stages)` is called before a run and raises
    `InputError` for a game that is too large, with the memory that it would need.
    """

    def recover(
        self,
        trace: LearningTrace,
        *,
        game: MarkovGame | None,
        discount: float | None,
        temperature: float | None,
        known_policies: Mapping[str, FloatArray] | None = None,
    ) -> RecoveredRewards:
        """Recover every agent's reward.

        Begin with `Problem(trace, game, discount, temperature, known_policies)`: it checks the
        arguments against each other.

        Args:
            trace: the observed stages.
            game: the dynamics, without rewards; None: estimate them from the trace.
            discount: in [0, 1); None: estimate it.
            temperature: the learners' entropy weight, > 0; None: the reward is in units of the
                temperature.
            known_policies: per agent id, policies `(n_stages, n_states, n_actions)` that are known
                and used in place of estimates.

        Raises:
            InputError: for arguments that contradict each other, for None where the method needs a
                value, or for a trace that is too short for the method.
        """
        ...
