"""The likelihood of single steps of an epsilon-greedy learner whose q is affine in the reward.

P(a | s) = (1 - epsilon) softmax(q(s, .) / noise)(a) + epsilon / |A|, with q before each step.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax

from malfl_algos.ma_lfl.chosen_steps import Chosen
from malfl_algos.ma_lfl.q_replay import ReplayedQ
from malfl_algos.ma_lfl.reward_priors import RewardPrior
from malfl_algos.ma_lfl.stages import Steps

__all__ = ["StepLikelihood", "Sums"]

FloatArray = NDArray[np.float64]

LEAST_EPSILON = 1e-4
"""Epsilon is between this and 1 minus this."""
SMALL = 1e-4
"""Actions of a smaller probability do not enter the information of a step."""


class Sums(NamedTuple):
    """The likelihood of the chosen steps at a reward.

    Args:
        log_likelihood: of the chosen steps.
        whole: the same with weights, which make it that of all steps.
        gradient, information: with respect to the reward, or the feature weights.
        epsilon: its next estimate, by part.
        explained: share of greedy plays whose action has the greatest q.
        entropy, entropy_variance: expectation and variance of minus the log likelihood of the
            chosen steps, if the agent plays as this reward says.
    """

    log_likelihood: float
    whole: float
    gradient: FloatArray
    information: FloatArray
    epsilon: FloatArray
    explained: float
    entropy: float
    entropy_variance: float


@dataclass(frozen=True, eq=False)
class StepLikelihood:
    """The likelihood of one agent's chosen steps.

    Args:
        model: of the agent's q.
        prior: of its reward unknowns, or feature weights.
        steps: of all stages, joined.
        shape: of the joint counts.
        index: the agent.
        chosen: its chosen steps.
        features: map from weights to unknowns; None: the unknowns themselves.
    """

    model: ReplayedQ
    prior: RewardPrior
    steps: Steps
    shape: tuple[int, ...]
    index: int
    chosen: Chosen
    features: FloatArray | None

    def reward(self, theta: FloatArray) -> FloatArray:
        """The unknowns."""
        return theta if self.features is None else self.features @ theta

    def half(self, first: int) -> StepLikelihood:
        """The likelihood of every other chosen step, from number `first` on."""
        chosen = self.chosen
        kept = chosen._replace(
            numbers=chosen.numbers[first::2],
            actions=chosen.actions[first::2],
            parts=chosen.parts[first::2],
            weights=chosen.weights[first::2],
        )
        return replace(self, chosen=kept)

    def sums(
        self, theta: FloatArray, noise: float, epsilon: FloatArray, *, at: FloatArray | None
    ) -> Sums:
        """The likelihood and its derivatives at `theta`.

        Args:
            theta: unknowns, or weights.
            noise: of q, > 0.
            epsilon: by part of the log.
            at: where the learner is linearised; None: the affine learner that takes the action
                played next for the greatest.
        """
        model = self.model if at is None else self.model.linearised(self.reward(at))
        chosen = self.chosen
        blocks = chosen.blocks()
        numbers = [chosen.numbers[own] for own in blocks]
        rates = np.array([epsilon[chosen.parts[own]].mean() for own in blocks])
        width = len(theta)
        gradient, information = np.zeros(width), np.zeros((width, width))
        logs, greedy = np.zeros(len(chosen.numbers)), np.zeros(len(chosen.numbers))
        right, entropy, variance = 0.0, 0.0, 0.0
        replayed = model.choices(self.steps, numbers, rates, self.shape, self.index)
        for own, rows in zip(blocks, replayed, strict=True):
            actions = chosen.actions[own]
            ahead = rows - rows[np.arange(len(rows)), actions][:, None]
            ahead, offsets = ahead[..., :-1], ahead[..., -1]
            if self.features is not None:
                ahead = ahead @ self.features.astype(np.float32)
            x = (ahead @ theta.astype(np.float32)).astype(np.float64) + offsets
            rate = epsilon[chosen.parts[own]]
            logs[own], greedy[own] = _add(
                ahead, x / noise, actions, rate, noise, gradient, information
            )
            right += float(greedy[own][x.max(axis=1) <= 0].sum())
            expected, spread = _surprise(x / noise, rate)
            entropy, variance = entropy + expected, variance + spread
        explored = np.bincount(chosen.parts, chosen.weights * (1 - greedy), len(epsilon))
        total = np.bincount(chosen.parts, chosen.weights, len(epsilon))
        rates = np.where(total > 0, explored / np.maximum(total, 1), epsilon)
        return Sums(
            float(logs.sum()),
            float(chosen.weights @ logs),
            gradient,
            information,
            np.clip(rates, LEAST_EPSILON, 1 - LEAST_EPSILON),
            right / max(float(greedy.sum()), 1e-300),
            entropy,
            variance,
        )


def _surprise(x: FloatArray, epsilon: FloatArray) -> tuple[float, float]:
    """Expectation and variance of minus the log probability of the actions of some steps."""
    rate = epsilon[:, None]
    play = (1 - rate) * np.exp(log_softmax(x, axis=1)) + rate / x.shape[1]
    logs = np.log(play)
    expected = -(play * logs).sum(axis=1)
    return float(expected.sum()), float(((play * logs**2).sum(axis=1) - expected**2).sum())


def _add(
    ahead: NDArray[np.float32],
    x: FloatArray,
    actions: NDArray[np.int64],
    epsilon: FloatArray,
    noise: float,
    gradient: FloatArray,
    information: FloatArray,
) -> tuple[FloatArray, FloatArray]:
    """Add the steps of a block to gradient and information.

    The information is that of a softmax choice, times the probability that the play was greedy.

    Args:
        ahead: coefficients of q(b) - q(a), a the action played, `(m, n_actions, n_unknowns)`.
        x: (q(b) - q(a)) / noise, `(m, n_actions)`.
        actions: a, `(m,)`.
        epsilon: `(m,)`.
        noise: of q.
        gradient, information: are changed.

    Returns:
        Log likelihood of each step, and the probability that it was greedy.
    """
    probability = np.exp(log_softmax(x, axis=1))
    own = probability[np.arange(len(x)), actions]
    likelihood = (1 - epsilon) * own + epsilon / x.shape[1]
    greedy = (1 - epsilon) * own / likelihood
    share = probability * greedy[:, None]
    used = share > SMALL
    near, weights = ahead[used].astype(np.float64), share[used]
    gradient -= (weights @ near) / noise
    counts = used.sum(axis=1)
    some = counts > 0
    begins = (np.cumsum(counts) - counts)[some]
    mean = np.add.reduceat(weights[:, None] * near, begins)
    mean /= np.add.reduceat(weights, begins)[:, None]
    near -= np.repeat(mean, counts[some], axis=0)
    near *= np.sqrt(weights)[:, None]
    information += near.T @ near / noise**2
    return np.log(likelihood), greedy
