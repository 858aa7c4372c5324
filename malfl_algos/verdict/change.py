"""Whether the policies of a log change at all, from the counts alone."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import chdtrc

from malfl_algos.verdict.balance import ENOUGH

__all__ = ["policy_change"]

IntArray = NDArray[np.int64]


def policy_change(counts: IntArray) -> tuple[float, float] | None:
    """How far an agent's actions are from one policy for all stages.

    Pearson's chi-squared of homogeneity, summed over the states visited at least `ENOUGH` times:
    sum over (h, s, a) of (n - m)^2 / m with m_h(s, a) = n_h(s) n(s, a) / n(s).

    Args:
        counts: n, `(n_stages, n_states, n_actions)`.

    Returns:
        Chi-squared by its degrees of freedom, about 1 if the policy does not change, and the
        probability of one at least as large if so; None if no such state has visits in two stages
        and two actions.
    """
    visits, played = counts.sum(axis=2), counts.sum(axis=0)
    total = played.sum(axis=1)
    expected = visits[..., None] * (played / np.maximum(total, 1)[:, None])
    squares = np.where(expected > 0, (counts - expected) ** 2 / np.maximum(expected, 1e-12), 0)
    free = np.maximum((visits > 0).sum(axis=0) - 1, 0) * np.maximum((played > 0).sum(axis=1) - 1, 0)
    used = (total >= ENOUGH) & (free > 0)
    if not used.any():
        return None
    found, degrees = float(squares.sum(axis=(0, 2))[used].sum()), int(free[used].sum())
    return found / degrees, float(chdtrc(degrees, found))
