"""The result of one step in several games."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["Moved", "Observations"]

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
Observations: TypeAlias = tuple[NDArray[Any], ...]


@dataclass(frozen=True, eq=False)
class Moved:
    """The result of one step in some of the games.

    Args:
        observations: per agent `(n, ...)`; the final observation of a game that ended.
        rewards: `(n, n_agents)`.
        terminated: bool `(n,)`: the game terminated for all agents.
        truncated: bool `(n,)`: the game was truncated.
    """

    observations: Observations
    rewards: FloatArray
    terminated: BoolArray
    truncated: BoolArray
