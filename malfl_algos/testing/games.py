"""Games for trials of plugins: environments for learners, and traces for observers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from gymnasium.spaces import Box, Discrete, Space
from numpy.typing import NDArray
from pettingzoo import ParallelEnv

from malfl_algos.play.tabular import observed_stage, sample_stage
from malfl_algos.plugins.loading import load_learner
from malfl_algos.trace import LearningTrace, Stage, Transitions
from malfl_env import MarkovGame, grid_world_v0, markov_game
from malfl_env.markov_game import Factor, deterministic_game

__all__ = [
    "ApartEnv",
    "Case",
    "ContinuousEnv",
    "ObservedWorld",
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
    """The arguments of an observer, and the ground truth.

    Args:
        name: for messages.
        game: without its rewards; None: the trace holds observed steps only.
        trace: the trace of agents that learned.
        policies: ground truth, per agent id `(n_stages, n_states, n_actions)`.
        known: agents whose policies the observer is given.
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
    """An environment that has only a tabular model."""

    game: MarkovGame

    def markov_game(self) -> MarkovGame:
        """The model."""
        return self.game


def grid_game(seed: int) -> MarkovGame:
    """The grid world of 2x2 cells; rewards of the states are drawn from a normal distribution."""
    game = markov_game(grid_world_v0.parallel_env(size=2))
    rng = np.random.default_rng(seed)
    return game.with_rewards([rng.standard_normal(game.n_states) for _ in game.n_actions])


def odd_game(seed: int) -> MarkovGame:
    """A game of seven joint states, with two actions for one agent and three for the other."""
    rng = np.random.default_rng(seed)
    shape = (7, 2, 3)
    table = rng.integers(shape[0], size=shape)
    table[:, 0, 0] = (np.arange(shape[0]) + 1) % shape[0]  # every state can be reached
    return deterministic_game(
        table, start=0, rewards=[rng.standard_normal(shape[0]) for _ in shape[1:]]
    )


def learned_case(name: str, game: MarkovGame, *, keep_transitions: bool) -> Case:
    """A trace of soft policy iteration in a game, 4 stages of 5000 steps."""
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
    """A learned case whose trace holds steps with observations, without joint states."""
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
    """A trace in the same game, of agents that play the given policies."""
    game, stages = case.game, []
    keep = any(stage.transitions is not None for stage in case.trace.stages)
    without = game.with_rewards([np.zeros(game.n_states)] * game.n_agents)
    for number in range(case.trace.n_stages):
        sample = sample_stage(
            without,
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
    """The same case of a grid world with the names of its two agents exchanged.

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


class _TwoAgents(ParallelEnv[str, Any, Any]):  # type: ignore[misc]
    """Two agents that observe the number of the step; their actions have no effect."""

    metadata = {"name": "two_agents", "render_modes": []}  # noqa: RUF012
    render_mode = None
    actions: Space[Any] = Discrete(2)
    lengths = (5, 5)

    def __init__(self) -> None:
        self.possible_agents = ["agent_0", "agent_1"]
        self.agents: list[str] = []
        self.n_steps = 0
        self._step = 0
        self._seen = Box(0.0, 10.0, (1,), np.float64)

    def observation_space(self, agent: str) -> Space[Any]:
        """The number of the step."""
        return self._seen

    def action_space(self, agent: str) -> Space[Any]:
        """The same for both."""
        return self.actions

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Begin an episode."""
        self.agents, self._step = list(self.possible_agents), 0
        return self._seen_now(), {agent: {} for agent in self.agents}

    def step(self, actions: dict[str, Any]) -> tuple[dict[str, Any], ...]:
        """Go on by one step."""
        self._step += 1
        self.n_steps += 1
        acting = self.agents
        ends = {
            agent: self._step >= self.lengths[self.possible_agents.index(agent)] for agent in acting
        }
        self.agents = [agent for agent in acting if not ends[agent]]
        never = dict.fromkeys(acting, False)
        seen = {agent: np.array([float(self._step)]) for agent in acting}
        return seen, dict.fromkeys(acting, 0.0), ends, never, {agent: {} for agent in acting}

    def _seen_now(self) -> dict[str, Any]:
        return {agent: np.array([float(self._step)]) for agent in self.agents}


class ContinuousEnv(_TwoAgents):
    """Actions are real numbers and cannot be counted."""

    metadata = {"name": "continuous_actions", "render_modes": []}  # noqa: RUF012
    actions = Box(-1.0, 1.0, (2,), np.float64)


class ApartEnv(_TwoAgents):
    """The episode of one agent ends before that of the other."""

    metadata = {"name": "unequal_ends", "render_modes": []}  # noqa: RUF012
    lengths = (3, 5)


class ObservedWorld(ParallelEnv[str, Any, Any]):  # type: ignore[misc]
    """A grid world without a tabular model: agents observe rows and columns as real numbers.

    Args:
        max_cycles: steps of an episode.
    """

    metadata = {"name": "observed_world", "render_modes": []}  # noqa: RUF012
    render_mode = None

    def __init__(self, max_cycles: int = 50) -> None:
        self._world = grid_world_v0.parallel_env(size=2, max_cycles=max_cycles)
        self.possible_agents = list(self._world.possible_agents)
        self._seen = Box(0.0, 1.0, (2 * len(self.possible_agents),), np.float32)
        self._acts = {agent: Discrete(5) for agent in self.possible_agents}

    @property
    def agents(self) -> list[str]:
        """Agents in play."""
        return list(self._world.agents)

    def observation_space(self, agent: str) -> Space[Any]:
        """Rows and columns of all agents."""
        return self._seen

    def action_space(self, agent: str) -> Space[Any]:
        """Down, up, left, right, stay."""
        return self._acts[agent]

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Begin an episode."""
        seen, infos = self._world.reset(seed=seed, options=options)
        return _as_numbers(seen), infos

    def step(self, actions: dict[str, Any]) -> tuple[dict[str, Any], ...]:
        """Go on by one step."""
        stepped: tuple[Any, ...] = self._world.step(actions)
        return (_as_numbers(stepped[0]), *stepped[1:])


def _as_numbers(seen: dict[str, Any]) -> dict[str, Any]:
    return {agent: np.asarray(own, dtype=np.float32) for agent, own in seen.items()}
