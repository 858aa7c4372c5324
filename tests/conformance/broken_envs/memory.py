"""Faults of shared memory."""

from __future__ import annotations

from typing import Any

import numpy as np

from broken_envs.line import Line


class OneBufferForAll(Line):
    def observations(self) -> Any:
        return dict.fromkeys(self.agents, self.cells.astype(np.float32))


class ViewsOfOneArray(Line):
    def observations(self) -> Any:
        cells = self.cells.astype(np.float32)
        return {agent: cells[:: 1 if agent == "agent_0" else -1] for agent in self.agents}


class StateIsObservation(Line):
    def __init__(self) -> None:
        super().__init__()
        self.state_space = self._observation_spaces["agent_0"]

    def observe(self, agent: str) -> Any:
        if agent == "agent_0":
            self.last = super().observe(agent)
            return self.last
        return super().observe(agent)

    def state(self) -> Any:
        return self.last


class OneInfoForAll(Line):
    def infos(self) -> Any:
        info: dict[str, Any] = {}
        return dict.fromkeys(self.agents, info)


class OneBufferForEver(Line):
    def __init__(self) -> None:
        super().__init__()
        self.buffers = {agent: np.zeros(2, np.float32) for agent in self.possible_agents}

    def observe(self, agent: str) -> Any:
        self.buffers[agent][:] = super().observe(agent)
        return self.buffers[agent]


class RingOfBuffers(Line):
    """Sixteen buffers in turn: what a reset returned lives for sixteen steps."""

    def __init__(self) -> None:
        super().__init__()
        self.buffers = np.zeros((16, 2, 2), np.float32)

    def observe(self, agent: str) -> Any:
        buffer = self.buffers[self.clock % 16, self.possible_agents.index(agent)]
        buffer[:] = super().observe(agent)
        return buffer


class ReusedRewards(Line):
    def __init__(self) -> None:
        super().__init__()
        self.last_rewards: dict[str, float] = {}

    def rewards(self) -> Any:
        self.last_rewards.clear()
        self.last_rewards.update(super().rewards())
        return self.last_rewards


class StateIsTheGame(Line):
    """`state()` hands out the array that the game is played on."""

    def move(self, actions: dict[str, Any]) -> None:
        self.cells = self.cells.copy()
        super().move(actions)

    def state(self) -> Any:
        return self.cells


class EatsActions(Line):
    def step(self, actions: dict[str, Any]) -> Any:
        results = super().step(actions)
        actions.popitem()
        return results


FAULTS: list[tuple[type[Line], str]] = [
    (OneBufferForAll, "observation shared between agents: the observation of 'agent_0' and"),
    (ViewsOfOneArray, "observation shared between agents: the observation of 'agent_0' and"),
    (StateIsObservation, "the observation of 'agent_0' and state() are one buffer"),
    (OneInfoForAll, "info shared between agents: 'agent_0' and 'agent_1' hold one dict"),
    (OneBufferForEver, "returned value overwritten later: the result of reset after reset(seed=0)"),
    (RingOfBuffers, "returned value overwritten later"),
    (
        ReusedRewards,
        "returned value overwritten later: the result of step 1 after reset(seed=0): rewards",
    ),
    (StateIsTheGame, "writing to an observation changes the environment"),
    (EatsActions, "step() changed the action dict"),
]
