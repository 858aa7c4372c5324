"""Contradictions between the counts of a trace and the dynamics of a game."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from malfl_env.markov_game import MarkovGame

__all__ = [
    "broken_steps",
    "chance_misfit",
    "expected_arrivals",
    "imbalance",
    "policy_misfit",
    "reachable_states",
    "repeated",
]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

ENOUGH = 20
"""Plays from which on the next states of a pair are compared with the game's probabilities."""
BY_CHANCE = 0.001
"""Probability that chance alone exceeds what it is said to allow."""


def reachable_states(game: MarkovGame) -> NDArray[np.bool_]:
    """Whether each joint state can occur, bool `(n_states,)`.

    Cells on walls or behind them cannot occur. A joint state can occur if each of its local states
    can be reached from its start within its own factor.
    """
    starts = game.local_states(game.start_states)
    occurs = np.ones(1, dtype=bool)
    for factor, local in zip(game.factors, starts.T, strict=True):
        reached = np.zeros(factor.n_local, dtype=bool)
        frontier = np.unique(local)
        while len(frontier):
            reached[frontier] = True
            possible = factor.successors[frontier][factor.probabilities[frontier] > 0]
            frontier = np.unique(possible[~reached[possible]])
        occurs = (occurs[:, None] & reached).ravel()
    return occurs


def expected_arrivals(game: MarkovGame, joint_counts: IntArray) -> FloatArray:
    """Number of times that the game expects each joint state to be entered, `(n_states,)`.

    sum over (s, a) of n(s, a) P(s' | s, a).

    Args:
        game: the dynamics.
        joint_counts: n, `(n_states, *n_actions)`.
    """
    played = np.nonzero(joint_counts)
    states, actions = played[0], played[1:]
    columns = np.zeros((len(states), 1), dtype=np.int64)
    weights = joint_counts[played].astype(np.float64)[:, None]
    local = game.local_states(states)
    for position, factor in enumerate(game.factors):
        at = (local[:, position], *(actions[agent] for agent in factor.agents))
        columns = columns[..., None] * factor.n_local + factor.successors[at][:, None]
        weights = weights[..., None] * factor.probabilities[at][:, None]
        columns, weights = columns.reshape(len(states), -1), weights.reshape(len(states), -1)
    arrivals = np.bincount(columns.ravel(), weights.ravel(), minlength=game.n_states)
    return np.asarray(arrivals, dtype=np.float64)


def imbalance(game: MarkovGame, stages: Sequence[IntArray]) -> float:
    """Share of the visits, away from the start, that the game does not account for.

    In an episode every state but the first was entered from the state before, and every state but
    the last was left again. A joint state s is therefore visited as often as it is entered, except
    for the beginnings of episodes (more visits) and their ends (fewer). In a game with chance,
    arrivals scatter about their expectation; two standard deviations (bounded by the Poisson one)
    are allowed for.

    Args:
        game: the dynamics.
        stages: the joint counts of every stage, `(n_states, *n_actions)`.

    Returns:
        Visits in excess of arrivals outside the game's start, by all visits; in [0, 1]. It is 0 for
        a complete log of a game without chance whose episodes begin in its start.
    """
    excess, total = 0.0, 0.0
    for counts in stages:
        visits = counts.reshape(len(counts), -1).sum(axis=1).astype(np.float64)
        arrivals = expected_arrivals(game, counts)
        allowed = 0.0 if game.deterministic else 2 * np.sqrt(arrivals)
        over = np.maximum(visits - arrivals - allowed, 0)
        over[game.start_states] = 0
        excess += float(over.sum())
        total += float(visits.sum())
    return excess / total if total else 0.0


