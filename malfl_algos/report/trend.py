"""The trend: scores of rewards that are recovered from the first stages (the paper's Figure 3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from malfl_algos.report.run_files import Run, averages, distinct
from malfl_algos.report.series import (
    band_note,
    draw_series,
    legend_columns,
    score_limits,
    shared_legend,
    stage_axis,
)
from malfl_algos.report.style import (
    look,
    new_figure,
    new_panels,
    set_panel_title,
    set_title,
    soften,
)
from malfl_algos.scores.registry import ScoreEntry, score_groups

__all__ = ["draw", "trend_figure"]

FloatArray = NDArray[np.float64]

WIDTH = 8.6


def draw(run: Run) -> Figure | None:
    """Draw the trend; nothing where it was not asked for."""
    rows = run.read_table("trend.csv", ("family", "observer", "seed", "n_stages"))
    if not rows:
        return None
    scores = [entry for group in score_groups(rows[0]).values() for entry in group]
    lengths = sorted(distinct(rows, "n_stages"), key=int)
    observers = distinct(rows, "observer")
    axes = {"family": run.families, "observer": observers, "seed": run.seeds, "n_stages": lengths}
    table = averages(rows, axes, [score.name for score in scores])
    curves = {
        family: dict(zip(observers, by_observer, strict=True))
        for family, by_observer in zip(run.families, table, strict=True)
    }
    return trend_figure(curves, [int(h) for h in lengths], scores, n_seeds=len(run.seeds))


def trend_figure(
    curves: Mapping[str, Mapping[str, FloatArray]],
    lengths: Sequence[int],
    scores: Sequence[ScoreEntry],
    *,
    n_seeds: int,
) -> Figure:
    """Draw a row of panels per family: scores against the number of stages seen.

    Args:
        curves: per family and observer `(n_seeds, n_lengths, n_scores)`, agents averaged within a
            seed; NaN = not defined.
        lengths: the numbers of stages seen, increasing.
        scores: one column of panels each, drawn on the scale of the first.
        n_seeds: how many seeds there are.
    """
    observers = list(dict.fromkeys(name for family in curves.values() for name in family))
    looks = {name: look(index) for index, name in enumerate(observers)}
    legend_rows = -(-len(observers) // legend_columns(observers, WIDTH))
    row_height = 2.7 if len(observers) <= 5 else 3.4
    figure = new_figure(WIDTH, 1.0 + row_height * len(curves) + 0.22 * legend_rows)
    panels = new_panels(figure, len(curves), len(scores), sharex=True, sharey=True)
    for row, (family, by_observer) in zip(panels, curves.items(), strict=True):
        for position, (axes, score) in enumerate(zip(row, scores, strict=True)):
            for name, values in by_observer.items():
                draw_series(
                    axes,
                    lengths,
                    values[:, :, position],
                    looks[name],
                    label=name,
                    n_series=len(by_observer),
                )
            soften(axes)
            set_panel_title(axes, f"{family}, {score.title}")
        row[0].set_ylabel("correlation with the\nground-truth reward")
    for axes in panels[-1]:
        stage_axis(axes, lengths, "number of stages seen")
    every = [values for by_observer in curves.values() for values in by_observer.values()]
    panels[0, 0].set_ylim(score_limits(every, scores[0]))
    shared_legend(figure)
    note = band_note(n_seeds, "agents averaged within a seed")
    set_title(figure, "Correlation of rewards recovered from the first stages", note)
    return figure
