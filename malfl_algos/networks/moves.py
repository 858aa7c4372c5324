"""Rewards from the moves of policies, for learners whose own noise is the largest error.

A gradient learner such as PPO moves its policy along an advantage that it estimated from its own
rollouts,

    log pi_{h+1}(a | o) - log pi_h(a | o) = A_h(o, a) . w + noise of its rollouts,

with A_h the advantages of the reward features, in units of the learner's step. The noise is as
smooth in the observation as the advantage is. A fit with independent noise at every observation
therefore believes it thousands of times, and mistakes it for reward. But it is new in every stage.
Only the projection of a move on the advantages enters here: per stage as many numbers as there are
features, each with noise of the same variance. The evidence chooses that variance and the prior's.

The prior covariance of the weights is proportional to the covariance of the features over the data:
features that rise and fall together get weights together, and what hardly varies is hardly what the
agents learn for. With independent weights, the reward is explained by the features that an action
changes most, whatever they have to do with the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigvalsh

__all__ = ["Move", "MovesFit", "fit_moves", "move_of"]

FloatArray = NDArray[np.float64]

RIDGES = np.logspace(-4, 4, 49)
"""Ridges tried: noise over prior variance, relative to the mean variance of an advantage."""
LEAST = 1e-3
"""Least prior variance of a direction, relative to the mean."""
NEGLIGIBLE = 1e-6
"""Directions whose advantage has less than this share of the largest variance say nothing."""


@dataclass(frozen=True, eq=False)
class Move:
    """The sums of one move, over observations and actions under the policy of stage h.

    Args:
        second: E[A A'] `(k, k)`.
        cross: E[A d] `(k,)`, d the change of log-policy, whose mean over actions is 0.
        square: E[d^2].
    """

    second: FloatArray
    cross: FloatArray
    square: float


@dataclass(frozen=True, eq=False)
class MovesFit:
    """A reward fitted to moves.

    Args:
        weights: `(k,)`; their scale is that of the moves.
        covariance: `(k, k)`.
        ridge: chosen ridge, relative.
        log_evidence: of the moves, with the noise variance of largest evidence.
        agreement: per stage, the correlation of its move with the advantage of the reward that is
            fitted to all other stages.
        identified: share of the directions of the reward of which the moves say more than the
            prior does.
        at_bound: whether the least or the largest ridge was chosen.
    """

    weights: FloatArray
    covariance: FloatArray
    ridge: float
    log_evidence: float
    agreement: FloatArray
    identified: float
    at_bound: bool


def move_of(values: FloatArray, before: FloatArray, after: FloatArray) -> Move:
    """Return the sums of a move.

    Args:
        values: action values of the reward features `(n, n_actions, k)`, up to a constant per
            observation.
        before, after: log-policies of the stage and of the next one, `(n, n_actions)`.
    """
    policy = np.exp(before)
    change = after - before
    change = change - (policy * change).sum(axis=1, keepdims=True)
    advantage = values - (policy[..., None] * values).sum(axis=1, keepdims=True)
    weighted = (policy[..., None] * advantage).reshape(-1, values.shape[2])
    flat, n = advantage.reshape(-1, values.shape[2]), len(values)
    return Move(
        weighted.T @ flat / n,
        weighted.T @ change.ravel() / n,
        float((policy * change**2).sum() / n),
    )


def fit_moves(moves: Sequence[Move], spread: FloatArray) -> MovesFit:
    """Fit one reward to the moves of all stages; there are at least two.

    Args:
        moves: of all stages.
        spread: covariance of the features over the data, `(k, k)`.
    """
    second = np.stack([one.second for one in moves])
    cross = np.stack([one.cross for one in moves])
    total, whole = second.sum(axis=0), cross.sum(axis=0)
    square, rows = _projected(second, cross)
    unit = _prior(total, spread)
    found = [_evidence(total, whole, square, rows, ridge * unit) for ridge in RIDGES]
    best = int(np.argmax([value for value, _ in found]))
    log_evidence, noise = found[best]
    prior = RIDGES[best] * unit
    inverse = np.linalg.inv(total + prior)
    agreement = []
    for one, own, mine in zip(moves, second, cross, strict=True):
        w = np.linalg.solve(total - own + prior, whole - mine)
        predicted = float(w @ own @ w) * one.square
        agreement.append(float(mine @ w / np.sqrt(max(predicted, 1e-300))))
    return MovesFit(
        inverse @ whole,
        noise * inverse,
        float(RIDGES[best]),
        log_evidence,
        np.array(agreement),
        float(np.mean(eigvalsh(total, prior) > 1.0)),
        best in (0, len(RIDGES) - 1),
    )


def _projected(second: FloatArray, cross: FloatArray) -> tuple[float, int]:
    """Return the sum of squares of the moves' projections on the advantages, and their number."""
    square, rows = 0.0, 0
    for own, mine in zip(second, cross, strict=True):
        values, vectors = np.linalg.eigh(own)
        kept = values > NEGLIGIBLE * max(float(values[-1]), 1e-300)
        square += float(((vectors.T @ mine)[kept] ** 2 / values[kept]).sum())
        rows += int(kept.sum())
    return square, rows


def _evidence(
    total: FloatArray, whole: FloatArray, square: float, rows: int, prior: FloatArray
) -> tuple[float, float]:
    """Return the log evidence of a prior, and the noise variance of largest evidence."""
    weights = np.linalg.solve(total + prior, whole)
    noise = max(square - float(whole @ weights), 1e-12 * square, 1e-300) / rows
    volume = np.linalg.slogdet(total + prior)[1] - np.linalg.slogdet(prior)[1]
    return float(-0.5 * (rows * np.log(2 * np.pi * np.e * noise) + volume)), noise


def _prior(total: FloatArray, spread: FloatArray) -> FloatArray:
    """Return the prior's precision at ridge 1, in units of the noise's."""
    values, vectors = np.linalg.eigh(np.atleast_2d(spread))
    mean = max(float(values.mean()), 1e-300)
    precision = (vectors / np.maximum(values, LEAST * mean)) @ vectors.T
    size = max(float(np.trace(total)), 1e-300)
    return np.asarray(size / float(np.trace(precision)) * precision)
