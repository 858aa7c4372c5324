"""Rewards from the moves of policies, for learners whose own noise is the largest error.

A gradient learner with a network, such as PPO, moves its policy along the gradient of its
parameters, estimated from its own rollouts. In the coordinates of the parameters in which the
Fisher information is diagonal, with eigenvalues v_i (the largest is 1),

    d_i = v_i^s (a_i . w + b_h e_i + noise of its rollouts) + noise of the observer's sample.

d_i is the change of the log-policy along coordinate i, in units of its standard deviation, a_i are
the advantages of the reward features along it, and e_i is the gradient of the policy's entropy.

s says how the learner scales its gradient: 0 is the natural gradient, 1 the plain gradient;
optimisers such as Adam lie between. A network changes its policy most where many observations share
parameters (large v_i: smooth functions of the observation), and little where the reward bends
sharply. A comparison of d with the advantages themselves, as if every log-probability were free,
takes what is smooth for what is wanted.

Learners with an entropy bonus are pulled back towards uniform play, in the end as strongly as the
reward pulls the other way. Without e the moves of late stages seem to contradict those of early
ones. Its weight b_h is free in every stage.

The noise of the learner's rollouts is new in every stage, and the largest error. Only the
projection of a move on the advantages enters the fit: per stage as many numbers as there are
features, each with noise of the same variance. The evidence chooses that variance and the prior's.

The prior covariance of the weights is proportional to the covariance of the features within
episodes: features that rise and fall together get weights together, and what hardly varies is
hardly what the agents learn for. What does not vary within an episode shows in no behaviour.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigvalsh

from malfl_algos.networks.policy_gradients import StageGradient

__all__ = ["Move", "MovesFit", "fit_moves", "moves_of"]

FloatArray = NDArray[np.float64]

RIDGES = np.logspace(-4, 4, 49)
"""Ridges tried: noise over prior variance, relative to the mean variance of an advantage."""
LEAST = 1e-3
"""Least prior variance of a direction, relative to the mean."""
SCALING = 0.35
"""s, chosen on design seeds; that of Adam is near 0.5."""
NEIGHBOUR = 0.5
"""Weight of the gradients of a stage next to h in those of h; its square two stages away."""
BLOCKS = (4, 8, 16, 32, 64, 128)
"""Ends of the blocks of coordinates, by decreasing v, whose advantages share a covariance."""
LEAST_SHARE = 1e-9
"""Least v of a coordinate."""
NEGLIGIBLE = 1e-6
"""Directions whose advantage has less than this share of the largest variance say nothing."""


@dataclass(frozen=True, eq=False)
class Move:
    """The sums of one move over the coordinates, weighted by the inverse noise variance.

    Args:
        second: of the expected moves of the features, v^(2 s) a a' `(k, k)`.
        cross: of the expected moves and the move, v^s a d `(k,)`.
        square: d^2.
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


def moves_of(stages: Sequence[StageGradient]) -> list[Move]:
    """Return the sums of the moves of all stages.

    Args:
        stages: all but the last, in order.
    """
    number, found = np.arange(len(stages)), []
    for stage, own in enumerate(stages):
        weight = NEIGHBOUR ** np.abs(number - stage)
        weight /= weight.sum()
        gradient = np.sum([x * one.gradient for x, one in zip(weight, stages, strict=True)], axis=0)
        v, vectors = np.linalg.eigh(own.fisher)
        kept = np.flatnonzero(v > LEAST_SHARE * v[-1])[::-1]
        v, axes = v[kept], vectors[:, kept] / np.sqrt(v[kept])
        noise = np.sqrt((weight**2).sum()) * (axes.T @ own.noise)
        found.append(
            _move(
                v / v[0],
                _denoised(axes.T @ gradient, noise),
                axes.T @ own.entropy,
                axes.T @ own.change,
                own.floor,
            )
        )
    return found


def _move(
    v: FloatArray, advantage: FloatArray, entropy: FloatArray, change: FloatArray, floor: float
) -> Move:
    """Return the sums of a move, without what the entropy explains.

    The variance of the learner's noise is that of least squares.
    """
    share = v ** (2 * SCALING)
    variance = float(share @ (change**2 - floor)) / float(share @ share)
    root = 1 / np.sqrt(share + floor / max(variance, floor))
    expected = (root * v**SCALING)[:, None] * advantage
    pull, seen = root * v**SCALING * entropy, root * change
    pull = pull / max(float(np.linalg.norm(pull)), 1e-300)
    expected, seen = expected - np.outer(pull, pull @ expected), seen - pull * float(pull @ seen)
    return Move(expected.T @ expected, expected.T @ seen, float(seen @ seen))


def _denoised(advantage: FloatArray, noise: FloatArray) -> FloatArray:
    """Return the posterior means of the advantages along all coordinates, `(n, k)`.

    The advantages of a block of coordinates have one prior covariance: that of the estimates less
    that of their noise. Without this, features whose noise is alike take weight from each other.
    """
    error = noise.T @ noise / len(noise)
    found = []
    for block in np.split(advantage, [end for end in BLOCKS if end < len(advantage)]):
        values, vectors = np.linalg.eigh(block.T @ block / len(block) - error)
        prior = (vectors * np.maximum(values, 0.0)) @ vectors.T
        ridge = 1e-12 * max(float(np.trace(prior + error)), 1e-300) * np.eye(len(prior))
        found.append(block @ np.linalg.solve(prior + error + ridge, prior))
    return np.concatenate(found)


def fit_moves(moves: Sequence[Move], spread: FloatArray) -> MovesFit:
    """Fit one reward to the moves of all stages; there are at least two.

    Args:
        moves: of all stages.
        spread: covariance of the features within episodes, `(k, k)`.
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
