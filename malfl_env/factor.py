"""One independently moving part of a game: local states and where actions lead from them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from malfl_env.errors import InputError

__all__ = ["Factor"]

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Factor:
    """One independently moving part of a game.

    Args:
        agents: indices of the agents whose actions move this factor, increasing.
        successors: int `(n_local, *n_actions of those agents, n_successors)`: local next states.
        probabilities: float, same shape: their probabilities; each `[local, *actions]` row is >= 0
            and sums to 1 (to 1e-12). Successors that stand twice in a row add up.

    Raises:
        InputError: where agents are not increasing, shapes disagree, a successor is not a local
            state, or a row is not a distribution.
    """

    agents: tuple[int, ...]
    successors: IntArray
    probabilities: FloatArray

    def __post_init__(self) -> None:
        successors, probabilities = self.successors, self.probabilities
        if list(self.agents) != sorted(set(self.agents)):
            raise InputError(f"agents of a factor must be increasing indices, got {self.agents}")
        n_axes = len(self.agents) + 2
        if successors.shape != probabilities.shape or successors.ndim != n_axes:
            raise InputError(
                f"a factor of {len(self.agents)} agents needs successors and probabilities of one "
                f"shape with {n_axes} axes, got {successors.shape} and {probabilities.shape}"
            )
        if successors.dtype.kind not in "iu":
            raise InputError(f"successors must be whole numbers, got dtype {successors.dtype}")
        if successors.size and (successors.min() < 0 or successors.max() >= len(successors)):
            raise InputError(
                f"successors must be local states 0..{len(successors) - 1}, "
                f"got {successors.min()}..{successors.max()}"
            )
        self._check_distributions()
        object.__setattr__(self, "successors", successors.astype(np.int64, copy=False))
        object.__setattr__(self, "probabilities", probabilities.astype(np.float64, copy=False))

    def _check_distributions(self) -> None:
        row_sums = self.probabilities.sum(axis=-1)
        wrong = ~(np.abs(row_sums - 1.0) <= 1e-12) | ~np.all(self.probabilities >= 0, axis=-1)
        if np.any(wrong):
            where = tuple(int(axis) for axis in np.argwhere(wrong)[0])
            raise InputError(
                f"transition probabilities must be >= 0 and sum to 1 for every local state and "
                f"action; row {where} is {self.probabilities[where].tolist()}"
            )

    @property
    def n_local(self) -> int:
        """Number of local states."""
        return len(self.successors)

    @property
    def deterministic(self) -> bool:
        """Whether every local state and action has one successor."""
        return bool(self.successors.shape[-1] == 1)
