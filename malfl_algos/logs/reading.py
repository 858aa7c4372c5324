"""A learning trace from a table; see `LearningTrace.from_table`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from malfl_algos.logs.agents import join_agents, own_columns, shared_columns
from malfl_algos.logs.building import build_trace
from malfl_algos.logs.column import Column
from malfl_algos.logs.columns import as_frame
from malfl_algos.logs.labels import Numbered, number_actions, number_states
from malfl_algos.logs.memory import remembered
from malfl_algos.logs.rows import Keys, RowNames, Rows, Steps
from malfl_algos.logs.stages import Cut, cut_stages
from malfl_algos.logs.steps import joint_steps
from malfl_algos.logs.table import Layout, Table, read_table
from malfl_algos.storage.arrays import MANIFEST, check_array
from malfl_algos.trace import LearningTrace
from malfl_env.arguments import Index, typed
from malfl_env.errors import InputError
from malfl_env.markov_game import MarkovGame

__all__ = ["trace_from_table", "traces_by_subject"]


@typed
@dataclass(frozen=True)
class Sizes:
    """Sizes of the game that a log need not show, and what is done at gaps."""

    n_states: int | None = None
    n_actions: int | Mapping[str, int] | None = None
    gaps: Literal["error", "split"] = "error"
    game: MarkovGame | None = None
    compact: bool = False
    own_state: bool = False
    memory: Index | None = None

    def checked(self, agents: Sequence[str]) -> Sizes:
        """The same, with the sizes of the game, if there is one."""
        game = self.game
        if game is None:
            return self
        if self.n_states is not None or self.n_actions is not None:
            raise InputError("n_states and n_actions are those of the game: leave them out")
        if game.n_agents != len(agents):
            raise InputError(
                f"the game has {game.n_agents} agents, the log {len(agents)}: {', '.join(agents)}"
            )
        if self.compact:
            raise InputError("the states are those of the game: leave compact out")
        by_agent = dict(zip(agents, game.n_actions, strict=True))
        return replace(self, n_states=game.n_states, n_actions=by_agent)


@dataclass(frozen=True, eq=False)
class _Read:
    """The steps of a table in order, with the names of what they hold."""

    steps: Steps
    table: Table
    states: Numbered
    actions: tuple[Numbered, ...]
    terminated: NDArray[np.bool_] | None
    notes: tuple[str, ...]


def trace_from_table(frame: Any, **roles: Any) -> LearningTrace:
    """The trace of a table, with all subjects pooled; see `LearningTrace.from_table`."""
    layout, cut, sizes = _split(roles)
    read = _read(frame, layout, sizes)
    notes = list(read.notes)
    if read.table.subject is not None:
        number = len(np.unique(read.steps.subject))
        notes.append(f"{number} subjects are pooled; the time of each is cut into stages alike")
    return _cut(read, read.steps, cut, notes)


def traces_by_subject(frame: Any, **roles: Any) -> dict[str, LearningTrace]:
    """A trace of each subject, all with the same numbers of states and actions."""
    layout, cut, sizes = _split(roles)
    if layout.subject is None:
        raise InputError("subject must be the name of a column, got None")
    read = _read(frame, layout, sizes)
    assert read.table.subject is not None
    traces = {}
    for number, label in enumerate(read.table.subject.labels()):
        own = read.steps.taken(np.flatnonzero(read.steps.subject == number))
        if not len(own.state):
            raise InputError(f"subject {label!r} has no step with a next state")
        traces[str(label)] = _cut(read, own, cut, [*read.notes, f"subject {label} alone"])
    return traces


def _split(roles: Mapping[str, Any]) -> tuple[Layout, Cut, Sizes]:
    """The arguments of `LearningTrace.from_table` by what they are about."""
    left = dict(roles)
    by_column = left.get("stage") is not None

    def taken(names: Iterable[str]) -> dict[str, Any]:
        return {name: left.pop(name) for name in names if name in left}

    layout = Layout(**taken(own.name for own in fields(Layout))).checked()
    cut = Cut(by_column, **taken(Cut._fields[1:])).checked()
    return layout, cut, Sizes(**left)


class _Joined(NamedTuple):
    """The columns of a table, one value per joint step."""

    keys: Keys
    own_rows: NDArray[np.int64]
    state: Sequence[Column]
    next_state: Sequence[Column]
    actions: Mapping[str, Column]


def _joined(table: Table, names: RowNames, keys: Keys, *, own_state: bool) -> _Joined:
    if table.agent is None:
        if own_state:
            raise InputError("own_state is for logs with one row per agent and step")
        own_rows = np.arange(table.n_rows)[:, None].repeat(len(table.agents), 1)
        return _Joined(keys, own_rows, table.state, table.next_state, table.actions)
    own_rows = join_agents(keys, table.agent, names)
    (column,) = table.actions.values()
    actions = {
        agent: column.taken(own_rows[:, index]).used() for index, agent in enumerate(table.agents)
    }
    both = (table.state, table.next_state)
    if own_state:
        state, following = (own_columns(own, own_rows, table.agents) for own in both)
    else:
        state, following = (shared_columns(own, own_rows, names) for own in both)
    return _Joined(keys.taken(own_rows[:, 0]), own_rows, state, following, actions)


def _remembering(joined: _Joined, memory: int) -> _Joined:
    """The same with the joint actions of the steps before as states, or beside them."""
    found = remembered(joined.keys, joined.state, joined.actions, memory)
    if not len(found.rows):
        raise InputError(f"memory is {memory}, and no episode has more than {memory} rows")
    return _Joined(
        joined.keys.taken(found.rows),
        joined.own_rows[found.rows],
        found.state,
        found.next_state,
        {agent: column.taken(found.rows) for agent, column in joined.actions.items()},
    )


def _read(frame: Any, layout: Layout, sizes: Sizes) -> _Read:
    if sizes.memory is None and layout.state is None:
        raise InputError(
            "state must be the name of a column or several, got None; in a game without states "
            "give memory: the number of steps before whose actions are the state, or 0"
        )
    if sizes.memory is not None and layout.next_state is not None:
        raise InputError("next_state must be left out where memory is given: it follows")
    table = read_table(as_frame(frame), layout)
    _check_agents(table.agents)
    sizes = sizes.checked(table.agents)
    game = sizes.game
    keys, notes = table.keys()
    names = table.names()
    joined = _joined(table, names, keys, own_state=sizes.own_state)
    own_rows = joined.own_rows
    if sizes.memory is not None:
        joined = _remembering(joined, sizes.memory)
        own_rows = joined.own_rows
    states, following = number_states(
        joined.state,
        size=sizes.n_states,
        row_name=lambda row: table.row_name(int(own_rows[row, 0])),
        further=joined.next_state,
        known=None if game is None else game.states,
        compact=sizes.compact,
    )
    actions = number_actions(
        joined.actions,
        sizes=sizes.n_actions,
        row_name=lambda row, index: table.row_name(int(own_rows[row, index])),
        known=None if game is None else game.actions,
    )
    codes = np.stack([own.codes for own in actions.values()], axis=1)
    steps = joint_steps(
        Rows(joined.keys, states.codes, codes, following, own_rows, names), gaps=sizes.gaps
    )
    return _Read(
        steps,
        table,
        states,
        tuple(actions.values()),
        _terminated(table, steps),
        (*_told_of_table(table), *_told_of_memory(sizes), *notes, *_told_of_steps(steps)),
    )


def _cut(read: _Read, steps: Steps, cut: Cut, notes: Sequence[str]) -> LearningTrace:
    sizes = tuple(own.size for own in read.actions)
    stage, how = cut_stages(steps, cut, n_states=read.states.size, n_actions=sizes)
    if cut.by_column and read.table.stage is not None:
        how += f" {read.table.stage.name!r}"
    return build_trace(
        steps,
        stage,
        agents=read.table.agents,
        states=read.states,
        actions=read.actions,
        terminated=None if read.terminated is None else read.terminated[steps.source],
        notes=(*notes, f"stages: {how}"),
    )


def _check_agents(agents: Sequence[str]) -> None:
    """Reject names that files of results cannot have for their arrays."""
    for agent in agents:
        if agent == MANIFEST:
            raise InputError(f"an agent must not be called {MANIFEST!r}: files use that name")
        try:
            check_array(agent, np.zeros(1))
        except InputError as fault:
            raise InputError(f"agent {agent!r}: {fault}") from fault
    if len(set(agents)) != len(agents):
        raise InputError(f"agents must have distinct names, got {', '.join(agents)}")


def _terminated(table: Table, steps: Steps) -> NDArray[np.bool_] | None:
    """By row of the table: whether the game terminated at this step."""
    column = table.terminated
    if column is None:
        return None
    if column.is_text or not set(column.labels()) <= {0, 1}:
        raise InputError(f"column {column.name!r} must be 0 or 1, or true or false")
    present = np.append(column.values.astype(bool), False)[column.codes]
    within = present[steps.source] & ~steps.ends
    if within.any():
        row = int(steps.source[np.argmax(within)])
        raise InputError(
            f"{table.names().place(row)}, column {column.name!r}: the game terminates there, and "
            "its episode goes on"
        )
    return np.asarray(present)


def _told_of_table(table: Table) -> list[str]:
    notes = []
    if table.n_empty:
        notes.append(f"empty rows, left out: {table.n_empty}")
    for column in (*table.state, *table.actions.values()):
        if column.mixed is not None:
            row = table.row_of_text(column)
            notes.append(
                f"column {column.name!r} mixes numbers and text ({table.row_name(row)}: "
                f"{column.values[column.codes[row]]}): all its values are labels"
            )
    return notes


def _told_of_memory(sizes: Sizes) -> list[str]:
    if not sizes.memory:
        return []
    return [f"joint actions that are part of the state, of steps before: {sizes.memory}"]


def _told_of_steps(steps: Steps) -> list[str]:
    notes = []
    if steps.n_last:
        notes.append(
            f"last steps of episodes whose next state is unknown, left out: {steps.n_last}"
            + (" (the transitions are not complete)" if steps.n_missed else "")
        )
    if steps.n_final:
        notes.append(f"rows without actions, used as final states of episodes: {steps.n_final}")
    if steps.n_gaps:
        notes.append(f"gaps at which episodes were split: {steps.n_gaps}")
    return notes
