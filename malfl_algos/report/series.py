"""Means over seeds with their intervals, as lines with bands or as points with bars."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from malfl_algos.report.style import Look
from malfl_algos.scores.means import mean_interval
from malfl_algos.scores.registry import ScoreEntry

__all__ = [
    "draw_band",
    "draw_points",
    "draw_series",
    "score_limits",
    "side_by_side",
    "student_band",
]

FloatArray = NDArray[np.float64]


def student_band(values: FloatArray) -> FloatArray:
    """Mean over seeds and its 95 % Student t interval.

    Args:
        values: `(n_seeds, ...)`; NaN = missing.

    Returns:
        `(3, ...)`: lower end, mean, upper end. The mean is NaN where no seed has a value, the ends
        where fewer than two seeds have one.
    """
    columns = values.reshape(len(values), -1).T
    band = np.full((3, len(columns)), np.nan)
    for position, column in enumerate(columns):
        present = {seed: [float(v)] for seed, v in enumerate(column) if not np.isnan(v)}
        result = mean_interval(present)
        if result.mean is not None:
            band[1, position] = result.mean
        if result.interval is not None:
            band[[0, 2], position] = result.interval
    return band.reshape(3, *values.shape[1:])


def draw_series(
    axes: Axes,
    positions: Sequence[int],
    values: FloatArray,
    look: Look,
    *,
    label: str,
    n_series: int,
) -> None:
    """Draw the mean over seeds as a line with markers, and its 95 % Student t interval as a band.

    Args:
        positions: `(n_positions,)`, on the horizontal axis.
        values: `(n_seeds, n_positions)`; NaN = missing and leaves a gap. There is no band where
            fewer than two seeds have a value.
        look: of the line.
        label: of the line, in the legend.
        n_series: number of series in the panel; many series have paler bands.
    """
    draw_band(axes, positions, student_band(values), look, label=label, n_series=n_series)


def draw_band(
    axes: Axes,
    positions: Sequence[float],
    band: FloatArray,
    look: Look,
    *,
    label: str,
    n_series: int,
) -> None:
    """Draw a line with markers, and a band around it.

    Args:
        band: `(3, n_positions)`: lower end, line, upper end.
        positions, look, label, n_series: as in `draw_series`.
    """
    low, mean, high = band
    axes.fill_between(
        positions,
        low,
        high,
        color=look.colour,
        alpha=0.16 if n_series <= 5 else 0.07,
        linewidth=0,
    )
    axes.plot(
        positions,
        mean,
        color=look.colour,
        marker=look.marker,
        linestyle=look.dash,
        linewidth=1.6,
        markersize=4.5,
        label=label,
    )


def draw_points(
    axes: Axes, positions: Sequence[float] | FloatArray, band: FloatArray, look: Look, *, label: str
) -> None:
    """Draw means as points with error bars, for positions that no line should join.

    Args:
        positions: `(n_positions,)`, on the horizontal axis.
        band: `(3, n_positions)`: lower end, mean, upper end; NaN = missing.
        look: of the points.
        label: in the legend.
    """
    low, mean, high = band
    axes.errorbar(
        positions,
        mean,
        yerr=np.nan_to_num(np.stack([mean - low, high - mean])),
        color=look.colour,
        marker=look.marker,
        linestyle="none",
        elinewidth=1.4,
        markersize=5,
        label=label,
    )


def side_by_side(n_positions: int, index: int, n_series: int) -> FloatArray:
    """Horizontal positions of one of several series whose points share 0, 1, 2, ...

    Args:
        n_positions: number of points.
        index, n_series: which series of how many.
    """
    return np.arange(n_positions, dtype=np.float64) + 0.6 * ((index + 0.5) / n_series - 0.5)


def score_limits(values: Iterable[FloatArray], score: ScoreEntry) -> tuple[float, float]:
    """Axis limits for a score `(n_seeds, ...)` and its intervals, cut at the score's bounds.

    The better end of the score's range is always shown; if neither end is better, both are.
    """
    found = [np.concatenate([student_band(array).ravel(), array.ravel()]) for array in values]
    points = np.concatenate([array[~np.isnan(array)] for array in found])
    low, high = (float(points.min()), float(points.max())) if len(points) else (0.0, 0.0)
    lower, upper = score.bounds
    if upper is not None and score.lower_is_better is not True:
        low, high = min(low, upper - 0.1), upper
    if lower is not None and score.lower_is_better is not False:
        low, high = lower, max(high, lower + 0.1)
    low = low if lower is None else max(low, lower)
    high = high if upper is None else min(high, upper)
    margin = 0.04 * (high - low)
    return low - margin, high + margin
