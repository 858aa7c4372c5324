"""The rows of a log, and the joint steps that they are of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Keys", "RowNames", "Rows", "Steps"]

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

    def order(self, agent: NDArray[Any] | None = None) -> IntArray:
        """The order of the rows in time, and among rows of one step by agent."""
        by = [self.step, self.episode, self.stage, self.subject]
        used = [own for own in by if len(own) and own.min() != own.max()]
        used = used if agent is None else [agent, *used]
        if not used:
            return np.arange(len(self.step))
        return np.lexsort(used).astype(np.int64)

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
        sources: `(n_rows, n_agents)`: rows of the table with the agents' actions, for messages.
        names: how messages name the parts of the table.
    """

    keys: Keys
    state: IntArray
    actions: IntArray
    next_state: IntArray | None
    sources: IntArray
    names: RowNames

    @property
    def source(self) -> IntArray:
        """`(n_rows,)`: the row of the table, or the first of several."""
        return self.sources[:, 0]

    def taken(self, rows: NDArray[Any]) -> Rows:
        """Some of the rows."""
        return replace(
            self,
            keys=self.keys.taken(rows),
            state=self.state[rows],
            actions=self.actions[rows],
            next_state=None if self.next_state is None else self.next_state[rows],
            sources=self.sources[rows],
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
        n_missed: those of them after which the log of their subject goes on.
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
    n_missed: int
    n_final: int
    n_gaps: int

    def taken(self, rows: NDArray[Any]) -> Steps:
        """Some of the steps; the numbers of what was left out stay."""
        counts = ("n_last", "n_missed", "n_final", "n_gaps")
        fields = {name: own[rows] for name, own in vars(self).items() if name not in counts}
        return replace(self, **fields)
