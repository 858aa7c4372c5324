"""The headline: how well each observer recovers the rewards of each family."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from malfl_algos.report.arrays import student_band
from malfl_algos.report.series import band_note, correlation_limits, shared_legend
from malfl_algos.report.style import (
    MUTED,
    Look,
    house_style,
    look,
    new_figure,
    set_title,
    soften,
)

__all__ = ["correlation_figure"]

FloatArray = NDArray[np.float64]

MEASURES = ("Pearson correlation", "Spearman correlation")
SEEDS_BELOW = 0.3
"""How far below its mean a family's seeds are drawn, as a part of the family's height."""
_SIDE_NOTE: dict[str, Any] = {"va": "center", "size": 8.5, "color": MUTED}
_VALUE: dict[str, Any] = {"va": "center", "size": 9.5, "color": "#222222"}


@house_style
def correlation_figure(
    correlations: Mapping[str, Mapping[str, FloatArray]], *, n_seeds: int
) -> Figure:
    """Draw, per observer and family, the mean correlation, its interval, and each seed as a dot.

    Args:
        correlations: per family and observer `(n_seeds, 2)`: Pearson's and Spearman's correlation
            over joint states, agents averaged within a seed; NaN = not defined.
        n_seeds: how many seeds there are.
    """
    families = list(correlations)
    observers = list(dict.fromkeys(name for family in families for name in correlations[family]))
    width = max(8.4, 6.6 + 0.09 * max(map(len, observers)))
    share = 0.76 / max(2, len(families))
    figure = new_figure(width, 1.75 + len(observers) * max(0.58, 0.25 * len(families)))
    panels = figure.subplots(1, 2, sharex=True, sharey=True)
    every = [values for by_observer in correlations.values() for values in by_observer.values()]
    panels[0].set_xlim(correlation_limits(every))
    panels[0].set_ylim(len(observers) - 0.5, -0.5)
    panels[0].set_yticks(range(len(observers)), observers, size=10.5, color="black")
    for measure, axes in enumerate(panels):
        _draw_ground(axes, len(observers))
        axes.set_xlabel(f"{MEASURES[measure]}\nwith the true reward")
        for index, family in enumerate(families):
            found = [correlations[family].get(name) for name in observers]
            _draw_family(
                axes,
                [None if values is None else values[:, measure] for values in found],
                look(index),
                offset=share * (index - (len(families) - 1) / 2 - SEEDS_BELOW / 2),
                seeds_below=share * SEEDS_BELOW if n_seeds > 1 else 0.0,
                label=family,
            )
    shared_legend(figure)
    note = band_note(n_seeds, "agents averaged within a seed")
    dots = "; small dots: seeds" if n_seeds > 1 else ""
    set_title(figure, "How well is the true reward recovered?", note + dots)
    return figure


def _draw_ground(axes: Axes, n_rows: int) -> None:
    soften(axes, grid="x")
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)
    for row in range(0, n_rows, 2):
        axes.axhspan(row - 0.5, row + 0.5, color="#f5f6f8", zorder=0)
    axes.text(1.02, -0.62, "mean", transform=axes.get_yaxis_transform(), size=8.5, color=MUTED)


def _draw_family(
    axes: Axes,
    values: Sequence[FloatArray | None],
    look: Look,
    *,
    offset: float,
    seeds_below: float,
    label: str,
) -> None:
    """One mark per observer; `values[row]` is `(n_seeds,)`, None where it was not run."""
    beside = axes.get_yaxis_transform()
    for row, by_seed in enumerate(values):
        if by_seed is None:
            continue
        height = row + offset
        low, mean, high = student_band(by_seed)
        if np.isnan(mean):
            axes.text(1.02, height, "not defined", transform=beside, **_SIDE_NOTE)
            continue
        if seeds_below:
            below = np.full(len(by_seed), height + seeds_below)
            axes.scatter(by_seed, below, s=9, color=look.colour, alpha=0.5, linewidth=0)
        if not np.isnan(low):
            axes.plot([low, high], [height, height], color=look.colour, linewidth=1.8)
        axes.plot(mean, height, look.marker, color=look.colour, **_MEAN_MARK)
        n_present = int((~np.isnan(by_seed)).sum())
        fewer = f" (n = {n_present})" if n_present < len(by_seed) else ""
        axes.text(1.02, height, f"{mean:.3f}{fewer}", transform=beside, **_VALUE)
    axes.plot([], [], look.marker, color=look.colour, label=label, **_MEAN_MARK)


_MEAN_MARK: dict[str, Any] = {"markersize": 7, "markeredgecolor": "white", "markeredgewidth": 0.8}
