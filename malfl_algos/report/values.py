"""The values of recovered reward tables as rows: labels, mean, standard deviation, visits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from malfl_algos.recovered import RecoveredRewards, Source
from malfl_env.errors import InputError

__all__ = ["Values", "cut_to", "values_of"]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Values:
    """The reward of one agent, a value per joint state, or per joint state and joint action.

    Agents on whose actions the reward does not depend are left out.

    Args:
        agent: its id.
        source: names of states and actions, or None: numbers.
        states: joint state of each value, `(n_values,)`.
        acting: indices of the agents on whose actions the reward depends.
        actions: their actions at each value, `(n_values, len(acting))`.
        reward: `(n_values,)`.
        sd: `(n_values,)`, or None.
        visits: of the joint state of each value, `(n_values,)`, or None.
    """

    agent: str
    source: Source | None
    states: IntArray
    acting: tuple[int, ...]
    actions: IntArray
    reward: FloatArray
    sd: FloatArray | None
    visits: IntArray | None

    def name(self, place: int) -> str:
        """The joint state of a value, and the actions if the reward depends on them."""
        moves = [self.action_name(own, place) for own in range(len(self.acting))]
        state = self.state_name(place)
        return f"{state} | {', '.join(moves)}" if moves else state

    def state_name(self, place: int) -> str:
        """The label of the joint state of a value, or its number."""
        state = int(self.states[place])
        return str(state) if self.source is None else self.source.state_name(state)

    def action_name(self, column: int, place: int) -> str:
        """The label of the action of `acting[column]`, or its number."""
        action = int(self.actions[place, column])
        if self.source is None:
            return str(action)
        return self.source.action_name(self.acting[column], action)

    def agent_name(self, column: int) -> str:
        """The id of the agent `acting[column]`."""
        index = self.acting[column]
        return f"agent_{index}" if self.source is None else str(self.source.agents[index])


def values_of(result: RecoveredRewards, agent: str) -> Values:
    """The values of one agent's reward table.

    Raises:
        InputError: if the reward is not a table.
    """
    if agent not in result.rewards:
        raise InputError(
            f"the reward of agent {agent!r} is not a table; tables: "
            f"{', '.join(map(str, result.rewards)) or 'none'}"
        )
    table = np.asarray(result.rewards[agent], dtype=np.float64)
    sd = None if result.sd is None else result.sd.get(agent)
    spread = None if sd is None else np.asarray(sd, dtype=np.float64)
    tables = [table] if spread is None else [table, spread]
    kept = [
        axis for axis in range(1, table.ndim) if any(np.ptp(own, axis=axis).any() for own in tables)
    ]
    # where a table does not change along an axis, its first entry stands for all
    place = tuple(slice(None) if a in (0, *kept) else 0 for a in range(table.ndim))
    table, spread = table[place], None if spread is None else spread[place]
    numbers = np.indices(table.shape).reshape(table.ndim, -1)
    visits = None if result.source is None else result.source.visits
    return Values(
        agent=agent,
        source=result.source,
        states=numbers[0],
        acting=tuple(axis - 1 for axis in kept),
        actions=numbers[1:].T,
        reward=table.ravel(),
        sd=None if spread is None else spread.ravel(),
        visits=None if visits is None else visits[numbers[0]],
    )


def cut_to(values: Values, most: int) -> tuple[IntArray, Sequence[int]]:
    """Places of the values to show, from the largest to the smallest reward.

    Only visited joint states are shown, if any is known to be visited. If there are more than
    `most` values, the largest and the smallest are kept.

    Returns:
        The places, and the positions among them before which values are left out (none or one).
    """
    places = np.arange(len(values.reward))
    if values.visits is not None and values.visits.any():
        places = np.flatnonzero(values.visits > 0)
    order = places[np.argsort(-values.reward[places], kind="stable")]
    if len(order) <= most:
        return order, ()
    first = (most + 1) // 2
    return np.concatenate([order[:first], order[len(order) - (most - first) :]]), (first,)
