"""Dynamics estimated from what was seen, for observers that are not given the game."""

from __future__ import annotations

from math import prod

import numpy as np
from numpy.typing import NDArray

from malfl_env.markov_game import Factor, MarkovGame

__all__ = ["estimated_game"]


IntArray = NDArray[np.int64]


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
        next_states: the next joint state of each, `(n_seen,)`.
        counts: how often each was seen, `(n_seen,)`; entries may repeat.
        n_states, n_actions: of the game.
        start: joint state where episodes begin.

    Returns:
        The game, one factor moved by everyone, without rewards; and for every joint state whether
        each of its joint actions was seen at least once, bool `(n_states,)`. A joint action never
        seen is given as staying, which is a placeholder: callers leave such states out.
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
