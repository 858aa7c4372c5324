"""The posterior of a reward of which only signs of linear functions are known, with errors.

The prior is normal, the likelihood prod_c [lapse_c + (1 - lapse_c) Phi((w_c . theta + offset_c) /
sd_c)]^weight_c. Expectation propagation (Minka 2001; for probit likelihoods Rasmussen and Williams
2006, section 3.6) replaces each factor by a normal one. The posterior mean is then close to the
centre of mass of the half-spaces, and the evidence is accurate. Laplace's approximation at the mode
gives neither, because half-spaces have no curvature there.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from malfl_algos.work.compilation import compiled

__all__ = ["HalfspacePosterior", "Halfspaces", "Sites", "halfspace_posterior"]

FloatArray = NDArray[np.float64]

SWEEPS = 25
"""Largest number of times that all factors are visited."""
DAMPING = 0.7
"""Share of a factor that is replaced by its new value."""
SETTLED = 1e-3
"""Factors have settled if no visit moves one by more, in posterior standard deviations."""


class Halfspaces(NamedTuple):
    """Factors of a likelihood; see above.

    Args:
        rows: w, `(n, n_unknowns)`.
        offsets: `(n,)`.
        sds: > 0, `(n,)`.
        lapses: in [0, 1], `(n,)`; a factor with lapse 1 says nothing.
        weights: > 0, `(n,)`: the number of times that a factor enters.
    """

    rows: FloatArray
    offsets: FloatArray
    sds: FloatArray
    lapses: FloatArray
    weights: FloatArray


class Sites(NamedTuple):
    """Precision and precision times mean of the normal factors of w . theta, each `(n,)`. Factors
    that enter several times are counted once.
    """

    precision: FloatArray
    moment: FloatArray


class HalfspacePosterior(NamedTuple):
    """The normal distribution closest to the posterior.

    Args:
        mean: `(n_unknowns,)`.
        covariance: `(n_unknowns, n_unknowns)`.
        sites: the normal factors.
        log_evidence: log of the integral of prior times likelihood.
    """

    mean: FloatArray
    covariance: FloatArray
    sites: Sites
    log_evidence: float


def halfspace_posterior(
    prior: FloatArray, factors: Halfspaces, *, start: Sites | None = None
) -> HalfspacePosterior:
    """The posterior of theta for a normal prior with mean 0.

    Args:
        prior: covariance, `(n_unknowns, n_unknowns)`, positive definite.
        factors: the likelihood.
        start: the normal factors to start from, for example those of a similar prior.
    """
    n = len(factors.rows)
    sites = Sites(np.zeros(n), np.zeros(n)) if start is None else start
    precision, moment = sites.precision.copy(), sites.moment.copy()
    mean, covariance, _ = _joined(prior, factors, sites)
    logs = np.zeros(n)
    rows = np.ascontiguousarray(factors.rows)
    _sweep(
        rows, *factors[1:], covariance, mean, precision, moment, logs, (SWEEPS, DAMPING, SETTLED)
    )
    sites = Sites(precision, moment)
    mean, covariance, log_volume = _joined(prior, factors, sites)
    moments = factors.weights * moment
    log_evidence = factors.weights @ logs + log_volume + moments @ (factors.rows @ mean) / 2
    return HalfspacePosterior(mean, covariance, sites, float(log_evidence))


def _joined(
    prior: FloatArray, factors: Halfspaces, sites: Sites
) -> tuple[FloatArray, FloatArray, float]:
    """Mean and covariance of prior times factors, and half the log of the covariances' ratio."""
    root = np.linalg.cholesky(prior)
    seen = factors.rows @ root
    inner = np.eye(len(prior)) + (seen.T * (factors.weights * sites.precision)) @ seen
    factor = np.linalg.cholesky(inner)
    half = scipy.linalg.solve_triangular(factor, root.T, lower=True)
    covariance = half.T @ half
    mean = covariance @ (factors.rows.T @ (factors.weights * sites.moment))
    return mean, covariance, -float(np.log(np.diag(factor)).sum())


@compiled()
def _sweep(  # noqa: PLR0917 - a compiled loop over plain arrays
    rows: Any,
    offsets: Any,
    sds: Any,
    lapses: Any,
    weights: Any,
    covariance: Any,
    mean: Any,
    precision: Any,
    moment: Any,
    logs: Any,
    limits: Any,
) -> None:  # pragma: no cover
    """Visit all factors until they settle; changes all arrays from `covariance` on in place.

    `logs` receives the log of the factors' normalisers, such that the log evidence is their sum,
    plus half of the log determinants' difference, plus half of mean' moments.
    """
    sweeps, damping, settled = limits
    n, width = rows.shape
    for _ in range(sweeps):
        moved = 0.0
        for c in range(n):
            w = rows[c]
            towards = covariance @ w
            variance = w @ towards
            if lapses[c] >= 1.0 or variance <= 0.0:
                continue
            centre = w @ mean
            rest = 1.0 / variance - precision[c]  # precision without this factor
            if rest <= 1e-12 / variance:
                continue
            wide = 1.0 / rest
            middle = wide * (centre / variance - moment[c])
            spread = math.sqrt(sds[c] ** 2 + wide)
            z = (middle + offsets[c]) / spread
            log_value, slope, bend = _moments(z, lapses[c])
            slope /= spread
            bend /= spread**2
            room = max(1.0 - bend * wide, 1e-9)
            new_precision, new_moment = 0.0, slope
            if bend > 0.0:  # otherwise a lapse makes the likelihood convex
                new_precision, new_moment = bend / room, (slope + middle * bend) / room
            step = damping * (new_precision - precision[c])
            push = damping * (new_moment - moment[c])
            precision[c] += step
            moment[c] += push
            both = rest + precision[c]
            total = middle * rest + moment[c]
            logs[c] = log_value + (math.log(both / rest) + middle**2 * rest - total**2 / both) / 2
            step *= weights[c]
            push *= weights[c]
            shrink = step / (1.0 + step * variance)
            shift = (push - step * centre) / (1.0 + step * variance)
            for a in range(width):
                mean[a] += towards[a] * shift
                part = shrink * towards[a]
                for b in range(width):
                    covariance[a, b] -= part * towards[b]
            moved = max(moved, abs(step) * variance, abs(push) * math.sqrt(variance))
        if moved < settled:
            break


@compiled(inline="always")
def _moments(z: Any, lapse: Any) -> Any:  # pragma: no cover
    """Log of lapse + (1 - lapse) Phi(z), its slope, and minus its second derivative."""
    if lapse > 0.0 or z > -8.0:
        value = lapse + (1.0 - lapse) * 0.5 * math.erfc(-z / math.sqrt(2.0))
        density = math.exp(-z * z / 2.0) / math.sqrt(2.0 * math.pi)
        slope = (1.0 - lapse) * density / value
        return math.log(value), slope, slope * (slope + z)
    slope = -z - 1.0 / z + 2.0 / z**3  # of log Phi far below 0
    log_value = -z * z / 2.0 - 0.5 * math.log(2.0 * math.pi) - math.log(slope)
    return log_value, slope, slope * (slope + z)
