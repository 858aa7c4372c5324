"""The compiled search for the prior variance of largest evidence.

The log evidence of a prior variance V takes the pivots of a tridiagonal matrix plus 1 / V. A search
evaluates it about twenty times for every noise that is tried.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from malfl_algos.work.compilation import compiled

__all__ = ["largest_on_grid", "log_evidence"]

GOLDEN = (3 - 5**0.5) / 2
ROUNDING = 2.2e-16**0.5
MOST_STEPS = 500


@compiled()
def log_evidence(
    diagonal: Any, beside: Any, gain: Any, rest: Any, log_variance: Any
) -> Any:  # pragma: no cover
    """Twice the log evidence; nan where the matrix is not positive definite in double precision.

    Args:
        diagonal, beside: of the information of all unknowns but the mean, tridiagonal.
        gain: square of the moment, which lies along the last axis.
        rest: twice the part that does not depend on the prior variance.
        log_variance: log of the prior variance.
    """
    n_unknowns = len(diagonal)
    if n_unknowns == 0:
        return rest
    shift = np.exp(-log_variance)
    pivot, spread = diagonal[0] + shift, n_unknowns * log_variance
    for i in range(n_unknowns):
        if i > 0:
            pivot = diagonal[i] + shift - beside[i - 1] / pivot * beside[i - 1]
        if not pivot > 0:
            return np.nan
        spread += np.log(pivot)
    return rest + gain / pivot - spread


@compiled()
def largest_on_grid(  # noqa: C901 - a compiled loop over plain arrays
    diagonal: Any, beside: Any, gain: Any, rest: Any, grid: Any, tolerance: Any
) -> Any:  # pragma: no cover
    """The largest of `log_evidence`, nan if it is nan anywhere, and the log variance there.

    Brent's bounded search (1973, Algorithms for Minimization without Derivatives, chapter 5)
    between the neighbours of the best point of the grid.

    Args:
        diagonal, beside, gain, rest: as `log_evidence` takes them.
        grid: log variances in increasing order.
        tolerance: of the log variance.
    """
    best, place = -np.inf, 0
    for i in range(len(grid)):
        value = log_evidence(diagonal, beside, gain, rest, grid[i])
        if np.isnan(value):
            return value, grid[i]
        if value > best:
            best, place = value, i
    low, high = grid[max(place - 1, 0)], grid[min(place + 1, len(grid) - 1)]
    x = second = third = low + GOLDEN * (high - low)
    at_x = -log_evidence(diagonal, beside, gain, rest, x)
    at_second = at_third = at_x
    step = before = 0.0
    for _ in range(MOST_STEPS):
        middle = (low + high) / 2
        least = ROUNDING * abs(x) + tolerance / 3
        if abs(x - middle) <= 2 * least - (high - low) / 2:
            break
        golden = True
        if abs(before) > least:  # a parabola through the last three points
            r = (x - second) * (at_x - at_third)
            q = (x - third) * (at_x - at_second)
            p = (x - third) * q - (x - second) * r
            q = 2 * (q - r)
            p, q = -p if q > 0 else p, abs(q)
            r, before = before, step
            if abs(p) < abs(q * r / 2) and q * (low - x) < p < q * (high - x):
                golden, step = False, p / q
                if x + step - low < 2 * least or high - x - step < 2 * least:
                    step = least if middle >= x else -least
        if golden:
            before = low - x if x >= middle else high - x
            step = GOLDEN * before
        there = x + (max(step, least) if step >= 0 else min(step, -least))
        value = -log_evidence(diagonal, beside, gain, rest, there)
        if value <= at_x:
            low, high = (x, high) if there >= x else (low, x)
            third, at_third, second, at_second = second, at_second, x, at_x
            x, at_x = there, value
            continue
        low, high = (there, high) if there < x else (low, there)
        if value <= at_second or second == x:
            third, at_third, second, at_second = second, at_second, there, value
        elif value <= at_third or third in (x, second):
            third, at_third = there, value
    return -at_x, x
