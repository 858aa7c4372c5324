"""The compiled search for the mode of log policies, state by state."""

from __future__ import annotations

from typing import Any

import numpy as np

from malfl_algos.work.compilation import compiled

__all__ = ["modes"]


@compiled()
def modes(
    prior_mean: Any, prior_variance: Any, counts: Any, temperature: Any, n_steps: Any
) -> Any:  # pragma: no cover
    """The mode of x for every row; see `malfl_algos.ma_lfl.policy_estimation.working_response`.

    Args:
        prior_mean, prior_variance, counts: `(n_rows, n_actions)`.
        temperature: alpha.
        n_steps: largest number of steps, and of halvings of each.
    """
    n_rows, n_actions = prior_mean.shape
    found = prior_mean.copy()
    policy, step = np.zeros(n_actions), np.zeros(n_actions)
    slope, diagonal = np.zeros(n_actions), np.zeros(n_actions)
    for row in range(n_rows):
        x, mean, variance, n = found[row], prior_mean[row], prior_variance[row], counts[row]
        total = 0.0
        for a in range(n_actions):
            total += n[a]
        root = np.sqrt(total) / temperature
        reached = _density(x, step, 0.0, mean, variance, n, temperature, policy)
        for _ in range(n_steps):
            inner, outer = 0.0, 0.0
            for a in range(n_actions):
                slope[a] = (n[a] - total * policy[a]) / temperature
                slope[a] -= (x[a] - mean[a]) / variance[a]
                diagonal[a] = total * policy[a] / temperature**2 + 1 / variance[a]
                inner += policy[a] * root * slope[a] / diagonal[a]
                outer += policy[a] / variance[a] / diagonal[a]
            largest = 0.0
            for a in range(n_actions):
                step[a] = (slope[a] + policy[a] * root * inner / outer) / diagonal[a]
                largest = max(largest, abs(step[a]))
            size = 1.0
            for _ in range(n_steps):
                value = _density(x, step, size, mean, variance, n, temperature, policy)
                if not value < reached - 1e-12 * abs(reached):
                    break
                size /= 2
            for a in range(n_actions):
                x[a] += size * step[a]
            reached = value
            if size * largest < 1e-10 * temperature:
                break
    return found


@compiled()
def _density(  # noqa: PLR0917 - a compiled loop over plain arrays
    x: Any, step: Any, size: Any, mean: Any, variance: Any, n: Any, temperature: Any, policy: Any
) -> Any:  # pragma: no cover
    """The log density at x + size * step, and its policy into `policy`."""
    n_actions = len(x)
    greatest = -np.inf
    gap = 0.0
    for a in range(n_actions):
        at = x[a] + size * step[a]
        gap += (at - mean[a]) ** 2 / variance[a]
        policy[a] = at / temperature
        greatest = max(greatest, policy[a])
    total = 0.0
    for a in range(n_actions):
        policy[a] -= greatest
        total += np.exp(policy[a])
    total, fit = np.log(total), 0.0
    for a in range(n_actions):
        log = policy[a] - total
        fit += n[a] * log
        policy[a] = np.exp(log)
    return fit - gap / 2
