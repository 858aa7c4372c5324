"""The data of a stage as arrays, and the dynamics estimated from them."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from malfl_env.markov_game import Factor, MarkovGame

__all__ = ["StageArrays", "Steps", "drawn_game", "estimated_game"]

IntArray = NDArray[np.int64]


class Steps(NamedTuple):
    """The steps of a stage in the order in which the learners used them.

    Args:
        states, next_states: int `(n_steps,)`, joint states before and after each step.
        joint_actions: int `(n_steps, n_agents)`.
        episode_ends: bool `(n_steps,)`: whether an episode ended or was truncated after this step.
    """

    states: NDArray[Any]
    joint_actions: NDArray[Any]
    next_states: NDArray[Any]
    episode_ends: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class StageArrays:
    """The data of one stage, gathered under one joint policy.

    Args:
        joint_counts: int64 `(n_states, *n_actions)`: number of times each joint action was played.
        steps: the steps, for learner models that replay them; None: not kept.
        span: first step, and the step after the last, if the data are a part of the steps; None:
            all steps.
    """

    joint_counts: NDArray[np.int64]
    steps: Steps | None = None
    span: tuple[int, int] | None = None

    def action_counts(self, agent_index: int) -> NDArray[np.int64]:
        """Counts of one agent's actions, `(n_states, n_actions)`."""
        others = tuple(axis for axis in range(1, self.joint_counts.ndim) if axis != agent_index + 1)
        return np.asarray(self.joint_counts.sum(axis=others), dtype=np.int64)


def estimated_game(
    pairs: IntArray,
    next_states: IntArray,
    counts: IntArray,
    *,
    n_states: int,
    n_actions: tuple[int, ...],
    start: int,
) -> tuple[MarkovGame, NDArray[np.bool_]]:
    """The game whose transition probabilities are the observed frequencies.

    Args:
        pairs: flat indices of (joint state, joint action) in `(n_states, *n_actions)`, `(n_seen,)`.
        next_states: the next joint state of each pair, `(n_seen,)`.
        counts: number of times each transition was observed, `(n_seen,)`; entries may repeat.
        n_states, n_actions: numbers of joint states and of each agent's actions.
        start: joint state in which episodes begin.

    Returns:
        The game without rewards, with one factor that all agents move; and for every joint state
        whether each of its joint actions was observed at least once, bool `(n_states,)`. A joint
        action that was never observed leads to the same state; this is a placeholder, and callers
        leave such states out.
    """
    n_joint = prod(n_actions)
    keys, inverse = np.unique(pairs * n_states + next_states, return_inverse=True)
    totals = np.bincount(inverse, weights=counts)
    rows, columns = keys // n_states, keys % n_states
    first = np.searchsorted(rows, np.arange(n_states * n_joint))
    slots = np.arange(len(rows)) - first[rows]
    shape = (n_states * n_joint, int(slots.max()) + 1)
    successors = np.repeat(np.arange(n_states), n_joint)[:, None].repeat(shape[1], axis=1)
    weights = np.zeros(shape)
    successors[rows, slots], weights[rows, slots] = columns, totals
    sums = weights.sum(axis=1)
    weights[sums == 0, 0] = 1
    table = (n_states, *n_actions, shape[1])
    factor = Factor(
        tuple(range(len(n_actions))),
        successors.reshape(table),
        (weights / weights.sum(axis=1, keepdims=True)).reshape(table),
    )
    game = MarkovGame(n_actions, (factor,), start=start)
    return game, (sums > 0).reshape(n_states, n_joint).all(axis=1)


def drawn_game(
    pairs: IntArray,
    next_states: IntArray,
    counts: IntArray,
    *,
    n_states: int,
    n_actions: tuple[int, ...],
    start: int,
    rng: np.random.Generator,
) -> MarkovGame:
    """A game drawn from the posterior of its transition probabilities.

    The probabilities of the next states of a pair that was observed are drawn from the Dirichlet
    distribution of their counts (the Bayesian bootstrap, Rubin 1981). So a next state that was
    never observed stays impossible, and pairs that always led to one state keep it. A joint action
    that was never observed in a visited joint state leads where another one, drawn anew, leads from
    there.

    Args:
        pairs, next_states, counts, n_states, n_actions, start: as `estimated_game` takes them.
        rng: source of the draws.
    """
    keys, inverse = np.unique(pairs * n_states + next_states, return_inverse=True)
    weights = rng.gamma(np.bincount(inverse, weights=counts))
    rows, columns = keys // n_states, keys % n_states
    seen, first, width = np.unique(rows, return_index=True, return_counts=True)
    n_joint = prod(n_actions)
    per_state = np.bincount(seen // n_joint, minlength=n_states)
    unseen = np.setdiff1d(np.arange(n_states * n_joint), seen)
    unseen = unseen[per_state[unseen // n_joint] > 0]
    at = unseen // n_joint
    chosen = np.concatenate([[0], np.cumsum(per_state)])[at]
    chosen = chosen + (rng.random(len(unseen)) * per_state[at]).astype(np.int64)
    ends = np.cumsum(width[chosen])
    places = np.arange(ends[-1] if len(ends) else 0)
    places += np.repeat(first[chosen] - (ends - width[chosen]), width[chosen])
    game, _ = estimated_game(
        np.concatenate([rows, np.repeat(unseen, width[chosen])]),
        np.concatenate([columns, columns[places]]),
        np.concatenate([weights, weights[places]]),
        n_states=n_states,
        n_actions=n_actions,
        start=start,
    )
    return game
