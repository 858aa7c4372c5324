"""How sure a mean over seeds is, without assuming a distribution: bootstrap intervals."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import stats

__all__ = ["N_RESAMPLES", "bootstrap_interval"]

N_RESAMPLES = 2000


def bootstrap_interval(
    values: Sequence[float], *, rng: np.random.Generator, level: float = 0.95
) -> tuple[float, float] | None:
    """Bias-corrected and accelerated bootstrap interval of a mean (Efron 1987).

    Args:
        values: one per seed, finite.
        rng: the only source of randomness; `N_RESAMPLES` resamples are drawn.
        level: of the interval, in (0, 1).

    Returns:
        Lower and upper end; both the value itself where all values are equal; None for fewer than
        two values. Of few values (below about ten) an interval covers less often than it says.
    """
    if len(values) < 2:
        return None
    if max(values) == min(values):
        return values[0], values[0]
    found = stats.bootstrap(
        (np.asarray(values, dtype=np.float64),),
        np.mean,
        n_resamples=N_RESAMPLES,
        confidence_level=level,
        method="BCa",
        rng=rng,
    ).confidence_interval
    return float(found.low), float(found.high)
