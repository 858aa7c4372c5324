"""A stage of a learning trace: what was counted or recorded under one joint policy."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from malfl_algos.trace.texts import stage_text
from malfl_algos.trace.transitions import Transitions, blocks, kept
from malfl_env.arguments import Index, typed
from malfl_env.checks import shown
from malfl_env.errors import InputError

__all__ = ["NextStateCounts", "Stage", "check_below"]

_MOST = 2**53  # whole numbers up to this one are exact in float64
DENSE = 2**24  # entries of a table of counts that is filled without sorting

IntArray = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class NextStateCounts:
    """How often each (joint state, joint action) led to each next state, without zeros.

    Args:
        rows: int `(n_seen,)`: flat index of (joint state, joint action) in an array `(n_states,
            *n_actions)`.
        next_states: int `(n_seen,)`.
        counts: int `(n_seen,)`, positive.

    Raises:
        InputError: for values that are not whole numbers, columns of different lengths, or counts
            < 1.
    """

    rows: IntArray
    next_states: IntArray
    counts: IntArray

    def __post_init__(self) -> None:
        for name, minimum in (("rows", 0), ("next_states", 0), ("counts", 1)):
            label = "counts of next states" if name == "counts" else name
            object.__setattr__(self, name, _whole_numbers(label, getattr(self, name), minimum))
            if getattr(self, name).ndim != 1:
                raise InputError(f"{label} must be (n_seen,), got {getattr(self, name).shape}")
        if not len(self.rows) == len(self.next_states) == len(self.counts):
            raise InputError("rows, next_states and counts must have one length")

    @classmethod
    def of_steps(
        cls, rows: IntArray, next_states: NDArray[Any], shape: tuple[int, ...]
    ) -> NextStateCounts:
        """Count steps by row and next state, in sorted order.

        Args:
            rows, next_states: int `(n_steps,)`, of every step.
            shape: `(n_states, *n_actions)`.
        """
        keys = rows * shape[0]
        keys += next_states.astype(np.int64, copy=False)
        if prod(shape) * shape[0] <= DENSE:
            table = np.bincount(keys, minlength=1)
            seen = np.flatnonzero(table)
            counts = table[seen]
        else:
            seen, counts = np.unique(keys, return_counts=True)
        return cls(seen // shape[0], seen % shape[0], counts)


@dataclass(frozen=True, eq=False, repr=False)
class Stage:
    """The data of one policy-improvement round: counts, ordered steps, or both.

    Arrays are stored read-only, counts as int64; an array that could still be written to is copied.

    Args:
        joint_counts: int `(n_states, *n_actions)`: how often each joint action was played in each
            joint state; None in a non-enumerable game.
        next_state_counts: counts of next states, for a stochastic game.
        transitions: the ordered steps, if they were kept. In a stage without counts they hold the
            observations of every agent, and the last step ends an episode.

    Raises:
        InputError: for a stage with neither counts nor steps, counts that are not whole numbers
            >= 0, states or actions out of range, and counts that contradict each other or the
            steps.
    """

    joint_counts: IntArray | None = None
    next_state_counts: NextStateCounts | None = None
    transitions: Transitions | None = None

    def __repr__(self) -> str:
        return stage_text(self)

    def __post_init__(self) -> None:
        for name, kind in (("next_state_counts", NextStateCounts), ("transitions", Transitions)):
            value = getattr(self, name)
            if value is not None and not isinstance(value, kind):
                raise InputError(f"{name} must be of type {kind.__name__}, got {shown(value)}")
        if self.joint_counts is None:
            self._check_steps_alone()
            return
        counts = _whole_numbers("joint_counts", self.joint_counts, 0)
        if counts.ndim < 2 or counts.size == 0:
            raise InputError(
                f"joint_counts must be (n_states, *n_actions), all >= 1, got {counts.shape}"
            )
        object.__setattr__(self, "joint_counts", counts)
        seen, steps = self.next_state_counts, self.transitions
        if seen is not None:
            check_below("rows", seen.rows, counts.size)
            check_below("next_states", seen.next_states, len(counts))
            summed = np.zeros(counts.size, dtype=np.int64)
            np.add.at(summed, seen.rows, seen.counts)
            _check_sums(counts, summed, "next_state_counts hold", exact=True)
        if steps is not None and steps.states is not None:
            _check_steps_fit(steps, counts.shape)
            played = np.bincount(_rows(steps, counts.shape), minlength=counts.size)
            _check_sums(counts, played, "transitions hold", exact=steps.complete)
            if seen is not None:
                _check_next_states(_next_state_counts(steps, counts.shape), seen, counts.shape)

    def _check_steps_alone(self) -> None:
        steps = self.transitions
        if self.next_state_counts is not None:
            raise InputError("next_state_counts need joint_counts; joint_counts are None")
        if steps is None:
            raise InputError("a stage needs joint_counts, transitions, or both; both are None")
        if steps.observations is None or steps.next_observations is None:
            raise InputError(
                "a stage without joint_counts needs observations and next_observations"
            )
        if steps.n_steps == 0:
            raise InputError("a stage without joint_counts needs at least one step, got 0")
        if not steps.episode_ends[-1]:
            raise InputError("episode_ends must be true at the stage's last step")

    @property
    def counts(self) -> IntArray:
        """`joint_counts`, for code that needs them.

        Raises:
            InputError: for a stage without counts.
        """
        if self.joint_counts is None:
            raise InputError(
                "this trace has no counts of joint states and actions: its game is not tabular"
            )
        return self.joint_counts

    @property
    def n_steps(self) -> int:
        """Number of steps, whether the ordered steps were kept or not."""
        if self.joint_counts is not None:
            return int(self.joint_counts.sum())
        return 0 if self.transitions is None else self.transitions.n_steps

    @typed
    def action_counts(self, agent_index: Index) -> IntArray:
        """Counts of one agent's actions, `(n_states, n_actions)`, summed over the others'
        actions.
        """
        others = tuple(axis for axis in range(1, self.counts.ndim) if axis != agent_index + 1)
        return np.asarray(self.counts.sum(axis=others), dtype=np.int64)

    @property
    def state_counts(self) -> IntArray:
        """Visits of each joint state, `(n_states,)`."""
        return np.asarray(self.counts.sum(axis=tuple(range(1, self.counts.ndim))), dtype=np.int64)

    @cached_property
    def seen_next_states(self) -> NextStateCounts | None:
        """`next_state_counts`, or the counts of the steps; None without both."""
        steps = self.transitions
        if self.next_state_counts is not None or steps is None or steps.states is None:
            return self.next_state_counts
        return _next_state_counts(steps, self.counts.shape)


def _whole_numbers(name: str, given: Any, minimum: int) -> IntArray:
    """The numbers as read-only int64, checked against a minimum and overflow of their sum."""
    try:
        array = np.asarray(given)
    except ValueError:  # rows of different lengths
        array = np.asarray(None)
    if array.dtype.kind not in "iu":
        raise InputError(f"{name} must be whole numbers, got {array.dtype} {array.shape}")
    if array.size and array.min() < minimum:
        raise InputError(f"{name} must be >= {minimum}, got {array.min()}")
    total = float(array.sum(dtype=np.float64))
    if total > _MOST:
        raise InputError(f"{name} must add up to at most 2**53, got {total:.3g}")
    if array.dtype == np.int64 and array.flags.c_contiguous:
        return kept(array)
    return kept(np.array(array, dtype=np.int64, order="C"))


def check_below(name: str, numbers: NDArray[Any], size: int) -> None:
    """Reject numbers outside 0..size - 1; `name` is the column's."""
    for part in blocks(len(numbers)):
        lowest, highest = numbers[part].min(), numbers[part].max()
        if lowest < 0 or highest >= size:
            raise InputError(f"{name} must be in 0..{size - 1}, got {lowest} to {highest}")


