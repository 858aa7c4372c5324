"""An approximate inverse of the precision of a reward: a diagonal in the soft values.

In the coordinates V = (I - gamma P)^-1 r, r = F V, the information nearly consists of differences
between neighbouring states, and its diagonal S is known. The remaining small eigenvalues belong to
rewards that depend only on the positions of the other agents, r = U a, on which an agent's own
actions carry little information. On these rewards the information is formed and inverted exactly:

  M = F S^-1 F' + U C U',    log det M^-1 = log det S - 2 log det F - log det (I + C T' S T),

with T = F^-1 U.
"""

from __future__ import annotations

import numpy as np
import scipy.linalg
import scipy.sparse as sp
from numpy.typing import NDArray

from malfl_algos.ma_lfl.matrix_free_evidence import log_det_of_stay
from malfl_algos.ma_lfl.matrix_free_values import Values
from malfl_algos.ma_lfl.precision import LogDet, Precision, Preconditioner, sum_over_stages
from malfl_algos.ma_lfl.shared_values_loops import backed_up
from malfl_algos.soft.averaging import AveragedDynamics, contrast_diagonal
from malfl_algos.soft.iteration import iterated_sum

__all__ = ["diagonal_preconditioner"]

FloatArray = NDArray[np.float64]

USUAL = 4
"""Number of posterior samples that variances from a diagonal are worth."""
COARSE_BYTES = 2**29
"""Functions of the other agents' positions are inverted exactly up to this many bytes of them."""
COARSE_BACKUPS = 12
"""Number of backups that approximate the soft value of these functions. The approximation affects
only the number of iterations.
"""
COARSE_ROWS = 2000
"""Number of joint states that are processed at a time there."""
BESIDE, NEAR = 32, 1e-8
"""Number of solves side by side for the log determinant, and their relative residual."""
SIGN_SEED = 20224


def diagonal_preconditioner(precision: Precision, *, with_log_det: bool = False) -> Preconditioner:
    """The approximate inverse that is diagonal in the soft values of the last stage.

    It has no parts for rewards of actions, where the diagonal does not approximate the posterior
    variances.

    Args:
        precision: of the reward.
        with_log_det: whether to compute its log determinant, which takes a solve for every group of
            states that the agent's actions leave alike.
    """
    rows, weights = precision.rows, precision.weights
    shown = np.full(rows.n_unknowns, 1 / precision.prior_variance)
    if rows.n_unknowns != rows.response.shape[1]:
        # a reward of actions: the diagonal of the direct reward dominates
        for values, w in zip(rows.values, weights, strict=True):
            own = w - w**2 / np.maximum(w.sum(axis=-1, keepdims=True), 1e-300)
            shown += values.immediate.power(2).T @ own.ravel()
        log_det = LogDet(float(np.log(shown).sum()), 0.0) if with_log_det else None
        return Preconditioner(lambda x: x / shown[:, None], [], 0, False, log_det)
    for values, w in zip(rows.values, weights, strict=True):
        shown += values.discount**2 * contrast_diagonal(values.transition, w)
    last = rows.values[-1]
    onward = last.onward.sparse() if isinstance(last.onward, AveragedDynamics) else last.onward
    forward = sp.csr_array(sp.eye_array(rows.n_unknowns) - last.discount * onward)
    back = sp.csr_array(forward.T)
    parts = [forward.power(2) @ (1 / shown)]
    log_det = None
    if with_log_det:
        stay = log_det_of_stay(onward, last.discount, np.random.default_rng(SIGN_SEED))
        log_det = LogDet(float(np.log(shown).sum()) - 2 * stay.value, 2 * stay.error)
    groups = last.others
    n_groups = int(groups.max()) + 1
    small = 8 * n_groups * len(groups) <= COARSE_BYTES
    if n_groups == 1 or not small or isinstance(last.transition, AveragedDynamics):
        return Preconditioner(
            lambda x: forward @ ((back @ x) / shown[:, None]), parts, USUAL, False, log_det
        )
    sizes = np.bincount(groups)
    unit = sp.csr_array((1 / np.sqrt(sizes[groups]), groups, np.arange(len(groups) + 1)))
    inverse = _coarse_inverse(precision, unit)
    if log_det is not None:
        added = _log_det_of_groups(onward, last.discount, unit, inverse, shown)
        log_det = log_det._replace(value=log_det.value - added)
    shared = inverse / np.sqrt(np.outer(sizes, sizes))
    mean = shared @ sizes / len(groups)
    parts.append((np.diag(shared) - 2 * mean + mean @ sizes / len(groups))[groups])
    return Preconditioner(
        lambda x: forward @ ((back @ x) / shown[:, None]) + unit @ (inverse @ (unit.T @ x)),
        parts,
        USUAL,
        False,
        log_det,
    )


def _log_det_of_groups(
    onward: sp.csr_array,
    discount: float,
    unit: sp.csr_array,
    inverse: FloatArray,
    shown: FloatArray,
) -> float:
    """log det (I + C T' S T)."""
    columns = unit.tocsc()
    found = [
        iterated_sum(
            onward, columns[:, begin : begin + BESIDE].toarray(), discount=discount, residual=NEAR
        )
        for begin in range(0, unit.shape[1], BESIDE)
    ]
    ahead = np.hstack(found) * np.sqrt(shown)[:, None]
    sizes, vectors = scipy.linalg.eigh(inverse)
    root = vectors * np.sqrt(np.maximum(sizes, 0.0))
    within = root.T @ (ahead.T @ ahead) @ root
    return float(np.linalg.slogdet(np.eye(len(within)) + within)[1])


def _coarse_inverse(precision: Precision, unit: sp.csr_array) -> FloatArray:
    """Inverse of the precision on functions of the groups, with truncated soft values.

    Args:
        unit: orthonormal functions of the groups, `(n_states, n_groups)`.
    """
    # in single precision, since there are as many numbers as states times groups
    start = unit.astype(np.float32).toarray()

    def stage(values: Values, weights: FloatArray) -> FloatArray:
        sparse, onward = values.transition, values.onward
        assert isinstance(sparse, sp.csr_array)
        assert isinstance(onward, sp.csr_array)
        discounted = (values.discount * onward.data).astype(np.float32)
        numbers = onward.indptr, onward.indices, discounted
        ahead = backed_up(*numbers, start, COARSE_BACKUPS)
        n_states, n_actions = weights.shape
        information = np.zeros((start.shape[1], start.shape[1]))
        for begin in range(0, n_states, COARSE_ROWS):
            w = weights[begin : begin + COARSE_ROWS]
            few = sparse[begin * n_actions : (begin + len(w)) * n_actions].astype(np.float32)
            k = (few @ ahead).astype(np.float64).reshape(*w.shape, -1)
            share = w / np.maximum(w.sum(axis=-1, keepdims=True), 1e-300)
            k -= np.einsum("sa,sak->sk", share, k)[:, None]
            k *= np.sqrt(w)[..., None]
            flat = k.reshape(-1, k.shape[-1])
            information += flat.T @ flat
        return values.discount**2 * information

    means = np.asarray(unit.sum(axis=0)) / unit.shape[0]
    of_mean = unit.shape[0] * np.outer(means, means)
    matrix = (np.eye(len(means)) - of_mean) / precision.prior_variance
    matrix += of_mean / precision.mean_variance
    matrix += sum_over_stages(stage, precision.rows.values, precision.weights)
    sizes, vectors = scipy.linalg.eigh(matrix)
    return np.asarray((vectors / np.maximum(sizes, 1e-14 * sizes[-1])) @ vectors.T)
