"""Policies from counts of the actions that were played: estimates, and a Gaussian for log pi.

Counts are multinomial. In log pi their likelihood is far from Gaussian where counts are small. The
Gaussian that approximates it, the working response, is therefore expanded about the joint mode of
the counts and the prediction of a fitted learner model.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln, log_softmax, wrightomega

from malfl_env.errors import InputError

__all__ = [
    "CONCENTRATION",
    "Response",
    "concentration_of",
    "entropy_regularised_policy",
    "response_at",
    "smoothed_policy",
    "working_response",
]

FloatArray = NDArray[np.float64]

NEWTON_STEPS = 60
MODE_STEPS = 50
CONCENTRATION = 0.3
"""Pseudo-count per action of the first policy estimates."""
CONCENTRATIONS = (CONCENTRATION, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)
"""Pseudo-counts per action among which the evidence chooses."""


def entropy_regularised_policy(
    counts: NDArray[np.int64], *, entropy_coefficient: float
) -> FloatArray:
    """Policy of largest entropy-regularised likelihood, equation (10), solved exactly.

    Maximises sum_a f(a) log pi(a) + lambda H(pi) in every state, f = n(s, a) / N(s). At the maximum
    f(a) / pi(a) - lambda log pi(a) = mu for every a, with one mu per state. For a given mu this
    determines pi(a) through the Wright omega function. The sum of pi(a) is decreasing and convex in
    mu, so Newton's method from the left converges without overshooting.

    Args:
        counts: int `(..., n_actions)`, >= 0.
        entropy_coefficient: lambda >= 0. With lambda > 0 every probability is positive (one
            below 1e-308 underflows to 0), and the estimate is biased towards uniform; more data do
            not remove this bias.

    Returns:
        `(..., n_actions)`, rows sum to 1, stationary to 1e-12. Rows without any visit are uniform;
        they hold no information, and callers leave them out.

    Raises:
        InputError: for negative counts or a negative coefficient.
    """
    if not entropy_coefficient >= 0:
        raise InputError(f"entropy_coefficient must be >= 0, got {entropy_coefficient}")
    if np.any(counts < 0):
        raise InputError(f"counts must be >= 0, got {counts.min()}")
    n_actions = counts.shape[-1]
    visits = counts.sum(axis=-1, keepdims=True)
    frequency = np.where(visits > 0, counts / np.maximum(visits, 1), 1 / n_actions)
    if entropy_coefficient == 0:
        return np.asarray(frequency)
    multiplier = frequency.max(axis=-1, keepdims=True)
    for _ in range(NEWTON_STEPS):
        policy = _stationary(frequency, multiplier, entropy_coefficient)
        excess = policy.sum(axis=-1, keepdims=True) - 1
        curvature = frequency + entropy_coefficient * policy
        # where the policy underflows, both curvature and the share of the slope are 0
        slope = (policy**2 / np.where(curvature > 0, curvature, 1.0)).sum(axis=-1, keepdims=True)
        step = excess / slope
        multiplier = multiplier + step
        if np.all(np.abs(step) <= 1e-15 * np.maximum(np.abs(multiplier), 1)):
            break
    policy = _stationary(frequency, multiplier, entropy_coefficient)
    return np.asarray(policy / policy.sum(axis=-1, keepdims=True))


def smoothed_policy(counts: NDArray[np.int64], *, pseudo_count: float) -> FloatArray:
    """Posterior mean of a policy under a Dirichlet prior, (n(s, a) + c) / (N(s) + |A| c).

    Args:
        counts: int `(..., n_actions)`, >= 0.
        pseudo_count: c > 0; its bias towards uniform falls as 1 / N.

    Returns:
        `(..., n_actions)`, positive, rows sum to 1; uniform where there are no counts.
    """
    raised = counts + pseudo_count
    return np.asarray(raised / raised.sum(axis=-1, keepdims=True))


def concentration_of(counts: FloatArray) -> float:
    """Pseudo-count of the symmetric Dirichlet prior under which the counts are most probable.

    Agents often begin with a uniform policy. Counts then tell it not only for each state, but
    also that it is the same, uniform one in all states, visited or not. The evidence is that of the
    Dirichlet-multinomial distribution, sum over s of log G(A c) - log G(A c + N(s)) plus the sum
    over a of log G(c + n(s, a)) - log G(c), with the gamma function G.

    Args:
        counts: n >= 0 of one stage, `(n_states, n_actions)`.

    Returns:
        c, one of `CONCENTRATIONS`; the smallest without any counts.
    """
    visits, n_actions = counts.sum(axis=-1), counts.shape[-1]

    def evidence(c: float) -> float:
        by_state = gammaln(n_actions * c) - gammaln(n_actions * c + visits)
        return float(by_state.sum() + (gammaln(c + counts) - gammaln(c)).sum())

    return max(CONCENTRATIONS, key=evidence)


def _stationary(frequency: FloatArray, multiplier: FloatArray, coefficient: float) -> FloatArray:
    """The pi with f / pi - lambda log pi = mu, elementwise.

    With w = f / (lambda pi) the equation reads w + log w = mu / lambda + log(f / lambda). Where
    f = 0, its solution is pi = exp(-mu / lambda).
    """
    scaled = multiplier / coefficient
    safe = np.where(frequency > 0, frequency, 1.0) / coefficient
    seen = safe / wrightomega(scaled + np.log(safe))
    return np.where(frequency > 0, seen, np.exp(-scaled))


@dataclass(frozen=True, eq=False)
class Response:
    """A Gaussian approximation to the likelihood of counts in alpha log pi: the working response.

    Args:
        mean: alpha log pi up to a constant per row, `(..., n_actions)`.
        variance: alpha^2 / (N pi), same shape; infinite where nothing was observed.
        log_constant: log likelihood of the counts, given the number of visits of each state, minus
            the log likelihood of the Gaussian with a flat constant per state, both at the mode.
            With this constant the evidence is that of the counts, so it is comparable between
            learner models.
    """

    mean: FloatArray
    variance: FloatArray
    log_constant: float


def working_response(
    prior_mean: FloatArray, prior_variance: FloatArray, counts: FloatArray, *, temperature: float
) -> tuple[Response, FloatArray]:
    """Posterior mode of x = alpha log pi for multinomial counts and a Gaussian prior, row by row.

    Maximises sum_a n(a) log softmax(x / alpha)(a) - sum_a (x(a) - m(a))^2 / (2 v(a)) by Newton's
    method with step halving; the objective is strictly concave.

    Args:
        prior_mean: m, `(..., n_actions)`.
        prior_variance: v > 0, same shape.
        counts: n >= 0, same shape.
        temperature: alpha > 0.

    Returns:
        The response at the mode, and the mode's policy softmax(x / alpha), `(..., n_actions)`.
    """
    from malfl_algos.ma_lfl.mode_loops import modes  # delays the import of numba

    shape = prior_mean.shape
    table = (
        np.ascontiguousarray(own, dtype=np.float64).reshape(-1, shape[-1])
        for own in (prior_mean, prior_variance, counts)
    )
    x = modes(*table, float(temperature), MODE_STEPS).reshape(shape)
    return response_at(x, counts, temperature=temperature)


def response_at(
    x: FloatArray, counts: FloatArray, *, temperature: float
) -> tuple[Response, FloatArray]:
    """The response at x, and the policy softmax(x / alpha).

    A multinomial is equivalent to Poisson counts whose rates share one factor with a flat
    logarithm. The Gaussian matches their log likelihood to second order.
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
    # integrated over alpha times the logarithm of the flat factor, the total N has probability
    # alpha / N, by which the likelihood is divided
    constant += float(np.log(total[seen] / temperature).sum())
    return Response(x + excess, variance, constant), policy