def _check_steps_fit(steps: Transitions, shape: tuple[int, ...]) -> None:
    """Reject steps with states or actions out of the range of `(n_states, *n_actions)`."""
    assert steps.states is not None
    assert steps.next_states is not None
    check_below("states", steps.states, shape[0])
    check_below("next_states", steps.next_states, shape[0])
    if steps.joint_actions.shape[1] != len(shape) - 1:
        raise InputError(
            f"joint_actions must be (n_steps, {len(shape) - 1}), got {steps.joint_actions.shape}"
        )
    actions = steps.joint_actions
    if actions.size and actions.min() >= 0 and actions.max() < min(shape[1:]):
        return  # one check of all agents is faster than one per agent
    for index, n_own in enumerate(shape[1:]):
        check_below(f"joint_actions of agent_{index}", actions[:, index], n_own)


def _rows(steps: Transitions, shape: tuple[int, ...]) -> IntArray:
    """Flat index of every step's joint state and joint action, `(n_steps,)`."""
    rows = np.asarray(steps.states).astype(np.int64)
    for index, n_own in enumerate(shape[1:]):
        rows *= n_own
        rows += steps.joint_actions[:, index]
    return rows


def _next_state_counts(steps: Transitions, shape: tuple[int, ...]) -> NextStateCounts:
    assert steps.next_states is not None
    return NextStateCounts.of_steps(_rows(steps, shape), steps.next_states, shape)


def _check_sums(counts: IntArray, summed: IntArray, what: str, *, exact: bool) -> None:
    wanted = counts.ravel()
    wrong = summed != wanted if exact else summed > wanted
    if wrong.any():
        row = int(np.argmax(wrong))
        state, *actions = (int(number) for number in np.unravel_index(row, counts.shape))
        raise InputError(
            f"joint_counts hold {wanted[row]} plays of joint action {tuple(actions)} in joint "
            f"state {state}, {what} {summed[row]}"
        )


def _check_next_states(
    played: NextStateCounts, given: NextStateCounts, shape: tuple[int, ...]
) -> None:
    """Reject steps that led to a next state more often than the counts of next states."""
    keys, inverse = np.unique(given.rows * shape[0] + given.next_states, return_inverse=True)
    totals = np.bincount(inverse, weights=given.counts, minlength=len(keys))
    own = played.rows * shape[0] + played.next_states
    place = np.minimum(np.searchsorted(keys, own), max(len(keys) - 1, 0))
    held = np.where(keys[place] == own, totals[place], 0) if len(keys) else np.zeros(len(own))
    wrong = played.counts > held
    if wrong.any():
        first = int(np.argmax(wrong))
        state, *actions = (int(n) for n in np.unravel_index(int(played.rows[first]), shape))
        raise InputError(
            f"next_state_counts hold {int(held[first])} times that joint action {tuple(actions)} "
            f"in joint state {state} led to {played.next_states[first]}, transitions hold "
            f"{played.counts[first]}"
        )
