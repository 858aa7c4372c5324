"""What figures of a verdict are drawn from, as small arrays.

`predicted_log_policies` and `half_rewards` are in the terms of `malfl_algos.verdict.halves`: every
half of the improvements is predicted by the reward of the other half.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import scipy.linalg
from numpy.typing import NDArray
from scipy.special import log_softmax, xlogy

from malfl_algos.normal import Normal
from malfl_algos.verdict.halves import Improvement, halves, mean

__all__ = ["EDGES", "calibration", "half_rewards", "of_half", "predicted_log_policies"]

FloatArray = NDArray[np.float64]

EDGES = (0.0, 0.003, 0.01, 0.03, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.97, 0.99, 1.0)
"""Edges of the bins of probabilities; they are narrower near 0 and 1."""


def predicted_log_policies(
    rows: Sequence[Improvement],
    logs: Sequence[FloatArray],
    prior: FloatArray,
    parts: Sequence[Normal],
) -> FloatArray:
    """The policies after every improvement, predicted by the reward of the other half.

    log pi_{h+1} = (log pi_{h+1} - y_h) + K_h theta + constant(s): the difference in brackets is
    what the learner keeps of earlier policies, without the reward.

    Args:
        rows: of every improvement, y_h and K_h.
        logs: the log policies from which y_h was made, after every improvement, up to a constant
            per state, `(n_states, n_actions)`.
        prior: prior precision of theta, of full rank.
        parts: the sums of `rows`.

    Returns:
        `(n_improvements, n_states, n_actions)`, log probabilities.
    """
    means = [mean(own, prior) for own in halves(parts)]
    kept = [
        log - own.response + own.coefficients @ means[1 - number % 2]
        for number, (own, log) in enumerate(zip(rows, logs, strict=True))
    ]
    return np.asarray(log_softmax(np.stack(kept), axis=-1))


def calibration(counts: FloatArray, log_policies: FloatArray) -> tuple[FloatArray, float]:
    """Probabilities against frequencies, in bins of the probability.

    Args:
        counts: visits of (s, a) in every stage, `(n_stages, n_states, n_actions)`.
        log_policies: the predictions, of the same shape.

    Returns:
        `(len(EDGES) - 1, 3)`: for every bin the number of steps in its states, the number of its
        actions that was expected in them, and the number that was played. An action counts in the
        bin of its own probability, so a step counts once for each action. And the mean over all
        steps of KL(frequencies || prediction), in nats.
    """
    policies = np.exp(log_policies)
    visits = counts.sum(axis=-1, keepdims=True)
    bins = np.searchsorted(EDGES[1:-1], policies, side="right").ravel()
    each = (np.broadcast_to(visits, counts.shape), visits * policies, counts)
    columns = [np.bincount(bins, own.ravel(), minlength=len(EDGES) - 1) for own in each]
    best = xlogy(counts, counts / np.maximum(visits, 1)).sum()
    found = np.where(counts > 0, counts * np.maximum(log_policies, -700.0), 0.0).sum()
    return np.stack(columns, axis=1), float((best - found) / max(visits.sum(), 1))


def half_rewards(
    parts: Sequence[Normal], prior: FloatArray, compared: Callable[[FloatArray], FloatArray]
) -> FloatArray:
    """The rewards that the improvements 0, 2, 4, ... and those between them give.

    Args:
        parts: the sums of every improvement.
        prior: prior precision of theta, of full rank.
        compared: linear; maps theta to the reward at the compared states.

    Returns:
        `(2, 2, n_compared)`: by half the posterior mean, less its mean over the states, and its
        posterior standard deviation.
    """
    return np.stack([_of_one_half(own, prior, compared) for own in halves(parts)])


def _of_one_half(
    sums: Normal, prior: FloatArray, compared: Callable[[FloatArray], FloatArray]
) -> FloatArray:
    factor = scipy.linalg.cholesky(sums.information + prior, lower=True)
    root = scipy.linalg.solve_triangular(factor, np.eye(len(prior)), lower=True)
    return of_half(mean(sums, prior), root, compared)


def of_half(
    centre: FloatArray, root: FloatArray, compared: Callable[[FloatArray], FloatArray]
) -> FloatArray:
    """Mean and standard deviation of the reward at the compared states, less its mean over them.

    Args:
        centre: posterior mean of theta.
        root: its posterior covariance is root' root.
        compared: as in `half_rewards`.

    Returns:
        `(2, n_compared)`.
    """
    reward = compared(centre)
    spread = np.stack([compared(row) for row in root])
    spread = spread - spread.mean(axis=1, keepdims=True)
    return np.stack([reward - reward.mean(), np.sqrt((spread**2).sum(axis=0))])
