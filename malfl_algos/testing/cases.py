"""Small games, and traces of agents that learned in them, for observers to be tried on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from malfl_algos.play.tabular import observed_stage, sample_stage
from malfl_algos.plugins.loading import load_learner
from malfl_algos.trace import LearningTrace, Stage, Transitions
from malfl_env import MarkovGame, grid_world_v0, markov_game
from malfl_env.markov_game import Factor, deterministic_game

__all__ = [
    "Case",
    "grid_game",
    "learned_case",
    "observed_case",
    "odd_game",
    "played_case",
    "renamed",
]

FloatArray = NDArray[np.float64]

DISCOUNT, TEMPERATURE = 0.9, 0.5
N_STAGES, EPISODES, EPISODE_LENGTH = 4, 100, 50


@dataclass(frozen=True, eq=False)
class Case:
    """What an observer is handed, and what it is not.

    Args:
        name: for messages.
        game: without its rewards; None: the trace holds observed steps alone.
        trace: of agents that learned.
        policies: true ones, per agent id `(n_stages, n_states, n_actions)`.
        known: agents whose policies are handed over.
    """

    name: str
    game: Any
    trace: LearningTrace
    policies: Mapping[str, FloatArray]
    known: tuple[str, ...] = ()

    def arguments(self) -> dict[str, Any]:
        """The arguments of `recover`."""
        known = {agent: self.policies[agent] for agent in self.known}
        return {
            "trace": self.trace,
            "game": self.game,
            "discount": DISCOUNT,
            "temperature": TEMPERATURE,
            "known_policies": known or None,
        }


@dataclass(frozen=True, eq=False)
class _Tabular:
    """An environment that is a tabular model and nothing else."""

    game: MarkovGame

    def markov_game(self) -> MarkovGame:
        """The model."""
        return self.game


def grid_game(seed: int) -> MarkovGame:
    """The grid world of 2x2 cells, with rewards of the state drawn from a normal distribution."""
    game = markov_game(grid_world_v0.parallel_env(size=2))
    rng = np.random.default_rng(seed)
    return game.with_rewards([rng.standard_normal(game.n_states) for _ in game.n_actions])


def odd_game(seed: int) -> MarkovGame:
    """Seven joint states in no grid, two actions for one agent and three for the other."""
    rng = np.random.default_rng(seed)
    shape = (7, 2, 3)
    table = rng.integers(shape[0], size=shape)
    table[:, 0, 0] = (np.arange(shape[0]) + 1) % shape[0]  # so that every state occurs
    return deterministic_game(
        table, start=0, rewards=[rng.standard_normal(shape[0]) for _ in shape[1:]]
    )


def learned_case(name: str, game: MarkovGame, *, keep_transitions: bool) -> Case:
    """A trace of soft policy iteration in a game: 4 stages of 5000 steps."""
    learner = load_learner(
        "ma-spi",
        discount=DISCOUNT,
        temperature=TEMPERATURE,
        episodes=EPISODES,
        episode_length=EPISODE_LENGTH,
        keep_transitions=keep_transitions,
    )
    stages = list(learner.learn(_Tabular(game), n_stages=N_STAGES, rng=np.random.default_rng(0)))
    policies = {
        agent: np.stack([stage.truth.policies[agent] for stage in stages]) for agent in game.agents
    }
    trace = LearningTrace(tuple(stage.observed for stage in stages))
    return Case(name, game.without_rewards(), trace, policies)


def observed_case(game: MarkovGame) -> Case:
    """The trace of a learned case as an observer sees it that knows observations alone."""
    case = learned_case("observed steps", game, keep_transitions=True)
    whole = case.trace.with_observations(game)
    stages = [
        Stage(transitions=replace(stage.transitions, states=None, next_states=None))
        for stage in whole.stages
        if stage.transitions is not None
    ]
    trace = LearningTrace(tuple(stages), whole.agents, whole.n_actions, whole.spaces)
    return replace(case, game=None, trace=trace)


def played_case(case: Case, policies: Mapping[str, FloatArray]) -> Case:
    """A trace in the same game of agents that went through given policies."""
    game, stages = case.game, []
    keep = any(stage.transitions is not None for stage in case.trace.stages)
    silent = game.with_rewards([np.zeros(game.n_states)] * game.n_agents)
    for number in range(case.trace.n_stages):
        sample = sample_stage(
            silent,
            [np.log(policies[agent][number]) for agent in game.agents],
            seed=number,
            episodes=EPISODES,
            episode_length=EPISODE_LENGTH,
            discount=0.0,
            temperature=1.0,
            step_size=0.0,
            keep_steps=keep,
        )
        stages.append(observed_stage(game, sample, keep_transitions=keep, complete=True))
    return replace(case, trace=LearningTrace(tuple(stages)), policies=policies)


def renamed(case: Case) -> tuple[Case, NDArray[np.int64]]:
    """The same with the two agents of a grid world called by each other's name.

    Returns:
        The case, and the new number of each old joint state, int `(n_states,)`.
    """
    game = case.game
    first, second = game.factors
    local = game.local_states(np.arange(game.n_states))
    place = local[:, 1] * first.n_local + local[:, 0]
    turned = MarkovGame(
        game.n_actions[::-1],
        (
            Factor((0,), second.successors, second.probabilities),
            Factor((1,), first.successors, first.probabilities),
        ),
        int(place[game.start]),
        game.observation_shape,
    )
    back = np.argsort(place)
    names = dict(zip(game.agents, game.agents[::-1], strict=True))
    stages = tuple(_renamed_stage(stage, place, back) for stage in case.trace.stages)
    policies = {names[agent]: own[:, back] for agent, own in case.policies.items()}
    return replace(case, game=turned, trace=LearningTrace(stages), policies=policies), place


def _renamed_stage(stage: Stage, place: NDArray[np.int64], back: NDArray[np.int64]) -> Stage:
    counts = np.ascontiguousarray(stage.counts[back].transpose(0, 2, 1))
    steps = stage.transitions
    if steps is not None and steps.states is not None and steps.next_states is not None:
        steps = Transitions(
            states=place[steps.states],
            joint_actions=np.ascontiguousarray(steps.joint_actions[:, ::-1]),
            next_states=place[steps.next_states],
            episode_ends=steps.episode_ends,
            complete=steps.complete,
        )
    return Stage(counts, None, steps)
