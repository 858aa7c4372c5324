"""Does a reward explain how the policies changed? Measured on stages that it did not come from.

The rows are those of `malfl_algos.ma_lfl.rows`: y_h(s, a) = K_h(s, a) . theta + noise, up
to a constant per state, one h per improvement. The improvements are split into two halves, the odd
and the even ones. The noise of the rows of one half is independent, also where the estimate of one
policy enters two rows that follow each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.linalg
from numpy.typing import NDArray
from scipy.special import chdtrc

from malfl_algos.normal import Normal

__all__ = [
    "HeldOut",
    "Improvement",
    "determined",
    "halves",
    "held_out",
    "log_evidence",
    "mean",
    "told_variance",
]

FloatArray = NDArray[np.float64]

FLOOR = 0.01
"""Variance added to every row in `explained`, in units of the temperature squared. Without it, rows
whose counts are very large would hold all the weight."""


@dataclass(frozen=True, eq=False)
class Improvement:
    """The rows of one improvement, in units of the temperature.

    Args:
        coefficients: K, `(n_states, n_actions, n_unknowns)`.
        response: y, `(n_states, n_actions)`.
        counting: variance of y from the finite counts; infinite where nothing was observed.
        learning: variance of the learner's own noise that the fit chose.
        predicted: variance of the learner's own noise that its rule predicts.
    """

    coefficients: FloatArray
    response: FloatArray
    counting: FloatArray
    learning: FloatArray
    predicted: FloatArray


def total(parts: Sequence[Normal]) -> Normal:
    """The sums of all improvements."""
    whole = parts[0]
    for part in parts[1:]:
        whole = whole + part
    return whole


def mean(sums: Normal, prior: FloatArray) -> FloatArray:
    """Posterior mean of theta for a prior precision; one for each column of the moment."""
    factor = scipy.linalg.cho_factor(sums.information + prior)
    return np.asarray(scipy.linalg.cho_solve(factor, sums.moment))


def log_evidence(sums: Normal, prior: FloatArray) -> float:
    """Log evidence of the rows for a prior precision of full rank."""
    factor = scipy.linalg.cholesky(sums.information + prior, lower=True)
    along = scipy.linalg.solve_triangular(factor, sums.moment, lower=True)
    spread = 2 * np.log(np.diag(factor)).sum() - np.linalg.slogdet(prior)[1]
    return float(sums.log_norm + (along @ along - sums.squares - spread) / 2)


def determined(sums: Normal, prior: FloatArray) -> int:
    """Number of directions of theta about which the rows say more than the prior."""
    shares = scipy.linalg.eigvalsh(sums.information, sums.information + prior)
    return int((shares > 0.5).sum())


def told_variance(information: FloatArray, prior: FloatArray, seen: NDArray[np.bool_]) -> float:
    """Share of the prior variance that lies along directions about which the rows say more than the
    prior; for independent unknowns the share of these directions.

    The variance is that of the unknowns that the data touch, about their mean. Along a direction of
    a smooth prior neighbouring unknowns may hardly differ; then it hardly counts.

    Args:
        information: of the rows, `(n_unknowns, n_unknowns)`.
        prior: prior precision, of full rank, same shape.
        seen: which unknowns the data touch, `(n_unknowns,)`.
    """
    root = scipy.linalg.inv(scipy.linalg.cholesky(prior, lower=True)).T
    values, vectors = scipy.linalg.eigh(root.T @ information @ root)
    moved = (root @ vectors)[seen]
    variance = ((moved - moved.mean(axis=0)) ** 2).sum(axis=0)
    return float(variance[values > 1].sum() / variance.sum())


def halves(parts: Sequence[Normal]) -> tuple[Normal, Normal]:
    """The sums of the improvements 0, 2, 4, ... and of 1, 3, 5, ...; at least two improvements."""
    return total(parts[::2]), total(parts[1::2])


@dataclass(frozen=True)
class HeldOut:
    """How well each half of the improvements is predicted by the reward of the other half.

    Args:
        explained: share of the variance of y that the reward explains, beyond the variance that
            finite counts and the learner's rule account for; 1 is all, 0 none.
        misfit: weighted squares of the prediction's errors by their expectation; 1 is expected.
        p_value: posterior predictive probability of errors at least as large.
    """

    explained: float
    misfit: float
    p_value: float


def held_out(rows: Sequence[Improvement], prior: FloatArray, parts: Sequence[Normal]) -> HeldOut:
    """Predict the odd improvements from the even ones and the other way round.

    Args:
        rows: at least two improvements.
        prior: prior precision of theta, of full rank.
        parts: the normal equations of each of them.
    """
    both = halves(parts)
    means = [mean(own, prior) for own in both]
    errors = sum(own.residual(other) for own, other in zip(both, means[::-1], strict=True))
    spread = sum(
        float(np.trace(np.linalg.solve(other.information + prior, own.information)))
        for own, other in zip(both, both[::-1], strict=True)
    )
    degrees = both[0].degrees + both[1].degrees
    misfit = errors / max(degrees + spread, 1)
    p_value = float(chdtrc(max(degrees, 1), misfit * degrees))
    return HeldOut(_explained(rows, means), misfit, p_value)


def _explained(rows: Sequence[Improvement], means: Sequence[FloatArray]) -> float:
    """See `HeldOut.explained`. Here rows weigh one over (counting + FLOOR), whatever the fit."""
    left = whole = expected = counted = 0.0
    for number, own in enumerate(rows):
        weight = 1 / (own.counting + FLOOR)
        summed = weight.sum(axis=1, keepdims=True)
        share = weight / np.where(summed > 0, summed, 1)
        kept = weight * (1 - share)
        rest = own.response - own.coefficients @ means[1 - number % 2]
        left += _squares(weight, share, rest)
        whole += _squares(weight, share, own.response)
        by_counts = float((kept * np.where(weight > 0, own.counting, 0)).sum())
        counted += by_counts
        expected += by_counts + float((kept * own.predicted).sum())
    return 1 - max(left - expected, 0.0) / max(whole - counted, 1e-300)


def _squares(weight: FloatArray, share: FloatArray, values: FloatArray) -> float:
    """Weighted squares of values about their weighted mean over the actions of a state."""
    centred = values - (share * values).sum(axis=1, keepdims=True)
    return float((weight * centred**2).sum())
