"""Sums over rows whose errors are correlated along the stages, in one pass over the states.

The compiled counterpart of `malfl_algos.ma_lfl.improvement.whitening`, where the root of the
precision itself is not needed: the recursion along the stages is applied to the coefficients, and
then the constant of every stage and state is projected out.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from malfl_algos.ma_lfl.expected_loops import aligned
from malfl_algos.normal import Normal
from malfl_algos.work.compilation import compiled

__all__ = ["chain_sums"]

FloatArray = NDArray[np.float64]

BLOCK = 2**18
"""Number of coefficients that are whitened at a time."""


def chain_sums(
    coefficients: FloatArray,
    response: FloatArray,
    row_variance: FloatArray,
    response_variance: FloatArray,
    retained: float,
) -> Normal:
    """The sums of rows z_h = y_{h+1} - rho y_h = K_h theta + constants + errors.

    Args:
        coefficients: K, `(n_rows, n_states, n_actions, n_unknowns)`.
        response: z, `(n_rows, n_states, n_actions)`.
        row_variance, response_variance, retained: as `whitening` takes them.

    Raises:
        numpy.linalg.LinAlgError: if the variances leave a constant unknown whose rows are seen.
    """
    n_rows, n_states, n_actions, n_unknowns = coefficients.shape
    sums, log_norm, degrees = np.zeros((n_unknowns + 1, n_unknowns + 1)), 0.0, 0
    size = max(1, BLOCK // (n_rows * n_actions * (n_unknowns + 1)))
    for begin in range(0, n_states, size):
        own = slice(begin, begin + size)
        found, norm, count = _whitened(
            *(
                np.ascontiguousarray(table[:, own])
                for table in (coefficients, response, row_variance, response_variance)
            ),
            retained,
        )
        flat = found.reshape(-1, found.shape[-1])[:, : n_unknowns + 1]
        sums += flat.T @ flat
        log_norm, degrees = log_norm + norm, degrees + count
    if np.isnan(log_norm):
        raise np.linalg.LinAlgError("the constant of a stage has no weight")
    information, moment = np.ascontiguousarray(sums[:-1, :-1]), sums[:-1, -1].copy()
    log_norm -= degrees * np.log(2 * np.pi)
    return Normal(information, moment, float(sums[-1, -1]), float(log_norm) / 2, int(degrees))


@compiled()
def _whitened(  # noqa: C901 - a compiled loop over plain arrays
    coefficients: Any, response: Any, row_variance: Any, response_variance: Any, retained: Any
) -> Any:  # pragma: no cover
    """The whitened rows of every state, coefficients and then the response; the sum of log weights
    less that of the logs of the constants' precisions; and the number of rows with a weight less
    that of constants.
    """
    n_rows, n_states, n_actions, width = coefficients.shape
    found = aligned(n_states, n_rows * n_actions, width + 1)
    n_columns = found.shape[2]
    root = np.zeros((n_rows, n_actions))  # of the weights
    follows = np.zeros((n_rows, n_actions))  # factor on the row before in the recursion
    constants = np.zeros((n_rows, n_rows, n_actions))  # orthonormal, by constant
    shared = np.zeros(n_columns)
    log_norm, degrees = 0.0, 0
    for s in range(n_states):
        rows = found[s]
        for a in range(n_actions):
            known, gain = response_variance[0, s, a], 1.0
            for h in range(n_rows):
                predicted = row_variance[h, s, a] + retained**2 * known
                seen = response_variance[h + 1, s, a]
                weight = 1 / (predicted + seen)
                root[h, a] = np.sqrt(weight)
                if weight > 0:
                    log_norm += np.log(weight)
                    degrees += 1
                follows[h, a] = retained * gain
                if np.isinf(predicted) and np.isinf(seen):
                    known, gain = np.inf, 1.0
                else:
                    known = 1 / (1 / predicted + 1 / seen)
                    gain = known / predicted
        for h in range(n_rows):
            for a in range(n_actions):
                own = h * n_actions + a
                for k in range(width):
                    rows[own, k] = coefficients[h, s, a, k]
                rows[own, width] = response[h, s, a]
                if h > 0:
                    before, share = own - n_actions, follows[h, a]
                    for k in range(n_columns):
                        rows[own, k] += share * rows[before, k]
        for h in range(n_rows):
            for a in range(n_actions):
                own = h * n_actions + a
                for k in range(n_columns):
                    rows[own, k] *= root[h, a]
        for j in range(n_rows):
            observed = False
            for a in range(n_actions):
                observed |= np.isfinite(response_variance[j + 1, s, a])
            if not observed:
                for h in range(n_rows):
                    for a in range(n_actions):
                        constants[j, h, a] = 0.0
                continue
            degrees -= 1
            size = _constant(constants, j, root, follows, retained)
            log_norm -= np.log(size) if size > 0 else np.nan
            shared[:] = 0.0
            for h in range(n_rows):
                for a in range(n_actions):
                    own, share = h * n_actions + a, constants[j, h, a]
                    if share != 0.0:
                        for k in range(n_columns):
                            shared[k] += share * rows[own, k]
            for h in range(n_rows):
                for a in range(n_actions):
                    own, share = h * n_actions + a, constants[j, h, a]
                    if share != 0.0:
                        for k in range(n_columns):
                            rows[own, k] -= share * shared[k]
    return found, log_norm, degrees


@compiled()
def _constant(  # noqa: C901 - a compiled loop over plain arrays
    constants: Any, j: Any, root: Any, follows: Any, retained: Any
) -> Any:  # pragma: no cover
    """Write what the constant of y_{j+1} adds to the whitened rows of one state, orthogonal to the
    constants before and of length 1, into `constants[j]`; returns the square of its length.
    """
    n_rows, n_actions = root.shape
    for a in range(n_actions):  # 1 in row j, -rho in row j + 1, and what the recursion makes of it
        value = 0.0
        for h in range(n_rows):
            if h == j:
                value = 1.0
            elif h > j:
                value = follows[h, a] * value - (retained if h == j + 1 else 0.0)
            constants[j, h, a] = root[h, a] * value
    for i in range(j):
        shared = 0.0
        for h in range(n_rows):
            for a in range(n_actions):
                shared += constants[i, h, a] * constants[j, h, a]
        for h in range(n_rows):
            for a in range(n_actions):
                constants[j, h, a] -= shared * constants[i, h, a]
    size = 0.0
    for h in range(n_rows):
        for a in range(n_actions):
            size += constants[j, h, a] ** 2
    length = np.sqrt(size)
    for h in range(n_rows):
        for a in range(n_actions):
            if size > 0:
                constants[j, h, a] /= length
    return size
