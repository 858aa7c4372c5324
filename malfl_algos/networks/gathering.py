"""The distinct steps of a trace as one agent observes them, each with its count.

If observations repeat, as in a grid world, millions of steps are a few thousand distinct ones, and
every loss over steps is the same sum with far fewer terms. If no observation repeats, nothing is
lost. There is no table over states: an observation is known by its features alone.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from malfl_algos.networks.encoding import Encoder, Features, input_features
from malfl_algos.trace import LearningTrace, Transitions
from malfl_env.errors import InputError
from malfl_env.spaces import AnySpace, discrete_range

__all__ = [
    "Gathered",
    "Steps",
    "checksum",
    "distinct_observations",
    "gather",
    "number_columns",
]

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]

BLOCKS = 20
"""A stage of fewer episodes is cut into this many blocks of steps, which replace the episodes."""
_TABLE = 1 << 24
"""Keys below this are numbered by a table, larger keys by sorting."""
_LARGEST = 1 << 62


@dataclass(frozen=True, eq=False)
class Steps:
    """The distinct steps of a stage.

    Args:
        here, after: int `(n_distinct,)`: rows of the observations before and after the step.
        joint_actions: int `(n_distinct, n_agents)`.
        goes_on: `(n_distinct,)`: 0 if the episode terminated, so that no value follows; else 1.
        which: int `(n_steps,)`: the number of the distinct step of every step.
        block: int `(n_steps,)`: the block of every step: its episode, or a part of the stage.
        n_blocks: number of blocks.
    """

    here: IntArray
    after: IntArray
    joint_actions: IntArray
    goes_on: FloatArray
    which: IntArray
    block: IntArray
    n_blocks: int

    def counts(self, block_weights: FloatArray | None = None) -> FloatArray:
        """Return how often each distinct step occurred, `(n_distinct,)`.

        Args:
            block_weights: `(n_blocks,)`, how often each block counts; None: once.
        """
        weights = None if block_weights is None else block_weights[self.block]
        found = np.bincount(self.which, weights=weights, minlength=len(self.here))
        return np.asarray(found, dtype=np.float64)


@dataclass(frozen=True, eq=False)
class Gathered:
    """All steps of a trace, as one agent observes them.

    Args:
        inputs: float32 `(n_observations, width)`: features of the distinct observations.
        stages: distinct steps per stage.
        agent_index: of the observing agent.
        n_actions: of every agent.
        encoder: of the observations.
        view: index of the first agent with the same observations.
    """

    inputs: Features
    stages: tuple[Steps, ...]
    agent_index: int
    n_actions: tuple[int, ...]
    encoder: Encoder
    view: int

    @property
    def read(self) -> NDArray[np.bool_]:
        """Inputs that random layers read, bool `(width,)`: values of digits, not their one-hots."""
        width = self.inputs.shape[1]
        n_values = width - self.encoder.width or width
        return np.asarray(np.arange(width) >= width - n_values)

    @property
    def repeats(self) -> bool:
        """Whether most observations occur more than once."""
        return 2 * len(self.inputs) < sum(len(steps.which) for steps in self.stages)

    @property
    def n_own(self) -> int:
        """Number of the agent's own actions."""
        return self.n_actions[self.agent_index]

    def action_counts(
        self, stage: int, counts: FloatArray, agent_index: int | None = None
    ) -> tuple[IntArray, FloatArray]:
        """Count an agent's actions at every observation of a stage.

        Args:
            stage: number of the stage.
            counts: of its distinct steps.
            agent_index: of the acting agent; None: the observing agent.

        Returns:
            The sorted rows of the visited observations `(n,)`, and the counts of the actions there
            `(n, n_actions)`.
        """
        agent = self.agent_index if agent_index is None else agent_index
        steps, n_actions = self.stages[stage], self.n_actions[agent]
        rows, place = np.unique(steps.here, return_inverse=True)
        flat = place * n_actions + steps.joint_actions[:, agent]
        table = np.bincount(flat, counts, minlength=len(rows) * n_actions).reshape(-1, n_actions)
        seen = table.sum(axis=1) > 0
        return rows[seen].astype(np.int64), table[seen]


def gather(trace: LearningTrace) -> list[Gathered]:
    """Return the distinct observations and steps of every agent.

    Agents that observe the same arrays share the result.
    """
    found: list[Gathered] = []
    for index in range(len(trace.agents)):
        twin = next((other for other in range(index) if _alike(trace, other, index)), None)
        if twin is None:
            found.append(_gather(trace, index))
        else:
            found.append(replace(found[twin], agent_index=index))
    return found


def checksum(views: Sequence[Gathered]) -> int:
    """Return a checksum of a trace."""
    found = 0
    for view in views:
        arrays: list[NDArray[Any]] = [view.inputs]
        for steps in view.stages:
            arrays += [steps.here, steps.after, steps.joint_actions, steps.goes_on]
            arrays += [steps.which, steps.block]
        for array in arrays if view.view == view.agent_index else []:
            found = zlib.crc32(np.ascontiguousarray(array).tobytes(), found)
    return found


def _alike(trace: LearningTrace, one: int, other: int) -> bool:
    """Whether two agents observe the same arrays."""
    spaces = trace.spaces or ()
    return spaces[one] == spaces[other] and all(
        kind is not None and kind[trace.agents[one]] is kind[trace.agents[other]]
        for steps in _steps(trace)
        for kind in (steps.observations, steps.next_observations)
    )


def _steps(trace: LearningTrace) -> list[Transitions]:
    """Return the steps of every stage."""
    return [stage.transitions for stage in trace.stages if stage.transitions is not None]


