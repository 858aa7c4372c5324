"""Which actions of epsilon-greedy learners were greedy, and how often: from counts alone.

If the policy is frozen, one action of a state is greedy in the whole stage. If the policy moves, an
action is greedy for a share f(a) of the visits and played with probability (1 - epsilon) f(a) +
epsilon / |A|.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln, xlogy

from malfl_algos.ma_lfl.greedy import LEAST_EPSILON, MOST_EPSILON, exploration, likeliest_greedy

__all__ = ["GreedyActions", "frozen_actions", "moving_actions"]

FloatArray = NDArray[np.float64]

SURE = 2.0
"""Plays of an action that exceed the explored ones by fewer standard deviations are explored."""
ROUNDS = 8
"""Number of times that these actions, and how often exploration plays them, are found in turn."""


class GreedyActions(NamedTuple):
    """What the counts of some stages say.

    Args:
        best: the action that was greedy, or was greedy most often, `(n_stages, n_states)`.
        lapses: probability of the counts if another action was greedy all the time, relative to
            `best`, `(n_stages, n_states, n_actions)`; 1 for `best` and in states without visits.
        wins, losses: number of draws in which `best` had the larger q, and in which the other
            action had, of the same shape.
        policies: exploration included, of the same shape.
        epsilon: `(n_stages,)`.
        log_likelihood: log probability of the counts if `best` wins as often as that, for one draw
            per stage.
    """

    best: NDArray[np.int64]
    lapses: FloatArray
    wins: FloatArray
    losses: FloatArray
    policies: FloatArray
    epsilon: FloatArray
    log_likelihood: float


def frozen_actions(counts: FloatArray) -> GreedyActions:
    """The greedy actions of policies that are frozen within a stage.

    Args:
        counts: `(n_stages, n_states, n_actions)`.
    """
    logs, policies, epsilon = likeliest_greedy(counts, exploration(counts))
    top = logs.max(axis=-1, keepdims=True)
    return GreedyActions(
        logs.argmax(axis=-1),
        np.exp(logs - top),
        np.ones(counts.shape),
        np.zeros(counts.shape),
        policies,
        epsilon,
        float(top.sum() + _log_orders(counts)),
    )


def moving_actions(counts: FloatArray, draws_of_stage: float) -> GreedyActions:
    """The shares of greedy actions of policies that move within a stage.

    The log likelihood has half the log of the number of plays for every share strictly between 0
    and 1, as in Schwarz's criterion: a share enters as a draw, which has no such cost.

    Args:
        counts: `(n_stages, n_states, n_actions)`.
        draws_of_stage: number of independent draws that a stage counts as. How often an action is
            greedy follows from q only as well as the noise of q is known.
    """
    n_actions = counts.shape[-1]
    visits = counts.sum(axis=-1, keepdims=True)
    rate = _exploration(counts)
    explored = visits * rate / n_actions
    excess = np.where(_exceeds(counts, explored), counts - explored, 0.0)
    some = excess.sum(axis=-1, keepdims=True)
    shares = np.where(some > 0, excess / np.where(some > 0, some, 1.0), 1 / n_actions)
    policies = (1 - rate) * shares + rate / n_actions
    best = shares.argmax(axis=-1)[..., None]
    pair = np.take_along_axis(shares, best, axis=-1) + shares
    lost = shares / pair
    plays = pair * visits * (1 - rate)
    draws = draws_of_stage * plays / (plays + draws_of_stage) * (some > 0)
    wins, losses = draws * (1 - lost), draws * lost
    for own in (wins, losses, plays):
        np.put_along_axis(own, best, 0.0, axis=-1)
    known = (xlogy(wins, 1 - lost) + xlogy(losses, lost)) / draws_of_stage
    cost = np.where(losses > 0, np.log1p(plays) / 2, 0.0)
    log_likelihood = xlogy(counts, policies).sum() + _log_orders(counts)
    log_likelihood -= known.sum() + cost.sum()
    lapses = np.where(wins + losses > 0, 0.0, 1.0)
    epsilon = rate[:, 0, 0]
    return GreedyActions(
        best[..., 0], lapses, wins, losses, policies, epsilon, float(log_likelihood)
    )


def _exceeds(counts: FloatArray, explored: FloatArray) -> NDArray[np.bool_]:
    """Whether an action was played more often than by exploration."""
    return np.asarray(counts > explored + SURE * np.sqrt(explored))


def _exploration(counts: FloatArray) -> FloatArray:
    """Epsilon of every stage, `(n_stages, 1, 1)`, from the actions that were hardly ever greedy."""
    n_actions = counts.shape[-1]
    visits = counts.sum(axis=-1, keepdims=True)
    rate = exploration(counts)[:, None, None]
    never = counts == counts.min(axis=-1, keepdims=True)
    for _ in range(ROUNDS):
        plays = (counts * never).sum(axis=(1, 2), keepdims=True)
        chances = (visits * never).sum(axis=(1, 2), keepdims=True) / n_actions
        rate = np.clip(plays / np.maximum(chances, 1), LEAST_EPSILON, MOST_EPSILON)
        never = ~_exceeds(counts, visits * rate / n_actions)
    return np.asarray(rate)


def _log_orders(counts: FloatArray) -> float:
    return float(gammaln(counts.sum(axis=-1) + 1).sum() - gammaln(counts + 1).sum())
