"""Environments that a learner of tables has to refuse."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium.spaces import Box, Discrete, Space
from pettingzoo import ParallelEnv

__all__ = ["ApartEnv", "ContinuousEnv"]


class _TwoAgents(ParallelEnv[str, Any, Any]):  # type: ignore[misc]
    """Two agents who see the number of the step; nothing they do matters."""

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
        return self._told(), {agent: {} for agent in self.agents}

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
        told = {agent: np.array([float(self._step)]) for agent in acting}
        return told, dict.fromkeys(acting, 0.0), ends, never, {agent: {} for agent in acting}

    def _told(self) -> dict[str, Any]:
        return {agent: np.array([float(self._step)]) for agent in self.agents}


class ContinuousEnv(_TwoAgents):
    """Actions are numbers, so there is nothing to count."""

    metadata = {"name": "continuous_actions", "render_modes": []}  # noqa: RUF012
    actions = Box(-1.0, 1.0, (2,), np.float64)


class ApartEnv(_TwoAgents):
    """One agent's episode ends before the other's."""

    metadata = {"name": "unequal_ends", "render_modes": []}  # noqa: RUF012
    lengths = (3, 5)
