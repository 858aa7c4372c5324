"""Whether the parts of a stage fit together: compiled loops take these numbers as indices."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from malfl_env.errors import InputError

if TYPE_CHECKING:
    from malfl_algos.trace import NextStateCounts, Transitions

__all__ = ["check_columns", "check_counts", "check_next_states", "check_steps"]

_MOST = 2**53  # whole numbers up to here are exact in float64


def check_columns(steps: Transitions) -> None:
    """Refuse transitions whose columns do not fit together.

    Raises:
        InputError: it names the column.
    """
    n_steps = len(steps.joint_actions)
    names = ("states", "next_states", "episode_ends", "terminations")
    columns = {name: getattr(steps, name) for name in names}
    for kind in ("observations", "next_observations"):
        observed = getattr(steps, kind) or {}
        columns |= {f"{kind}[{agent}]": array for agent, array in observed.items()}
    for name, column in columns.items():
        if column is not None and len(column) != n_steps:
            raise InputError(f"{name} has {len(column)} entries for {n_steps} steps")
    if (steps.states is None) != (steps.next_states is None):
        raise InputError("states and next_states are given both or not at all")
    if steps.states is None and steps.observations is None:
        raise InputError("transitions need states or observations")
    ended = steps.terminations
    if ended is not None and (
        ended.dtype != np.bool_ or ended.ndim != 1 or np.any(ended & ~steps.episode_ends)
    ):
        raise InputError("terminations must be true or false, and true at ends of episodes only")


def check_counts(name: str, counts: NDArray[Any], *, minimum: int) -> None:
    """Counts are whole numbers, not too small, and add up without overflow.

    Raises:
        InputError: where they are not; it names them.
    """
    if counts.dtype.kind not in "iu":
        raise InputError(f"{name} must be whole numbers, got {counts.dtype}")
    if counts.size and counts.min() < minimum:
        raise InputError(f"{name} must be >= {minimum}, got {counts.min()}")
    total = float(counts.sum(dtype=np.float64))
    if total > _MOST:
        raise InputError(f"{name} must add up to at most 2**53, got {total:.3g}")


def _check_indices(name: str, indices: NDArray[Any], size: int) -> None:
    """Numbers of states, actions or rows are whole and within what they count.

    Args:
        name: for the message.
        indices: the numbers.
        size: they must be in 0..size-1.

    Raises:
        InputError: where they are not; it names them.
    """
    if indices.dtype.kind not in "iu" or indices.ndim != 1:
        raise InputError(f"{name} must be whole numbers, got {indices.dtype} {indices.shape}")
    if indices.size and not (indices.min() >= 0 and indices.max() < size):
        raise InputError(f"{name} must be in 0..{size - 1}, got {indices.min()} to {indices.max()}")


def check_next_states(seen: NextStateCounts, counts: NDArray[Any]) -> None:
    """Refuse counts of next states that do not fit joint counts `(n_states, *n_actions)`."""
    _check_indices("rows", seen.rows, counts.size)
    _check_indices("next_states", seen.next_states, len(counts))
    check_counts("counts of next states", seen.counts, minimum=1)


def check_steps(steps: Transitions, shape: tuple[int, ...]) -> None:
    """Refuse steps whose states or actions are not in a game `(n_states, *n_actions)`."""
    for name in ("states", "next_states"):
        _check_indices(name, getattr(steps, name), shape[0])
    if steps.joint_actions.shape[1:] != (len(shape) - 1,):
        raise InputError(
            f"joint_actions must be (n_steps, {len(shape) - 1}), got {steps.joint_actions.shape}"
        )
    for index, n_actions in enumerate(shape[1:]):
        own = steps.joint_actions[:, index]
        _check_indices(f"joint_actions of agent_{index}", own, n_actions)
    if steps.episode_ends.dtype != np.bool_ or steps.episode_ends.ndim != 1:
        raise InputError(f"episode_ends must be true or false, got {steps.episode_ends.dtype}")
