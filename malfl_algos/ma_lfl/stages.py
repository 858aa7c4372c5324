"""The data of a stage as arrays, and the dynamics estimated from them."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from malfl_env.markov_game import Factor, MarkovGame

__all__ = ["StageArrays", "Steps", "drawn_game", "estimated_game"]

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]


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
    _own_counts: dict[int, IntArray] = field(default_factory=dict, init=False, repr=False)

    def action_counts(self, agent_index: int) -> NDArray[np.int64]:
        """Counts of one agent's actions, `(n_states, n_actions)`, read-only."""
        found = self._own_counts.get(agent_index)
        if found is None:
            axes = range(1, self.joint_counts.ndim)
            others = tuple(axis for axis in axes if axis != agent_index + 1)
            found = np.array(self.joint_counts.sum(axis=others), dtype=np.int64)
            found.setflags(write=False)
            self._own_counts[agent_index] = found
        return found


MOST_ALIKE = 8
"""A joint action that was never observed in a state is taken to lead where the observed ones lead
that agree with it most, at most this many.
"""


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

    A joint action that was never observed in a visited state has the average of the probabilities
    of the observed ones there that agree with it in most agents' actions (at most `MOST_ALIKE`, the
    most visited first). In a state that was never visited every joint action leads to itself.

    Args:
        pairs: flat indices of (joint state, joint action) in `(n_states, *n_actions)`, `(n_seen,)`.
        next_states: the next joint state of each pair, `(n_seen,)`.
        counts: number of times each transition was observed, `(n_seen,)`; entries may repeat.
        n_states, n_actions: numbers of joint states and of each agent's actions.
        start: joint state in which episodes begin.

    Returns:
        The game without rewards, with one factor that all agents move; and for every joint state
        whether each of its joint actions was observed at least once, bool `(n_states,)`.
    """
    seen = _Seen.of(pairs, next_states, counts, n_states)
    targets, sources = _alike(seen, n_actions)
    shares = 1 / np.bincount(targets, minlength=1)[targets]
    informed = np.zeros(n_states * prod(n_actions), dtype=bool)
    informed[seen.rows] = True
    game = _game(seen, targets, sources, shares, n_states, n_actions, start)
    return game, np.asarray(informed.reshape(n_states, -1).all(axis=1))


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
    that was never observed in a visited joint state has the probabilities of one of the observed
    ones over which `estimated_game` averages.

    Args:
        pairs, next_states, counts, n_states, n_actions, start: as `estimated_game` takes them.
        rng: source of the draws.
    """
    seen = _Seen.of(pairs, next_states, counts, n_states)
    targets, sources = _alike(seen, n_actions)
    order = np.lexsort((rng.random(len(targets)), targets))
    chosen = order[np.append(np.diff(targets[order]) > 0, True)[: len(order)]]
    drawn = seen._replace(weights=rng.gamma(seen.weights))
    return _game(
        drawn, targets[chosen], sources[chosen], np.ones(len(chosen)), n_states, n_actions, start
    )


class _Seen(NamedTuple):
    """Observed transitions, sorted by pair, and where those of each observed pair begin.

    Args:
        entries, next_states, weights: pair, next state and weight of each transition.
        rows, first, width: the pairs, the first transition of each, and their number.
    """

    entries: IntArray
    next_states: IntArray
    weights: FloatArray
    rows: IntArray
    first: IntArray
    width: IntArray

    @classmethod
    def of(cls, pairs: IntArray, next_states: IntArray, counts: IntArray, n_states: int) -> _Seen:
        keys, inverse = np.unique(pairs * n_states + next_states, return_inverse=True)
        weights = np.bincount(inverse, weights=counts).astype(np.float64)
        entries = keys // n_states
        return cls(
            entries,
            keys % n_states,
            weights,
            *np.unique(entries, return_index=True, return_counts=True),
        )


def _alike(seen: _Seen, n_actions: tuple[int, ...]) -> tuple[IntArray, IntArray]:
    """Pairs that were never observed in visited states, and the place in `seen.rows` of each
    observed pair that is like them; sorted by the former, which repeat.
    """
    n_joint = prod(n_actions)
    actions = np.stack(np.unravel_index(np.arange(n_joint), n_actions), axis=1)
    visits = np.add.reduceat(seen.weights, seen.first)
    places = np.split(np.arange(len(seen.rows)), np.flatnonzero(np.diff(seen.rows // n_joint)) + 1)
    targets, sources = [], []
    for own in places:
        if not len(own):  # no transition at all
            continue
        state, played = int(seen.rows[own[0]]) // n_joint, seen.rows[own] % n_joint
        absent = np.setdiff1d(np.arange(n_joint), played)
        if not len(absent):
            continue
        own = own[np.argsort(-visits[own], kind="stable")]
        played = seen.rows[own] % n_joint
        agree = (actions[absent][:, None] == actions[played][None]).sum(axis=-1)
        best = np.argsort(-agree, axis=1, kind="stable")[:, :MOST_ALIKE]
        kept = np.take_along_axis(agree, best, axis=1) == agree.max(axis=1, keepdims=True)
        number, _ = np.nonzero(kept)
        targets.append(state * n_joint + absent[number])
        sources.append(own[best[kept]])
    if not targets:
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    return np.concatenate(targets), np.concatenate(sources)


def _game(
    seen: _Seen,
    targets: IntArray,
    sources: IntArray,
    shares: FloatArray,
    n_states: int,
    n_actions: tuple[int, ...],
    start: int,
) -> MarkovGame:
    """The game with the weights of the observed pairs, and shares of them for other pairs."""
    width = seen.width[sources]
    ends = np.cumsum(width)
    places = np.arange(ends[-1] if len(ends) else 0)
    places += np.repeat(seen.first[sources] - (ends - width), width)
    normal = seen.weights / np.repeat(np.add.reduceat(seen.weights, seen.first), seen.width)
    pairs = np.concatenate([seen.entries, np.repeat(targets, width)])
    after = np.concatenate([seen.next_states, seen.next_states[places]])
    weights = np.concatenate([seen.weights, np.repeat(shares, width) * normal[places]])
    n_rows = n_states * prod(n_actions)
    keys, inverse = np.unique(pairs * n_states + after, return_inverse=True)
    totals = np.bincount(inverse, weights=weights)
    rows, columns = keys // n_states, keys % n_states
    first = np.searchsorted(rows, np.arange(n_rows))
    slots = np.arange(len(rows)) - first[rows]
    shape = (n_rows, int(slots.max(initial=0)) + 1)
    successors = np.repeat(np.arange(n_states), prod(n_actions))[:, None].repeat(shape[1], axis=1)
    table = np.zeros(shape)
    successors[rows, slots], table[rows, slots] = columns, totals
    sums = table.sum(axis=1)
    table[sums == 0, 0] = 1
    whole = (n_states, *n_actions, shape[1])
    factor = Factor(
        tuple(range(len(n_actions))),
        successors.reshape(whole),
        (table / table.sum(axis=1, keepdims=True)).reshape(whole),
    )
    return MarkovGame(n_actions, (factor,), start=start)