def chance_misfit(
    game: MarkovGame, rows: IntArray, next_states: IntArray, counts: IntArray
) -> float | None:
    """How far the next states that were seen are from the game's probabilities.

    Pearson's chi-squared over the (joint state, joint action) pairs that were played at least
    `ENOUGH` times, by the value that chance exceeds with probability `BY_CHANCE`: below 1 for the
    right game, near 1 if there are many such pairs.

    Args:
        game: the dynamics.
        rows: flat indices of (joint state, joint action), `(n_seen,)`.
        next_states, counts: the next states, and how often each was seen, `(n_seen,)`.

    Returns:
        None if no such pair has more than one possible next state.
    """
    keys, inverse = np.unique(rows * game.n_states + next_states, return_inverse=True)
    seen = np.bincount(inverse, weights=counts)
    pairs, number = np.unique(keys // game.n_states, return_inverse=True)
    plays = np.bincount(number, weights=seen)
    chance, possible = _chances(game, pairs[number], keys % game.n_states)
    expected = plays[number] * chance
    squares = np.bincount(number, weights=(seen - expected) ** 2 / np.maximum(expected, 1e-12))
    squares += np.maximum(plays - np.bincount(number, weights=expected), 0)
    free = np.zeros(len(pairs))
    free[number] = possible - 1
    used = (plays >= ENOUGH) & (free > 0)
    return _beyond_chance(squares[used].sum(), free[used].sum())


def _beyond_chance(squares: float, free: int) -> float | None:
    """Chi-squared by what chance allows; None without degrees of freedom."""
    from scipy.stats import chi2  # not before a command needs it

    return float(squares / chi2.isf(BY_CHANCE, free)) if free else None


def broken_steps(
    states: NDArray[Any], next_states: NDArray[Any], episode_ends: NDArray[np.bool_]
) -> float:
    """Share of the steps within episodes that do not begin where the step before ended.

    Args:
        states, next_states, episode_ends: of the ordered steps of a stage, `(n_steps,)`.
    """
    inside = ~np.asarray(episode_ends[:-1])
    broken = np.asarray(next_states[:-1] != states[1:]) & inside
    return float(broken.sum() / max(inside.sum(), 1))


def policy_misfit(counts: IntArray, policies: FloatArray) -> float | None:
    """How far an agent's actions are from policies that are said to be known.

    Pearson's chi-squared over the states visited at least `ENOUGH` times in a stage, by the value
    that chance exceeds with probability `BY_CHANCE`.

    Args:
        counts, policies: `(n_stages, n_states, n_actions)`.

    Returns:
        None if there is no such state with more than one possible action.
    """
    visits = counts.sum(axis=-1, keepdims=True)
    expected = visits * policies
    squares = np.where(expected > 0, (counts - expected) ** 2 / np.maximum(expected, 1e-12), 0)
    free = (policies > 0).sum(axis=-1) - 1
    used = (visits[..., 0] >= ENOUGH) & (free > 0)
    return _beyond_chance(squares.sum(axis=-1)[used].sum(), free[used].sum())


def repeated(stages: Sequence[IntArray]) -> int:
    """Number of stages with data whose counts are exactly those of an earlier stage."""
    seen = [counts.tobytes() for counts in stages if counts.any()]
    return len(seen) - len(set(seen))


def _chances(
    game: MarkovGame, rows: IntArray, next_states: IntArray
) -> tuple[FloatArray, IntArray]:
    """Probability of each transition, and the number of possible next states of its row."""
    states, *actions = np.unravel_index(rows, (game.n_states, *game.n_actions))
    here, after = game.local_states(states), game.local_states(next_states)
    chance = np.ones(len(rows))
    possible = np.ones(len(rows), dtype=np.int64)
    for index, factor in enumerate(game.factors):
        own = (here[:, index], *(actions[agent] for agent in factor.agents))
        successors = factor.successors[own]
        probabilities = factor.probabilities[own]
        chance *= (probabilities * (successors == after[:, index, None])).sum(axis=1)
        reached = np.sort(np.where(probabilities > 0, successors, -1), axis=1)
        distinct = (np.diff(reached, axis=1) != 0).sum(axis=1) + 1
        possible *= distinct - (reached[:, 0] < 0)
    return chance, possible
