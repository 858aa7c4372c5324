"""The posterior of a reward for given settings, and its evidence as a function of the prior."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import scipy.linalg
from numpy.typing import NDArray
from scipy.linalg.lapack import dsytrd, dsytrd_lwork

from malfl_algos.ma_lfl.improvement import step_of
from malfl_algos.ma_lfl.prior_search import largest_on_grid, log_evidence
from malfl_algos.ma_lfl.rows import Rows, normal_equations
from malfl_algos.normal import Normal
from malfl_env.errors import InputError

__all__ = [
    "MEAN_VARIANCE",
    "NOISE_BOUNDS",
    "PRIOR_BOUNDS",
    "SCALE_BOUNDS",
    "Evidence",
    "Given",
    "Posterior",
    "best_prior",
    "evidence_of",
    "posterior",
    "posterior_of",
    "prior_precision",
]

FloatArray = NDArray[np.float64]

PRIOR_BOUNDS = (10**-3.125, 1e3)
"""Bounds of the prior variance of a reward value about the mean of all reward values. Without a
lower bound, data that show no reward would shrink the prior variance, and with it the posterior
standard deviations, to 0. Rewards of a few hundredths of the temperature cannot be seen in data
either, so the bound leaves them possible.
"""
NOISE_BOUNDS = (1e-7, 1.0)
"""Bounds of the variance that every row has in addition to the one its learner model predicts, in
units of alpha squared. The other variances have the same unit, so doubling both reward and
temperature only doubles the recovered reward.
"""
SCALE_BOUNDS = (0.1, 10.0)
"""Bounds of the factor on the variance that the learner model predicts."""
MEAN_VARIANCE = 1e5
"""Prior variance of the mean of all reward values. It is nearly flat, because the data hardly
determine the mean.
"""
TOLERANCE = 0.02
"""The log of the prior variance is found up to this."""


@dataclass(frozen=True)
class Given:
    """Noise and prior that are given, not searched; see `Evidence`.

    Args:
        searched: whether they are what a search starts from; only without matrices, see
            `malfl_algos.ma_lfl.matrix_free_posterior`.
    """

    noise_variance: float
    noise_scale: float
    prior_variance: float
    searched: bool = False


@dataclass(frozen=True, eq=False)
class Evidence:
    """Noise and prior, and how well they explain the data.

    Args:
        log_evidence: log marginal likelihood of the counts; None where it was not computed.
        noise_variance, noise_scale: row variance = noise_variance + noise_scale * model variance.
        prior_variance: prior variance of a reward value about the mean of all reward values.
        bounds_hit: names of the settings whose search ended on a bound.
        retained: share rho that the learner keeps of its log policy.
        retained_sd: posterior standard deviation of rho; 0 if it was given.
        scales, noises: step and noise of every stage, relative to those of all stages; empty: the
            same in all stages.
        gain: rise of the log evidence that a step and a noise of every stage promise; None: not
            computed.
    """

    log_evidence: float | None
    noise_variance: float
    noise_scale: float
    prior_variance: float
    bounds_hit: tuple[str, ...]
    retained: float = 0.0
    retained_sd: float = 0.0
    scales: tuple[float, ...] = ()
    noises: tuple[float, ...] = ()
    gain: float | None = None

    def row_variance(self, model_variance: FloatArray) -> FloatArray:
        """Variance of x_{h+1} given x_h, in the shape of the model's variance of q."""
        noise: Any = self.noise_variance
        factor: Any = self.noise_scale or 1.0
        if self.retained:
            factor = factor * step_of(self.retained) ** 2
        if self.scales:
            noise = noise * np.reshape(self.noises, (-1, 1, 1))
            factor = factor * np.reshape(self.scales, (-1, 1, 1)) ** 2
        return np.asarray(noise + factor * model_variance)


@dataclass(frozen=True, eq=False)
class Posterior:
    """Posterior of theta.

    Args:
        mean: `(n_unknowns,)`.
        precision: `(n_unknowns, n_unknowns)`.
        information: the part of the precision that comes from the data.
        evidence: noise and prior, and how they were chosen.
        spread: `(n_unknowns, k)`: the covariance also has the part spread spread', from settings
            that are known with an error only.
    """

    mean: FloatArray
    precision: FloatArray
    information: FloatArray
    evidence: Evidence
    spread: FloatArray | None = None

    def distance(self, moved: FloatArray) -> float:
        """Size of a change of theta in posterior standard deviations, root mean square."""
        return float(np.sqrt(moved @ self.precision @ moved / len(moved)))

    def repeated(self, times: float) -> Posterior:
        """The posterior if the errors of the rows repeat, so that `times` rows count as one.

        The data then enter with the power 1 / times (Grünwald and van Ommen 2017). Noise, prior and
        evidence stay those that were chosen.
        """
        information = self.information / times
        precision = self.precision - self.information + information
        moment = self.precision @ self.mean / times
        mean = scipy.linalg.cho_solve((cholesky(precision, lower=False), False), moment)
        return Posterior(np.asarray(mean), precision, information, self.evidence, self.spread)

    def mapped(self, root: FloatArray) -> Posterior:
        """The posterior of root theta, for a lower triangular root of full rank."""

        def pulled(matrix: FloatArray) -> FloatArray:
            half = scipy.linalg.solve_triangular(root, matrix, lower=True, trans=1)
            whole = scipy.linalg.solve_triangular(root, half.T, lower=True, trans=1)
            return np.asarray(whole + whole.T) / 2

        spread = None if self.spread is None else root @ self.spread
        precision, information = pulled(self.precision), pulled(self.information)
        return Posterior(root @ self.mean, precision, information, self.evidence, spread)

    def covariance(self) -> FloatArray:
        """Posterior covariance, `(n_unknowns, n_unknowns)`."""
        factor = scipy.linalg.cho_factor(self.precision)
        covariance = scipy.linalg.cho_solve(factor, np.eye(len(self.mean)))
        if self.spread is not None:
            covariance = covariance + self.spread @ self.spread.T
        return np.asarray(covariance)


