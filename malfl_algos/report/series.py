"""Bands over seeds, and what figures draw alike: lines with bands, axes, notes and legends.

A score is missing where it is not defined (a constant ground truth, a constant estimate): files of
a run hold null or an empty cell, arrays here NaN.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from malfl_algos.report.style import Look
from malfl_algos.scores.means import INTERVAL, mean_interval
from malfl_algos.scores.registry import ScoreEntry

__all__ = [
    "axis_label",
    "band_note",
    "draw_band",
    "draw_series",
    "legend_columns",
    "score_limits",
    "shared_legend",
    "stage_axis",
    "standardise",
    "student_band",
]

FloatArray = NDArray[np.float64]


def student_band(values: FloatArray) -> FloatArray:
    """Mean over seeds, and its 95 % Student t interval.

    Args:
        values: `(n_seeds, ...)`; NaN = missing.

    Returns:
        `(3, ...)`: lower end, mean, upper end. A mean is NaN where no seed has a value, an end
        where fewer than two have one.
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
        positions: `(n_positions,)`, the horizontal axis.
        n_series: how many share the panel; the more, the paler the bands.
        values: `(n_seeds, n_positions)`; NaN = missing, leaves a gap. No band where fewer than two
            seeds have a value.
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
    """Draw a line with markers and a band about it.

    Args:
        positions: `(n_positions,)`, the horizontal axis.
        band: lower end, middle and upper end, `(3, n_positions)`.
        n_series: how many share the panel; the more, the paler the bands.
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


def stage_axis(axes: Axes, positions: Sequence[int], label: str) -> None:
    """Whole-number ticks over the positions that there are."""
    pad = max(0.3, 0.03 * (positions[-1] - positions[0]))
    axes.set_xlim(positions[0] - pad, positions[-1] + pad)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=11, integer=True, min_n_ticks=1))
    axes.set_xlabel(label)


def axis_label(score: ScoreEntry) -> str:
    """What stands beside the axis of a score: its name, unit, and which end is better."""
    unit = f" ({score.unit})" if score.unit else ""
    if score.lower_is_better is None:
        return f"{score.title}{unit}"
    return f"{score.title}{unit}\n{'lower' if score.lower_is_better else 'higher'} is better"


def score_limits(values: Iterable[FloatArray], score: ScoreEntry) -> tuple[float, float]:
    """Axis limits for a score `(n_seeds, ...)` and its intervals, cut at the score's bounds.

    The better end of the score's range is always shown, both ends where neither is better.
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


def band_note(n_seeds: int, averaged: str) -> str:
    """The sentence under a title that says what line and band are."""
    if n_seeds < 2:
        return f"one seed, so no interval; {averaged}"
    return f"mean and {INTERVAL} over {n_seeds} seeds; {averaged}"


def legend_columns(labels: Collection[str], width: float) -> int:
    """How many columns of a legend with these labels fit into a width in inches, at most 6."""
    column = 0.7 + 0.075 * max(map(len, labels))
    return max(1, min(6, len(labels), int(width / column)))


def shared_legend(figure: Figure) -> None:
    """One legend below all panels, every label once, in order of first appearance."""
    entries: dict[str, Artist] = {}
    for axes in figure.axes:
        handles, labels = axes.get_legend_handles_labels()
        for handle, label in zip(handles, labels, strict=True):
            entries.setdefault(label, handle)
    figure.legend(
        list(entries.values()),
        list(entries),
        loc="outside lower center",
        ncols=legend_columns(entries, figure.get_figwidth()),
        fontsize=9.5,
        frameon=False,
        handlelength=3.2,
    )


def standardise(values: FloatArray) -> FloatArray:
    """Values, any shape, with mean 0 and standard deviation 1; what is not finite becomes NaN.

    A constant becomes 0.
    """
    finite = np.isfinite(values)
    present = values[finite]
    if not present.size:
        return np.full(values.shape, np.nan)
    spread = present.std()
    if spread <= 1e-12 * np.abs(present).max():
        spread = np.inf
    return np.where(finite, (np.where(finite, values, 0.0) - present.mean()) / spread, np.nan)
