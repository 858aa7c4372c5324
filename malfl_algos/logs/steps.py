"""Joint steps in the order of play, from the rows of a table in any order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from malfl_algos.logs.columns import MISSING, Column
from malfl_env.checks import shown
from malfl_env.errors import InputError

__all__ = ["GAPS", "Keys", "Rows", "Steps", "join_agents", "joint_steps"]

GAPS = ("error", "split")
"""What is done where the numbers of an episode's steps jump."""

IntArray = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Keys:
    """Where rows belong; each `(n_rows,)`, ordered as time is.

    Args:
        subject, stage, episode: numbers from 0.
        step: within the episode.
        counted: whether steps are whole numbers, so that a jump shows a gap.
        stride: difference of the numbers of two steps that follow each other.
    """

    subject: IntArray
    stage: IntArray
    episode: IntArray
    step: IntArray
    counted: bool
    stride: int = 1

    def taken(self, rows: NDArray[Any]) -> Keys:
        """The keys of some rows."""
        names = ("subject", "stage", "episode", "step")
        return replace(self, **{name: getattr(self, name)[rows] for name in names})

    def same_episode(self) -> NDArray[np.bool_]:
        """`(n_rows - 1,)`: whether a row and the following one are of one episode."""
        parts = (self.subject, self.stage, self.episode)
        return np.asarray(np.logical_and.reduce([own[1:] == own[:-1] for own in parts]))


@dataclass(frozen=True, eq=False)
class Rows:
    """The rows of a table with one row per joint step.

    Args:
        keys: where they belong.
        state: `(n_rows,)`.
        actions: `(n_rows, n_agents)`, -1 where the action is missing.
        next_state: `(n_rows,)`, -1 where it is missing; None without such a column.
        source: `(n_rows,)`: index of the row in the table, for messages.
        names: how messages name a row of the table, its state and the column of an agent's action.
    """

    keys: Keys
    state: IntArray
    actions: IntArray
    next_state: IntArray | None
    source: IntArray
    names: RowNames

    def taken(self, rows: NDArray[Any]) -> Rows:
        """Some of the rows."""
        return replace(
            self,
            keys=self.keys.taken(rows),
            state=self.state[rows],
            actions=self.actions[rows],
            next_state=None if self.next_state is None else self.next_state[rows],
            source=self.source[rows],
        )


@dataclass(frozen=True)
class RowNames:
    """How messages name the parts of a table.

    Args:
        row: names a row by its index.
        state: the names of the state's columns.
        episode, step: values of a row in these columns, as text.
        actions: the name of every agent's action column.
        agents: their names.
    """

    row: Callable[[int], str]
    state: str
    episode: Callable[[int], str]
    step: Callable[[int], str]
    actions: tuple[str, ...]
    agents: tuple[str, ...]

    def place(self, row: int) -> str:
        """A row with its episode and step."""
        return f"{self.row(row)} (episode {self.episode(row)}, step {self.step(row)})"


