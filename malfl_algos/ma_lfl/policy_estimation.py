"""Estimating a policy from counts of the actions that were played."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import wrightomega

from malfl_env.errors import InputError

__all__ = ["entropy_regularised_policy", "smoothed_policy"]

FloatArray = NDArray[np.float64]

NEWTON_STEPS = 60


def entropy_regularised_policy(
    counts: NDArray[np.int64], *, entropy_coefficient: float
) -> FloatArray:
    """Policy of largest entropy-regularised likelihood, equation (10), solved exactly.

    Maximises sum_a f(a) log pi(a) + lambda H(pi) in every state, f = n(s, a) / N(s). The maximum is
    where f(a) / pi(a) - lambda log pi(a) = mu for every a, one mu per state. For a given mu the
    left side fixes pi(a) through the Wright omega function, and the sum of pi(a) falls in mu and is
    convex, so Newton's method from the left converges without overshooting.

    Args:
        counts: int `(..., n_actions)`, >= 0.
        entropy_coefficient: lambda >= 0. With lambda > 0 every probability is positive (one
            below 1e-308 underflows to 0), and the estimate is biased towards uniform by an amount
            that more data do not remove.

    Returns:
        `(..., n_actions)`, rows sum to 1, stationary to 1e-12. Rows without any visit are uniform:
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
        # 0 where the policy underflows, whose share of the slope is 0, too
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
        pseudo_count: c > 0; its bias towards uniform dies out as 1 / N.

    Returns:
        `(..., n_actions)`, positive, rows sum to 1; uniform where there are no counts.
    """
    raised = counts + pseudo_count
    return np.asarray(raised / raised.sum(axis=-1, keepdims=True))


def _stationary(frequency: FloatArray, multiplier: FloatArray, coefficient: float) -> FloatArray:
    """The pi with f / pi - lambda log pi = mu, elementwise.

    With w = f / (lambda pi) the equation reads w + log w = mu / lambda + log(f / lambda); where f
    is 0 it is pi = exp(-mu / lambda).
    """
    scaled = multiplier / coefficient
    safe = np.where(frequency > 0, frequency, 1.0) / coefficient
    seen = safe / wrightomega(scaled + np.log(safe))
    return np.where(frequency > 0, seen, np.exp(-scaled))
