"""The columns of a log by what they are for, and the order of its rows in time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from malfl_algos.logs.column import Column, Frame
from malfl_algos.logs.columns import read_column, read_columns
from malfl_algos.logs.rows import Keys, RowNames
from malfl_env.arguments import typed
from malfl_env.checks import shown
from malfl_env.errors import InputError

__all__ = ["Layout", "Table", "read_table"]


@typed
@dataclass(frozen=True)
class Layout:
    """Names of the columns of a log; see `LearningTrace.from_table`."""

    state: str | Sequence[str] | None
    episode: str
    step: str
    actions: Mapping[str, str] | None = None
    agent: str | None = None
    action: str | None = None
    stage: str | None = None
    subject: str | None = None
    next_state: str | Sequence[str] | None = None
    terminated: str | None = None

    def checked(self) -> Layout:
        """The same, once it is either long or wide."""
        long = self.agent is not None or self.action is not None
        if long == (self.actions is not None) or (self.agent is None) != (self.action is None):
            raise InputError(
                "name the columns of actions either by actions (an agent's name to its column: one "
                "row per step) or by agent and action (one row per agent and step)"
            )
        if self.actions is not None and not (isinstance(self.actions, Mapping) and self.actions):
            raise InputError(
                f"actions must map every agent's name to its column, got {shown(self.actions)}"
            )
        return self


@dataclass(frozen=True, eq=False)
class Table:
    """The columns of a log that are used.

    Args:
        state, next_state: one column or several; empty where there is none.
        actions: of every agent; in a table with one row per agent and step, one column under the
            empty name.
        agent: of every row of such a table; else None.
        episode, step, stage, subject, terminated: None where there is none.
        row_name: names a row in messages.
        n_empty: rows without a value in any of the columns, which are left out.
    """

    state: tuple[Column, ...]
    next_state: tuple[Column, ...]
    actions: Mapping[str, Column]
    agent: Column | None
    episode: Column
    step: Column
    stage: Column | None
    subject: Column | None
    terminated: Column | None
    row_name: Callable[[int], str]
    n_empty: int = 0

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        return len(self.episode.codes)

    @property
    def agents(self) -> tuple[str, ...]:
        """Names of the agents."""
        if self.agent is None:
            return tuple(self.actions)
        return tuple(map(str, self.agent.labels()))

    def columns(self) -> Iterator[Column]:
        """All columns."""
        yield from (*self.state, *self.next_state, *self.actions.values())
        for name in ("agent", "episode", "step", "stage", "subject", "terminated"):
            if getattr(self, name) is not None:
                yield getattr(self, name)

    def names(self) -> RowNames:
        """How messages name the parts of this table."""
        columns = [own.name for own in self.actions.values()] * len(self.agents)
        return RowNames(
            row=self.row_name,
            state=", ".join(repr(own.name) for own in self.state),
            episode=lambda row: _cell(self.episode, row),
            step=lambda row: _cell(self.step, row),
            actions=tuple(columns[: len(self.agents)])
            if self.agent is not None
            else tuple(columns),
            agents=self.agents,
        )

    def keys(self) -> tuple[Keys, tuple[str, ...]]:
        """Where every row belongs in time, and sentences about what was done.

        Raises:
            InputError: for a missing value, with its row, and steps that are text.
        """
        notes = []
        ranks = []
        for column, what in ((self.subject, "subject"), (self.stage, "stage"), (self.episode, "")):
            if column is None:
                ranks.append(np.zeros(self.n_rows, dtype=np.int64))
                continue
            _check_present(column, self.row_name)
            if column.is_text and what != "subject":
                notes.append(
                    f"column {column.name!r} is text: its {what or 'episode'}s are in the order of "
                    "their first rows"
                )
                ranks.append(_in_order_of_rows(column))
            else:
                ranks.append(column.codes)
        _check_present(self.step, self.row_name)
        if self.step.is_text:
            row = self.row_of_text(self.step)
            raise InputError(
                f"{self.row_name(row)}, column {self.step.name!r}: steps must be numbers or times, "
                f"got {shown(_cell(self.step, row))}"
            )
        subject, stage, episode = ranks
        counted = self.step.is_whole and len(self.step.values) > 0
        step = self.step.values[self.step.codes] if counted else self.step.codes
        stride = int(np.gcd.reduce(np.diff(self.step.values))) if counted else 1
        return Keys(subject, stage, episode, step, counted, max(stride, 1)), tuple(notes)

    def row_of_text(self, column: Column) -> int:
        """The first row whose text is not a number."""
        wrong = np.array([not _is_number(label) for label in column.labels()])
        return int(np.argmax(wrong[column.codes] & ~column.missing))


def read_table(frame: Frame, layout: Layout) -> Table:
    """Read the columns that a layout names; rows without any value in them are left out.

    Raises:
        InputError: as `read_column`, and for a table without rows.
    """
    single = {
        name: None if getattr(layout, name) is None else read_column(frame, own, name)
        for name in ("agent", "episode", "step", "stage", "subject", "terminated")
        for own in [getattr(layout, name)]
    }
    wide = {"": layout.action} if layout.actions is None else layout.actions
    for agent in wide:
        if not isinstance(agent, str):
            raise InputError(f"actions must have agents' names as text, got {shown(agent)}")
    table = Table(
        state=() if layout.state is None else _several(frame, layout.state, "state"),
        next_state=()
        if layout.next_state is None
        else _several(frame, layout.next_state, "next_state"),
        actions={
            agent: read_column(frame, name, f"action of {agent}" if agent else "action")  # type: ignore[arg-type]
            for agent, name in wide.items()
        },
        row_name=frame.row_name,
        **single,  # type: ignore[arg-type]
    )
    lengths = {len(own.codes) for own in table.columns()}
    if len(lengths) > 1:
        raise InputError(f"all columns must have one length, got {sorted(lengths)}")
    table = _without_empty(table)
    if not table.n_rows:
        raise InputError("the table has no rows")
    return table


def _several(frame: Frame, names: Any, what: str) -> tuple[Column, ...]:
    given = [names] if isinstance(names, str) else names
    if not isinstance(given, Sequence) or not given:
        raise InputError(f"{what} must be the name of a column or several, got {shown(names)}")
    return tuple(own for name in given for own in read_columns(frame, name, what))


def _without_empty(table: Table) -> Table:
    empty = np.logical_and.reduce([own.missing for own in table.columns()])
    if not empty.any():
        return table
    rows = np.flatnonzero(~empty)

    def taken(value: Any) -> Any:
        if isinstance(value, Column):
            return value.taken(rows)
        if isinstance(value, tuple):
            return tuple(own.taken(rows) for own in value)
        return value

    fields = {name: taken(value) for name, value in vars(table).items()}
    fields["actions"] = {agent: own.taken(rows) for agent, own in table.actions.items()}
    before = table.row_name
    fields["row_name"] = lambda row: before(int(rows[row]))
    return replace(table, **{**fields, "n_empty": int(empty.sum())})


def _in_order_of_rows(column: Column) -> np.ndarray[Any, np.dtype[np.int64]]:
    seen, first = np.unique(column.codes, return_index=True)
    rank = np.zeros(len(column.values), dtype=np.int64)
    rank[seen[np.argsort(first)]] = np.arange(len(seen))
    return np.asarray(rank[column.codes])


def _check_present(column: Column, row_name: Callable[[int], str]) -> None:
    if column.missing.any():
        row = int(np.argmax(column.missing))
        raise InputError(f"{row_name(row)}, column {column.name!r}: the value is missing")


def _cell(column: Column, row: int) -> str:
    code = int(column.codes[row])
    return "(empty)" if code < 0 else str(column.values[code])


def _is_number(text: Any) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
