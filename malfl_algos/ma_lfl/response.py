"""What action counts say about a policy's logarithm, as a Gaussian.

Counts are multinomial, and where few they are far from Gaussian in log pi: so they are expanded
about the mode that they and the prediction of a fitted learner have together.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln, log_softmax

__all__ = ["Response", "working_response"]

FloatArray = NDArray[np.float64]

MODE_STEPS = 50


@dataclass(frozen=True, eq=False)
class Response:
    """What counts say about alpha log pi, as a Gaussian: the working response of the multinomial.

    Args:
        mean: alpha log pi up to a constant per row, `(..., n_actions)`.
        variance: alpha^2 / (N pi), same shape; infinite where nothing was seen.
        log_constant: log likelihood of the counts, given how often each state was visited, minus
            that of the Gaussian with a flat constant per state, both at the mode: with it the
            evidence is of the counts, comparable between learner models.
    """

    mean: FloatArray
    variance: FloatArray
    log_constant: float


def working_response(
    prior_mean: FloatArray, prior_variance: FloatArray, counts: FloatArray, *, temperature: float
) -> tuple[Response, FloatArray]:
    """Posterior mode of x = alpha log pi for multinomial counts and a Gaussian prior, row by row.

    Maximises sum_a n(a) log softmax(x / alpha)(a) - sum_a (x(a) - m(a))^2 / (2 v(a)) by Newton's
    method with halved steps; the objective is strictly concave.

    Args:
        prior_mean: m, `(..., n_actions)`.
        prior_variance: v > 0, same shape.
        counts: n >= 0, same shape.
        temperature: alpha > 0.

    Returns:
        The response at the mode, and the mode's policy softmax(x / alpha), `(..., n_actions)`.
    """
    total = counts.sum(axis=-1, keepdims=True)
    x = np.array(prior_mean)

    def objective(point: FloatArray) -> FloatArray:
        fit = (counts * log_softmax(point / temperature, axis=-1)).sum(axis=-1, keepdims=True)
        gap = (point - prior_mean) ** 2 / prior_variance
        return np.asarray(fit - gap.sum(axis=-1, keepdims=True) / 2)

    reached = objective(x)
    for _ in range(MODE_STEPS):
        policy = np.exp(log_softmax(x / temperature, axis=-1))
        slope = (counts - total * policy) / temperature - (x - prior_mean) / prior_variance
        diagonal = total * policy / temperature**2 + 1 / prior_variance
        shared = policy * np.sqrt(total) / temperature
        inner = (shared * slope / diagonal).sum(axis=-1, keepdims=True)
        outer = (policy / prior_variance / diagonal).sum(axis=-1, keepdims=True)
        step = (slope + shared * inner / outer) / diagonal
        size = np.ones_like(reached)
        for _ in range(MODE_STEPS):
            candidate = objective(x + size * step)
            worse = candidate < reached - 1e-12 * np.abs(reached)
            if not worse.any():
                break
            size = np.where(worse, size / 2, size)
        x = x + size * step
        reached = objective(x)
        if np.abs(size * step).max(initial=0) < 1e-10 * temperature:
            break
    return _response(x, counts, temperature=temperature)


def _response(
    x: FloatArray, counts: FloatArray, *, temperature: float
) -> tuple[Response, FloatArray]:
    """A multinomial is Poisson counts whose rates share a factor, its logarithm flat: the Gaussian
    follows their log likelihood to second order.
    """
    policy = np.exp(log_softmax(x / temperature, axis=-1))
    total = counts.sum(axis=-1, keepdims=True)
    expected = np.maximum(total * policy, 1e-12)
    seen = total > 0
    variance = np.where(seen, temperature**2 / expected, np.inf)
    excess = np.where(seen, temperature * (counts - expected) / expected, 0.0)
    poisson = counts * np.log(expected) - expected - gammaln(counts + 1)
    with np.errstate(divide="ignore"):
        gauss = -(excess**2) / variance / 2 - np.log(2 * np.pi * variance) / 2
    constant = float(np.where(seen, poisson - gauss, 0.0).sum())
    # the flat factor alone makes N of the total's probability 1 / N, per unit of alpha log factor
    constant += float(np.log(total[seen] / temperature).sum())
    return Response(x + excess, variance, constant), policy
