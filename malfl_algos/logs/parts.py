"""Time cut into parts with about equally many steps."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from malfl_algos.logs.rows import Steps
from malfl_env.errors import InputError

__all__ = ["first_of", "parts", "within"]

IntArray = NDArray[np.int64]
_FAR = -(2**50)  # from every step


def parts(steps: Steps, n_parts: int) -> tuple[IntArray, str]:
    """Cut the time of every subject into parts of about equally many steps.

    Cuts are moved to the nearest end of an episode, if that is nearer than a quarter of a part.

    Returns:
        The part of every step, `(n_steps,)`, from 0, and where the cuts are, in words.
    """
    place, sizes = within(steps.subject)
    smallest = int(sizes.min())
    if smallest < n_parts:
        raise InputError(
            f"n_stages must be at most the number of steps (with their next states), {smallest}, "
            f"got {n_parts}"
        )
    found = np.empty(len(place), dtype=np.int64)
    how = "between episodes"
    firsts = np.concatenate([[0], np.cumsum(sizes)])
    for first, stop in pairwise(firsts):
        size = int(stop - first)
        exact = np.round(np.arange(1, n_parts) * size / n_parts).astype(np.int64)
        ends = np.flatnonzero(np.diff(steps.episode[first:stop])) + 1
        moved = _nearest(ends, exact)
        if np.any(np.abs(moved - exact) * 4 * n_parts > size) or len(np.unique(moved)) < len(moved):
            moved, how = exact, "also within episodes"
        found[first:stop] = np.searchsorted(moved, np.arange(size), side="right")
    return found, how


def _nearest(ends: IntArray, exact: IntArray) -> IntArray:
    if not len(ends):
        return np.full_like(exact, _FAR)
    right = np.minimum(np.searchsorted(ends, exact), len(ends) - 1)
    left = np.maximum(right - 1, 0)
    closer = np.abs(ends[left] - exact) <= np.abs(ends[right] - exact)
    return np.asarray(np.where(closer, ends[left], ends[right]))


def within(subject: IntArray) -> tuple[IntArray, IntArray]:
    """Place of every step within its subject, and the number of steps of every subject."""
    starts = np.flatnonzero(np.concatenate([[True], subject[1:] != subject[:-1]]))
    sizes = np.diff(np.concatenate([starts, [len(subject)]]))
    return np.arange(len(subject)) - np.repeat(starts, sizes), sizes


def first_of(subject: IntArray, values: IntArray) -> IntArray:
    starts = np.flatnonzero(np.concatenate([[True], subject[1:] != subject[:-1]]))
    sizes = np.diff(np.concatenate([starts, [len(subject)]]))
    return np.repeat(values[starts], sizes)
