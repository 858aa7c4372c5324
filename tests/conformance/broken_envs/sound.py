"""Environments that look suspicious and have no fault."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces

from broken_envs.line import LENGTH, Line


class Deterministic(Line):
    slip = 0.0

    def start(self) -> Any:
        return [0, LENGTH - 1]


class CoinStart(Deterministic):
    """One bit of chance per episode: equal episodes are to be expected."""

    def start(self) -> Any:
        return [0, LENGTH - 1] if self.rng.random() < 0.5 else [LENGTH - 1, 0]


class RareEvent(Deterministic):
    """One episode in twenty starts elsewhere."""

    def start(self) -> Any:
        return [0, LENGTH - 1] if self.rng.random() < 0.95 else [LENGTH - 1, 0]


class ReadOnlySharedView(Line):
    """All agents observe the same read-only array."""

    def observations(self) -> Any:
        view = self.cells.astype(np.float32)
        view.flags.writeable = False
        return dict.fromkeys(self.agents, view)


class CommonInfo(Line):
    def infos(self) -> Any:
        return {**super().infos(), "common": {"clock": self.clock}}


class MaskInInfo(Line):
    """Walls are illegal moves; the infos say so."""

    def mask(self, agent: str) -> Any:
        cell = self.cells[self.possible_agents.index(agent)]
        return np.array([cell > 0, True, cell < LENGTH - 1], dtype=np.int8)

    def infos(self) -> Any:
        return {agent: {"action_mask": self.mask(agent)} for agent in self.agents}

    def move(self, actions: dict[str, Any]) -> None:
        for agent, action in actions.items():
            if not self.mask(agent)[action]:
                raise RuntimeError(f"illegal action {action}")
        super().move(actions)


class MaskInObservation(MaskInInfo):
    """Walls are illegal moves; the observations say so."""

    def __init__(self) -> None:
        super().__init__()
        self._observation_spaces: Any = {
            agent: spaces.Dict(
                {
                    "observation": self._observation_spaces[agent],
                    "action_mask": spaces.MultiBinary(3),
                }
            )
            for agent in self.possible_agents
        }

    def observe(self, agent: str) -> Any:
        return {"observation": super().observe(agent), "action_mask": self.mask(agent)}

    def infos(self) -> Any:
        return {agent: {} for agent in self.agents}


class NoisyReward(Deterministic):
    """Sound: its rewards show every draw, so that a fault of chance shows at once."""

    def reward(self, agent: str) -> Any:
        return self.noise()


class NoCopies(Line):
    """Correct: an environment need not support copies."""

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise TypeError("cannot be copied")


SOUND = [
    Line,
    Deterministic,
    CoinStart,
    RareEvent,
    ReadOnlySharedView,
    CommonInfo,
    MaskInInfo,
    MaskInObservation,
    NoisyReward,
    NoCopies,
]