def posterior(rows: Rows, evidence: Evidence) -> Posterior:
    """Posterior of theta for given noise and prior."""
    normal = normal_equations(rows, evidence.noise_variance, evidence.noise_scale)
    return posterior_of(normal, rows, evidence)


def prior_precision(rows: Rows, evidence: Evidence) -> FloatArray:
    return rows.prior / evidence.prior_variance + mean_precision(rows)


def posterior_of(normal: Normal, rows: Rows, evidence: Evidence) -> Posterior:
    precision = normal.information + rows.prior / evidence.prior_variance + mean_precision(rows)
    mean = scipy.linalg.cho_solve((cholesky(precision, lower=False), False), normal.moment)
    return Posterior(np.asarray(mean), precision, normal.information, evidence)


def mean_precision(rows: Rows) -> FloatArray:
    """Prior precision of the mean of the reward, the null space of `prior`."""
    return (np.eye(len(rows.prior)) - rows.prior) / (MEAN_VARIANCE * rows.temperature**2)


def cholesky(precision: FloatArray, *, lower: bool) -> FloatArray:
    """Cholesky factor of a precision matrix; rounding may have made the matrix indefinite."""
    try:
        return np.asarray(scipy.linalg.cholesky(precision, lower=lower))
    except scipy.linalg.LinAlgError:
        raise _indefinite(float(np.diag(precision).max())) from None


def _indefinite(largest: float) -> InputError:
    return InputError(
        "the posterior cannot be computed in double precision: its precision matrix has "
        f"entries up to {largest:.1e} and is not positive definite after rounding; the "
        "temperature is too small, or the targets are too large, for these data"
    )


class PriorEvidence(NamedTuple):
    """Log evidence as a function of the log of the prior variance; see `evidence_of`.

    Args:
        diagonal, beside, gain, rest: as `malfl_algos.ma_lfl.prior_search.log_evidence` takes them.
    """

    diagonal: FloatArray
    beside: FloatArray
    gain: float
    rest: float

    def __call__(self, log_variance: float) -> float:
        return self._checked(float(log_evidence(*self, log_variance)))

    def largest(self, grid: FloatArray) -> tuple[float, float]:
        """The largest log evidence near the best point of a grid, and the log variance there."""
        value, place = largest_on_grid(*self, grid, TOLERANCE)
        return self._checked(float(value)), float(place)

    def _checked(self, value: float) -> float:
        if np.isnan(value):
            raise _indefinite(float(self.diagonal.max(initial=0.0)))
        return value / 2


def evidence_of(normal: Normal, rows: Rows) -> PriorEvidence:
    """Log evidence as a function of the log of the prior variance.

    One reduction of the information to a tridiagonal matrix serves every prior variance. The mean,
    whose prior variance is fixed, is integrated out before.
    """
    information, moment, squares = normal.information, normal.moment, normal.squares
    constant = 0.0
    of_mean = 1 - np.diag(rows.prior)
    if of_mean.sum() > 0.5:
        largest = int(of_mean.argmax())
        level = np.eye(len(of_mean))[largest] - rows.prior[:, largest]
        information, moment = _reflected(information, moment, level)
        variance = MEAN_VARIANCE * rows.temperature**2
        # the data hardly tell the mean: rounding can make its information negative
        pivot, beside = max(information[0, 0], 0.0) + 1 / variance, information[1:, 0]
        constant = moment[0] ** 2 / pivot - np.log(pivot * variance)
        information = information[1:, 1:] - np.outer(beside, beside / pivot)
        moment = moment[1:] - beside * (moment[0] / pivot)
    # with the moment along the first axis, which the reduction keeps, the last pivot of the
    # reversed matrix is the inverse of the only entry of its inverse that is needed
    diagonal, beside = _tridiagonal(_reflected(information, moment, moment)[0])
    rest = float(2 * normal.log_norm + constant - squares)
    return PriorEvidence(diagonal, beside, float(moment @ moment), rest)


def _reflected(
    matrix: FloatArray, vector: FloatArray, axis: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Matrix and vector after the reflection that turns `axis` into the first axis."""
    size = float(np.linalg.norm(axis))
    if size == 0:
        return matrix, vector
    normal = axis / size
    normal[0] += np.copysign(1.0, normal[0])
    normal *= np.sqrt(2 / (normal @ normal))
    turned = matrix @ normal
    turned -= normal @ turned / 2 * normal
    beside = np.outer(normal, turned)
    return matrix - beside - beside.T, vector - normal * (normal @ vector)


def _tridiagonal(matrix: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Diagonal and off-diagonal of a similar tridiagonal matrix, in reverse order."""
    if len(matrix) < 2:
        return np.diag(matrix).copy(), np.zeros(1)
    _, diagonal, beside, _, _ = dsytrd(matrix, lower=1, lwork=_room(len(matrix)))
    return diagonal[::-1].copy(), beside[::-1].copy()


@cache
def _room(size: int) -> int:
    """Numbers of working memory with which a matrix of this size is reduced fastest."""
    return int(dsytrd_lwork(size, lower=1)[0])


def best_prior(normal: Normal, rows: Rows) -> tuple[float, float]:
    """Largest log evidence over prior variances, and the prior variance there."""
    low, high = np.log(PRIOR_BOUNDS) + 2 * np.log(rows.temperature)
    value, place = evidence_of(normal, rows).largest(np.linspace(low, high, 8))
    return value, float(np.exp(place))
