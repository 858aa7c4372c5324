"""Sums over rows that share an unknown constant by state, in one pass through the coefficients.

With weights w of the rows of a state and a flat prior on its constant, the density of the rows is
that of root(w) y after the projection that removes root(w). A Householder reflection turns root(w)
into the first axis, so that the other entries are the projected rows, one fewer than before.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from malfl_algos.work.compilation import compiled

__all__ = ["RowSums", "row_sums"]

FloatArray = NDArray[np.float64]

BLOCK = 2**18
"""Number of projected coefficients that are held at a time: what the processor's cache holds."""


class RowSums(NamedTuple):
    """What rows y = K theta + a constant of their state say about theta.

    Args:
        information, moment, squares: K' W K, K' W y and y' W y of the projected rows.
        log_norm: logarithm of the Gaussian's constant.
        degrees: number of rows minus number of constants.
    """

    information: FloatArray
    moment: FloatArray
    squares: float
    log_norm: float
    degrees: int


def row_sums(coefficients: FloatArray, response: FloatArray, variance: FloatArray) -> RowSums:
    """The sums of rows with independent errors.

    Args:
        coefficients: K, `(n_stages, n_states, n_actions, n_unknowns)`.
        response: y, `(n_stages, n_states, n_actions)`; rows of one stage and state share a
            constant.
        variance: of the rows, > 0, infinite where nothing was observed, same shape.
    """
    n_stages, n_states, n_actions, width = coefficients.shape
    size = max(1, BLOCK // max(1, n_actions * (width + 1)))
    sums = np.zeros((width + 1, width + 1))
    log_norm, degrees = 0.0, 0
    stages = max(1, size // n_states)
    for first in range(0, n_stages, stages):
        for begin in range(0, n_states, size):
            part = slice(first, first + stages), slice(begin, begin + size)
            table = np.ascontiguousarray(coefficients[part])
            groups = table.shape[0] * table.shape[1]
            found = np.empty((groups * (n_actions - 1), width + 1))
            norm, own = _projected(
                table.reshape(groups, n_actions, width),
                np.ascontiguousarray(response[part]).reshape(groups, n_actions),
                1 / np.ascontiguousarray(variance[part]).reshape(groups, n_actions),
                found,
            )
            sums += found.T @ found
            log_norm, degrees = log_norm + norm, degrees + own
    log_norm -= degrees * float(np.log(2 * np.pi))
    moment = sums[:-1, -1].copy()
    return RowSums(
        np.ascontiguousarray(sums[:-1, :-1]), moment, float(sums[-1, -1]), log_norm / 2, degrees
    )


@compiled()
def _projected(
    coefficients: Any, response: Any, weight: Any, found: Any
) -> Any:  # pragma: no cover
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
