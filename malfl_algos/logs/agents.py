"""Rows of single agents joined to rows of joint steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from malfl_algos.logs.column import Column
from malfl_algos.logs.rows import Keys, RowNames
from malfl_env.errors import InputError

__all__ = ["join_agents", "own_columns", "shared_columns"]

IntArray = NDArray[np.int64]


def join_agents(keys: Keys, agent: Column, names: RowNames) -> IntArray:
    """The rows of a table with one row per agent and step, joined by step.

    Args:
        keys: of every row.
        agent: of every row.
        names: for messages.

    Returns:
        The rows of the agents in every step, `(n_steps, n_agents)`.

    Raises:
        InputError: for a row without an agent, two rows of one agent in a step, and a step without
            a row of every agent; with the row.
    """
    if agent.missing.any():
        row = int(np.argmax(agent.missing))
        raise InputError(f"{names.row(row)}, column {agent.name!r}: the agent is missing")
    order = keys.order(agent.codes)
    ordered = keys.taken(order)
    same = ordered.same_episode() & (ordered.step[1:] == ordered.step[:-1])
    own = agent.codes[order]
    twice = same & (own[1:] == own[:-1])
    if twice.any():
        first = int(np.argmax(twice))
        raise InputError(
            f"{names.place(int(order[first + 1]))}: a second row of agent "
            f"{agent.values[own[first]]}, the first is {names.row(int(order[first]))}"
        )
    starts = np.flatnonzero(np.concatenate([[True], ~same]))
    n_agents = len(agent.values)
    counts = np.diff(np.concatenate([starts, [len(order)]]))
    if (counts != n_agents).any():
        step = int(np.argmax(counts != n_agents))
        present = own[starts[step] : starts[step] + counts[step]]
        absent = [str(agent.values[k]) for k in range(n_agents) if k not in set(present.tolist())]
        raise InputError(
            f"{names.place(int(order[starts[step]]))}: no row of agent {', '.join(absent)}; every "
            f"step needs a row of each of the {n_agents} agents"
        )
    return order.reshape(-1, n_agents)


def shared_columns(
    columns: Sequence[Column], own_rows: IntArray, names: RowNames
) -> tuple[Column, ...]:
    """Columns that are the same in all rows of a step, one value per step.

    Raises:
        InputError: for rows of a step with different values; with the row.
    """
    for column in columns:
        values = column.codes[own_rows]
        differ = values != values[:, :1]
        if differ.any():
            step, index = np.unravel_index(int(np.argmax(differ)), differ.shape)
            raise InputError(
                f"{names.place(int(own_rows[step, index]))}: column {column.name!r} differs from "
                f"{names.row(int(own_rows[step, 0]))} of the same step; the state must be that of "
                "the whole game, the same in all rows of a step, unless it is each agent's own "
                "(own_state)"
            )
    return tuple(column.taken(own_rows[:, 0]) for column in columns)


def own_columns(
    columns: Sequence[Column], own_rows: IntArray, agents: Sequence[str]
) -> tuple[Column, ...]:
    """Columns that belong to the agent of the row: one of each agent, one value per step."""
    return tuple(
        replace(column.taken(own_rows[:, index]), name=f"{column.name} of {agent}")
        for index, agent in enumerate(agents)
        for column in columns
    )
