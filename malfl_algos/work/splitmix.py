"""The random bits of compiled loops: SplitMix64 (Steele, Lea, Flood 2014)."""

from __future__ import annotations

from typing import Any

import numpy as np

from malfl_algos.work.compilation import compiled

__all__ = ["splitmix64"]


@compiled(inline="always")
def splitmix64(state: Any) -> Any:  # pragma: no cover
    """Output of SplitMix64 for a counter that has already been advanced."""
    z = state
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))