@dataclass(frozen=True, eq=False)
class Steps:
    """Joint steps in the order of play, each with its next state.

    Args:
        subject, stage, episode: `(n_steps,)`, numbers from 0; `episode` counts them all.
        state, next_state: `(n_steps,)`.
        actions: `(n_steps, n_agents)`.
        ends: `(n_steps,)`: the step is the last of its episode, or the last before a gap.
        source: `(n_steps,)`: index of the step's row in the table.
        n_last: steps at the end of episodes that were left out because their next state is unknown.
        n_final: rows without actions, which gave the last next state of their episodes.
        n_gaps: gaps at which episodes were split.
    """

    subject: IntArray
    stage: IntArray
    episode: IntArray
    state: IntArray
    actions: IntArray
    next_state: IntArray
    ends: NDArray[np.bool_]
    source: IntArray
    n_last: int
    n_final: int
    n_gaps: int

    def taken(self, rows: NDArray[Any]) -> Steps:
        """Some of the steps; the numbers of what was left out stay."""
        counts = ("n_last", "n_final", "n_gaps")
        fields = {name: own[rows] for name, own in vars(self).items() if name not in counts}
        return replace(self, **fields)


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
        One row of the table for each step, `(n_steps,)`, and the actions, `(n_steps, n_agents)`.

    Raises:
        InputError: for a row without an agent, two rows of one agent in a step, a step without a
            row of every agent, and rows of a step with different states; with the row.
    """
    if agent.missing.any():
        row = int(np.argmax(agent.missing))
        raise InputError(f"{names.row(row)}, column {agent.name!r}: the agent is missing")
    order = _sorted(keys, agent.codes)
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
    return order[starts], action[order].reshape(-1, n_agents)


def joint_steps(rows: Rows, *, gaps: str = "error") -> Steps:
    """Sort the rows by time and give each its next state.

    The next state is the one in the row, or else the state of the following row of the same
    episode. A row at the end of an episode that has neither is left out; one without actions gives
    the last next state of the episode.

    Args:
        rows: in any order.
        gaps: "error", or "split": an episode ends where its steps jump.

    Raises:
        InputError: for missing values, two rows of one step, a gap, and next states that differ
            from the state of the following row; with the row.
    """
    rows = rows.taken(_sorted(rows.keys))
    names, keys = rows.names, rows.keys
    same = keys.same_episode()
    _check_twice(rows, same & (keys.step[1:] == keys.step[:-1]))
    last = np.concatenate([~same, [True]])
    final = _final_rows(rows, last)
    jumps = same & (np.diff(keys.step) != keys.stride) if keys.counted else np.zeros_like(same)
    known = np.zeros(len(last), bool) if rows.next_state is None else rows.next_state != MISSING
    _check_gaps(rows, jumps & ~known[:-1], gaps)
    following = np.full(len(last), MISSING, dtype=np.int64)
    goes_on = same & ~jumps
    following[:-1][goes_on] = rows.state[1:][goes_on]
    _continue_in_next_stage(rows, last, following)
    if rows.next_state is not None:
        unknown = following == MISSING
        following[unknown] = rows.next_state[unknown]
        _check_continued(rows, known & ~last & np.append(goes_on, False), following)
    kept = ~final & (following != MISSING)
    ends = last | np.append(jumps, False)
    # the step before one that is left out, or before a row without actions, ends the episode
    ends[:-1] |= ~kept[1:]
    number = np.cumsum(np.concatenate([[True], ~same])) - 1
    if not kept.any():
        raise InputError(
            f"no step has a next state: every episode has one row "
            f"({names.place(int(rows.source[0]))} is the first); name the column of next states, "
            "or number the steps of longer episodes"
        )
    return Steps(
        keys.subject[kept],
        keys.stage[kept],
        number[kept],
        rows.state[kept],
        rows.actions[kept],
        following[kept],
        ends[kept],
        rows.source[kept],
        n_last=int((~kept & ~final & last).sum()),
        n_final=int(final.sum()),
        n_gaps=int(jumps.sum()),
    )


def _sorted(keys: Keys, agent: NDArray[Any] | None = None) -> IntArray:
    by = [keys.step, keys.episode, keys.stage, keys.subject]
    used = [own for own in by if len(own) and own.min() != own.max()]
    used = used if agent is None else [agent, *used]
    if not used:
        return np.arange(len(keys.step))
    return np.lexsort(used).astype(np.int64)


def _check_twice(rows: Rows, twice: NDArray[np.bool_]) -> None:
    if twice.any():
        first = int(np.argmax(twice))
        raise InputError(
            f"{rows.names.place(int(rows.source[first + 1]))}: a second row of this step, the "
            f"first is {rows.names.row(int(rows.source[first]))}"
        )


def _final_rows(rows: Rows, last: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Rows at the end of an episode that have a state and no actions; errors for other gaps."""
    names = rows.names
    absent = rows.state == MISSING
    if absent.any():
        row = int(rows.source[np.argmax(absent)])
        raise InputError(f"{names.place(row)}, column {names.state}: the state is missing")
    missing = rows.actions == MISSING
    final = missing.all(axis=1) & last
    wrong = missing.any(axis=1) & ~final
    if wrong.any():
        place = int(np.argmax(wrong))
        agent = int(np.argmax(missing[place]))
        raise InputError(
            f"{names.place(int(rows.source[place]))}, column {names.actions[agent]!r}: the action "
            f"of {names.agents[agent]} is missing; only the last row of an episode, which gives "
            "its final state, may have no actions"
        )
    return np.asarray(final)


def _check_gaps(rows: Rows, jumps: NDArray[np.bool_], gaps: str) -> None:
    if gaps not in GAPS:
        raise InputError(f"gaps must be 'error' or 'split', got {shown(gaps)}")
    if gaps == "split" or not jumps.any():
        return
    place = int(np.argmax(jumps))
    before, after = (int(rows.source[place + own]) for own in (0, 1))
    raise InputError(
        f"{rows.names.place(after)}: the row before it ({rows.names.row(before)}) has step "
        f"{rows.names.step(before)}, so steps are missing between them "
        f"({int(jumps.sum())} gaps in all); give the missing rows, a column of next states, or "
        "gaps 'split' to end episodes at gaps"
    )


def _continue_in_next_stage(rows: Rows, last: NDArray[np.bool_], following: IntArray) -> None:
    """Where an episode goes on in a later stage, set the next state of the last row before it."""
    keys = rows.keys
    if not keys.counted or not keys.stage.any():
        return
    places = np.flatnonzero(last)
    firsts = np.concatenate([[0], places[:-1] + 1])
    order = np.lexsort((keys.stage[firsts], keys.episode[firsts], keys.subject[firsts]))
    ends, begins = places[order][:-1], firsts[order][1:]
    goes_on = (
        (keys.subject[ends] == keys.subject[begins])
        & (keys.episode[ends] == keys.episode[begins])
        & (keys.step[ends] + keys.stride == keys.step[begins])
    )
    following[ends[goes_on]] = rows.state[begins[goes_on]]


def _check_continued(rows: Rows, checked: NDArray[np.bool_], following: IntArray) -> None:
    assert rows.next_state is not None
    wrong = checked & (rows.next_state != following)
    if wrong.any():
        place = int(np.argmax(wrong))
        raise InputError(
            f"{rows.names.place(int(rows.source[place]))}: its next state is not the state of "
            f"the following row, {rows.names.row(int(rows.source[place + 1]))}; begin a new "
            "episode there"
        )
