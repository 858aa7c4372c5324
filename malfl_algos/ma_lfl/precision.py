"""The posterior precision of a reward on a large game, applied without forming the matrix.

A = sum over stages of K' C K + prior, where C weights the rows and removes a constant per state.
Every product needs two solves for soft values per stage. It takes several vectors side by side,
`(n_unknowns, k)`, at hardly more than the cost of one.

The preconditioner, an approximate inverse, reduces the number of iterations of conjugate gradients:
`shared_values` has the one for exact evaluation and up to some ten thousand states,
`reward_diagonal` the one for td learners and a reward of the state, `value_diagonal` the one for
all other cases.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import reduce
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numba import config
from numpy.typing import NDArray

from malfl_algos.ma_lfl.matrix_free_values import ExactValues, Residual, Values
from malfl_algos.ma_lfl.posterior import MEAN_VARIANCE

__all__ = [
    "TIGHT",
    "Apply",
    "LogDet",
    "MatrixFreeRows",
    "Precision",
    "Preconditioner",
    "contrast",
    "in_threads",
]

FloatArray = NDArray[np.float64]

TIGHT = 1e-12
"""Smallest relative residual of a solve."""
Apply = Callable[[FloatArray], FloatArray]
"""A linear map of columns side by side, `(n_unknowns, k)`."""
_Result = TypeVar("_Result")


@dataclass(frozen=True, eq=False)
class MatrixFreeRows:
    """The data as in `malfl_algos.ma_lfl.inference.Rows`, with operators in place of coefficients.

    Args:
        values: action values of every stage, as operators.
        response, response_variance, model_variance: `(n_stages, n_states, n_actions)`; the response
            is alpha log pi, without subtracting the offset of the action values.
        temperature: alpha.
        log_constant: as `malfl_algos.ma_lfl.rows.Rows` takes it.
    """

    values: Sequence[Values]
    response: FloatArray
    response_variance: FloatArray
    model_variance: FloatArray
    temperature: float
    log_constant: float = 0.0

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

    def noise(self, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
        """A right side whose solution is a sample of the posterior about its mean, and the part of
        it that comes from the prior.
        """
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
        return np.asarray(prior + sum_over_stages(stage, self.rows.values, draws)), prior


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