def _gather(trace: LearningTrace, agent_index: int) -> Gathered:
    agent, space = trace.agents[agent_index], (trace.spaces or ())[agent_index]
    observed = [
        np.asarray(kind[agent])
        for steps in _steps(trace)
        for kind in (steps.observations or {}, steps.next_observations or {})
    ]
    first, numbers = distinct_observations(observed, space)
    sizes = [len(first), *trace.n_actions, len(first), 2]
    stages = []
    for steps, here, after in zip(_steps(trace), numbers[::2], numbers[1::2], strict=True):
        actions = np.asarray(steps.joint_actions)
        over = np.zeros(len(here), np.bool_)
        if steps.terminations is not None:
            over = np.asarray(steps.terminations)
        places, which = number_columns([here, *actions.T, after, over], sizes)
        block, n_blocks = _blocks(np.asarray(steps.episode_ends))
        stages.append(
            Steps(
                here[places],
                after[places],
                actions[places].astype(np.int64),
                np.asarray(~over[places], dtype=np.float64),
                which,
                block,
                n_blocks,
            )
        )
    encoder = Encoder(space).standardised(first)
    inputs = input_features(encoder, first)
    return Gathered(inputs, tuple(stages), agent_index, trace.n_actions, encoder, agent_index)


def _blocks(episode_ends: NDArray[np.bool_]) -> tuple[IntArray, int]:
    """Return the block of every step and the number of blocks; see `BLOCKS`."""
    episode: IntArray = np.cumsum(episode_ends) - episode_ends
    n_episodes = int(episode[-1]) + 1
    if n_episodes >= BLOCKS:
        return episode.astype(np.int64), n_episodes
    n_blocks = min(BLOCKS, len(episode))
    return np.arange(len(episode)) * n_blocks // len(episode), n_blocks


def number_columns(columns: Sequence[NDArray[Any]], sizes: Sequence[int]) -> tuple[IntArray, ...]:
    """Number the distinct rows of a table of whole numbers.

    Args:
        columns: of the table, each `(n,)`, whole numbers in `0..size - 1`.
        sizes: size of each column.

    Returns:
        The first place of each distinct row `(n_distinct,)`, in lexicographic order of the rows,
        and the number of the distinct row of every row `(n,)`.
    """
    key, bound = np.zeros(len(columns[0]), dtype=np.int64), 1
    for column, size in zip(columns, sizes, strict=True):
        if bound * size > _LARGEST:
            places, key = _number(key, bound)
            bound = len(places)
        key, bound = key * size + column, bound * size
    return _number(key, bound)


def distinct_observations(
    arrays: Sequence[NDArray[Any]], space: AnySpace
) -> tuple[NDArray[Any], list[IntArray]]:
    """Find the distinct observations in some arrays `(n, ...)` of one space.

    Returns:
        The distinct observations `(n_distinct, ...)`, and per array the number of each observation.
    """
    if isinstance(space, (spaces.Discrete, spaces.MultiDiscrete)):
        starts, sizes = discrete_range(space)
        keyed = [
            _digits(array.reshape(len(array), -1).astype(np.int64) - starts, sizes)
            for array in arrays
        ]
    else:
        keyed = [[_hashed(array)] for array in arrays]
        sizes = np.array([_LARGEST])
    lengths = np.cumsum([0, *(len(array) for array in arrays)])
    # array by array, so that only one of them at a time is held as 64-bit keys per digit
    partial = [number_columns(columns, sizes.tolist()) for columns in keyed]
    firsts = [array[places] for array, (places, _) in zip(arrays, partial, strict=True)]
    heads = [
        [column[places] for column in columns]
        for columns, (places, _) in zip(keyed, partial, strict=True)
    ]
    joined = [np.concatenate(columns) for columns in zip(*heads, strict=True)]
    places, number = number_columns(joined, sizes.tolist())
    lengths = np.cumsum([0, *(len(first) for first in firsts)])
    numbers = [
        number[begin:end][which]
        for begin, end, (_, which) in zip(lengths[:-1], lengths[1:], partial, strict=True)
    ]
    return np.concatenate(firsts)[places], numbers


def _digits(digits: IntArray, sizes: NDArray[np.int64]) -> list[IntArray]:
    if digits.size and not np.all((digits >= 0) & (digits < sizes)):
        raise InputError("observations must lie in their space, but some digits are out of range")
    return list(digits.T)


def _number(key: IntArray, bound: int) -> tuple[IntArray, IntArray]:
    """Return the first places of the distinct keys, sorted by key, and the number of every key."""
    if bound > max(_TABLE, 4 * len(key)):
        _, places, which = np.unique(key, return_index=True, return_inverse=True)
        return places.astype(np.int64), which.astype(np.int64)
    first = np.full(bound, -1, dtype=np.int64)
    first[key[::-1]] = np.arange(len(key))[::-1]
    there = first >= 0
    return first[there], (np.cumsum(there) - 1)[key]


def _hashed(array: NDArray[Any]) -> IntArray:
    """Return a 62-bit key of the bytes of every row; two rows collide once in 1e18 pairs."""
    rows = np.ascontiguousarray(array.reshape(len(array), -1))
    if rows.dtype.kind == "f":
        rows = rows + 0.0  # -0.0 becomes 0.0
    words = rows.view(np.uint8).reshape(len(rows), -1)
    words = np.pad(words, ((0, 0), (0, -words.shape[1] % 8)))
    key = np.zeros(len(rows), dtype=np.uint64)
    for column in np.ascontiguousarray(words).view(np.uint64).T:
        key = (key ^ column) * np.uint64(0x9E3779B97F4A7C15)
        key ^= key >> np.uint64(29)
    return (key >> np.uint64(2)).astype(np.int64)
