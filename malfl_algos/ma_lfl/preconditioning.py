"""An approximate inverse of the precision of a reward, which keeps conjugate gradients short.

In the coordinates V = (I - gamma P)^-1 r the information is nearly that of differences between
neighbouring states, and its diagonal is known. What is left of small eigenvalues belongs to rewards
that depend on the other agents' positions alone, which an agent's own choices hardly show: on those
the information is formed, and inverted exactly.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import scipy.linalg
import scipy.sparse as sp
from numpy.typing import NDArray

from malfl_algos.ma_lfl.matrix_free_values import Values
from malfl_algos.ma_lfl.precision import Precision, sum_over_stages
from malfl_algos.soft.averaging import AveragedDynamics, contrast_diagonal

__all__ = ["Apply", "preconditioner"]

FloatArray = NDArray[np.float64]
Apply = Callable[[FloatArray], FloatArray]
"""Of columns side by side, `(n_unknowns, k)`."""

COARSE_BYTES = 2**29
"""Functions of the other agents' positions are treated apart up to so many bytes of them."""
COARSE_BACKUPS = 12
"""Backups that stand for the soft value there: an approximation, which costs iterations at most."""
COARSE_ROWS = 2000


def preconditioner(precision: Precision) -> tuple[Apply, list[FloatArray]]:
    """An approximate inverse of the precision, and the parts of its diagonal, the mean removed;
    none where they say little of the deviations.
    """
    rows, weights = precision.rows, precision.weights
    shown = np.full(rows.n_unknowns, 1 / precision.prior_variance)
    if rows.n_unknowns != rows.response.shape[1]:  # of actions, too: their own share leads
        for values, w in zip(rows.values, weights, strict=True):
            own = w - w**2 / np.maximum(w.sum(axis=-1, keepdims=True), 1e-300)
            shown += values.immediate.power(2).T @ own.ravel()
        return lambda x: x / shown[:, None], []
    for values, w in zip(rows.values, weights, strict=True):
        shown += values.discount**2 * contrast_diagonal(values.transition, w)
    last = rows.values[-1]
    onward = last.onward.sparse() if isinstance(last.onward, AveragedDynamics) else last.onward
    forward = sp.csr_array(sp.eye_array(rows.n_unknowns) - last.discount * onward)
    back = sp.csr_array(forward.T)
    parts = [forward.power(2) @ (1 / shown)]
    groups = last.others
    n_groups = int(groups.max()) + 1
    small = 8 * n_groups * len(groups) <= COARSE_BYTES
    if n_groups == 1 or not small or isinstance(last.transition, AveragedDynamics):
        return lambda x: forward @ ((back @ x) / shown[:, None]), parts
    sizes = np.bincount(groups)
    unit = sp.csr_array((1 / np.sqrt(sizes[groups]), groups, np.arange(len(groups) + 1)))
    inverse = _coarse_inverse(precision, unit)
    shared = inverse / np.sqrt(np.outer(sizes, sizes))
    mean = shared @ sizes / len(groups)
    parts.append((np.diag(shared) - 2 * mean + mean @ sizes / len(groups))[groups])
    return (
        lambda x: forward @ ((back @ x) / shown[:, None]) + unit @ (inverse @ (unit.T @ x)),
        parts,
    )


def _coarse_inverse(precision: Precision, unit: sp.csr_array) -> FloatArray:
    """Inverse of the precision on functions of the groups, its soft values cut short.

    Args:
        unit: the functions, of length one and orthogonal, `(n_states, n_groups)`.
    """

    def stage(values: Values, weights: FloatArray) -> FloatArray:
        sparse = values.transition
        assert not isinstance(sparse, AveragedDynamics)
        start = unit.toarray()
        ahead = start
        for _ in range(COARSE_BACKUPS):
            ahead = start + values.discount * (values.onward @ ahead)
        n_states, n_actions = weights.shape
        information = np.zeros((start.shape[1], start.shape[1]))
        for begin in range(0, n_states, COARSE_ROWS):
            w = weights[begin : begin + COARSE_ROWS]
            few = sparse[begin * n_actions : (begin + len(w)) * n_actions]
            k = (few @ ahead).reshape(*w.shape, -1)
            share = w / np.maximum(w.sum(axis=-1, keepdims=True), 1e-300)
            k -= np.einsum("sa,sak->sk", share, k)[:, None]
            k *= np.sqrt(w)[..., None]
            flat = k.reshape(-1, k.shape[-1])
            information += flat.T @ flat
        return values.discount**2 * information

    means = np.asarray(unit.sum(axis=0)) / unit.shape[0]
    levels = unit.shape[0] * np.outer(means, means)
    matrix = (np.eye(len(means)) - levels) / precision.prior_variance
    matrix += levels / precision.mean_variance
    matrix += sum_over_stages(stage, precision.rows.values, precision.weights)
    sizes, vectors = scipy.linalg.eigh(matrix)
    return np.asarray((vectors / np.maximum(sizes, 1e-14 * sizes[-1])) @ vectors.T)
