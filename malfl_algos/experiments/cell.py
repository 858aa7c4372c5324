"""One cell of a grid: a learner learns once, and observers recover rewards from what was seen.

`learn` and `observe` are the only places of the package that run a learner or an observer: `malfl
reproduce`, `malfl sweep`, `malfl learn`, `malfl recover` and the study all come here. The results
follow from the configuration, the family and the seed alone, not from other cells, the order in
which cells are done, or the number of workers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any, Literal
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from malfl_algos.contract import Observer, Problem, RecoveredRewards
from malfl_algos.experiments.config import ExperimentConfig, PluginConfig
from malfl_algos.experiments.parts import make_learner, make_observer, needs_transitions
from malfl_algos.ground_truth import GroundTruth
from malfl_algos.plugins.results import learned_stages, recovered_rewards
from malfl_algos.trace import LearningTrace
from malfl_env import MarkovGame
from malfl_env.errors import InputError

__all__ = [
    "Learned",
    "Observation",
    "Recovered",
    "learn",
    "learner_rng",
    "observe",
    "recover",
]

FloatArray = NDArray[np.float64]
Recovered = Mapping[str, RecoveredRewards]
"""By observing agent id; "" stands for an external observer, and for both of two agents."""


@dataclass(frozen=True, eq=False)
class Learned:
    """A cell after its learner has learned.

    Args:
        config: the experiment.
        family, seed: of the cell.
        trace: what observers may see.
        truth: what only scoring may see.
    """

    config: ExperimentConfig
    family: str
    seed: int
    trace: LearningTrace
    truth: GroundTruth

    @cached_property
    def game(self) -> MarkovGame:
        """The dynamics and the ground-truth rewards."""
        return self.config.markov_game(self.family)


@dataclass(frozen=True, eq=False)
class Observation:
    """What an observer recovered from a cell.

    Args:
        observer: who did.
        recovered: from the whole trace.
        from_first: recovers from the first stages only, as many as are asked for; raises
            `TooFewStages` where they are too few for the observer, and what `observe` raises.
    """

    observer: Observer
    recovered: Recovered
    from_first: Callable[[int], Recovered]


def learner_rng(family: str, seed: int) -> np.random.Generator:
    """The learner's randomness: a function of the family's name and the seed, of nothing else."""
    sequence = np.random.SeedSequence(seed, spawn_key=(crc32(family.encode()),))
    return np.random.default_rng(sequence)


def learn(
    config: ExperimentConfig,
    *,
    family: str | None = None,
    seed: int | None = None,
    keep_transitions: bool | None = None,
) -> Learned:
    """Let the learner of a configuration learn, and keep what may be seen apart from the truth.

    Args:
        config: the experiment.
        family, seed: of the cell; None: the first of the configuration.
        keep_transitions: None: where an observer of the configuration needs them.

    Raises:
        InputError: from the learner, or where its stages do not hold the transitions that are to be
            kept.
        PluginFault: where its stages break the contract.
    """
    family = config.reward_families[0] if family is None else family
    seed = config.seeds[0] if seed is None else seed
    keep = needs_transitions(config) if keep_transitions is None else keep_transitions
    game = config.markov_game(family)
    learner = make_learner(config, seed=seed, keep_transitions=keep)
    stages = list(
        learned_stages(
            learner,
            config.environment(family),
            n_stages=config.iterations,
            rng=learner_rng(family, seed),
            by=f"learner {config.learner.label!r}",
            agents=game.agents,
            shape=(game.n_states, *game.n_actions),
        )
    )
    if keep and any(stage.observed.transitions is None for stage in stages):
        raise InputError("an observer needs transitions, which this learner does not keep")
    truth = GroundTruth(
        rewards={agent: game.reward(index) for index, agent in enumerate(game.agents)},
        joint_policies={
            agent: np.stack([stage.joint_policy[agent] for stage in stages])
            for agent in game.agents
        },
    )
    trace = LearningTrace(tuple(stage.observed for stage in stages))
    return Learned(config, family, seed, trace, truth)


def observe(learned: Learned, plugin: PluginConfig, *, policies_known: bool = False) -> Observation:
    """Let an observer recover rewards, from the perspective of the configuration.

    Args:
        learned: the cell.
        plugin: the observer.
        policies_known: whether an external observer knows all policies.

    Raises:
        InputError: from the observer.
        PluginFault: where what it returns breaks the contract.
    """
    config = learned.config
    known = policies_known or config.seat == "agent"
    observer = make_observer(config, plugin, seed=learned.seed)

    def from_first(n_stages: int) -> Recovered:
        return recover(
            observer,
            learned.trace.first(n_stages),
            game=learned.game.without_rewards(),
            discount=config.discount,
            temperature=config.temperature,
            seat=config.seat,
            policies=learned.truth.joint_policies if known else None,
            by=f"observer {plugin.label!r}",
        )

    return Observation(observer, from_first(learned.trace.n_stages), from_first)


def recover(
    observer: Observer,
    trace: LearningTrace,
    *,
    game: MarkovGame | None,
    discount: float,
    temperature: float,
    seat: Literal["external", "agent"] = "external",
    policies: Mapping[str, FloatArray] | None = None,
    by: str = "the observer",
) -> Recovered:
    """Recover rewards from a trace.

    Args:
        observer: who recovers.
        trace, game, discount, temperature: as for `Observer.recover`.
        seat: "external", or "agent": each agent in turn observes the others and knows its own
            policies.
        policies: per agent id the policies `(n_stages, n_states, n_actions)`, of the trace's stages
            or more. An external observer knows them all, an agent its own.
        by: the observer's name in messages.

    Returns:
        Seat "external": one result for all agents. Seat "agent": for two agents one result, keyed
        by the observed agent; for more, one result per observing agent, of all the others.

    Raises:
        InputError: from the observer.
        PluginFault: where what it returns breaks the contract.
    """
    known = {agent: own[: trace.n_stages] for agent, own in (policies or {}).items()}

    def result(known_policies: Mapping[str, FloatArray], wanted: Sequence[str]) -> RecoveredRewards:
        problem = Problem(trace, game, discount, temperature, known_policies)
        found = recovered_rewards(observer, problem, by=by, wanted=wanted)
        return _noted(found, trace.n_stages)

    if seat == "external":
        return {"": result(known, trace.agents)}
    by_observing = {}
    for agent in trace.agents:
        others = tuple(other for other in trace.agents if other != agent)
        by_observing[agent] = _of_agents(result({agent: known[agent]}, others), others)
    if trace.n_agents > 2:
        return by_observing
    return {"": _joined(by_observing)}


def _noted(result: RecoveredRewards, n_stages: int) -> RecoveredRewards:
    """The result with the number of stages: scoring has to know which are new to these rewards."""
    said = {agent: result.diagnostics.get(agent, {}) for agent in result.rewards}
    noted = {agent: {**own, "n_stages": n_stages} for agent, own in said.items()}
    return replace(result, diagnostics={**result.diagnostics, **noted})


def _of_agents(result: RecoveredRewards, agents: tuple[str, ...]) -> RecoveredRewards:
    """The parts of a result that are about some agents."""
    parts: dict[str, Any] = {}
    for part in fields(RecoveredRewards):
        whole = getattr(result, part.name)
        kept = {agent: whole[agent] for agent in agents if agent in whole} if whole else whole
        parts[part.name] = kept
    return RecoveredRewards(**parts)


def _joined(by_observing: Recovered) -> RecoveredRewards:
    """One result of two, each about the agent that the other observes, agents in order."""
    results = list(by_observing.values())[::-1]
    parts: dict[str, Any] = {}
    for part in fields(RecoveredRewards):
        own = [getattr(result, part.name) for result in results]
        given = [mapping for mapping in own if mapping is not None]
        parts[part.name] = (
            {k: v for mapping in given for k, v in mapping.items()} if given else None
        )
    return RecoveredRewards(**parts)
