"""A PettingZoo environment that plays any tabular game, for learners that need one."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium.spaces import Discrete, MultiDiscrete
from pettingzoo import ParallelEnv

from malfl_env import MarkovGame

__all__ = ["TabularEnv"]


class TabularEnv(ParallelEnv):  # type: ignore[misc]  # pettingzoo ships no types
    """A game given as a table; every agent observes the digits of the joint state.

    Args:
        game: dynamics and rewards.
        max_cycles: episodes are truncated after this many steps; none terminates.
    """

    def __init__(self, game: MarkovGame, *, max_cycles: int = 1000) -> None:
        self.metadata = {"name": "tabular_game"}
        self.game, self.max_cycles = game, max_cycles
        self.possible_agents = list(game.agents)
        self.agents: list[str] = []
        self._observed_space = MultiDiscrete(list(game.observation_shape))
        self._action_spaces = [Discrete(n) for n in game.n_actions]
        self._successors, self._probabilities = game.joint_successors()
        self._rng = np.random.default_rng()
        self._state, self._step = game.start, 0

    def markov_game(self) -> MarkovGame:
        """The game itself."""
        return self.game

    def observation_space(self, agent: str) -> Any:
        """Digits of joint states."""
        return self._observed_space

    def action_space(self, agent: str) -> Any:
        """Numbers of the agent's actions."""
        return self._action_spaces[self.possible_agents.index(agent)]

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
        """Begin an episode in the game's start."""
        if seed is not None:
            self._rng = np.random.default_rng(seed)
        self.agents = list(self.possible_agents)
        self._state, self._step = self.game.start, 0
        return self._observed(), {agent: {} for agent in self.agents}

    def step(self, actions: dict[str, int]) -> tuple[dict[str, Any], ...]:
        """One step; rewards are of the joint state before it."""
        row = (self._state, *(int(actions[agent]) for agent in self.agents))
        rewards = {}
        for index, agent in enumerate(self.agents):
            table = self.game.reward(index)
            rewards[agent] = float(table[row] if table.ndim > 1 else table[self._state])
        drawn = self._rng.choice(self._successors.shape[-1], p=self._probabilities[row])
        self._state, self._step = int(self._successors[row][drawn]), self._step + 1
        over = self._step >= self.max_cycles
        parts: tuple[dict[str, Any], ...] = (
            self._observed(),
            rewards,
            dict.fromkeys(self.agents, False),
            dict.fromkeys(self.agents, over),
            {agent: {} for agent in self.agents},
        )
        if over:
            self.agents = []
        return parts

    def _observed(self) -> dict[str, Any]:
        return {agent: self.game.observation(self._state) for agent in self.agents}
