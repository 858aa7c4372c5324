"""One independently moving part of a game."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from malfl_env.arguments import typed
from malfl_env.errors import InputError

__all__ = ["Factor", "frozen", "make_read_only"]

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]
Number = TypeVar("Number", np.int64, np.float64)


@typed
@dataclass(frozen=True, eq=False)
class Factor:
    """One independently moving part of a game.

    Args:
        agents: indices of the agents whose actions move this factor, increasing.
        successors: int `(n_local, *n_actions of those agents, n_successors)`: local next states.
        probabilities: float, same shape: their probabilities; each `[local, *actions]` row is >= 0
            and sums to 1 (to 1e-12). The probabilities of a successor that a row holds more than
            once add up.

    Both arrays are kept as read-only copies, so that they cannot change after the checks. Copied
    and unpickled factors have read-only arrays, too.

    Raises:
        InputError: if the agents are not increasing, the shapes disagree, a successor is not a
            local state, or a row is not a probability distribution.
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
        object.__setattr__(self, "successors", frozen(successors, np.int64))
        object.__setattr__(self, "probabilities", frozen(probabilities, np.float64))

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore a copied or unpickled factor; its arrays are read-only again."""
        vars(self).update(state)
        make_read_only(self.successors, self.probabilities)

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


def frozen(array: NDArray[Any], dtype: type[Number]) -> NDArray[Number]:
    """The array itself if it can never be written to, otherwise a read-only copy."""
    if array.dtype == dtype and array.base is None and not array.flags.writeable:
        return array
    copied: NDArray[Number] = np.array(array, dtype=dtype)
    make_read_only(copied)
    return copied


def make_read_only(*arrays: NDArray[Any]) -> None:
    for array in arrays:
        array.flags.writeable = False
