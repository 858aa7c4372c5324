"""Gaussian inference of a reward from action values that are affine in it.

A learner model states the action values of stage h as q_h = K_h theta + b_h + noise, where theta
holds the unknown reward values or feature weights. The next policy is exp(q_h / alpha) up to a
constant per state. Observed log policies are therefore linear in theta up to that constant, which
is integrated out. The posterior, its evidence, and the search for noise and prior are the same for
every learner model.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy.linalg
from numpy.typing import NDArray
from scipy.optimize import minimize, minimize_scalar

from malfl_env.errors import InputError

__all__ = [
    "Evidence",
    "Given",
    "Posterior",
    "Rows",
    "fit",
    "posterior",
]

FloatArray = NDArray[np.float64]

NOISE_BOUNDS = (1e-7, 1.0)
"""Bounds of the variance that every row has in addition to the one its learner model predicts, in
units of alpha squared. The variances below have the same unit, so doubling both reward and
temperature only doubles the recovered reward.
"""
SCALE_BOUNDS = (0.1, 10.0)
"""Bounds of the factor on the variance that the learner model predicts."""
PRIOR_BOUNDS = (10**-3.125, 1e3)
"""Bounds of the prior variance of a reward value about the mean of all reward values. Without a
lower bound, data that show no reward would shrink the prior variance, and with it the posterior
standard deviations, to 0. Rewards of a few hundredths of the temperature cannot be seen in data
either, so the bound leaves them possible.
"""
SCANNED_NOISE = (1e-5, 1e-3, 1e-2, 0.1)
"""Noise variances tried first when the search has no earlier choice to start from."""
MEAN_VARIANCE = 1e5
"""Prior variance of the mean of all reward values. It is nearly flat, because the data hardly
determine the mean.
"""
FIRST_STEP = 1.5
"""First step of the search for the noise, in the logarithm."""


@dataclass(frozen=True)
class Given:
    """Noise and prior that are given, not searched; see `Evidence`."""

    noise_variance: float
    noise_scale: float
    prior_variance: float


@dataclass(frozen=True, eq=False)
class Rows:
    """The data, one row per stage, state and action.

    Args:
        coefficients: K, `(n_stages, n_states, n_actions, n_unknowns)`.
        response: alpha log pi minus b, `(n_stages, n_states, n_actions)`, up to a constant per
            state.
        response_variance: variance of the response; infinite where nothing was observed.
        model_variance: variance of the learner's noise that the learner model predicts.
        prior: precision matrix of theta for a prior variance of one, `(n_unknowns, n_unknowns)`. It
            is a projection; its null space (the mean of the reward) has variance `MEAN_VARIANCE`.
        log_constant: constant that the evidence adds, see
            `malfl_algos.ma_lfl.policy_estimation.Response`.
        temperature: alpha, the unit of all bounds.
    """

    coefficients: FloatArray
    response: FloatArray
    response_variance: FloatArray
    model_variance: FloatArray
    prior: FloatArray
    log_constant: float
    temperature: float


@dataclass(frozen=True, eq=False)
class Normal:
    """Normal equations: theta' information theta / 2 - moment' theta + squares / 2 - log_norm."""

    information: FloatArray
    moment: FloatArray
    squares: float
    log_norm: float
    degrees: int

    def times(self, factor: float) -> Normal:
        """Normal equations of the same rows with all weights multiplied by a factor."""
        return Normal(
            factor * self.information,
            factor * self.moment,
            factor * self.squares,
            self.log_norm + self.degrees * np.log(factor) / 2,
            self.degrees,
        )


@dataclass(frozen=True, eq=False)
class Evidence:
    """Noise and prior, and how well they explain the data.

    Args:
        log_evidence: log marginal likelihood of the counts; None where it was not computed.
        noise_variance, noise_scale: row variance = noise_variance + noise_scale * model variance.
        prior_variance: prior variance of a reward value about the mean of all reward values.
        bounds_hit: names of the settings whose search ended on a bound.
    """

    log_evidence: float | None
    noise_variance: float
    noise_scale: float
    prior_variance: float
    bounds_hit: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Posterior:
    """Posterior of theta.

    Args:
        mean: `(n_unknowns,)`.
        precision: `(n_unknowns, n_unknowns)`.
        information: the part of the precision that comes from the data.
        evidence: noise and prior, and how they were chosen.
    """

    mean: FloatArray
    precision: FloatArray
    information: FloatArray
    evidence: Evidence

    def distance(self, moved: FloatArray) -> float:
        """Size of a change of theta in posterior standard deviations, root mean square."""
        return float(np.sqrt(moved @ self.precision @ moved / len(moved)))

    def covariance(self) -> FloatArray:
        """Posterior covariance, `(n_unknowns, n_unknowns)`."""
        factor = scipy.linalg.cho_factor(self.precision)
        return np.asarray(scipy.linalg.cho_solve(factor, np.eye(len(self.mean))))


def fit(
    rows: Rows,
    *,
    start: Evidence | None,
    evaluations: int,
    scaled: bool,
    given: Given | None = None,
) -> Posterior:
    """Posterior of theta with noise and prior of largest evidence.

    The noise is searched in the logarithm by a bounded Nelder-Mead search, and the prior variance
    is searched for every noise. The search starts from an earlier choice. It starts from a coarse
    scan if there is no earlier choice, or if that choice lies on a bound.

    Args:
        rows: the data.
        start: an earlier choice to start from; None: there is no earlier choice.
        evaluations: largest number of noise settings to try.
        scaled: whether the model's variance is used and its factor searched; otherwise all rows
            share one variance.
        given: noise and prior to use without a search.

    Raises:
        InputError: if the precision is indefinite in double precision.
    """
    normal = normal_equations_of(rows)
    if given is not None:
        chosen = normal(given.noise_variance, given.noise_scale)
        log_evidence = _evidence(chosen, rows)(float(np.log(given.prior_variance)))
        log_evidence += rows.log_constant
        choice = given.noise_variance, given.noise_scale, given.prior_variance
        return _posterior(chosen, rows, Evidence(log_evidence, *choice, ()))
    tried: dict[tuple[float, float], tuple[float, float]] = {}
    unit = rows.temperature**2
    bounds = {
        "noise_variance": (NOISE_BOUNDS[0] * unit, NOISE_BOUNDS[1] * unit),
        "noise_scale": SCALE_BOUNDS,
    }
    low, high = np.log(list(bounds.values())[: 2 if scaled else 1]).T

    def loss(logs: FloatArray) -> float:
        noise, *scale = (float(x) for x in np.exp(np.clip(logs, low, high)))
        setting = (noise, scale[0] if scaled else 0.0)
        if setting not in tried:
            tried[setting] = _best_prior(normal(*setting), rows)
        return -tried[setting][0]

    places = []
    if start is not None:
        places.append([start.noise_variance, start.noise_scale or 1.0])
    if start is None or {"noise_variance", "noise_scale"} & set(start.bounds_hit):
        places += [[noise * unit, 1.0] for noise in SCANNED_NOISE]
    starts = np.clip(np.log(places)[:, : len(low)], low, high)
    first = starts[int(np.argmin([loss(logs) for logs in starts]))]
    step = np.where(first + FIRST_STEP > high, -FIRST_STEP, FIRST_STEP)
    minimize(
        loss,
        first,
        method="Nelder-Mead",
        bounds=list(zip(low, high, strict=True)),
        options={
            "initial_simplex": np.vstack([first, first + np.diag(step)]),
            "maxfev": evaluations,
            "xatol": 0.05,
            "fatol": 0.05,
        },
    )
    noise, scale = max(tried, key=lambda setting: tried[setting][0])
    log_evidence, prior_variance = tried[noise, scale]
    at = {"noise_variance": noise} | ({"noise_scale": scale} if scaled else {})
    at["prior_variance"] = prior_variance
    bounds["prior_variance"] = (PRIOR_BOUNDS[0] * unit, PRIOR_BOUNDS[1] * unit)
    hit = tuple(
        name for name, x in at.items() if x <= bounds[name][0] * 1.05 or x >= bounds[name][1] / 1.05
    )
    evidence = Evidence(
        log_evidence + rows.log_constant, noise, scale, prior_variance, bounds_hit=hit
    )
    return _posterior(normal(noise, scale), rows, evidence)


def posterior(rows: Rows, evidence: Evidence) -> Posterior:
    """Posterior of theta for given noise and prior."""
    normal = normal_equations(rows, evidence.noise_variance, evidence.noise_scale)
    return _posterior(normal, rows, evidence)


def normal_equations_of(rows: Rows) -> Callable[[float, float], Normal]:
    """Normal equations as a function of noise and scale; formed once if all rows share one
    variance.
    """
    seen = np.isfinite(rows.response_variance)
    known = rows.response_variance[seen]
    if rows.model_variance.any() or not known.size or known.min() < known.max():
        return lambda noise, scale: normal_equations(rows, noise, scale)
    one = normal_equations(rows, 1 - known[0], 0.0)
    return lambda noise, scale: one.times(1 / (noise + known[0]))


def normal_equations(rows: Rows, noise: float, scale: float) -> Normal:
    """Weighted normal equations with the constant of every state integrated out.

    With a flat prior on the constant, each row becomes its difference from the weighted mean over
    the actions of its state.
    """
    variance = noise + scale * rows.model_variance + rows.response_variance
    weight = 1 / variance
    total = weight.sum(axis=-1, keepdims=True)
    share = weight / np.where(total > 0, total, 1)
    n_unknowns = rows.coefficients.shape[-1]
    information = np.zeros((n_unknowns, n_unknowns))
    moment = np.zeros(n_unknowns)
    squares = 0.0
    for k, y, w, m in zip(rows.coefficients, rows.response, weight, share, strict=True):
        root = np.sqrt(w)[..., None]
        centred = (root * (k - (m[..., None] * k).sum(axis=1, keepdims=True))).reshape(
            -1, n_unknowns
        )
        residual = (root[..., 0] * (y - (m * y).sum(axis=1, keepdims=True))).ravel()
        information += centred.T @ centred
        moment += centred.T @ residual
        squares += float(residual @ residual)
    seen = weight > 0
    log_norm = np.log(weight[seen]).sum() - np.log(total[total > 0]).sum()
    degrees = int(seen.sum()) - int((total > 0).sum())
    log_norm = (log_norm - degrees * np.log(2 * np.pi)) / 2
    return Normal(information, moment, squares, float(log_norm), degrees)


def _posterior(normal: Normal, rows: Rows, evidence: Evidence) -> Posterior:
    precision = normal.information + rows.prior / evidence.prior_variance + _mean_precision(rows)
    mean = scipy.linalg.cho_solve((_cholesky(precision, lower=False), False), normal.moment)
    return Posterior(np.asarray(mean), precision, normal.information, evidence)


def _mean_precision(rows: Rows) -> FloatArray:
    """Prior precision of the mean of the reward, the null space of `prior`."""
    return (np.eye(len(rows.prior)) - rows.prior) / (MEAN_VARIANCE * rows.temperature**2)


def _cholesky(precision: FloatArray, *, lower: bool) -> FloatArray:
    """Cholesky factor of a precision matrix; rounding may have made the matrix indefinite."""
    try:
        return np.asarray(scipy.linalg.cholesky(precision, lower=lower))
    except scipy.linalg.LinAlgError:
        largest = float(np.diag(precision).max())
        raise InputError(
            "the posterior cannot be computed in double precision: its precision matrix has "
            f"entries up to {largest:.1e} and is not positive definite after rounding; the "
            "temperature is too small, or the targets are too large, for these data"
        ) from None


def _evidence(normal: Normal, rows: Rows) -> Callable[[float], float]:
    """Log evidence as a function of the log of the prior variance.

    If `prior` has no null space, one eigendecomposition of the information serves every variance.
    """
    prior, of_mean, unit = rows.prior, _mean_precision(rows), rows.temperature**2
    free = round(len(prior) - float(np.trace(prior)))
    if free == 0:
        values, vectors = scipy.linalg.eigh(normal.information)
        along = vectors.T @ normal.moment
        values = np.maximum(values, 0)

        def evidence(log_variance: float) -> float:
            precision = values + np.exp(-log_variance)
            gain = (along**2 / precision).sum() - normal.squares
            return float(
                normal.log_norm + (gain - np.log(precision).sum() - len(values) * log_variance) / 2
            )
    else:

        def evidence(log_variance: float) -> float:
            precision = normal.information + of_mean + prior * np.exp(-log_variance)
            factor = _cholesky(precision, lower=True)
            along = scipy.linalg.solve_triangular(factor, normal.moment, lower=True)
            spread = 2 * np.log(np.diag(factor)).sum()
            spread += (len(prior) - free) * log_variance + free * np.log(MEAN_VARIANCE * unit)
            return float(normal.log_norm + (along @ along - normal.squares - spread) / 2)

    return evidence


def _best_prior(normal: Normal, rows: Rows) -> tuple[float, float]:
    """Largest log evidence over prior variances, and the prior variance there."""
    evidence = _evidence(normal, rows)
    low, high = np.log(PRIOR_BOUNDS) + 2 * np.log(rows.temperature)
    grid = np.linspace(low, high, 8)
    best = int(np.argmax([evidence(point) for point in grid]))
    inside = (grid[max(best - 1, 0)], grid[min(best + 1, len(grid) - 1)])
    found = minimize_scalar(
        lambda point: -evidence(point), bounds=inside, method="bounded", options={"xatol": 0.02}
    )
    return -float(found.fun), float(np.exp(found.x))
