"""The sound environment at the root of the zoo."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces
from pettingzoo import ParallelEnv

LENGTH = 7


class Line(ParallelEnv):  # type: ignore[misc]
    """A sound environment: actions left, stay, right; a reward for being far right."""

    metadata = {"name": "line_v0", "render_modes": []}  # noqa: RUF012
    lifetime = {"agent_0": 30, "agent_1": 20}  # noqa: RUF012
    slip = 0.3

    def __init__(self) -> None:
        self.possible_agents = ["agent_0", "agent_1"]
        self.agents: list[str] = []
        self.state_space: Any = spaces.MultiDiscrete([LENGTH, LENGTH])
        self._observation_spaces = {
            agent: spaces.Box(0.0, LENGTH - 1.0, (2,), np.float32) for agent in self.possible_agents
        }
        self._action_spaces = {agent: spaces.Discrete(3) for agent in self.possible_agents}
        self.rng = np.random.default_rng()
        self.cells = np.zeros(2, dtype=np.int64)
        self.clock = 0

    def observation_space(self, agent: str) -> Any:
        return self._observation_spaces[agent]

    def action_space(self, agent: str) -> Any:
        return self._action_spaces[agent]

    def state(self) -> Any:
        return self.cells.copy()

    def reset(self, seed: int | None = None, options: Any = None) -> Any:
        self.reseed(seed)
        self.agents = list(self.possible_agents)
        self.clock = 0
        self.cells[:] = self.start()
        return self.observations(), self.infos()

    def step(self, actions: dict[str, Any]) -> Any:
        self.clock += 1
        self.move(actions)
        terminations = dict.fromkeys(self.agents, False)
        truncations = {agent: self.clock >= self.lifetime[agent] for agent in self.agents}
        results = (self.observations(), self.rewards(), terminations, truncations, self.infos())
        self.agents = [agent for agent in self.agents if not truncations[agent]]
        return results

    def reseed(self, seed: int | None) -> None:
        if seed is not None:
            self.rng = np.random.default_rng(seed)

    def start(self) -> Any:
        return self.rng.integers(LENGTH, size=2)

    def noise(self) -> float:
        return self.rng.random()

    def move(self, actions: dict[str, Any]) -> None:
        for index, agent in enumerate(self.possible_agents):
            if agent in self.agents:
                astray = self.noise() < self.slip
                self.push(index, -1 if astray else int(actions[agent]) - 1)

    def push(self, index: int, by: int) -> None:
        self.cells[index] = np.clip(self.cells[index] + by, 0, LENGTH - 1)

    def observe(self, agent: str) -> Any:
        cells = self.cells.astype(np.float32)
        return cells if agent == "agent_0" else cells[::-1].copy()

    def observations(self) -> Any:
        return {agent: self.observe(agent) for agent in self.agents}

    def rewards(self) -> Any:
        return {agent: self.reward(agent) for agent in self.agents}

    def reward(self, agent: str) -> Any:
        return float(self.cells[self.possible_agents.index(agent)])

    def infos(self) -> Any:
        return {agent: {} for agent in self.agents}
