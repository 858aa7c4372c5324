"""The contract with plugins: learners, which make a learning trace, and observers, which read one.

```
game -> Learner.learn -> Stage, ... -> LearningTrace -> Observer.recover -> RecoveredRewards
```
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from pettingzoo import ParallelEnv

from malfl_algos.problem import Problem
from malfl_algos.trace import LearningTrace, NextStateCounts, Stage, Transitions
from malfl_env.errors import InputError
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
    "Stage",
    "StageTruth",
    "Transitions",
]

API_VERSION = (2, 0)
"""(major, minor): a plugin states the version it was written for; another major is refused."""

FloatArray = NDArray[np.float64]
RewardFunction = Callable[[Any, Any], Any]
"""Observations and joint actions of some steps -> reward of every step, `(n_steps,)`."""


@dataclass(frozen=True, eq=False)
class StageTruth:
    """Ground truth of one stage, for scoring alone: it never enters a trace.

    Args:
        policies: per agent id the probabilities of its actions: `(n_states, n_actions)` for a stage
            with counts; else `(n_steps, n_actions)`, at the observation of every step.
        rewards: per agent id `(n_steps,)`, for a stage without counts.
    """

    policies: Mapping[str, FloatArray]
    rewards: Mapping[str, FloatArray] | None = None


@dataclass(frozen=True, eq=False)
class LearnedStage:
    """One stage of a learner.

    Args:
        observed: all that goes into a learning trace.
        truth: the policies that were played, and more, for scoring alone.
    """

    observed: Stage
    truth: StageTruth

    @property
    def joint_policy(self) -> Mapping[str, FloatArray]:
        """Shorthand of `truth.policies`."""
        return self.truth.policies


@dataclass(frozen=True, eq=False)
class Diagnostics(Mapping[str, Any]):
    """What an observer says of one agent's reward: a mapping whose first keys are always there.

    Args:
        identification: in words, what the data tell of the reward and what they leave open.
        rank: number of directions of the reward that the data determine.
        n_unidentified: number of directions that they leave open.
        n_unknowns: number of values or weights of the reward.
        reward_model: what the reward depends on.
        learner_model: how the agents are taken to learn.
        noise_variance, prior_variance, log_evidence: of the fit.
        step_size: of the agents' learning, given or chosen by evidence.
        bounds_hit: names of the settings that evidence drove to the end of their range.
        n_stages: number of stages that the reward was recovered from.
        further: everything else that JSON can hold, by name.
    """

    identification: str | None = None
    rank: int | None = None
    n_unidentified: int | None = None
    n_unknowns: int | None = None
    reward_model: str | None = None
    learner_model: str | None = None
    noise_variance: float | None = None
    prior_variance: float | None = None
    log_evidence: float | None = None
    step_size: float | None = None
    bounds_hit: list[str] | None = None
    n_stages: int | None = None
    further: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> Diagnostics:
        """Diagnostics from one mapping: names that are no field go to `further`."""
        if isinstance(content, cls):
            return content
        own = {name: content[name] for name in _named() if name in content}
        further = {name: entry for name, entry in content.items() if name not in own}
        return cls(**own, further=MappingProxyType(further))

    def __getitem__(self, name: str) -> Any:
        return getattr(self, name) if name in _named() else self.further[name]

    def __iter__(self) -> Iterator[str]:
        yield from _named()
        yield from self.further

    def __len__(self) -> int:
        return len(_named()) + len(self.further)

    def __reduce__(self) -> Any:
        return (type(self).of, (dict(self),))  # a read-only view cannot be pickled


def _named() -> tuple[str, ...]:
    return tuple(part.name for part in fields(Diagnostics) if part.name != "further")


@dataclass(frozen=True, eq=False)
class RecoveredRewards:
    """What an observer says.

    Args:
        rewards: tables, per agent id `(n_states,)`, or `(n_states, *n_actions)`.
        diagnostics: per agent id `Diagnostics`, or a mapping of which they are made.
        estimated_policies: per agent id `(n_stages, n_states, n_actions)`, where the method has
            them.
        targets: per agent id `(n_stages - 1, n_states, n_actions)`, equation (11), likewise.
        potentials: per agent id `(n_stages - 1, n_states)`, the g_h of (12), likewise.
        sd: per agent id, posterior standard deviations in the shape of the reward.
        covariance: per agent id, `(n_values, n_values)` over the flattened reward.
        functions: per agent id the reward as a function of observations and joint actions, where
            states cannot be enumerated; with tables beside it or without.
    """

    rewards: Mapping[str, FloatArray] = field(default_factory=dict)
    diagnostics: Mapping[str, Any] = field(default_factory=dict)
    estimated_policies: Mapping[str, FloatArray] | None = None
    targets: Mapping[str, FloatArray] | None = None
    potentials: Mapping[str, FloatArray] | None = None
    sd: Mapping[str, FloatArray] | None = None
    covariance: Mapping[str, FloatArray] | None = None
    functions: Mapping[str, RewardFunction] | None = None

    def __post_init__(self) -> None:
        if isinstance(self.diagnostics, Mapping):
            made = {
                agent: Diagnostics.of(own) if isinstance(own, Mapping) else own
                for agent, own in self.diagnostics.items()
            }
            object.__setattr__(self, "diagnostics", made)

    @property
    def agents(self) -> tuple[str, ...]:
        """The agents whose rewards were recovered, as tables or as functions."""
        return tuple(dict.fromkeys([*self.rewards, *(self.functions or {})]))

    def reward(self, agent: str, observations: Any, actions: Any) -> FloatArray:
        """Reward of one agent at every step, `(n_steps,)`.

        Args:
            agent: its id.
            observations: what the agent observed, `(n_steps, ...)`.
            actions: joint actions, int `(n_steps, n_agents)`.

        Raises:
            InputError: for an agent whose reward was not recovered as a function.
        """
        if agent not in (self.functions or {}):
            raise InputError(
                f"the reward of {agent!r} was not recovered as a function; functions: "
                f"{', '.join(self.functions or {}) or 'none'}"
            )
        assert self.functions is not None
        return np.asarray(self.functions[agent](observations, actions), dtype=np.float64)


@runtime_checkable
class Learner(Protocol):
    """Agents that improve in stages. A frozen dataclass whose fields are its options."""

    def learn(
        self, env: ParallelEnv[str, Any, Any], *, n_stages: int, rng: np.random.Generator
    ) -> Iterator[LearnedStage]:
        """Yield the stages one by one; the first is played under the initial joint policy.

        A learner of tabular games yields stages with counts. A learner of any parallel environment
        yields stages with steps and the agents' observations. One that does both yields counts
        where `malfl_env.markov_game` knows the environment.

        Args:
            env: the game; not shared with anyone while the generator lives.
            n_stages: how many stages to yield.
            rng: the only source of randomness: one seed, one result, byte for byte.

        Raises:
            InputError: for an environment that does not fit, before anything is played.
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
        temperature: float | None,
        known_policies: Mapping[str, FloatArray] | None = None,
    ) -> RecoveredRewards:
        """Recover every agent's reward.

        Begin with `Problem(trace, game, discount, temperature, known_policies)`, which checks these
        arguments, and against each other.

        Args:
            trace: the stages seen.
            game: the dynamics, stripped of rewards; None: estimate them from the trace.
            discount: in [0, 1); None: estimate it.
            temperature: the learners' entropy weight, > 0; None: the reward is in its units.
            known_policies: agent id to `(n_stages, n_states, n_actions)`: policies known for
                certain, used in place of estimates.

        Raises:
            InputError: for arguments that do not fit together, that the method needs and that are
                None, or a trace that is too short for the method.
        """
        ...
