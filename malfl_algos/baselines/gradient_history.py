"""The whole history of a policy-gradient learner explained by its reward.

A learner that starts from the uniform policy and follows the gradient of its return has no freedom
left: the weights of its reward, times its step size, determine the parameters of every stage. So no
policy is cloned. The weights are those under which all actions of all stages are most likely.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["HistoryFit", "fit_history"]

FloatArray = NDArray[np.float64]
Gradient = Callable[[int, FloatArray, FloatArray], FloatArray]
"""(stage, policy `(n_states, n_actions)`, weights) -> gradient of the return in the logits."""

ITERATIONS = 100
TOLERANCE = 1e-3
"""Largest change of the weights at the end, in posterior standard deviations."""
DIFFERENCE = 1e-6
"""Step of the finite differences, relative to the prior standard deviation."""
HALVINGS = 12


@dataclass(frozen=True, eq=False)
class HistoryFit:
    """Weights of one agent's reward times its step size.

    Args:
        weights: posterior mode, `(k,)`.
        covariance: of the weights at the mode (Laplace), `(k, k)`.
        log_policies: of the fitted history, `(n_stages, n_states, n_actions)`.
        log_likelihood: of all actions but for the constant of the counts.
        gain: log likelihood above that of an agent that never learns.
        rank: number of directions in which the data say more than the prior.
        iterations: number of Fisher-scoring steps.
        converged: whether the last step was small.
    """

    weights: FloatArray
    covariance: FloatArray
    log_policies: FloatArray
    log_likelihood: float
    gain: float
    rank: int
    iterations: int
    converged: bool


def fit_history(
    counts: FloatArray,
    gradient: Gradient,
    n_weights: int,
    *,
    last_fixed: bool,
    prior_variance: float,
) -> HistoryFit:
    """Maximum a posteriori weights of the history, by Fisher scoring with step halving.

    The parameters follow theta_0 = 0, theta_{h+1} = theta_h + gradient(h, pi_h, w). Their
    derivatives in w come from finite differences of the whole recursion.

    Args:
        counts: n_h(s, a), `(n_stages, n_states, n_actions)`, >= 0.
        gradient: linear in the weights; no direction of the weights leaves it at 0.
        n_weights: k; every iteration follows the recursion k + 1 times.
        last_fixed: whether the logit of the last action stays 0.
        prior_variance: > 0, of the Gaussian prior with mean 0 of every weight.
    """
    weights = np.zeros(n_weights)
    history = _history(counts, gradient, weights, last_fixed)
    idle = found = float((counts * history).sum())
    count, converged = 0, False
    while True:
        slope, information = _information(
            counts, gradient, weights, history, prior_variance, last_fixed
        )
        covariance = np.linalg.inv(information + np.eye(n_weights) / prior_variance)
        if converged or count == ITERATIONS:
            break
        count += 1
        level = found - float(weights @ weights) / (2 * prior_variance)
        step = covariance @ (slope - weights / prior_variance)
        for _ in range(HALVINGS):
            tried = np.asarray(weights + step)
            history = _history(counts, gradient, tried, last_fixed)
            found = float((counts * history).sum())
            if found - tried @ tried / (2 * prior_variance) >= level:
                break
            step = step / 2
        converged = bool(np.all(np.abs(step) <= TOLERANCE * np.sqrt(np.diag(covariance))))
        weights = tried
    return HistoryFit(
        weights=weights,
        covariance=np.asarray(covariance, dtype=np.float64),
        log_policies=history,
        log_likelihood=found,
        gain=found - idle,
        rank=int((np.linalg.eigvalsh(information) * prior_variance > 1).sum()),
        iterations=count,
        converged=converged,
    )


def _history(
    counts: FloatArray, gradient: Gradient, weights: FloatArray, last_fixed: bool
) -> FloatArray:
    """Log policies of all stages under these weights."""
    parameters, found = np.zeros(counts.shape[1:]), np.empty(counts.shape)
    for stage in range(len(counts)):
        shifted = parameters - parameters.max(axis=1, keepdims=True)
        found[stage] = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
        if stage < len(counts) - 1:
            change = gradient(stage, np.exp(found[stage]), weights)
            if last_fixed:
                change[:, -1] = 0.0
            parameters = parameters + change
    return found


def _information(
    counts: FloatArray,
    gradient: Gradient,
    weights: FloatArray,
    history: FloatArray,
    variance: float,
    last_fixed: bool,
) -> tuple[FloatArray, FloatArray]:
    """Gradient `(k,)` and expected information `(k, k)` of the log likelihood in the weights."""
    size = DIFFERENCE * np.sqrt(variance)
    # the derivative of log pi: log pi itself has mean 0 over actions drawn from pi
    slopes = np.stack(
        [
            (_history(counts, gradient, weights + step, last_fixed) - history) / size
            for step in np.eye(len(weights)) * size
        ],
        axis=-1,
    )
    expected = counts.sum(axis=2, keepdims=True) * np.exp(history)
    slope = np.einsum("hsa,hsak->k", counts, slopes)
    information = np.einsum("hsa,hsak,hsal->kl", expected, slopes, slopes, optimize=True)
    return slope, information
