"""What the observers hand to the mathematics: the data of a stage as arrays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["StageArrays", "Steps"]


class Steps(NamedTuple):
    """The steps of a stage in the order in which they were learned from.

    Args:
        states, next_states: int `(n_steps,)`, joint states before and after each step.
        joint_actions: int `(n_steps, n_agents)`.
        episode_ends: bool `(n_steps,)`: an episode ended or was cut after this step.
    """

    states: NDArray[Any]
    joint_actions: NDArray[Any]
    next_states: NDArray[Any]
    episode_ends: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class StageArrays:
    """The data of one stage, gathered under one joint policy.

    Args:
        joint_counts: int64 `(n_states, *n_actions)`: how often each joint action was played.
        steps: the steps themselves, for learner models that replay them.
    """

    joint_counts: NDArray[np.int64]
    steps: Steps | None = None

    def action_counts(self, agent_index: int) -> NDArray[np.int64]:
        """Counts of one agent's actions, `(n_states, n_actions)`."""
        others = tuple(axis for axis in range(1, self.joint_counts.ndim) if axis != agent_index + 1)
        return np.asarray(self.joint_counts.sum(axis=others), dtype=np.int64)
