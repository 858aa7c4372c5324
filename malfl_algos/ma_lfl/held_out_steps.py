"""Whether a reward predicts single steps that it was not recovered from, for a verdict.

Rewards from every other chosen step predict the rest. They compete with predictions that know no
reward: an agent plays what it played at its last visit of the state, with a probability that is
estimated for every part of the log, or else another action.
"""

from __future__ import annotations

from collections.abc import Callable
from math import sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, xlogy

from malfl_algos.ma_lfl.posterior import Posterior
from malfl_algos.ma_lfl.step_likelihood import StepLikelihood, Sums

__all__ = ["judged_steps", "repeats"]

FloatArray = NDArray[np.float64]

DRAWS, SEED = 200, 0
"""Number of rewards drawn from the posterior."""


def judged_steps(
    task: StepLikelihood,
    posterior: Posterior,
    fitted: Callable[[StepLikelihood], tuple[FloatArray, FloatArray]],
    noise: float,
) -> dict[str, Any]:
    """The numbers of `malfl_algos.verdict.deciding` for rewards from single steps, as JSON values.

    Args:
        task: the likelihood of all chosen steps.
        posterior: of the unknowns or weights.
        fitted: reward unknowns or weights from other steps, and their epsilon.
        noise: of q.
    """
    halves = [task.half(first) for first in (0, 1)]
    found = [fitted(own) for own in halves]
    sums = [
        other.sums(theta, noise, epsilon, at=theta)
        for other, (theta, epsilon) in zip(reversed(halves), found, strict=True)
    ]
    n_actions, rows = task.shape[task.index + 1], len(task.chosen.numbers)
    told = sum(own.log_likelihood for own in sums)
    evenly = -rows * np.log(n_actions)
    repeated = _log_likelihood_of_repeating(task, n_actions)
    means = [task.reward(theta) for theta, _ in found]
    agreed = _correlation(means[0], means[1])
    drawn, shares = _drawn(task, posterior)
    expected = 1 / (1 + 2 * shares)
    return {
        "explained": float((told - evenly) / max(told - evenly, repeated - evenly, 1e-300)),
        "gain_over_no_change": float((told - repeated) / rows),
        **_misfit(sums),
        "halves": agreed,
        "halves_expected": expected,
        "halves_shortfall": expected - agreed,
        "expected": float(drawn.mean()),
        "expected_low": float(np.quantile(drawn, 0.05)),
        "identified": _identified(posterior),
        "rows": rows,
    }


def repeats(states: NDArray[Any], actions: NDArray[Any]) -> NDArray[np.bool_]:
    """Whether each action is that of the last visit of its state, `(n_steps,)`; else False."""
    order = np.argsort(states, kind="stable")
    same = np.zeros(len(states), dtype=bool)
    again = states[order[1:]] == states[order[:-1]]
    same[order[1:]] = again & (actions[order[1:]] == actions[order[:-1]])
    return same


def _log_likelihood_of_repeating(task: StepLikelihood, n_actions: int) -> float:
    chosen = task.chosen
    same = repeats(task.steps.states, task.steps.joint_actions[:, task.index])[chosen.numbers]
    total = np.bincount(chosen.parts)
    again = np.bincount(chosen.parts, same)
    rate = again / np.maximum(total, 1)
    told = xlogy(again, rate) + xlogy(total - again, (1 - rate) / max(n_actions - 1, 1))
    return float(told.sum())


def _misfit(sums: list[Sums]) -> dict[str, float]:
    """Minus the log likelihood of held-out steps over its expectation; and how rarely it is so."""
    surprise = -sum(own.log_likelihood for own in sums)
    expected = sum(own.entropy for own in sums)
    sd = sqrt(sum(own.entropy_variance for own in sums))
    return {
        "misfit": surprise / max(expected, 1e-300),
        "p_value": float(ndtr((expected - surprise) / max(sd, 1e-300))),
    }


def _drawn(task: StepLikelihood, posterior: Posterior) -> tuple[FloatArray, float]:
    """Pearson r of the mean with draws of the posterior; and the posterior variance of the
    mean-removed reward by the variance of its mean.
    """
    rng = np.random.default_rng(SEED)
    root = np.linalg.cholesky(posterior.covariance())
    mean = task.reward(posterior.mean)
    draws = rng.normal(size=(DRAWS, len(root))) @ root.T
    errors = np.stack([task.reward(own) for own in draws])
    errors -= errors.mean(axis=1, keepdims=True)
    near = np.array([_correlation(mean, mean + own) for own in errors])
    return near, float((errors**2).mean() / max(mean.var(), 1e-300))


def _correlation(one: FloatArray, two: FloatArray) -> float:
    """Pearson r; 0 if one of the two is constant."""
    constant = min(float(np.var(one)), float(np.var(two))) == 0
    return 0.0 if constant else float(np.corrcoef(one, two)[0, 1])


def _identified(posterior: Posterior) -> float:
    """Share of the directions of the mean-removed reward about which the data say more than that
    its values have the variance that they have.
    """
    n = len(posterior.mean)
    centre = np.eye(n) - 1 / n
    values = np.linalg.eigvalsh(centre @ posterior.information @ centre)
    return float((values > 1 / max(posterior.mean.var(), 1e-300)).sum() / max(n - 1, 1))
