"""LOGEL: reward weights of an agent whose policy parameters follow the gradient of its return.

The learner's parameters change by theta_{t+1} - theta_t = alpha_t J_t w, where J_t is the gradient
of its feature expectations in stage t and w are the weights of its reward (Ramponi, Drappo and
Restelli 2020, *Inverse Reinforcement Learning from a Gradient-based Learner*, NeurIPS).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["GradientFit", "fit_weights", "softmax_parameters"]

FloatArray = NDArray[np.float64]

LEAST_SHARE = 1e-3
"""Smallest step size relative to the mean step size."""


@dataclass(frozen=True, eq=False)
class GradientFit:
    """Reward weights and step sizes of one agent.

    Args:
        weights: w, `(k,)`; their scale is that of a mean step size of 1, or of given step sizes.
        step_sizes: alpha_t, `(n_improvements,)`, > 0.
        rank: number of directions of the weights that the gradients determine.
        residual: share of the squared change of the parameters that is not explained, in [0, 1].
        iterations: number of alternations.
        converged: whether the last alternation changed the weights by less than the tolerance.
    """

    weights: FloatArray
    step_sizes: FloatArray
    rank: int
    residual: float
    iterations: int
    converged: bool


def fit_weights(
    changes: FloatArray,
    gradients: FloatArray,
    *,
    step_sizes: FloatArray | None = None,
    iterations: int = 500,
    tolerance: float = 1e-8,
) -> GradientFit:
    """Least squares of the changes of the parameters on alpha_t J_t w.

    With given step sizes: the closed form, the weights that minimise sum_t |D_t - alpha_t J_t w|^2.
    Otherwise the same sum is minimised over weights and step sizes in turn: the weights as above,
    then alpha_t = (J_t w) . D_t / |J_t w|^2, at least a small share of their mean. A common factor
    of all step sizes cannot be told from the scale of the reward, so that their mean is kept at 1.
    The first step sizes are equal.

    Args:
        changes: D_t, `(n_improvements, n_parameters)`.
        gradients: J_t, `(n_improvements, n_parameters, k)`.
        step_sizes: alpha_t > 0, `(n_improvements,)`; None: estimate them.
        iterations: largest number of alternations.
        tolerance: relative change of the weights at which the alternation ends.

    Returns:
        The weights of smallest norm among all that fit equally well, and the step sizes.
    """
    steps = np.ones(len(changes)) if step_sizes is None else np.asarray(step_sizes, np.float64)
    weights, rank = _weights(changes, gradients, steps)
    count, converged = 0, step_sizes is not None
    while not converged and count < iterations:
        count += 1
        before = weights
        steps = _steps(changes, gradients @ weights)
        weights, rank = _weights(changes, gradients, steps)
        gap = np.linalg.norm(weights - before)
        converged = bool(gap <= tolerance * np.linalg.norm(weights))
    error = changes - steps[:, None] * (gradients @ weights)
    total = float((changes**2).sum())
    residual = float((error**2).sum()) / total if total > 0 else 0.0
    return GradientFit(weights, steps, rank, residual, count, converged)


def _weights(
    changes: FloatArray, gradients: FloatArray, steps: FloatArray
) -> tuple[FloatArray, int]:
    """The least-squares weights for these step sizes, and the rank of the system."""
    design = (steps[:, None, None] * gradients).reshape(-1, gradients.shape[-1])
    weights, _, rank, _ = np.linalg.lstsq(design, changes.ravel(), rcond=1e-10)
    return np.asarray(weights), int(rank)


def _steps(changes: FloatArray, directions: FloatArray) -> FloatArray:
    """The step sizes for these directions J_t w; their mean is 1 and all are positive."""
    lengths = np.maximum((directions**2).sum(axis=1), np.finfo(np.float64).tiny)
    steps = np.maximum((directions * changes).sum(axis=1) / lengths, 0.0)
    if not steps.any():
        return np.ones(len(changes))
    steps = np.maximum(steps, LEAST_SHARE * steps.mean())
    return np.asarray(steps / steps.mean())


def softmax_parameters(log_policies: FloatArray, *, last_fixed: bool) -> FloatArray:
    """Parameters theta(s, a) of softmax policies.

    Args:
        log_policies: `(n_stages, n_states, n_actions)`, finite.
        last_fixed: whether theta of the last action is 0 in every state, so that there are
            `n_actions - 1` parameters per state; otherwise there are `n_actions`, and their mean
            over the actions, which no policy shows, is 0.

    Returns:
        `(n_stages, n_states, n_actions or n_actions - 1)`.
    """
    if last_fixed:
        return np.asarray(log_policies[..., :-1] - log_policies[..., -1:])
    return np.asarray(log_policies - log_policies.mean(axis=-1, keepdims=True))
