"""The steps of a trace as an observer of one agent takes them: each distinct one once, weighted.

Where observations repeat (a grid world has few), millions of steps are a few thousand distinct
ones, and every loss over steps is the same sum with far fewer terms. Where none repeats nothing is
lost. No table over states is made: an observation is known by its features alone.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from malfl_algos.networks.distinct import distinct_observations, number_columns
from malfl_algos.networks.encoding import Encoder
from malfl_algos.observation_trace import ObservationTrace
from malfl_algos.play.spaces import discrete_range

__all__ = ["Gathered", "Steps", "gather", "input_features"]

Features = NDArray[np.float32]
IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]

BLOCKS = 20
"""A stage of fewer episodes is cut into so many blocks of steps, which are resampled instead."""


@dataclass(frozen=True, eq=False)
class Steps:
    """The distinct steps of a stage.

    Args:
        here, after: int `(n_distinct,)`: row of the observation before and after in the features.
        joint_actions: int `(n_distinct, n_agents)`.
        goes_on: `(n_distinct,)`: 0 where the episode terminated, so that no value follows, else 1.
        which: int `(n_steps,)`: the distinct step of every step.
        block: int `(n_steps,)`: the episode of every step, or a part of one.
        n_blocks: how many there are.
    """

    here: IntArray
    after: IntArray
    joint_actions: IntArray
    goes_on: FloatArray
    which: IntArray
    block: IntArray
    n_blocks: int

    def counts(self, block_weights: FloatArray | None = None) -> FloatArray:
        """How often each distinct step was made, `(n_distinct,)`, blocks counted so often."""
        weights = None if block_weights is None else block_weights[self.block]
        found = np.bincount(self.which, weights=weights, minlength=len(self.here))
        return np.asarray(found, dtype=np.float64)


@dataclass(frozen=True, eq=False)
class Gathered:
    """All that one agent's observer reads.

    Args:
        inputs: float32 `(n_observations, width)`: features of the distinct observations.
        stages: distinct steps per stage.
        agent_index: whose observations these are.
        n_actions: of every agent.
        encoder: of the observations.
        view: number of the first agent that sees the same.
    """

    inputs: Features
    stages: tuple[Steps, ...]
    agent_index: int
    n_actions: tuple[int, ...]
    encoder: Encoder
    view: int

    @property
    def read(self) -> NDArray[np.bool_]:
        """Inputs that random layers read, `(width,)`: the values of digits, not their one-hots."""
        width = self.inputs.shape[1]
        n_values = width - self.encoder.width or width
        return np.asarray(np.arange(width) >= width - n_values)

    @property
    def repeats(self) -> bool:
        """Whether the same observation is mostly seen more than once."""
        return 2 * len(self.inputs) < sum(len(steps.which) for steps in self.stages)

    @property
    def n_own(self) -> int:
        """Number of the agent's own actions."""
        return self.n_actions[self.agent_index]

    def action_counts(
        self, stage: int, counts: FloatArray, agent_index: int | None = None
    ) -> tuple[IntArray, FloatArray]:
        """What an agent played where in a stage.

        Args:
            stage: its number.
            counts: of its distinct steps.
            agent_index: whose actions; None: the observing agent's own.

        Returns:
            The rows of observations seen, sorted, `(n,)`, and counts of actions `(n, n_actions)`.
        """
        agent = self.agent_index if agent_index is None else agent_index
        steps, n_actions = self.stages[stage], self.n_actions[agent]
        rows, place = np.unique(steps.here, return_inverse=True)
        flat = place * n_actions + steps.joint_actions[:, agent]
        table = np.bincount(flat, counts, minlength=len(rows) * n_actions).reshape(-1, n_actions)
        seen = table.sum(axis=1) > 0
        return rows[seen].astype(np.int64), table[seen]


def gather(trace: ObservationTrace) -> list[Gathered]:
    """The distinct observations and steps, as each agent sees them.

    Agents that share their observations share what is made of them.
    """
    found: list[Gathered] = []
    for index in range(len(trace.agents)):
        twin = next((other for other in range(index) if _alike(trace, other, index)), None)
        if twin is None:
            found.append(_gather(trace, index))
        else:
            found.append(replace(found[twin], agent_index=index))
    return found


def _alike(trace: ObservationTrace, one: int, other: int) -> bool:
    """Whether two agents' observations are the very same arrays."""
    return trace.spaces[one] == trace.spaces[other] and all(
        kind is not None and kind[trace.agents[one]] is kind[trace.agents[other]]
        for steps in trace.stages
        for kind in (steps.observations, steps.next_observations)
    )


def _gather(trace: ObservationTrace, agent_index: int) -> Gathered:
    agent, space = trace.agents[agent_index], trace.spaces[agent_index]
    observed = [
        np.asarray(kind[agent])
        for steps in trace.stages
        for kind in (steps.observations or {}, steps.next_observations or {})
    ]
    first, numbers = distinct_observations(observed, space)
    sizes = [len(first), *trace.n_actions, len(first), 2]
    stages = []
    for steps, here, after in zip(trace.stages, numbers[::2], numbers[1::2], strict=True):
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


def input_features(encoder: Encoder, observations: NDArray[Any]) -> Features:
    """What the networks take: the encoded observation and, of several digits, their values, too.

    A digit one-hot says nothing of the values between those seen; its value, standardised as if
    all were equally likely, does.
    """
    features = encoder.encode(observations)
    if not isinstance(encoder.space, spaces.MultiDiscrete):
        return features
    starts, sizes = discrete_range(encoder.space)
    digits = np.asarray(observations).reshape(len(features), -1)
    middle, spread = starts + (sizes - 1) / 2, np.sqrt(np.maximum(sizes**2 - 1, 1) / 12)
    return np.concatenate([features, ((digits - middle) / spread).astype(np.float32)], axis=1)


def _blocks(episode_ends: NDArray[np.bool_]) -> tuple[IntArray, int]:
    """Number of every step's episode, or of its part of the stage where there are few episodes."""
    episode: IntArray = np.cumsum(episode_ends) - episode_ends
    n_episodes = int(episode[-1]) + 1
    if n_episodes >= BLOCKS:
        return episode.astype(np.int64), n_episodes
    n_blocks = min(BLOCKS, len(episode))
    return np.arange(len(episode)) * n_blocks // len(episode), n_blocks
