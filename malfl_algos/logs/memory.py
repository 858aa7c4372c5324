"""States that are the joint actions of the steps before, as in repeated games."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from malfl_algos.logs.column import MISSING, Column
from malfl_algos.logs.rows import Keys

__all__ = ["Remembered", "remembered"]

_ALWAYS = np.array(["always"], dtype=object)


class Remembered(NamedTuple):
    """Columns of states and next states, and the rows that have them.

    Args:
        rows: `(n_kept,)`, in the order of time; the first steps of episodes are left out.
        state, next_state: of these rows. Without columns of the log among the states, the next
            states are known: they are the actions of the row and of those before it.
    """

    rows: NDArray[np.int64]
    state: tuple[Column, ...]
    next_state: tuple[Column, ...]


def remembered(
    keys: Keys, state: Sequence[Column], actions: Mapping[str, Column], memory: int
) -> Remembered:
    """Add the joint actions of the last `memory` steps of the episode to the state.

    Args:
        keys: of every row.
        state: columns of the log that belong to the state; may be empty.
        actions: of every agent.
        memory: number of steps; with 0, and no columns, there is one state.
    """
    order = keys.order()
    ordered = keys.taken(order)
    follows = np.concatenate([[False], ordered.same_episode()])
    if keys.counted:
        follows[1:] &= np.diff(ordered.step) == keys.stride
    known = np.ones(len(order), dtype=bool)
    before: list[Column] = []  # of the longest past first
    after: list[Column] = [column.taken(order) for column in actions.values()]
    for lag in range(1, memory + 1):
        known[1:] &= known[:-1]
        known &= follows
        columns = []
        for agent, column in actions.items():
            codes = np.full(len(order), MISSING, dtype=np.int64)
            codes[lag:] = column.codes[order[:-lag]] if lag < len(order) else []
            columns.append(Column(f"action of {agent}, {lag} before", column.values, codes))
        before = [*columns, *before]
        if lag < memory:
            after = [*columns, *after]
    kept = np.flatnonzero(known)
    rows = order[kept]
    if not before and not state:
        always = Column("state", _ALWAYS, np.zeros(len(rows), dtype=np.int64))
        return Remembered(rows, (always,), (always,))
    own = tuple(column.taken(rows) for column in state)
    past = tuple(column.taken(kept) for column in before)
    following = () if state or not memory else tuple(column.taken(kept) for column in after)
    return Remembered(rows, (*own, *past), following)
