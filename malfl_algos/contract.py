"""The contract with plugins: learners make a learning trace, observers recover rewards from it.

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
from malfl_algos.verdict import Verdict
from malfl_env.arguments import typed
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
    "Verdict",
]

API_VERSION = (2, 0)
"""(major, minor). A plugin states the version that it is written for; only our major is allowed."""

FloatArray = NDArray[np.float64]
NOT_JUDGED = Verdict(
    "doubt",
    ("no verdict was made: every number that it stands on is missing",),
    {},
    ("call malfl_algos.judge(result, trace, game=..., discount=..., temperature=...)",),
)
RewardFunction = Callable[[Any, Any], Any]
"""Observations and joint actions of some steps -> reward of each step, `(n_steps,)`."""


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


@dataclass(frozen=True, eq=False)
class Diagnostics(Mapping[str, Any]):
    """Diagnostics of one agent's recovered reward; also a read-only mapping of its entries.

    Args:
        identification: in words, what the data determine of the reward and what they do not.
        rank: number of directions of the reward that the data determine.
        n_unidentified: number of unidentified directions.
        n_unknowns: number of unknown values or weights of the reward.
        reward_model: what the reward depends on.
        learner_model: the assumed learning rule of the agents.
        noise_variance, prior_variance, log_evidence: of the fit.
        step_size: of the assumed learning rule, given or chosen by evidence.
        bounds_hit: names of settings whose best value is at the end of their range.
        n_stages: number of stages used.
        further: other entries, by name; all must be JSON.
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
    @typed
    def of(cls, content: Mapping[str, Any]) -> Diagnostics:
        """Diagnostics from one mapping; entries that are not fields go to `further`."""
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
        return (
            type(self).of,
            (dict(self),),
        )  # a read-only view cannot be pickled


def _named() -> tuple[str, ...]:
    return tuple(part.name for part in fields(Diagnostics) if part.name != "further")


@dataclass(frozen=True, eq=False)
class RecoveredRewards:
    """The result of an observer.

    Args:
        rewards: tables, per agent id, `(n_states,)` or `(n_states, *n_actions)`.
        diagnostics: per agent id, `Diagnostics` or a mapping that becomes one.
        estimated_policies: per agent id, `(n_stages, n_states, n_actions)`, if the method estimates
            policies.
        targets: per agent id, `(n_stages - 1, n_states, n_actions)`, equation (11) of the paper, if
            the method has them.
        potentials: per agent id, `(n_stages - 1, n_states)`, the g_h of equation (12), if the
            method has them.
        sd: per agent id, posterior standard deviations, in the shape of the reward.
        covariance: per agent id, posterior covariance, `(n_values, n_values)`, of the flattened
            reward.
        functions: per agent id, the reward as a function of observations and joint actions, for
            non-enumerable games; tables may be given as well.
        verdict: whether to believe the rewards. Observers leave it out; `malfl` and
            `malfl_algos.judge` make it.
    """

    rewards: Mapping[str, FloatArray] = field(default_factory=dict)
    diagnostics: Mapping[str, Any] = field(default_factory=dict)
    estimated_policies: Mapping[str, FloatArray] | None = None
    targets: Mapping[str, FloatArray] | None = None
    potentials: Mapping[str, FloatArray] | None = None
    sd: Mapping[str, FloatArray] | None = None
    covariance: Mapping[str, FloatArray] | None = None
    functions: Mapping[str, RewardFunction] | None = None
    verdict: Verdict = NOT_JUDGED

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

    @typed
    def reward(
        self, agent: str, observations: NDArray[Any], actions: NDArray[np.integer]
    ) -> FloatArray:
        """Reward of one agent at every step, `(n_steps,)`, by its reward function.

        Args:
            agent: id of the agent.
            observations: observations of the agent, `(n_steps, ...)`.
            actions: joint actions, int `(n_steps, n_agents)`.

        Raises:
            InputError: for an agent whose reward was not recovered as a function.
        """
        if agent not in (self.functions or {}):
            raise InputError(
                f"the reward of agent {agent!r} was not recovered as a function; functions: "
                f"{', '.join(map(str, self.functions or {})) or 'none'}"
            )
        assert self.functions is not None
        return np.asarray(self.functions[agent](observations, actions), dtype=np.float64)


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
