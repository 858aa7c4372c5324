"""The posterior precision of a reward on a large game, applied without forming the matrix.

A = sum over stages of K' C K + prior, where C weights the rows and removes a constant per state.
Every product needs two solves for soft values per stage. It takes several vectors side by side,
`(n_unknowns, k)`, at hardly more than the cost of one.

The preconditioner, an approximate inverse, reduces the number of iterations of conjugate gradients.
`shared_values` has the one for exact evaluation and up to some ten thousand states. The one for all
other cases is here. In the coordinates V = (I - gamma P)^-1 r the information nearly consists of
differences between neighbouring states, and its diagonal is known. The remaining small eigenvalues
belong to rewards that depend only on the positions of the other agents, on which an agent's own
actions carry little information. On these rewards the information is formed and inverted exactly.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import reduce
from typing import Any, NamedTuple, TypeVar

import numpy as np
import scipy.linalg
import scipy.sparse as sp
from numba import config
from numpy.typing import NDArray

from malfl_algos.ma_lfl.matrix_free_values import ExactValues, Residual, Values
from malfl_algos.ma_lfl.posterior import MEAN_VARIANCE
from malfl_algos.ma_lfl.shared_values_loops import backed_up
from malfl_algos.soft.averaging import AveragedDynamics, contrast_diagonal

__all__ = [
    "TIGHT",
    "Apply",
    "LogDet",
    "MatrixFreeRows",
    "Precision",
    "Preconditioner",
    "contrast",
    "diagonal_preconditioner",
    "in_threads",
]

FloatArray = NDArray[np.float64]

TIGHT = 1e-12
"""Smallest relative residual of a solve."""
Apply = Callable[[FloatArray], FloatArray]
"""A linear map of columns side by side, `(n_unknowns, k)`."""
_Result = TypeVar("_Result")

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


@dataclass(frozen=True, eq=False)
class MatrixFreeRows:
    """The data as in `malfl_algos.ma_lfl.inference.Rows`, with operators in place of coefficients.

    Args:
        values: action values of every stage, as operators.
        response, response_variance, model_variance: `(n_stages, n_states, n_actions)`; the response
            is alpha log pi, without subtracting the offset of the action values.
        temperature: alpha.
    """

    values: Sequence[Values]
    response: FloatArray
    response_variance: FloatArray
    model_variance: FloatArray
    temperature: float

    @property
    def n_unknowns(self) -> int:
        """Number of reward values."""
        return int(self.values[0].immediate.shape[1])


class Precision:
    """The posterior precision of the reward, as an operator on `(n_unknowns, k)`.

    Args:
        rows: the data.
        weights: 1 / variance of every row, `(n_stages, n_states, n_actions)`.
        prior_variance: prior variance of a reward value about the mean of all reward values.
    """

    def __init__(self, rows: MatrixFreeRows, weights: FloatArray, prior_variance: float) -> None:
        self.rows, self.weights, self.prior_variance = rows, weights, prior_variance
        self.mean_variance = MEAN_VARIANCE * rows.temperature**2

    def __call__(self, x: FloatArray, *, residual: Residual = TIGHT) -> FloatArray:
        def stage(values: Values, weights: FloatArray) -> FloatArray:
            seen = contrast(values.apply(varied, residual=residual), weights)
            return values.adjoint(seen, residual=residual)

        # under exact evaluation a constant reward is not seen; without it, errors of the solves
        # do not show one
        unseen = isinstance(self.rows.values[0], ExactValues)
        varied = x - x.mean(axis=0) if unseen else x
        found = sum_over_stages(stage, self.rows.values, self.weights)
        return np.asarray(self.prior(x) + found - (found.mean(axis=0) if unseen else 0.0))

    def prior(self, x: FloatArray) -> FloatArray:
        """The prior precision applied to x."""
        mean = x.mean(axis=0)
        return np.asarray((x - mean) / self.prior_variance + mean / self.mean_variance)

    def moment(self, response: FloatArray) -> FloatArray:
        """Sum over stages of K' C response."""

        def stage(values: Values, weights: FloatArray, y: FloatArray) -> FloatArray:
            return values.adjoint(contrast(y, weights), residual=TIGHT)

        return sum_over_stages(stage, self.rows.values, self.weights, response)

    def noise(self, rng: np.random.Generator) -> FloatArray:
        """A right side whose solution is a sample of the posterior about its mean."""
        root = np.sqrt(self.weights)
        total = np.maximum(self.weights.sum(axis=-1, keepdims=True), 1e-300)
        draws = rng.standard_normal(root.shape)
        draws = root * (draws - root * (root * draws).sum(axis=-1, keepdims=True) / total)

        def stage(values: Values, y: FloatArray) -> FloatArray:
            return values.adjoint(y, residual=TIGHT)

        prior = rng.standard_normal(self.rows.n_unknowns)
        of_mean = np.sqrt(self.rows.n_unknowns / self.mean_variance) * prior.mean()
        prior = (prior - prior.mean()) / np.sqrt(self.prior_variance) + of_mean / np.sqrt(
            self.rows.n_unknowns
        )
        return np.asarray(prior + sum_over_stages(stage, self.rows.values, draws))


