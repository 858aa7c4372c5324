"""Sums over rows that share an unknown constant by state, in one pass through the coefficients.

With weights w of the rows of a state and a flat prior on its constant, the density of the rows is
that of root(w) y after the projection that removes root(w). A Householder reflection turns root(w)
into the first axis, so that the other entries are the projected rows, one fewer than before.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from malfl_algos.normal import Normal
from malfl_algos.work.compilation import compiled

__all__ = ["Block", "projected_blocks", "row_sums", "total_of"]

FloatArray = NDArray[np.float64]

BLOCK = 2**18
"""Number of projected coefficients that are held at a time: what the processor's cache holds."""


class Block(NamedTuple):
    """Rows of some stages and states, a group for every stage and state.

    Args:
        stages, states: of the rows.
        weight: one over the variance, `(n_groups, n_actions)`.
        projected: root(w) K and root(w) y without the constant, `(n_groups * (n_actions - 1),
            n_unknowns + 1)`.
        log_norm: sum of the log weights less the logs of their sums by group.
        degrees: number of rows with a weight less the number of groups that have one.
    """

    stages: slice
    states: slice
    weight: FloatArray
    projected: FloatArray
    log_norm: float
    degrees: int


def projected_blocks(
    coefficients: FloatArray, response: FloatArray, variance: FloatArray
) -> Iterator[Block]:
    """The projected rows, block by block; the arguments are those of `row_sums`."""
    n_stages, n_states, n_actions, width = coefficients.shape
    size = max(1, BLOCK // max(1, n_actions * (width + 1)))
    together = max(1, size // n_states)
    for first in range(0, n_stages, together):
        for begin in range(0, n_states, size):
            part = slice(first, first + together), slice(begin, begin + size)
            table = np.ascontiguousarray(coefficients[part]).reshape(-1, n_actions, width)
            own = np.ascontiguousarray(response[part]).reshape(-1, n_actions)
            weight = 1 / np.ascontiguousarray(variance[part]).reshape(-1, n_actions)
            found = np.empty((len(table) * (n_actions - 1), width + 1))
            norm, degrees = _project(table, own, weight, found)
            yield Block(*part, weight, found, norm, degrees)


def row_sums(coefficients: FloatArray, response: FloatArray, variance: FloatArray) -> Normal:
    """The sums of rows with independent errors.

    Args:
        coefficients: K, `(n_stages, n_states, n_actions, n_unknowns)`.
        response: y, `(n_stages, n_states, n_actions)`; rows of one stage and state share a
            constant.
        variance: of the rows, > 0, infinite where nothing was observed, same shape.
    """
    return total_of(projected_blocks(coefficients, response, variance))


def total_of(blocks: Iterable[Block]) -> Normal:
    """The sums of all blocks."""
    sums: FloatArray | float = 0.0
    log_norm, degrees = 0.0, 0
    for block in blocks:
        sums = sums + block.projected.T @ block.projected
        log_norm, degrees = log_norm + block.log_norm, degrees + block.degrees
    sums = np.asarray(sums)
    log_norm -= degrees * float(np.log(2 * np.pi))
    information, moment = np.ascontiguousarray(sums[:-1, :-1]), sums[:-1, -1].copy()
    return Normal(information, moment, float(sums[-1, -1]), log_norm / 2, degrees)


@compiled()
def _project(coefficients: Any, response: Any, weight: Any, found: Any) -> Any:  # pragma: no cover
    """Write the projected rows of all groups into `found`, coefficients and then the response.

    Returns:
        The sum of log weights less the logs of their sums by group, and the number of rows with a
        weight less the number of groups that have one.
    """
    n_groups, n_actions, width = coefficients.shape
    axis = np.zeros(n_actions)
    root = np.zeros(n_actions)
    along = np.zeros(width + 1)
    log_norm, degrees = 0.0, 0
    for g in range(n_groups):
        total = 0.0
        for a in range(n_actions):
            total += weight[g, a]
        rows = found[g * (n_actions - 1) : (g + 1) * (n_actions - 1)]
        if total == 0.0:
            rows[:] = 0.0
            continue
        log_norm -= np.log(total)
        degrees -= 1
        for a in range(n_actions):
            root[a] = np.sqrt(weight[g, a])
            axis[a] = root[a] / np.sqrt(total)
            if weight[g, a] > 0.0:
                log_norm += np.log(weight[g, a])
                degrees += 1
        axis[0] += 1.0  # the reflection's normal, of squared length 2 axis[0]
        along[:] = 0.0
        for a in range(n_actions):
            share = root[a] * axis[a] / axis[0]
            for k in range(width):
                along[k] += share * coefficients[g, a, k]
            along[width] += share * response[g, a]
        for a in range(1, n_actions):
            for k in range(width):
                rows[a - 1, k] = root[a] * coefficients[g, a, k] - axis[a] * along[k]
            rows[a - 1, width] = root[a] * response[g, a] - axis[a] * along[width]
    return log_norm, degrees
