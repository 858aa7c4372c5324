"""An unknown discount: the profile of the log evidence, its maximum, and a 95 % interval.

The interval holds the discounts whose profile log evidence is less than `FALL` = 1.92, half the
95 % quantile of chi-squared with one degree of freedom, below the largest (profile likelihood;
Venzon and Moolgavkar 1988, Applied Statistics 37). The profile is searched in log(1 - discount),
the log of how far ahead learners look, in which it is nearly a parabola.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from malfl_algos.ma_lfl.alternation import AgentFit
from malfl_algos.ma_lfl.posterior import Posterior
from malfl_algos.ma_lfl.rule_averaging import decided
from malfl_algos.ma_lfl.settings import DISCOUNTS

__all__ = ["FALL", "DiscountProfile", "discount_profile", "profiled", "with_uncertain_discount"]

FloatArray = NDArray[np.float64]
Fit = Callable[[Mapping[str, Any]], list[AgentFit]]
"""The fits of all agents under some settings."""

FALL = 1.92
"""Fall of the log evidence at the ends of the interval."""
QUANTILE = 1.96
"""Half the length of the interval in standard deviations."""
REFINEMENTS = 4
"""Largest number of evaluations near the maximum, and near each end of the interval."""
CLOSE_FALL = 0.4
"""The fall at an end is found up to this."""
LEAST_GAIN = 0.02
"""The search for the maximum ends if its next step promises less than this."""
GRID = tuple(sorted({*DISCOUNTS, 0.02, 0.05, 0.1, 0.2}))
"""The discounts among which the search climbs: those of the settings, and small ones."""
DIGITS = 5
"""Discounts are rounded to so many decimals."""


@dataclass(frozen=True)
class DiscountProfile:
    """The profile log evidence of the discount.

    Args:
        best: the discount of largest evidence.
        interval: the 95 % interval; an open end is the end of the range that was tried.
        open_ends: `lower`, `upper`: ends of the range at which the evidence has not yet fallen.
        evidence: by discount, in increasing order.
    """

    best: float
    interval: tuple[float, float]
    open_ends: tuple[str, ...]
    evidence: Mapping[float, float]

    @property
    def places(self) -> tuple[float, float]:
        """A discount below and one above the best, whose evidence is known, for differences; the
        evaluated ones nearest to the ends of the interval. A discount of 0 is no neighbour of
        others: rewards of states then change nothing.
        """
        known = [one for one in self.evidence if one > 0 or self.best == 0]
        low, high = (min(known, key=lambda one: abs(one - end)) for end in self.interval)
        return low, high

    def diagnostics(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "discount_interval": list(self.interval),
            "discount_interval_open": list(self.open_ends),
            "discount_profile": {str(one): value for one, value in self.evidence.items()},
        }


def discount_profile(
    evidence: Callable[[float], float],
    start: float,
    *,
    grid: Sequence[float] = GRID,
) -> DiscountProfile:
    """Search the discount of largest evidence and the ends of its 95 % interval.

    From `start` the search climbs along the grid, goes to the vertices of parabolas through the
    best discounts, and finds the ends where the root of the fall, linear for a parabola, crosses
    the root of `FALL`. It takes about ten evaluations.

    Args:
        evidence: log evidence of a discount, all other settings chosen anew; deterministic.
        start: a discount of the grid.
        grid: in increasing order; its ends bound the search.
    """
    values: dict[float, float] = {}

    def tried(discount: float) -> float:
        if discount not in values:
            values[discount] = evidence(discount)
        return values[discount]

    _climb(tried, values, start, grid)
    for _ in range(REFINEMENTS):
        vertex = _vertex(values)
        if vertex is None:
            break
        tried(vertex)
    ends = [_end(tried, values, side, grid) for side in (-1, 1)]
    best = _best(values)
    open_ends = [name for name, end in zip(("lower", "upper"), ends, strict=True) if end is None]
    interval = (
        float(grid[0]) if ends[0] is None else min(ends[0], best),
        float(grid[-1]) if ends[1] is None else max(ends[1], best),
    )
    return DiscountProfile(best, interval, tuple(open_ends), dict(sorted(values.items())))


def profiled(
    candidates: Sequence[Mapping[str, Any]], fit: Fit
) -> tuple[list[Mapping[str, Any]], DiscountProfile]:
    """The candidates, the most probable of them first and at its best discount; and the profile.

    Args:
        candidates: settings, each with a discount of the grid.
        fit: the fits under settings, from all data.
    """
    first = candidates[0] if len(candidates) == 1 else decided(candidates, fit)[0]

    def evidence(discount: float) -> float:
        found = fit({**first, "discount": discount})
        return sum(one.posterior.evidence.log_evidence or 0.0 for one in found)

    profile = discount_profile(evidence, first["discount"])
    others = [own for own in candidates if own != first]
    return [{**first, "discount": profile.best}, *others], profile


def with_uncertain_discount(
    fits: Sequence[AgentFit],
    sides: Sequence[Sequence[AgentFit]],
    profile: DiscountProfile,
) -> list[AgentFit]:
    """The fits with the uncertainty of the discount in their covariance, to first order.

    The posterior mean moves from one end of the interval to the other by m_high - m_low. One
    standard deviation of the discount moves it by this over the distance in standard deviations,
    by the length of the interval in log(1 - discount).

    Args:
        fits: at the best discount.
        sides: the fits at the two `profile.places`.
        profile: of the discount.
    """
    low, high = map(_far, profile.places)
    length = _far(profile.interval[1]) - _far(profile.interval[0])
    if high == low or length == 0:
        return list(fits)
    share = length / (high - low) / (2 * QUANTILE)
    return [
        _moved(one, share, below, above) for one, below, above in zip(fits, *sides, strict=True)
    ]


def _moved(fit: AgentFit, share: float, below: AgentFit, above: AgentFit) -> AgentFit:
    own = fit.posterior
    if not isinstance(own, Posterior):
        return fit
    column = share * (above.posterior.mean - below.posterior.mean)[:, None]
    spread = column if own.spread is None else np.hstack([own.spread, column])
    return replace(fit, posterior=replace(own, spread=spread))


def _far(discount: float) -> float:
    return float(-np.log1p(-discount))


def _discount(far: float) -> float:
    return round(float(-np.expm1(-far)), DIGITS)


def _best(values: Mapping[float, float]) -> float:
    return max(sorted(values), key=values.__getitem__)


def _climb(
    tried: Callable[[float], float],
    values: Mapping[float, float],
    start: float,
    grid: Sequence[float],
) -> None:
    """Evaluate the grid until the best of it is known on both sides."""
    place = list(grid).index(start)
    while True:
        for one in range(max(place - 1, 0), min(place + 2, len(grid))):
            tried(grid[one])
        best = list(grid).index(_best(values))
        if best == place:
            return
        place = best


def _vertex(values: Mapping[float, float]) -> float | None:
    """The vertex of the parabola through the best discount and its neighbours; None if there is no
    maximum between them, or the gain is small.
    """
    best = _best(values)
    known = sorted(one for one in values if one > 0 or one == best)
    place = known.index(best)
    if place in (0, len(known) - 1):
        return None
    x = np.array([_far(one) for one in known[place - 1 : place + 2]])
    y = np.array([values[one] for one in known[place - 1 : place + 2]])
    second, first, level = np.polyfit(x - x[1], y - y[1], 2)
    if second >= 0 or first**2 / (-4 * second) + level < LEAST_GAIN:
        return None
    found = _discount(float(x[1] - first / (2 * second)))
    return None if found in values else found


def _end(
    tried: Callable[[float], float],
    values: Mapping[float, float],
    side: int,
    grid: Sequence[float],
) -> float | None:
    """Where the log evidence has fallen by `FALL` on one side of the best; None: nowhere.

    The evidence of a discount of 0 tells nothing about small ones, for rewards of states change
    nothing under it alone.
    """
    outside = sorted(
        (one for one in grid if one > 0 and side * (one - _best(values)) > 0), reverse=side < 0
    )
    for one in outside:
        if values[_best(values)] - tried(one) >= FALL:
            break
    for _ in range(REFINEMENTS):
        crossing = _crossing(values, side)
        if crossing is None:
            return None
        place = _discount(crossing)
        if place in values or abs(values[_best(values)] - tried(place) - FALL) < CLOSE_FALL:
            break
    found = _crossing(values, side)
    return None if found is None else _discount(found)


def _crossing(values: Mapping[float, float], side: int) -> float | None:
    """Where the root of the fall, linear between evaluated discounts, first is that of `FALL`."""
    best = _best(values)
    known = [one for one in values if one > 0 or one == best]
    outward = sorted((one for one in known if side * (one - best) >= 0), reverse=side < 0)
    falls = np.sqrt([max(values[best] - values[one], 0.0) for one in outward])
    beyond = np.flatnonzero(falls >= np.sqrt(FALL))
    if not beyond.size:
        return None
    after = int(beyond[0])
    near, far = _far(outward[after - 1]), _far(outward[after])
    share = (np.sqrt(FALL) - falls[after - 1]) / (falls[after] - falls[after - 1])
    return float(near + share * (far - near))
