"""The precision of a reward's posterior on a large game, applied and never formed.

A = sum over stages of K' C K + prior, where C weighs the rows and takes a constant per state out of
them. Every product takes two solves for soft values per stage, and takes several vectors side by
side, `(n_unknowns, k)`, for hardly more than one would cost.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
from numba import config
from numpy.typing import NDArray

from malfl_algos.ma_lfl.inference import MEAN_VARIANCE
from malfl_algos.ma_lfl.matrix_free_values import Residual, Values

__all__ = ["TIGHT", "Precision", "UnformedRows", "in_threads", "sum_over_stages"]

FloatArray = NDArray[np.float64]

TIGHT = 1e-12
"""Relative residual of solves where it matters most."""


@dataclass(frozen=True, eq=False)
class UnformedRows:
    """As `inference.Rows`, with operators in place of coefficients.

    Args:
        values: of every stage.
        response, response_variance, model_variance: `(n_stages, n_states, n_actions)`; the response
            is alpha log pi, the values' offset not taken off.
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
    """The precision of the reward's posterior, applied.

    Args:
        rows: the data.
        weights: 1 / variance of every row, `(n_stages, n_states, n_actions)`.
        prior_variance: of a reward value about the mean of all.
    """

    def __init__(self, rows: UnformedRows, weights: FloatArray, prior_variance: float) -> None:
        self.rows, self.weights, self.prior_variance = rows, weights, prior_variance
        self.mean_variance = MEAN_VARIANCE * rows.temperature**2

    def __call__(self, x: FloatArray, *, residual: Residual = TIGHT) -> FloatArray:
        def stage(values: Values, weights: FloatArray) -> FloatArray:
            seen = _contrast(values.apply(x, residual=residual), weights)
            return values.adjoint(seen, residual=residual)

        return self.prior(x) + sum_over_stages(stage, self.rows.values, self.weights)

    def prior(self, x: FloatArray) -> FloatArray:
        """Its part that does not come from the data."""
        mean = x.mean(axis=0)
        return np.asarray((x - mean) / self.prior_variance + mean / self.mean_variance)

    def moment(self, response: FloatArray) -> FloatArray:
        """Sum over stages of K' C response."""

        def stage(values: Values, weights: FloatArray, y: FloatArray) -> FloatArray:
            return values.adjoint(_contrast(y, weights), residual=TIGHT)

        return sum_over_stages(stage, self.rows.values, self.weights, response)

    def noise(self, rng: np.random.Generator) -> FloatArray:
        """A right side for which the solution is a sample of the posterior about its mean."""
        root = np.sqrt(self.weights)
        total = np.maximum(self.weights.sum(axis=-1, keepdims=True), 1e-300)
        draws = rng.standard_normal(root.shape)
        draws = root * (draws - root * (root * draws).sum(axis=-1, keepdims=True) / total)

        def stage(values: Values, y: FloatArray) -> FloatArray:
            return values.adjoint(y, residual=TIGHT)

        prior = rng.standard_normal(self.rows.n_unknowns)
        level = np.sqrt(self.rows.n_unknowns / self.mean_variance) * prior.mean()
        prior = (prior - prior.mean()) / np.sqrt(self.prior_variance) + level / np.sqrt(
            self.rows.n_unknowns
        )
        return np.asarray(prior + sum_over_stages(stage, self.rows.values, draws))


def in_threads(stage: Callable[..., FloatArray], *arguments: Iterable[Any]) -> list[FloatArray]:
    """One result per stage, in their order whatever the number of threads."""
    with ThreadPoolExecutor(config.NUMBA_NUM_THREADS) as pool:  # type: ignore[attr-defined]
        return list(pool.map(stage, *arguments))


def sum_over_stages(stage: Callable[..., FloatArray], *arguments: Iterable[Any]) -> FloatArray:
    """The sum of the results, added up in their order."""
    return reduce(np.add, in_threads(stage, *arguments))


def _contrast(q: FloatArray, weights: FloatArray) -> FloatArray:
    """C q with C = diag(w) - w w' / sum(w): a constant per state integrated out."""
    total = np.maximum(weights.sum(axis=1), 1e-300)
    mean = np.einsum("sa,sa...->s...", weights / total[:, None], q)
    return np.asarray(np.einsum("sa,sa...->sa...", weights, q - mean[:, None]))
