"""Episodes played under policies that stand still, in many copies of a game side by side.

A network is called once for all copies, never for one observation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from malfl_algos.contract import PlayedStage
from malfl_algos.spaces import narrowed, observation_spaces
from malfl_algos.trace import Transitions
from malfl_sb3.game import SharedGame
from malfl_sb3.randomness import RandomStreams
from malfl_sb3.schedules import ENVIRONMENT
from malfl_sb3.view import AnyParallelEnv

__all__ = ["Policy", "play_episodes"]

FloatArray = NDArray[np.float64]
Policy: TypeAlias = Callable[[NDArray[Any]], FloatArray]
"""Observations `(n, ...)` -> probabilities of the actions `(n, n_actions)`."""


def play_episodes(
    env: AnyParallelEnv,
    policies: Mapping[str, Policy],
    *,
    episodes: int,
    episode_length: int,
    copies: int,
    rng: np.random.Generator,
) -> PlayedStage:
    """Play whole episodes; one call of a policy chooses for all copies of the game.

    Args:
        env: a parallel environment with discrete actions, whose agents begin and end together. It
            is copied, never moved.
        policies: per agent, in agent order.
        episodes: how many.
        episode_length: an episode that has not ended by then is cut.
        copies: games that are played at a time. It decides who draws what, so that another number
            gives other episodes.
        rng: seeds every episode and draws every action. The global generators of torch, NumPy and
            Python are as they were afterwards.

    Returns:
        The steps of one episode after the other, in the order in which they were begun.

    Raises:
        ValueError: where some agents end before others.
    """
    seeds = iter(enumerate(rng.integers(2**31, size=episodes).tolist()))
    games = [_Game(SharedGame(deepcopy(env)), episode_length) for _ in range(min(copies, episodes))]
    record = _Record(env, policies)
    streams = RandomStreams([ENVIRONMENT], rng)
    with streams.in_place():
        streams.use(ENVIRONMENT)
        for game in games:
            game.begin(*next(seeds))
        while games:
            record.step(games, rng)
            for game in games:
                if game.over:
                    game.begin(*next(seeds, (-1, None)))
            games = [game for game in games if game.episode >= 0]
    return record.stage()


class _Game:
    """One copy of the game, and the episode that is played in it."""

    def __init__(self, game: SharedGame, episode_length: int) -> None:
        self._game = game
        self._episode_length = episode_length
        self.episode = -1

    def begin(self, episode: int, seed: int | None) -> None:
        """Begin an episode; none where its number is negative."""
        self.episode, self.cut, self.terminated, self._steps = episode, False, False, 0
        if episode >= 0:
            self._game.reset(seed)

    @property
    def over(self) -> bool:
        return self.cut or self.terminated

    @property
    def observations(self) -> dict[Any, Any]:
        return self._game.observations

    def step(self, joint_action: list[int]) -> list[float]:
        """Everyone acts; the rewards."""
        results = self._game.step(dict(zip(self._game.agents, joint_action, strict=True)))
        self._steps += 1
        self.terminated = all(result[2] for result in results.values())
        ended = any(result[2] or result[3] for result in results.values())
        self.cut = not self.terminated and (ended or self._steps >= self._episode_length)
        return [result[1] for result in results.values()]


class _Record:
    """Steps as they are played, of all copies at a time; in the end episode by episode."""

    def __init__(self, env: AnyParallelEnv, policies: Mapping[str, Policy]) -> None:
        self._spaces = dict(zip(env.possible_agents, observation_spaces(env), strict=True))
        self._policies = policies
        self._columns: dict[tuple[str, ...], list[NDArray[Any]]] = {}

    def step(self, games: Sequence[_Game], rng: np.random.Generator) -> None:
        """Let every game make a step."""
        self._keep(("episode",), np.array([game.episode for game in games]))
        actions = []
        for agent, policy in self._policies.items():
            observed = self._observed(games, agent)
            probabilities = policy(observed)
            self._keep(("observations", agent), observed)
            self._keep(("policies", agent), probabilities)
            actions.append(_draw(probabilities, rng))
        joint_actions = np.stack(actions, axis=1)
        self._keep(("joint_actions",), joint_actions)
        own_rewards = [
            game.step(own) for game, own in zip(games, joint_actions.tolist(), strict=True)
        ]
        for agent, rewards in zip(self._policies, np.array(own_rewards).T, strict=True):
            self._keep(("next_observations", agent), self._observed(games, agent))
            self._keep(("rewards", agent), rewards)
        self._keep(("episode_ends",), np.array([game.over for game in games]))
        self._keep(("terminations",), np.array([game.terminated for game in games]))

    def stage(self) -> PlayedStage:
        """All that was played, in the order of the episodes."""
        columns = {name: np.concatenate(parts) for name, parts in self._columns.items()}
        order = np.argsort(columns.pop(("episode",)), kind="stable")
        columns = {name: column[order] for name, column in columns.items()}

        def of_agents(kind: str) -> dict[str, NDArray[Any]]:
            return {agent: columns[kind, agent] for agent in self._policies}

        terminations = columns["terminations",]
        observed = Transitions(
            states=None,
            joint_actions=columns["joint_actions",],
            next_states=None,
            episode_ends=columns["episode_ends",],
            complete=False,
            observations=of_agents("observations"),
            next_observations=of_agents("next_observations"),
            terminations=terminations if terminations.any() else None,
        )
        return PlayedStage(observed, of_agents("policies"), of_agents("rewards"))

    def _observed(self, games: Sequence[_Game], agent: str) -> NDArray[Any]:
        observed = np.stack([np.asarray(game.observations[agent]) for game in games])
        return narrowed(observed, self._spaces[agent])

    def _keep(self, name: tuple[str, ...], column: NDArray[Any]) -> None:
        self._columns.setdefault(name, []).append(column)


def _draw(probabilities: FloatArray, rng: np.random.Generator) -> NDArray[np.int16]:
    """An action for each row."""
    cumulative = np.cumsum(probabilities, axis=1)
    places = rng.random(len(probabilities))[:, None] * cumulative[:, -1:]
    # a place is below the last sum but for rounding
    drawn = np.sum(places >= cumulative[:, :-1], axis=1)
    return drawn.astype(np.int16)
