"""Lines with bands over seeds, shared by the pictures that have a horizontal axis of stages."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from malfl_algos.report.arrays import student_band
from malfl_algos.report.style import Look
from malfl_algos.scores.means import INTERVAL
from malfl_algos.scores.registry import ScoreEntry

__all__ = [
    "axis_label",
    "band_note",
    "correlation_limits",
    "draw_band",
    "draw_series",
    "legend_columns",
    "shared_legend",
    "stage_axis",
]

FloatArray = NDArray[np.float64]


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


def correlation_limits(values: Iterable[FloatArray]) -> tuple[float, float]:
    """Axis limits for correlations `(n_seeds, ...)` and their intervals, cut at -1 and 1."""
    lows = [0.9]
    for array in values:
        points = np.concatenate([student_band(array).ravel(), array.ravel()])
        lows.extend(points[~np.isnan(points)])
    low = max(-1.0, min(lows))
    return low - 0.04 * (1.0 - low), 1.0 + 0.04 * (1.0 - low)


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
    )
