"""The posterior of a reward from the rows of `policy_gradient`, and the search for its settings.

Stage h has the rows z_h = W_h (g_h theta + e_h) + errors. W_h holds the weights of the orders, the
noise e_h has the covariance n_h F_h, and the errors have that of the estimated policies plus m_h(o)
for the rows of order o. The settings w_h(o), n_h, m_h(o) and those of the prior of the reward are
at the maximum of marginal likelihood times their prior. The gradient is exact, and L-BFGS climbs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import scipy.linalg
from numpy.typing import NDArray
from scipy.linalg.lapack import dpotrf, dpotri, dpotrs
from scipy.optimize import minimize

from malfl_algos.ma_lfl.gradient_settings import (
    NETWORK,
    GradientSettings,
    Policy,
    first_settings,
    log_density,
)
from malfl_algos.ma_lfl.policy_gradient import GradientRows
from malfl_algos.ma_lfl.reward_priors import RewardPrior

__all__ = ["GradientPosterior", "fit_gradient", "log_posterior"]

FloatArray = NDArray[np.float64]

LARGEST = 100.0
"""Largest log weight or log variance that is inferred; far larger ones overflow."""
TOLERANCE, MEMORY = 1e-6, 20


@dataclass(frozen=True, eq=False)
class GradientPosterior:
    """The posterior of the unknowns at the chosen settings.

    Args:
        mean: `(n_unknowns,)`.
        precision: `(n_unknowns, n_unknowns)`.
        information: the part of the precision that comes from the data.
        log_evidence: log marginal likelihood of the changes, plus the log prior of the settings
            relative to its largest value.
        settings: the settings.
        predicted: expected change of every stage, `(n_stages, n_rows)`.
        spread: variances of the change about it, without estimation errors, same shape.
    """

    mean: FloatArray
    precision: FloatArray
    information: FloatArray
    log_evidence: float
    settings: GradientSettings
    predicted: FloatArray
    spread: list[FloatArray]


def fit_gradient(
    rows: Sequence[GradientRows],
    orders: NDArray[np.int64],
    prior: RewardPrior,
    *,
    start: GradientSettings | None,
    iterations: int,
    policy: Policy = NETWORK,
) -> GradientPosterior:
    """Choose the settings by the evidence and return the posterior there.

    Args:
        rows: of every stage.
        orders: of every basis function of the state.
        prior: of the unknowns.
        start: settings to start from; None: those of largest prior density.
        iterations: of the search, at most.
        policy: kind of the learner's policy.
    """
    first = first_settings(len(rows), orders, prior, policy) if start is None else start
    bounds: list[tuple[float | None, float | None]] = [(None, None)] * first.joined().size
    bounds[len(bounds) - first.prior.size :] = prior.bounds

    def loss(numbers: FloatArray) -> tuple[float, FloatArray]:
        value, slope = log_posterior(rows, orders, prior, first.split(numbers), policy)
        return -value, -slope

    found = minimize(
        loss,
        first.joined(),
        jac=True,
        method="L-BFGS-B",
        bounds=bounds,
        options={"maxiter": iterations, "maxcor": MEMORY, "ftol": TOLERANCE},
    )
    return _posterior(rows, orders, prior, first.split(found.x), policy)


@dataclass(frozen=True, eq=False)
class _Stage:
    """A stage at given settings, with all stages before it eliminated.

    Args:
        coefficients: W g, `(n_rows, n_unknowns)`.
        smeared: the part of the covariance that comes from the sampled gradient.
        factor: Cholesky factor of the covariance given the stages before.
        solved: that covariance's inverse times coefficients and change, `(n_rows, n_unknowns + 1)`.
        linked: the inverse times the covariance with the next stage; None: they are independent.
    """

    coefficients: FloatArray
    smeared: FloatArray
    factor: FloatArray
    solved: FloatArray
    linked: FloatArray | None

    def inverse(self) -> FloatArray:
        """The inverse of the covariance given the stages before."""
        half = np.tril(dpotri(self.factor, lower=1)[0])
        return np.asarray(half + np.tril(half, -1).T)


@dataclass(frozen=True, eq=False)
class _Inferred:
    """The Gaussian inference of all stages at given settings."""

    stages: list[_Stage]
    mean: FloatArray
    covariance: FloatArray
    prior_precision: FloatArray
    prior_slopes: list[FloatArray]
    information: FloatArray
    log_evidence: float


def _infer(
    rows: Sequence[GradientRows],
    number: NDArray[np.int64],
    prior: RewardPrior,
    settings: GradientSettings,
) -> _Inferred | None:
    """Infer the reward at given settings; None if a covariance is not positive definite in double
    precision.
    """
    covariance, slopes = prior.covariance(settings.prior)
    root, fault = dpotrf(covariance, lower=1)
    if fault:
        return None
    prior_precision = scipy.linalg.cho_solve((root, True), np.eye(len(covariance)))
    precision, moment = prior_precision.copy(), np.zeros(len(covariance))
    value = -np.log(np.diag(root)).sum()
    stages: list[_Stage] = []
    for h, row in enumerate(rows):
        weights, rest = np.exp(settings.weights[h])[number], np.exp(settings.rest[h])[number]
        coefficients = weights[:, None] * row.gradient
        smeared = np.exp(settings.noise[h]) * (weights[:, None] * row.sampling * weights)
        sigma = row.estimation + smeared
        sigma[np.diag_indices(len(sigma))] += rest
        side = np.column_stack([coefficients, row.change])
        if row.shared is not None and stages:
            before = stages[-1]
            assert before.linked is not None
            sigma = sigma - row.shared @ before.linked
            side = side + row.shared @ before.solved
        factor, fault = dpotrf(sigma, lower=1)
        if fault:
            return None
        following = rows[h + 1].shared if h + 1 < len(rows) else None
        solved, _ = dpotrs(factor, side, lower=1)
        linked = None if following is None else dpotrs(factor, following, lower=1)[0]
        stages.append(_Stage(coefficients, smeared, factor, solved, linked))
        precision += side[:, :-1].T @ solved[:, :-1]
        moment += side[:, :-1].T @ solved[:, -1]
        value -= np.log(np.diag(factor)).sum() + side[:, -1] @ solved[:, -1] / 2
        value -= len(side) * np.log(2 * np.pi) / 2
    precision = (precision + precision.T) / 2
    upper, fault = dpotrf(precision, lower=1)
    if fault or not np.isfinite(moment).all():
        return None
    mean = scipy.linalg.cho_solve((upper, True), moment)
    value += moment @ mean / 2 - np.log(np.diag(upper)).sum()
    posterior = scipy.linalg.cho_solve((upper, True), np.eye(len(mean)))
    information = precision - prior_precision
    return _Inferred(stages, mean, posterior, prior_precision, slopes, information, float(value))


def _from_the_last(stages: Sequence[_Stage]) -> Iterator[tuple[_Stage, FloatArray, FloatArray]]:
    """The stages in reverse, each with its rows of the inverse covariance of all stages times
    coefficients and change, and with its diagonal block of that inverse.
    """
    solved = inverse = None
    for one in reversed(stages):
        own, block = one.solved, one.inverse()
        if one.linked is not None and solved is not None and inverse is not None:
            own = own + one.linked @ solved
            block = block + one.linked @ inverse @ one.linked.T
        solved, inverse = own, block
        yield one, own, block


def log_posterior(
    rows: Sequence[GradientRows],
    orders: NDArray[np.int64],
    prior: RewardPrior,
    settings: GradientSettings,
    policy: Policy = NETWORK,
) -> tuple[float, FloatArray]:
    """Log marginal likelihood plus log prior of the settings, and its gradient.

    Returns:
        The value, -1e100 where a covariance is not positive definite in double precision or a
        setting is beyond `LARGEST`, and the gradient in the order of `GradientSettings.joined`.
    """
    number = np.repeat(orders, len(rows[0].change) // len(orders))
    inferred = None
    if np.abs(settings.joined()).max() < LARGEST:
        inferred = _infer(rows, number, prior, settings)
    if inferred is None:
        return -1e100, np.zeros(settings.joined().size)
    by_order = np.eye(int(orders.max()) + 1)[number].T
    by_weight, by_noise, by_rest = [], [], []
    reverse = _from_the_last(inferred.stages)
    for (one, own, inverse), rest in zip(reverse, np.exp(settings.rest)[::-1], strict=True):
        solved = own[:, :-1]
        pulled = own[:, -1] - solved @ inferred.mean
        spread = solved @ inferred.covariance
        slope = np.outer(pulled, pulled) + spread @ solved.T - inverse  # 2 d value / d Sigma
        of_noise = (slope * one.smeared).sum(axis=1)
        of_signal = np.outer(pulled, inferred.mean) - spread
        by_weight.append(by_order @ (of_noise + (one.coefficients * of_signal).sum(axis=1)))
        by_noise.append(of_noise.sum() / 2)
        by_rest.append(rest * (by_order @ np.diag(slope)) / 2)
    second = inferred.covariance + np.outer(inferred.mean, inferred.mean)
    pull = inferred.prior_precision @ second @ inferred.prior_precision - inferred.prior_precision
    by_prior = [(pull * part).sum() / 2 for part in inferred.prior_slopes]
    slopes = GradientSettings(
        np.array(by_weight[::-1]),
        np.array(by_noise[::-1]),
        np.array(by_rest[::-1]),
        np.array(by_prior),
    )
    density, density_slope = log_density(settings, len(orders), prior, policy)
    return inferred.log_evidence + density, slopes.joined() + density_slope


def _posterior(
    rows: Sequence[GradientRows],
    orders: NDArray[np.int64],
    prior: RewardPrior,
    settings: GradientSettings,
    policy: Policy,
) -> GradientPosterior:
    number = np.repeat(orders, len(rows[0].change) // len(orders))
    inferred = _infer(rows, number, prior, settings)
    assert inferred is not None
    density, _ = log_density(settings, len(orders), prior, policy)
    spread = []
    for one, rest in zip(inferred.stages, np.exp(settings.rest), strict=True):
        from_reward = one.coefficients @ inferred.covariance @ one.coefficients.T
        spread.append(one.smeared + from_reward + np.diag(rest[number]))
    return GradientPosterior(
        inferred.mean,
        inferred.information + inferred.prior_precision,
        inferred.information,
        inferred.log_evidence + density,
        settings,
        np.array([one.coefficients @ inferred.mean for one in inferred.stages]),
        spread,
    )
