"""Faults of order."""

from __future__ import annotations

import os
from typing import Any

from broken_envs.line import Line
from broken_envs.sound import Deterministic


class DictOrder(Line):
    def move(self, actions: dict[str, Any]) -> None:
        for agent, action in actions.items():
            astray = self.noise() < self.slip
            self.push(self.possible_agents.index(agent), -1 if astray else int(action) - 1)


class PositionalActions(Deterministic):
    def move(self, actions: dict[str, Any]) -> None:
        for index, action in enumerate(actions.values()):
            self.push(index, int(action) - 1)


class SetOrder(Line):
    """Loops over a set of names, whose order is PYTHONHASHSEED's."""

    def move(self, actions: dict[str, Any]) -> None:
        noise = {name: self.noise() for name in {f"agent_{index}" for index in range(20)}}
        for index, agent in enumerate(self.possible_agents):
            if agent in actions:
                self.push(index, -1 if noise[agent] < self.slip else int(actions[agent]) - 1)


def only_at_home() -> Line:
    """A factory that works in processes with no fixed hash seed, or with hash seed 0."""
    if os.environ.get("PYTHONHASHSEED", "0") not in ("0", "random"):
        raise RuntimeError("this machine has no other processes")
    return Line()


FAULTS: list[tuple[type[Line], str]] = [
    (DictOrder, "order of the action dict matters"),
    (PositionalActions, "order of the action dict matters"),
]
