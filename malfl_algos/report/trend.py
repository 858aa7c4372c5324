"""The trend: how well a reward is recovered from the first stages only (the paper's Figure 3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from malfl_algos.report.series import (
    band_note,
    correlation_limits,
    draw_series,
    legend_columns,
    shared_legend,
    stage_axis,
)
from malfl_algos.report.style import house_style, look, new_figure, set_title, soften

__all__ = ["trend_figure"]

FloatArray = NDArray[np.float64]

WIDTH = 8.6


@house_style
def trend_figure(
    curves: Mapping[str, Mapping[str, FloatArray]], lengths: Sequence[int], *, n_seeds: int
) -> Figure:
    """Draw a row of panels per family: correlation against the number of stages seen.

    Args:
        curves: per family and observer `(n_seeds, n_lengths, 2)`: Pearson's and Spearman's
            correlation, agents averaged within a seed; NaN = not defined.
        lengths: the numbers of stages seen, increasing.
        n_seeds: how many seeds there are.
    """
    observers = list(dict.fromkeys(name for family in curves.values() for name in family))
    looks = {name: look(index) for index, name in enumerate(observers)}
    legend_rows = -(-len(observers) // legend_columns(observers, WIDTH))
    row_height = 2.7 if len(observers) <= 5 else 3.4
    figure = new_figure(WIDTH, 1.0 + row_height * len(curves) + 0.22 * legend_rows)
    panels = figure.subplots(len(curves), 2, sharex=True, sharey=True, squeeze=False)
    for row, (family, by_observer) in zip(panels, curves.items(), strict=True):
        for measure, (axes, measure_name) in enumerate(
            zip(row, ("Pearson", "Spearman"), strict=True)
        ):
            for name, values in by_observer.items():
                draw_series(
                    axes,
                    lengths,
                    values[:, :, measure],
                    looks[name],
                    label=name,
                    n_series=len(by_observer),
                )
            soften(axes)
            axes.set_title(f"{family}, {measure_name}", loc="left")
        row[0].set_ylabel("correlation with\nthe true reward")
    for axes in panels[-1]:
        stage_axis(axes, lengths, "stages seen, h")
    every = [values for by_observer in curves.values() for values in by_observer.values()]
    panels[0, 0].set_ylim(correlation_limits(every))
    shared_legend(figure)
    note = band_note(n_seeds, "agents averaged within a seed")
    set_title(figure, "Reward recovered from the first h stages", note)
    return figure
