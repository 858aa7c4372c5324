"""The steps of a log from which rewards of epsilon-greedy learners are recovered.

Every step is replayed, but the likelihood of a part of the steps suffices: a long log has many
steps that say the same. Each state has the same number of steps, as far as it has that many.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from malfl_algos.ma_lfl.replay import steps_of
from malfl_algos.ma_lfl.stages import StageArrays, Steps

__all__ = ["Chosen", "chosen_steps", "joined"]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

MOST_STEPS, SEARCH_STEPS = 15_000, 6_000
"""Largest number of steps whose likelihood is used; and while settings are searched."""
MOST_WORK = 4e10
"""Largest number of steps times actions times unknowns squared, to which the time is
proportional.
"""
PARTS = 40
"""Least number of parts of a log, each of which has its own epsilon."""
FIRST_EPSILON = 0.5
BLOCK_BYTES = 2**24
"""Size of the coefficients that are held at a time."""
THINNED = 4
"""One of so many steps serves while little is known of the reward."""
SEED = 20200301


class Chosen(NamedTuple):
    """One agent's chosen steps, in order.

    Args:
        numbers: of the steps, `(m,)`.
        actions: that the agent played, `(m,)`.
        parts: of the log, `(m,)`.
        weights: number of steps for which each one stands, `(m,)`.
        epsilon: first estimate of epsilon, by part.
        stages: stage of every part.
        block: number of steps that are held at a time.
    """

    numbers: IntArray
    actions: IntArray
    parts: IntArray
    weights: FloatArray
    epsilon: FloatArray
    stages: IntArray
    block: int

    def thinned(self, least: int) -> Chosen:
        """One of 4 steps, or more, such that at least `least` are left where there are so many."""
        every = max(min(THINNED, len(self.numbers) // least), 1)
        return self._replace(
            numbers=self.numbers[::every],
            actions=self.actions[::every],
            parts=self.parts[::every],
            weights=self.weights[::every] * every,
        )

    def blocks(self) -> list[slice]:
        """The steps in blocks, none of which reaches over two parts."""
        edges = [0, *(np.flatnonzero(np.diff(self.parts)) + 1).tolist(), len(self.parts)]
        return [
            slice(start, min(start + self.block, end))
            for first, end in pairwise(edges)
            for start in range(first, end, self.block)
        ]

    def by_stage(self, epsilon: FloatArray) -> list[float]:
        """The mean of epsilon over the parts of every stage."""
        number = np.bincount(self.stages)
        return [float(own) for own in np.bincount(self.stages, epsilon) / number]


def joined(stages: Sequence[StageArrays]) -> tuple[Steps, IntArray]:
    """The steps of all stages as one, and where each stage ends."""
    steps = [steps_of(stage) for stage in stages]
    ends = np.cumsum([len(own.states) for own in steps])
    return Steps(*(np.concatenate(column) for column in zip(*steps, strict=True))), ends


def chosen_steps(
    steps: Steps,
    ends: IntArray,
    shape: tuple[int, ...],
    index: int,
    n_unknowns: int,
    *,
    search: bool,
) -> Chosen:
    """Choose steps; the same arguments give the same ones.

    Args:
        steps: of all stages, joined.
        ends: where each stage ends.
        shape: of the joint counts.
        index: the agent.
        n_unknowns: number of reward unknowns or feature weights.
        search: whether settings are searched; then the first stage has none.
    """
    n_actions = shape[index + 1]
    n_steps = len(steps.states)
    actions = steps.joint_actions[:, index].astype(np.int64)
    edges, stages = _parts(ends)
    part = np.searchsorted(edges[1:], np.arange(n_steps), side="right")
    most = SEARCH_STEPS if search else MOST_STEPS
    most = max(min(most, int(MOST_WORK / (n_actions * n_unknowns**2))), 1)
    first = int(ends[0]) if search and len(ends) > 1 else 0
    numbers, weights = _drawn(steps.states, first, most)
    block = max(int(BLOCK_BYTES / (4 * n_actions * (n_unknowns + 1))), 1)
    return Chosen(
        numbers,
        actions[numbers],
        part[numbers],
        weights,
        np.full(len(stages), FIRST_EPSILON),
        stages,
        block,
    )


def _parts(ends: IntArray) -> tuple[IntArray, IntArray]:
    """Edges of the parts, and the stage of every part."""
    per_stage = -(-PARTS // len(ends))
    edges, stages = [0], []
    for stage, end in enumerate(ends.tolist()):
        inner = np.unique(np.rint(np.linspace(edges[-1], end, per_stage + 1)).astype(int))[1:]
        edges += inner.tolist()
        stages += [stage] * len(inner)
    return np.array(edges), np.array(stages)


def _drawn(states: NDArray[np.integer], first: int, most: int) -> tuple[IntArray, FloatArray]:
    """Equally many steps of every state, from `first` on; and for how many each one stands."""
    rng = np.random.default_rng(SEED)
    order = np.argsort(states[first:], kind="stable") + first
    visits = np.bincount(states[first:])
    visits = visits[visits > 0]
    quota = np.minimum(visits, _level(visits, most))
    begins = np.cumsum(visits) - visits
    numbers = np.concatenate(
        [
            order[begin + rng.choice(n, k, replace=False, shuffle=False)]
            for begin, n, k in zip(begins, visits, quota, strict=True)
        ]
    )
    weights = np.repeat(visits / np.maximum(quota, 1), quota)
    by_time = np.argsort(numbers)
    return numbers[by_time], weights[by_time]


def _level(visits: IntArray, most: int) -> int:
    """The largest number k >= 1 such that min(visits, k) sums to `most` at most."""
    low, high = 1, int(visits.max())
    while low < high:
        middle = (low + high + 1) // 2
        if np.minimum(visits, middle).sum() <= most:
            low = middle
        else:
            high = middle - 1
    return low
