"""Faults in who takes part."""

from __future__ import annotations

from typing import Any

from broken_envs.line import Line


class EmptyAtReset(Line):
    def reset(self, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed, options)
        self.agents = []
        return {}, {}


class Stranger(Line):
    def __init__(self) -> None:
        super().__init__()
        self.lifetime = {**self.lifetime, "agent_2": 10}

    def reset(self, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed, options)
        self.agents.append("agent_2")
        return self.observations(), self.infos()


class SpoiltPossibleAgents(Line):
    def reset(self, seed: int | None = None, options: Any = None) -> Any:
        results = super().reset(seed, options)
        self.agents = self.possible_agents
        return results

    def step(self, actions: dict[str, Any]) -> Any:
        agents = self.agents
        results = super().step(actions)
        agents[:] = self.agents
        self.agents = agents
        return results


class ListedTwice(Line):
    def reset(self, seed: int | None = None, options: Any = None) -> Any:
        results = super().reset(seed, options)
        self.agents = [*self.agents, "agent_0"]
        return results


class NeverLeaves(Line):
    def step(self, actions: dict[str, Any]) -> Any:
        results = super().step(actions)
        self.agents = list(actions)
        return results


class ComesBack(Line):
    def step(self, actions: dict[str, Any]) -> Any:
        results = super().step(actions)
        if self.clock == 25:
            self.agents = list(self.possible_agents)
            parts: tuple[Any, ...] = (self.observations(), self.rewards(), {}, {}, self.infos())
            parts[2].update(dict.fromkeys(self.agents, False))
            parts[3].update(dict.fromkeys(self.agents, False))
            return parts
        return results


class LeavesInSilence(Line):
    def step(self, actions: dict[str, Any]) -> Any:
        results = super().step(actions)
        if self.clock == 5:
            self.agents.remove("agent_1")
        return results


FAULTS: list[tuple[type[Line], str]] = [
    (EmptyAtReset, "no agents after reset"),
    (Stranger, "agent outside possible_agents: ['agent_2']"),
    (SpoiltPossibleAgents, "possible_agents changed: ('agent_0',), was ('agent_0', 'agent_1')"),
    (ListedTwice, "agent listed twice: ('agent_0', 'agent_1', 'agent_0')"),
    (NeverLeaves, "finished agent still in agents: 'agent_1' has ended but is still live (step 20"),
    (ComesBack, "finished agent came back: 'agent_1' ended earlier in this episode (step 25"),
    (
        LeavesInSilence,
        "agent left without an end: 'agent_1' is not in agents but has not ended (step 5",
    ),
]
