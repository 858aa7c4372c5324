"""Faults in what an environment says of itself."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces

from broken_envs.line import LENGTH, Line


class NoName(Line):
    metadata = {"render_modes": []}  # noqa: RUF012


class RepeatedAgents(Line):
    def __init__(self) -> None:
        super().__init__()
        self.possible_agents = ["agent_0", "agent_1", "agent_0"]


class NotASpace(Line):
    def action_space(self, agent: str) -> Any:
        return 3


class ForgottenSpace(Line):
    def observation_space(self, agent: str) -> Any:
        return {"agent_0": self._observation_spaces["agent_0"]}[agent]


class NewSpaceEachCall(Line):
    def observation_space(self, agent: str) -> Any:
        return spaces.Box(0.0, LENGTH - 1.0, (2,), np.float32)


class NewSpaceEachReset(Line):
    def reset(self, seed: int | None = None, options: Any = None) -> Any:
        self._action_spaces = {agent: spaces.Discrete(3) for agent in self.possible_agents}
        return super().reset(seed, options)


FAULTS: list[tuple[type[Line], str]] = [
    (NoName, "no name in metadata: metadata['name'] must be a text, got None"),
    (RepeatedAgents, "possible_agents repeats or is empty"),
    (NotASpace, "not a space: action_space('agent_0') is 3"),
    (ForgottenSpace, "not a space: observation_space('agent_1') raised KeyError('agent_1')"),
    (NewSpaceEachCall, "space is a new object: observation_space('agent_0')"),
    (NewSpaceEachReset, "space is a new object: action_space('agent_0')"),
]
