"""The choice of what a learning history leaves open: kernel of the prior, and share rho.

Every candidate is fitted to the first stages, and the evidence decides. One setting is searched at
a time along an ordered grid, from its start in the direction of larger evidence.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from malfl_algos.ma_lfl.low_rank_priors import Kernel

__all__ = ["RETAINED", "climb", "kernels", "log_prior", "uniform_start"]

FloatArray = NDArray[np.float64]

LENGTHS = (0.7, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 9.0, 14.0)
SHARES, LARGE_SHARE = (0.9, 0.99), 0.98
RETAINED = (0.0, 0.2, 0.4, 0.6, 0.75, 0.9)
"""Grids of the kernel's length, its smooth share (and that share in games too large for all
features), and rho.
"""
FIRST_LENGTH, SPREAD = 3.0, 0.4
"""Median of the length before anything was seen, and the standard deviation of its logarithm. The
first stages hardly tell the length.
"""
MARGIN = 3.0
"""A smooth prior replaces independent rewards if its log evidence is larger by more than this."""
SURE = 5.0
"""Counts contradict uniform policies if Pearson's statistic is this many standard deviations above
its mean.
"""


def kernels(kind: str, *, complete: bool) -> list[list[Kernel]]:
    """Grids of kernels to climb, each ordered by length.

    Args:
        kind: `iid`, `smooth` or `auto`.
        complete: whether the features of a prior can be complete; otherwise it has a rougher part
            instead of an independent one, and what the features leave out counts as noise.
    """
    if kind == "iid":
        return [[Kernel(1.0, 0.0)]]
    shares = SHARES if complete else (LARGE_SHARE,)
    smooth = [[Kernel(length, share, complete) for length in LENGTHS] for share in shares]
    return [*smooth, [Kernel(1.0, 0.0)]] if kind == "auto" and complete else smooth


def log_prior(kernel: Kernel) -> float:
    """Log prior density of a kernel up to a constant, `MARGIN` higher for independent rewards."""
    if not kernel.share:
        return MARGIN
    return -float(((np.log(kernel.length) - np.log(FIRST_LENGTH)) / SPREAD) ** 2) / 2


def climb(
    evidence: Callable[[Any], float], grid: Sequence[Any], *, start: int
) -> tuple[Any, dict[Any, float]]:
    """The entry of an ordered grid at a local maximum of the evidence, and what was tried."""
    tried: dict[Any, float] = {}

    def value(place: int) -> float:
        if not 0 <= place < len(grid):
            return -np.inf
        if grid[place] not in tried:
            tried[grid[place]] = evidence(grid[place])
        return tried[grid[place]]

    place = min(start, len(grid) - 1)
    for step in (-1, 1):
        while value(place + step) > value(place):
            place += step
    return grid[place], tried


def uniform_start(counts: Sequence[FloatArray]) -> bool:
    """Whether the counts of the first stage agree with uniform policies.

    Args:
        counts: per agent, `(n_states, n_actions)`.
    """
    statistic, degrees = 0.0, 0
    for own in counts:
        expected = own.sum(axis=-1, keepdims=True) / own.shape[-1]
        seen = expected[:, 0] > 0
        statistic += float(((own[seen] - expected[seen]) ** 2 / expected[seen]).sum())
        degrees += int(seen.sum()) * (own.shape[-1] - 1)
    return bool(statistic - degrees <= SURE * np.sqrt(2 * max(degrees, 1)))
