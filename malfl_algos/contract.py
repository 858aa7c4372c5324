"""The two kinds of plugin: learners, which make a learning trace, and observers, which read one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from pettingzoo import ParallelEnv

from malfl_algos.observation_trace import ObservationTrace
from malfl_algos.trace import LearningTrace, Stage, Transitions
from malfl_env.markov_game import MarkovGame

__all__ = [
    "API_VERSION",
    "LearnedStage",
    "Learner",
    "ObservationLearner",
    "ObservationObserver",
    "Observer",
    "PlayedStage",
    "RecoveredRewards",
]

API_VERSION = (1, 0)
"""(major, minor): a plugin states the version it was written for; another major is refused."""

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class LearnedStage:
    """One stage of a learner.

    Args:
        observed: all that goes into a learning trace.
        joint_policy: per agent id `(n_states, n_actions)`: the policies played in this stage.
            Ground truth, for scoring alone.
    """

    observed: Stage
    joint_policy: Mapping[str, FloatArray]


@dataclass(frozen=True, eq=False)
class PlayedStage:
    """One stage of a learner in a game whose states need not be listed.

    Args:
        observed: all that goes into an observation trace.
        policies: per agent id `(n_steps, n_actions)`: probabilities of its actions at the
            observation of every step. Ground truth, for scoring alone.
        rewards: per agent id `(n_steps,)`. Ground truth, for scoring alone.
    """

    observed: Transitions
    policies: Mapping[str, FloatArray]
    rewards: Mapping[str, FloatArray]


@dataclass(frozen=True, eq=False)
class RecoveredRewards:
    """What an observer says.

    Args:
        rewards: per agent id `(n_states,)`, or `(n_states, *n_actions)`.
        diagnostics: per agent id what JSON can hold: rank, what is not identified, noise and so on.
        estimated_policies: per agent id `(n_stages, n_states, n_actions)`, where the method has
            them.
        targets: per agent id `(n_stages - 1, n_states, n_actions)`, equation (11), likewise.
        potentials: per agent id `(n_stages - 1, n_states)`, the g_h of (12), likewise.
        sd: per agent id, posterior standard deviations in the shape of the reward.
        covariance: per agent id, `(n_values, n_values)` over the flattened reward.
    """

    rewards: Mapping[str, FloatArray]
    diagnostics: Mapping[str, Any] = field(default_factory=dict)
    estimated_policies: Mapping[str, FloatArray] | None = None
    targets: Mapping[str, FloatArray] | None = None
    potentials: Mapping[str, FloatArray] | None = None
    sd: Mapping[str, FloatArray] | None = None
    covariance: Mapping[str, FloatArray] | None = None


@runtime_checkable
class Learner(Protocol):
    """Agents that improve in stages. A frozen dataclass whose fields are its options."""

    def learn(
        self, env: ParallelEnv[str, Any, Any], *, n_stages: int, rng: np.random.Generator
    ) -> Iterator[LearnedStage]:
        """Yield the stages one by one; the first is played under the initial joint policy.

        Args:
            env: the game; not shared with anyone while the generator lives.
            n_stages: how many stages to yield.
            rng: the only source of randomness: one seed, one result, byte for byte.
        """
        ...


@runtime_checkable
class Observer(Protocol):
    """A reader of learning traces. A frozen dataclass whose fields are its options.

    A class attribute `needs_transitions = True` asks the pipeline for ordered transitions. A method
    `check_size(n_states, n_actions, n_stages)`, where there is one, is called before anything runs
    and raises `InputError` for a game too large, stating the memory it would take.
    """

    def recover(
        self,
        trace: LearningTrace,
        *,
        game: MarkovGame | None,
        discount: float | None,
        temperature: float,
        known_policies: Mapping[str, FloatArray] | None = None,
    ) -> RecoveredRewards:
        """Recover every agent's reward.

        Args:
            trace: the stages seen.
            game: the dynamics, stripped of rewards; None: estimate them from the trace.
            discount: in [0, 1); None: profile it.
            temperature: the learners' entropy weight, > 0.
            known_policies: agent id to `(n_stages, n_states, n_actions)`: policies known for
                certain, used in place of estimates.

        Raises:
            InputError: where the trace does not fit the game or is too short for the method.
        """
        ...


@runtime_checkable
class ObservationLearner(Protocol):
    """Agents that improve in stages in any parallel environment with discrete actions.

    A learner may be this and a `Learner`, too.
    """

    def play(
        self, env: ParallelEnv[str, Any, Any], *, n_stages: int, rng: np.random.Generator
    ) -> Iterator[PlayedStage]:
        """Yield the stages one by one; arguments as for `Learner.learn`."""
        ...


@runtime_checkable
class ObservationObserver(Protocol):
    """A reader of observation traces. An observer may be this and an `Observer`, too."""

    def read(self, trace: ObservationTrace, *, discount: float, temperature: float) -> Any:
        """Recover every agent's reward as a function of observations and actions.

        Args:
            trace: the stages seen.
            discount: in [0, 1).
            temperature: the learners' entropy weight, > 0.

        Raises:
            InputError: for a trace that is too short for the method.
        """
        ...
