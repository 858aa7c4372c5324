"""Faults in single returned values."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces

from broken_envs.line import LENGTH, Line
from broken_envs.sound import MaskInInfo, MaskInObservation


class Crashes(Line):
    def reward(self, agent: str) -> Any:
        return 1 / (5 - self.clock)


class OldGymStep(Line):
    def step(self, actions: dict[str, Any]) -> Any:
        observations, rewards, terminations, _, infos = super().step(actions)
        return observations, rewards, terminations, infos


class OldGymReset(Line):
    def reset(self, seed: int | None = None, options: Any = None) -> Any:
        return super().reset(seed, options)[0]


class ObservationList(Line):
    def observations(self) -> Any:
        return list(super().observations().values())


class BadResetObservation(Line):
    def observe(self, agent: str) -> Any:
        return super().observe(agent) - np.float32(100 if self.clock == 0 else 0)


class BadLateObservation(Line):
    def observe(self, agent: str) -> Any:
        return super().observe(agent) + np.float32(LENGTH if self.clock == 9 else 0)


class NanObservation(Line):
    def observe(self, agent: str) -> Any:
        return super().observe(agent) * np.float32(np.nan if self.clock == 4 else 1)


class BadShape(Line):
    def observe(self, agent: str) -> Any:
        return super().observe(agent)[:, None]


class BadDtype(Line):
    def observe(self, agent: str) -> Any:
        return super().observe(agent).astype(np.float64)


class PlainList(Line):
    def observe(self, agent: str) -> Any:
        return super().observe(agent).tolist()


class NestedOutside(MaskInObservation):
    def observe(self, agent: str) -> Any:
        observed = super().observe(agent)
        if self.clock == 3:
            observed["observation"] += LENGTH
        return observed


class StateOutside(Line):
    def state(self) -> Any:
        return self.cells - (5 * LENGTH if self.clock == 6 else 0)


class NanReward(Line):
    def reward(self, agent: str) -> Any:
        return float("nan") if self.clock == 2 else 0.0


class InfiniteReward(Line):
    def reward(self, agent: str) -> Any:
        return np.float64("-inf") if self.clock == 2 else 0.0


class TextReward(Line):
    def reward(self, agent: str) -> Any:
        return "1.0"


class BoolReward(Line):
    def reward(self, agent: str) -> Any:
        return bool(super().reward(agent) > 0)


class ArrayReward(Line):
    def reward(self, agent: str) -> Any:
        return np.array([super().reward(agent)])


class MissingReward(Line):
    def rewards(self) -> Any:
        return {"agent_0": 0.0}


class ExtraReward(Line):
    def rewards(self) -> Any:
        return dict.fromkeys(self.possible_agents, 0.0)


class AllDoneKey(Line):
    def step(self, actions: dict[str, Any]) -> Any:
        results = super().step(actions)
        results[2]["__all__"] = not self.agents
        return results


class MissingTruncation(Line):
    def step(self, actions: dict[str, Any]) -> Any:
        observations, rewards, terminations, _, infos = super().step(actions)
        return observations, rewards, terminations, {}, infos


class NumberAsFlag(Line):
    def step(self, actions: dict[str, Any]) -> Any:
        observations, rewards, terminations, truncations, infos = super().step(actions)
        return observations, rewards, dict.fromkeys(terminations, 0), truncations, infos


class MissingInfo(Line):
    def infos(self) -> Any:
        return {} if self.clock else super().infos()


class InfoOfTheDead(Line):
    def infos(self) -> Any:
        return {agent: {} for agent in self.possible_agents}


class InfoIsNone(Line):
    def infos(self) -> Any:
        return dict.fromkeys(self.agents)


class LongMask(MaskInInfo):
    def mask(self, agent: str) -> Any:
        return np.append(super().mask(agent), 1)


class FlatMask(Line):
    """The mask of two digits in one array, as some algorithms want it; Gymnasium wants a tuple."""

    def __init__(self) -> None:
        super().__init__()
        self._action_spaces: Any = {
            agent: spaces.MultiDiscrete([3, 2]) for agent in self.possible_agents
        }

    def infos(self) -> Any:
        return {agent: {"action_mask": np.ones(5, dtype=np.int8)} for agent in self.agents}


class MaskOfWords(Line):
    def infos(self) -> Any:
        return {agent: {"action_mask": ["left", "stay", "right"]} for agent in self.agents}


FAULTS: list[tuple[type[Line], str]] = [
    (Crashes, "call raised: ZeroDivisionError: division by zero (step 5 after reset(seed=0))"),
    (OldGymStep, "wrong return value: expected observations, rewards, terminations"),
    (OldGymReset, "wrong return value: expected observations, infos"),
    (ObservationList, "wrong return value: observations must be a dict"),
    (BadResetObservation, "observation outside its space: 'agent_0' got"),
    (BadLateObservation, "value not in Box(0.0, 6.0, (2,), float32) (step 9 after"),
    (NanObservation, "'agent_0' got array([nan, nan], dtype=float32): value not in"),
    (BadShape, "shape (2, 1), the space has (2,)"),
    (BadDtype, "dtype float64, the space has float32"),
    (PlainList, "a list, must be a numpy array"),
    (NestedOutside, "['observation'] value not in Box"),
    (StateOutside, "state() outside state_space"),
    (NanReward, "reward is not finite: 'agent_0' got nan of type float (step 2 after"),
    (InfiniteReward, "of type float64 (step 2 after reset(seed=0))"),
    (TextReward, "reward is not a number: 'agent_0' got '1.0' of type str (step 1"),
    (BoolReward, "reward is not a number: 'agent_0' got"),
    (ArrayReward, "of type ndarray (step 1"),
    (MissingReward, "agent missing from rewards: no entry for ['agent_1'] (step 1"),
    (ExtraReward, "agent too many in rewards: ['agent_1'] not among the live agents (step 21"),
    (AllDoneKey, "agent too many in terminations: ['__all__']"),
    (MissingTruncation, "agent missing from truncations"),
    (NumberAsFlag, "flag in terminations is not a bool: 'agent_0' got 0 of type int"),
    (MissingInfo, "agent missing from infos"),
    (InfoOfTheDead, "agent too many in infos: ['agent_1']"),
    (InfoIsNone, "info is not a dict: 'agent_0' got None"),
    (LongMask, "action_mask does not fit its space: the mask array("),
    (FlatMask, "of 'agent_0' does not fit MultiDiscrete([3 2]): "),
    (MaskOfWords, "action_mask does not fit its space: the mask ['left', 'stay', 'right']"),
]
