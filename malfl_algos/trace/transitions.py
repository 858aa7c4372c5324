"""Ordered steps of one stage, column by column."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from mmap import mmap
from typing import Any

import numpy as np
from numpy.typing import NDArray

from malfl_env.arguments import Index, typed
from malfl_env.checks import shown
from malfl_env.errors import InputError

__all__ = ["COLUMNS", "OBSERVED", "Transitions", "blocks", "kept"]

COLUMNS = ("states", "joint_actions", "next_states", "episode_ends", "terminations")
"""Fields of `Transitions` that are one array each."""
OBSERVED = ("observations", "next_observations")
"""Fields of `Transitions` that hold one array per agent."""


@dataclass(frozen=True, eq=False)
class Transitions:
    """The steps of one stage in the order of play.

    Columns are stored as read-only arrays in native byte order. An array that could still be
    written to is copied; a column that is mapped from a file stays mapped.

    Args:
        states: int `(n_steps,)`: joint state before each step; None in a non-enumerable
            game.
        joint_actions: int `(n_steps, n_agents)`.
        next_states: int `(n_steps,)`; None in a non-enumerable game. Within an episode, the next
            state of a step is the state of the following step.
        episode_ends: bool `(n_steps,)`: this step is the last of its episode.
        complete: whether the learners learned from exactly these transitions.
        observations, next_observations: per agent id, arrays `(n_steps, ...)`, in place of states
            or beside them. The next observation of an episode's last step is the final one of the
            episode.
        terminations: bool `(n_steps,)`: the game terminated at this step; None: every episode was
            truncated.

    Raises:
        InputError: for a column that is missing, has another length or the wrong type, or steps
            that do not continue; the message names the column.
    """

    states: NDArray[Any] | None
    joint_actions: NDArray[Any]
    next_states: NDArray[Any] | None
    episode_ends: NDArray[np.bool_]
    complete: bool
    observations: Mapping[str, NDArray[Any]] | None = None
    next_observations: Mapping[str, NDArray[Any]] | None = None
    terminations: NDArray[np.bool_] | None = None

    def __post_init__(self) -> None:
        for name in ("joint_actions", "episode_ends"):
            if getattr(self, name) is None:
                raise InputError(f"{name} must be given, got None")
        for name in OBSERVED:
            if not isinstance(getattr(self, name), (Mapping, type(None))):
                raise InputError(
                    f"{name} must be a mapping of agents to arrays, got "
                    f"{shown(getattr(self, name))}"
                )
        for name, column in _named(self):
            if not isinstance(column, np.ndarray):
                _check_rows(name, column)
        for name, value in _applied(self, kept).items():
            if name in COLUMNS and value is not None and value.dtype == np.uint64:
                value = kept(value.astype(np.int64))  # numbers too large become negative
            object.__setattr__(self, name, value)
        if not isinstance(self.complete, (bool, np.bool_)):
            raise InputError(f"complete must be true or false, got {self.complete!r}")
        object.__setattr__(self, "complete", bool(self.complete))
        _check_columns(self)
        _check_continuity(self)

    @property
    def n_steps(self) -> int:
        """Number of steps."""
        return len(self.joint_actions)

    @typed
    def map(self, function: Callable[[NDArray[Any]], NDArray[Any]]) -> Transitions:
        """Apply a function to every column.

        Agents that share an array also share its result.
        """
        return Transitions(complete=self.complete, **_applied(self, function))

    @typed
    def slice(self, first: Index, stop: Index) -> Transitions:
        """The steps `first` to `stop - 1`, as views of these columns; errors as above."""
        return self.map(lambda column: column[first:stop])

    @classmethod
    @typed
    def concat(cls, parts: Iterable[Transitions]) -> Transitions:
        """Join the steps of all parts in order.

        Raises:
            InputError: for no parts, or parts with different columns.
        """
        pieces = list(parts)
        if not pieces:
            raise InputError("parts must be at least one, got none")
        if len(pieces) == 1:
            return pieces[0]
        if any(piece.terminations is not None for piece in pieces):
            pieces = [_with_terminations(piece) for piece in pieces]
        columns = [dict(_named(piece)) for piece in pieces]
        if any(own.keys() != columns[0].keys() for own in columns):
            raise InputError(
                "parts must have the same columns, got "
                + " and ".join(sorted({", ".join(sorted(own)) for own in columns}))
            )
        joined: dict[tuple[int, ...], NDArray[Any]] = {}
        whole = {}
        for name in columns[0]:
            arrays = [own[name] for own in columns]
            key = tuple(map(id, arrays))
            if key not in joined:
                joined[key] = np.concatenate(arrays)
                joined[key].flags.writeable = False
            whole[name] = joined[key]
        fields: dict[str, Any] = {name: whole.get(name) for name in COLUMNS}
        for kind in OBSERVED:
            agents = getattr(pieces[0], kind)
            fields[kind] = agents and {agent: whole[f"{kind}[{agent}]"] for agent in agents}
        return cls(complete=all(piece.complete for piece in pieces), **fields)


def kept(array: Any) -> NDArray[Any]:
    """The array, read-only and in native byte order; copied if it could be written to."""
    found = array if isinstance(array, np.ndarray) else np.asarray(array)
    if not found.dtype.isnative:
        found = found.astype(found.dtype.newbyteorder("="))
    elif not _is_private(found):
        found = np.array(found)
    elif found.flags.writeable:  # mapped from a file
        found = found.view()
    found.flags.writeable = False
    return found


def _check_rows(name: str, column: Any) -> None:
    try:
        np.asarray(column)
    except ValueError as fault:
        raise InputError(f"{name}: rows have different lengths: {shown(column)}") from fault


def blocks(n_steps: int, size: int = 1 << 20) -> Iterator[slice]:
    """Slices that cover all steps, for columns that may be larger than memory."""
    for first in range(0, n_steps, size):
        yield slice(first, min(first + size, n_steps))


def _is_private(array: Any) -> bool:
    """Whether the memory of an array cannot be written to: all its owners are read-only."""
    while isinstance(array, np.ndarray):
        if isinstance(array, np.memmap):
            return True
        if array.flags.writeable:
            return False
        array = array.base
    return array is None or isinstance(array, (bytes, mmap))


def _named(steps: Transitions) -> Iterator[tuple[str, NDArray[Any]]]:
    """All columns that are not None, with their names in messages."""
    for name in COLUMNS:
        if getattr(steps, name) is not None:
            yield name, getattr(steps, name)
    for kind in OBSERVED:
        for agent, column in (getattr(steps, kind) or {}).items():
            yield f"{kind}[{agent}]", column


def _applied(steps: Transitions, function: Callable[[Any], Any]) -> dict[str, Any]:
    """Every field except `complete`, with a function applied once to each distinct array."""
    done: dict[int, tuple[Any, Any]] = {}

    def once(column: Any) -> Any:
        if id(column) not in done:
            # the column is stored, too, so that its id is not used again
            done[id(column)] = (column, function(column))
        return done[id(column)][1]

    fields: dict[str, Any] = {
        name: None if getattr(steps, name) is None else once(getattr(steps, name))
        for name in COLUMNS
    }
    for kind in OBSERVED:
        observed = getattr(steps, kind)
        fields[kind] = observed and {agent: once(column) for agent, column in observed.items()}
    return fields


def _with_terminations(steps: Transitions) -> Transitions:
    if steps.terminations is not None:
        return steps
    fields = {name: getattr(steps, name) for name in (*COLUMNS, *OBSERVED)}
    none = np.zeros(steps.n_steps, dtype=bool)
    return Transitions(complete=steps.complete, **{**fields, "terminations": none})


def _check_columns(steps: Transitions) -> None:
    if (steps.states is None) != (steps.next_states is None):
        raise InputError("states and next_states must be given together; one of them is None")
    if steps.states is None and not steps.observations:
        raise InputError("transitions need states or observations; both are None")
    if steps.joint_actions.ndim != 2:
        raise InputError(
            f"joint_actions must be (n_steps, n_agents), got {steps.joint_actions.shape}"
        )
    for name, column in _named(steps):
        if column.ndim == 0 or len(column) != steps.n_steps:
            length = "no" if column.ndim == 0 else len(column)
            raise InputError(
                f"{name} has {length} entries for {steps.n_steps} steps (rows of joint_actions)"
            )
        kinds = {"episode_ends": "b", "terminations": "b"}.get(name, "iu")
        if name in COLUMNS and (column.dtype.kind not in kinds or column.ndim > 2):
            wanted = "true or false" if kinds == "b" else "whole numbers"
            raise InputError(f"{name} must be {wanted}, got {column.dtype} {column.shape}")
        if name in COLUMNS and name != "joint_actions" and column.ndim != 1:
            raise InputError(f"{name} must be (n_steps,), got {column.shape}")
    for part in blocks(steps.n_steps if steps.terminations is not None else 0):
        assert steps.terminations is not None
        if np.any(steps.terminations[part] & ~steps.episode_ends[part]):
            raise InputError("terminations may be true only where episode_ends is true")


def _check_continuity(steps: Transitions) -> None:
    if steps.states is None or steps.next_states is None:
        return
    for part in blocks(steps.n_steps - 1):
        following = steps.states[part.start + 1 : part.stop + 1]
        broken = (steps.next_states[part] != following) & ~steps.episode_ends[part]
        if broken.any():
            step = part.start + int(np.argmax(broken))
            raise InputError(
                f"steps must continue within an episode: step {step} leads to state "
                f"{steps.next_states[step]}, step {step + 1} begins in state "
                f"{steps.states[step + 1]}; mark the end of an episode in episode_ends"
            )
