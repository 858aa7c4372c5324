"""The numbers of a verdict on a reward that explains the whole history of a gradient learner.

`logel` with `fit: history` follows the steps that the learner itself learned from. Counts of
stages, from which every other reward is judged, say far less. So its reward is judged by its own
model: weights from the odd stages predict the policies of the even ones, and the other way round.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import chdtrc

from malfl_algos.baselines.gradient_history import HistoryFit
from malfl_algos.contract import Problem
from malfl_algos.observers.judged_agent import calibrations
from malfl_algos.observers.logel import Logel
from malfl_algos.verdict.agreement import DRAWS, SEED, correlation
from malfl_algos.verdict.drawn import of_half

__all__ = ["numbers_of_history"]

FloatArray = NDArray[np.float64]

RARE = 0.05
"""Probability of an agreement as low, from which on it says nothing: a few weights scatter much."""


def numbers_of_history(
    observer: Logel,
    problem: Problem,
    index: int,
    reward: FloatArray,
    compared: Callable[[FloatArray], FloatArray],
) -> tuple[dict[str, Any], dict[str, FloatArray]]:
    """The numbers of `malfl_algos.verdict.deciding`; `gain_over_no_learning` in place of drift.

    And what is drawn, as `judged_agent.numbers_of` gives it.

    Args:
        observer: with `fit: history`.
        problem: what the observer was given.
        index: the agent.
        reward: the judged reward at the compared states.
        compared: maps a table of rewards to the compared states.
    """
    played = np.stack([own.action_counts(index) for own in problem.trace.stages])
    counts = played.astype(float)
    whole, features = observer.history(problem, index)
    even, odd = (observer.history(problem, index, slice(first, None, 2))[0] for first in (0, 1))
    predicted = np.where(_is_even(len(counts)), odd.log_policies, even.log_policies)
    explained, misfit, rows = _predicted(counts, np.exp(predicted))

    def seen(weights: FloatArray) -> FloatArray:
        return compared(features @ weights)

    variance = observer.prior_variance
    told = [_Told.by(fit, variance) for fit in (whole, even, odd)]
    rng = np.random.default_rng(SEED)
    near, agreed = [], []
    for _ in range(DRAWS):
        weights = told[0].drawn(rng, variance)
        near.append(correlation(seen(weights), reward))
        one, two = (own.again(rng, weights, variance) for own in told[1:])
        agreed.append(correlation(seen(one), seen(two)))
    halves = correlation(*(seen(own.mean(variance)) for own in told[1:]))
    rarity = float(np.mean(np.asarray(agreed) <= halves))
    drawn = calibrations(played, predicted[1:])
    drawn["halves"] = np.stack([own.reward(variance, seen) for own in told[1:]])
    numbers = {
        "rule": "policy-gradient",
        "discount": problem.discount,
        "explained": explained,
        "misfit": misfit,
        "p_value": float(chdtrc(max(rows, 1), misfit * rows)),
        "halves": halves,
        "halves_expected": float(np.mean(agreed)),
        "halves_p_value": rarity,
        "halves_shortfall": float(np.mean(agreed)) - halves if rarity < RARE else 0.0,
        "expected": float(np.mean(near)),
        "expected_low": float(np.quantile(near, 0.05)),
        "gain_over_no_learning": whole.gain / max(rows, 1),
        "rows": rows,
        "identified": whole.rank / max(int(np.linalg.matrix_rank(features)), 1),
        "unsettled": int(not whole.converged),
        "passes": whole.iterations,
    }
    return numbers, drawn


def _is_even(n_stages: int) -> NDArray[np.bool_]:
    even: NDArray[np.bool_] = np.arange(n_stages)[:, None, None] % 2 == 0
    return even


@dataclass(frozen=True, eq=False)
class _Told:
    """What actions say about the weights, as a quadratic log likelihood, along its own axes.

    Args:
        axes: `(k, n)`, orthonormal.
        information: along every axis, `(n,)`.
        moment: slope of the log likelihood at 0 along every axis, `(n,)`.
    """

    axes: FloatArray
    information: FloatArray
    moment: FloatArray

    @classmethod
    def by(cls, fit: HistoryFit, variance: float) -> _Told:
        """The log likelihood behind a posterior with this prior variance."""
        values, vectors = np.linalg.eigh(fit.covariance)
        kept = values > 1e-12 * values[-1]
        axes, precision = vectors[:, kept], 1 / values[kept]
        information = np.maximum(precision - 1 / variance, 0.0)
        return cls(axes, information, precision * (axes.T @ fit.weights))

    def mean(self, variance: float) -> FloatArray:
        return np.asarray(self.axes @ (self.moment / (self.information + 1 / variance)))

    def reward(self, variance: float, seen: Callable[[FloatArray], FloatArray]) -> FloatArray:
        """Mean and standard deviation of the reward at the compared states, `(2, n)`."""
        sd = 1 / np.sqrt(self.information + 1 / variance)
        return of_half(self.mean(variance), sd[:, None] * self.axes.T, seen)

    def drawn(self, rng: np.random.Generator, variance: float) -> FloatArray:
        """Weights drawn from the posterior."""
        sd = 1 / np.sqrt(self.information + 1 / variance)
        return np.asarray(self.mean(variance) + self.axes @ (sd * rng.normal(size=len(sd))))

    def again(self, rng: np.random.Generator, weights: FloatArray, variance: float) -> FloatArray:
        """The posterior mean of actions drawn anew under the weights."""
        noise = np.sqrt(self.information) * rng.normal(size=len(self.information))
        moment = self.information * (self.axes.T @ weights) + noise
        return _Told(self.axes, self.information, moment).mean(variance)


def _predicted(counts: FloatArray, policies: FloatArray) -> tuple[float, float, int]:
    """Share of the counts' departure from even choices that policies predict beyond the noise of
    counts; Pearson's chi-squared of the counts by its degrees of freedom; the latter's number."""
    visits = counts.sum(axis=2, keepdims=True)
    expected = visits * policies
    n_actions = counts.shape[2]
    seen = visits > 0
    each = np.where(seen, visits / n_actions, 1)
    noise = float((np.where(seen, expected * (1 - policies), 0) / each).sum())
    left = float(((counts - expected) ** 2 / each).sum())
    whole = float(((counts - visits / n_actions) ** 2 / each).sum())
    explained = 1 - max(left - noise, 0.0) / max(whole - noise, 1e-300)
    squares = np.where(seen, (counts - expected) ** 2 / np.maximum(expected, 1e-300), 0.0)
    rows = int(seen.sum()) * (n_actions - 1)
    return explained, float(squares.sum()) / max(rows, 1), rows
