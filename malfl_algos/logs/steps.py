"""Joint steps in the order of play, from the rows of a table in any order."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from malfl_algos.logs.column import MISSING
from malfl_algos.logs.rows import Rows, Steps
from malfl_env.checks import shown
from malfl_env.errors import InputError

__all__ = ["joint_steps"]

GAPS = ("error", "split")
"""What is done where the numbers of an episode's steps jump."""

IntArray = NDArray[np.int64]


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
    rows = rows.taken(rows.keys.order())
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
    lost = ~kept & ~final & last
    return Steps(
        keys.subject[kept],
        keys.stage[kept],
        number[kept],
        rows.state[kept],
        rows.actions[kept],
        following[kept],
        ends[kept],
        rows.source[kept],
        n_last=int(lost.sum()),
        n_missed=int((lost[:-1] & (keys.subject[1:] == keys.subject[:-1])).sum()),
        n_final=int(final.sum()),
        n_gaps=int(jumps.sum()),
    )


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
    missing = rows.actions == MISSING
    final = missing.all(axis=1) & last
    wrong = missing.any(axis=1) & ~final
    if wrong.any():
        place = int(np.argmax(wrong))
        agent = int(np.argmax(missing[place]))
        where = names.place(int(rows.sources[place, agent]))
        raise InputError(
            f"{where}, column {names.actions[agent]!r}: the action "
            f"of {names.agents[agent]} is missing; only the last row of an episode, which gives "
            "its final state, may have no actions"
        )
    absent = rows.state == MISSING
    if absent.any():
        row = int(rows.source[np.argmax(absent)])
        raise InputError(f"{names.place(row)}, column {names.state}: the state is missing")
    return np.asarray(final)


def _check_gaps(rows: Rows, jumps: NDArray[np.bool_], gaps: str) -> None:
    if gaps not in GAPS:
        raise InputError(f"gaps must be 'error' or 'split', got {shown(gaps)}")
    if gaps == "split" or not jumps.any():
        return
    place, n_gaps = int(np.argmax(jumps)), int(jumps.sum())
    before, after = (int(rows.source[place + own]) for own in (0, 1))
    raise InputError(
        f"{rows.names.place(after)}: the row before it ({rows.names.row(before)}) has step "
        f"{rows.names.step(before)}, so steps are missing between them "
        f"({n_gaps} gap{'s' * (n_gaps != 1)} in all); give the missing rows, a column of next "
        "states, or gaps 'split' to end episodes at gaps"
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
