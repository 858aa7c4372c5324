"""What the simulator looks up at every step: moves as plain lists, and remembered joint states.

A step in plain Python is several times faster than one with NumPy scalars. Only what was visited
is remembered, so a game of any number of joint states can be played.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from malfl_env.rewards import Reward, state_rewards
from malfl_env.rules import GridRules, cell_successors

__all__ = ["MAX_RECORDS", "Record", "StateRecords", "move_lists"]

Record: TypeAlias = tuple[NDArray[np.int64], dict[str, float]]
MoveList: TypeAlias = list[list[int]]

MAX_RECORDS = 2**15
"""Joint states remembered at a time, about 20 MB; when they are full, they are made anew."""


def move_lists(rules: GridRules) -> tuple[MoveList, ...]:
    """Next cell by cell and action for every agent; agents with the same journey share a list."""
    journeys = list(zip(rules.starts, rules.goals, strict=True))
    lists = {
        journey: cell_successors(rules, journeys.index(journey)).tolist()
        for journey in set(journeys)
    }
    return tuple(lists[journey] for journey in journeys)


class StateRecords(dict[tuple[int, ...], Record]):
    """Observation and rewards of joint states, made when first asked for.

    A key is the cell of every agent. A record is the observation, int64 `(2 * n_agents,)`, and the
    rewards by agent id: those that depend on the state alone; 0.0 where the actions count as well.

    Args:
        rules: the rules of the game.
        rewards: one per agent, as in the result of `grid_rewards`.
    """

    def __init__(self, rules: GridRules, rewards: tuple[Reward, ...]) -> None:
        super().__init__()
        self._rules = rules
        self._rewards = rewards
        self._agents = [f"agent_{index}" for index in range(rules.n_agents)]

    def __missing__(self, cells: tuple[int, ...]) -> Record:
        rows_and_columns = np.divmod(np.array(cells, dtype=np.int64), self._rules.size)
        positions = np.stack(rows_and_columns, axis=-1)
        rewards = {
            agent: self._state_reward(index, cells, positions)
            for index, agent in enumerate(self._agents)
        }
        if len(self) >= MAX_RECORDS:
            self.clear()
        record = self[cells] = positions.reshape(-1), rewards
        return record

    def __reduce__(self) -> tuple[type[StateRecords], tuple[GridRules, tuple[Reward, ...]]]:
        """Copies and pickles begin with nothing remembered."""
        return StateRecords, (self._rules, self._rewards)

    def _state_reward(
        self, agent_index: int, cells: tuple[int, ...], positions: NDArray[np.int64]
    ) -> float:
        reward, rules = self._rewards[agent_index], self._rules
        if not isinstance(reward, np.ndarray):
            return float(state_rewards(reward, positions[None], agent_index, goals=rules.goals)[0])
        return float(reward[rules.joint_state(cells)]) if reward.ndim == 1 else 0.0
