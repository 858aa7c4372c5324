"""Environments that a learner of tables has to reject, and one that any other learner can play."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium.spaces import Box, Discrete, Space
from pettingzoo import ParallelEnv

from malfl_env import grid_world_v0

__all__ = ["ApartEnv", "ContinuousEnv", "ObservedWorld"]


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
