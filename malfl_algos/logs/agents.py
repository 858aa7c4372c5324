"""Rows of single agents joined to rows of joint steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from malfl_algos.logs.column import Column
from malfl_algos.logs.rows import Keys, RowNames
from malfl_env.errors import InputError

__all__ = ["join_agents"]

IntArray = NDArray[np.int64]


def join_agents(
    keys: Keys, agent: Column, columns: Sequence[IntArray], action: IntArray, names: RowNames
) -> tuple[NDArray[Any], IntArray]:
    """The rows of a table with one row per agent and step, joined by step.

    Args:
        keys: of every row.
        agent: of every row.
        columns: what all rows of a step must agree in: states, and next states if there are any.
        action: of every row.
        names: for messages.

    Returns:
        The rows of the table and their actions, each `(n_steps, n_agents)`.

    Raises:
        InputError: for a row without an agent, two rows of one agent in a step, a step without a
            row of every agent, and rows of a step with different states; with the row.
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
    for column in columns:
        values = column[order].reshape(-1, n_agents)
        differ = (values != values[:, :1]).any(axis=1)
        if differ.any():
            step = int(np.argmax(differ))
            raise InputError(
                f"{names.place(int(order[starts[step]]))}: the {n_agents} agents' rows have "
                f"different values in column {names.state}; the state must be that of the whole "
                "game, the same in all rows of a step (or use one row per step with columns of "
                "each agent)"
            )
    return order.reshape(-1, n_agents), action[order].reshape(-1, n_agents)