def in_threads(stage: Callable[..., _Result], *arguments: Iterable[Any]) -> list[_Result]:
    """One result per stage, in the order of the stages for any number of threads."""
    with ThreadPoolExecutor(config.NUMBA_NUM_THREADS) as pool:  # type: ignore[attr-defined]
        return list(pool.map(stage, *arguments))


def sum_over_stages(stage: Callable[..., FloatArray], *arguments: Iterable[Any]) -> FloatArray:
    """The sum of the results over stages, added in the order of the stages."""
    return reduce(np.add, in_threads(stage, *arguments))


def contrast(q: FloatArray, weights: FloatArray) -> FloatArray:
    """C q with C = diag(w) - w w' / sum(w): a constant per state integrated out."""
    total = np.maximum(weights.sum(axis=1), 1e-300)
    mean = np.einsum("sa,sa...->s...", weights / total[:, None], q)
    return np.asarray(np.einsum("sa,sa...->sa...", weights, q - mean[:, None]))


class LogDet(NamedTuple):
    """A log determinant, and the standard deviation of its error."""

    value: float
    error: float


class Preconditioner(NamedTuple):
    """An approximate inverse of the precision.

    Args:
        apply: the approximate inverse, symmetric and positive definite.
        parts: variances of rewards with their mean removed; a sum of multiples of them approximates
            the posterior variances. Empty: they are not known.
        worth: number of posterior samples that such a sum is worth.
        close: whether the eigenvalues of the preconditioned precision are all near one, so that
            the preconditioned residual shows the distance from the solution.
        log_det: log determinant of the inverse of what `apply` applies; None: not known.
    """

    apply: Apply
    parts: Sequence[FloatArray]
    worth: int
    close: bool
    log_det: LogDet | None = None


def diagonal_preconditioner(precision: Precision) -> Preconditioner:
    """The approximate inverse that is diagonal in the soft values of the last stage.

    It has no parts for rewards of actions, where the diagonal does not approximate the posterior
    variances.
    """
    rows, weights = precision.rows, precision.weights
    shown = np.full(rows.n_unknowns, 1 / precision.prior_variance)
    if rows.n_unknowns != rows.response.shape[1]:
        # a reward of actions: the diagonal of the direct reward dominates
        for values, w in zip(rows.values, weights, strict=True):
            own = w - w**2 / np.maximum(w.sum(axis=-1, keepdims=True), 1e-300)
            shown += values.immediate.power(2).T @ own.ravel()
        return Preconditioner(lambda x: x / shown[:, None], [], 0, False)
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
        return Preconditioner(
            lambda x: forward @ ((back @ x) / shown[:, None]), parts, USUAL, False
        )
    sizes = np.bincount(groups)
    unit = sp.csr_array((1 / np.sqrt(sizes[groups]), groups, np.arange(len(groups) + 1)))
    inverse = _coarse_inverse(precision, unit)
    shared = inverse / np.sqrt(np.outer(sizes, sizes))
    mean = shared @ sizes / len(groups)
    parts.append((np.diag(shared) - 2 * mean + mean @ sizes / len(groups))[groups])
    return Preconditioner(
        lambda x: forward @ ((back @ x) / shown[:, None]) + unit @ (inverse @ (unit.T @ x)),
        parts,
        USUAL,
        False,
    )


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
