"""Dynamics estimated from a trace, for observers that are not given the game."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from malfl_algos.trace import LearningTrace
from malfl_env.errors import InputError
from malfl_env.markov_game import Factor, MarkovGame

__all__ = ["estimated_game"]


def estimated_game(trace: LearningTrace) -> tuple[MarkovGame, NDArray[np.bool_]]:
    """The game whose transition probabilities are the observed frequencies.

    Args:
        trace: with next-state counts or transitions in every stage.

    Returns:
        The game, one factor moved by everyone, without rewards; and for every joint state whether
        each of its joint actions was seen at least once, bool `(n_states,)`. A joint action never
        seen is given as staying, which is a placeholder: callers leave such states out.

    Raises:
        InputError: if a stage says nothing of next states.
    """
    n_joint = int(np.prod(trace.n_actions))
    pairs, next_states, counts = (np.concatenate(part) for part in zip(*_seen(trace), strict=True))
    keys, inverse = np.unique(pairs * trace.n_states + next_states, return_inverse=True)
    totals = np.bincount(inverse, weights=counts)
    rows, columns = keys // trace.n_states, keys % trace.n_states
    first = np.searchsorted(rows, np.arange(trace.n_states * n_joint))
    slots = np.arange(len(rows)) - first[rows]
    shape = (trace.n_states * n_joint, int(slots.max()) + 1)
    successors = np.repeat(np.arange(trace.n_states), n_joint)[:, None].repeat(shape[1], axis=1)
    weights = np.zeros(shape)
    successors[rows, slots], weights[rows, slots] = columns, totals
    sums = weights.sum(axis=1)
    weights[sums == 0, 0] = 1
    table = (trace.n_states, *trace.n_actions, shape[1])
    factor = Factor(
        tuple(range(trace.n_agents)),
        successors.reshape(table),
        (weights / weights.sum(axis=1, keepdims=True)).reshape(table),
    )
    game = MarkovGame(trace.n_actions, (factor,), start=_start(trace))
    return game, (sums > 0).reshape(trace.n_states, n_joint).all(axis=1)


def _seen(trace: LearningTrace) -> list[tuple[NDArray[np.int64], ...]]:
    """Per stage (flat (state, joint action), next state, count)."""
    parts: list[tuple[NDArray[np.int64], ...]] = []
    for index, stage in enumerate(trace.stages):
        seen, steps = stage.next_state_counts, stage.transitions
        if seen is not None:
            parts.append((seen.rows, seen.next_states, seen.counts))
        elif steps is not None and steps.states is not None and steps.next_states is not None:
            actions = np.ravel_multi_index(tuple(steps.joint_actions.T), trace.n_actions)
            pairs = steps.states.astype(np.int64) * int(np.prod(trace.n_actions)) + actions
            parts.append((pairs, steps.next_states.astype(np.int64), np.ones(len(pairs), int)))
        else:
            raise InputError(
                f"no game was given and stage {index} holds neither next-state counts nor "
                "transitions: give the game, or learn with keep_transitions"
            )
    return parts


def _start(trace: LearningTrace) -> int:
    """Where the first episode began, if the trace tells; else the most visited state."""
    steps = trace.stages[0].transitions
    if steps is not None and steps.states is not None and len(steps.states):
        return int(steps.states[0])
    return int(np.argmax(trace.stages[0].state_counts))
