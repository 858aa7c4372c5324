"""Scores of every observer: one figure per group of scores, and the trend over stages seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from malfl_algos.report.run_files import Run, averages, distinct
from malfl_algos.report.series import draw_series, score_limits, student_band
from malfl_algos.report.style import (
    MUTED,
    Look,
    axis_label,
    band_note,
    legend_columns,
    look,
    new_figure,
    new_panels,
    set_margins,
    set_panel_title,
    set_title,
    shared_legend,
    soften,
    stage_axis,
)
from malfl_algos.scores.registry import CORRELATION, GROUPS, ScoreEntry, score_groups

__all__ = ["draw_scores", "draw_trend", "scores_figure", "trend_figure"]

FloatArray = NDArray[np.float64]

TREND_WIDTH = 8.6
SEEDS_BELOW = 0.3
"""Distance of a family's seeds below its mean, as a share of the family's height."""
NOMINAL = {"coverage_1sd": 0.683, "coverage_2sd": 0.954, "coverage_3sd": 0.997}
"""Shares within 1, 2 and 3 standard deviations of a calibrated Gaussian posterior."""
_SIDE_NOTE: dict[str, Any] = {"va": "center", "size": 8.5, "color": MUTED}
_VALUE: dict[str, Any] = {"va": "center", "size": 9.5, "color": "#222222"}


def draw_scores(run: Run, group: str) -> Figure | None:
    """Draw the scores of one group, of the observers that have any; None if none is defined."""
    scores = score_groups(run.results[0]).get(group, [])
    axes = {"family": run.families, "observer": run.observers, "seed": run.seeds}
    table = averages(run.results, axes, [score.name for score in scores])
    # an undefined correlation is a finding; an observer without a posterior is left out
    shown = [
        position
        for position in range(len(run.observers))
        if group == CORRELATION or not np.isnan(table[:, position]).all()
    ]
    if not shown or np.isnan(table).all():
        return None
    values = {
        family: {run.observers[position]: by_observer[position] for position in shown}
        for family, by_observer in zip(run.families, table, strict=True)
    }
    title = GROUPS.get(group, group)
    return scores_figure(values, scores, n_seeds=len(run.seeds), title=title)


def scores_figure(
    values: Mapping[str, Mapping[str, FloatArray]],
    scores: Sequence[ScoreEntry],
    *,
    n_seeds: int,
    title: str,
) -> Figure:
    """Draw, per score, observer and family, the mean, its interval, and each seed as a dot.

    Args:
        values: per family and observer `(n_seeds, n_scores)`, agents averaged within a seed; NaN =
            not defined.
        scores: one panel each.
        n_seeds: number of seeds.
        title: of the figure.
    """
    families = list(values)
    observers = list(dict.fromkeys(name for family in families for name in values[family]))
    width = max(8.4, 6.6 + 0.09 * max(map(len, observers)))
    share = 0.76 / max(2, len(families))
    n_rows = -(-len(scores) // 2)
    row_height = 0.75 + len(observers) * max(0.58, 0.25 * len(families))
    figure = new_figure(width, 1.0 + n_rows * row_height)
    same_range = len({score.bounds for score in scores}) == 1
    panels = new_panels(figure, n_rows, min(2, len(scores)), sharex=same_range, sharey=True)
    for axes in panels.flat[len(scores) :]:
        axes.set_visible(False)
    every = [array for by_observer in values.values() for array in by_observer.values()]
    panels[0, 0].set_ylim(len(observers) - 0.5, -0.5)
    panels[0, 0].set_yticks(range(len(observers)), observers)
    for position, (score, axes) in enumerate(zip(scores, panels.flat, strict=False)):
        _draw_ground(axes, len(observers))
        shown = every if same_range else [array[:, position] for array in every]
        axes.set_xlim(score_limits(shown, score))
        axes.set_xlabel(axis_label(score))
        axes.tick_params(labelbottom=True)
        if score.name in NOMINAL:
            axes.axvline(NOMINAL[score.name], color=MUTED, linestyle=":", linewidth=1.2)
        for index, family in enumerate(families):
            found = [values[family].get(name) for name in observers]
            _draw_family(
                axes,
                [None if array is None else array[:, position] for array in found],
                look(index),
                offset=share * (index - (len(families) - 1) / 2 - SEEDS_BELOW / 2),
                seeds_below=share * SEEDS_BELOW if n_seeds > 1 else 0.0,
                label=family,
            )
    shared_legend(figure)
    note = band_note(n_seeds, "agents averaged within a seed")
    dots = "; small dots: seeds" if n_seeds > 1 else ""
    nominal = "; dotted: nominal" if any(score.name in NOMINAL for score in scores) else ""
    set_title(figure, title, note + dots + nominal)
    return figure


def draw_trend(run: Run) -> Figure | None:
    """Draw scores against the stages seen (the paper's Figure 3); None if there are none."""
    rows = run.read_table("trend.csv", ("family", "observer", "seed", "n_stages"))
    if not rows:
        return None
    scores = [entry for group in score_groups(rows[0]).values() for entry in group]
    lengths = sorted(distinct(rows, "n_stages"), key=int)
    observers = distinct(rows, "observer")
    axes = {"family": run.families, "observer": observers, "seed": run.seeds, "n_stages": lengths}
    table = averages(rows, axes, [score.name for score in scores])
    if np.isnan(table).all():
        return None
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
        n_seeds: number of seeds.
    """
    observers = list(dict.fromkeys(name for family in curves.values() for name in family))
    looks = {name: look(index) for index, name in enumerate(observers)}
    legend_rows = -(-len(observers) // legend_columns(observers, TREND_WIDTH))
    row_height = 2.7 if len(observers) <= 5 else 3.4
    figure = new_figure(TREND_WIDTH, 1.0 + row_height * len(curves) + 0.22 * legend_rows)
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
    rows_of_legend = shared_legend(figure)
    note = band_note(n_seeds, "agents averaged within a seed")
    set_title(figure, "Correlation of rewards recovered from the first stages", note)
    shape = len(curves), len(scores)
    set_margins(
        figure, shape, left=0.95, title_lines=1, legend_rows=rows_of_legend, shared_axes=True
    )
    return figure


def _draw_ground(axes: Axes, n_rows: int) -> None:
    soften(axes, grid="x")
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0, labelsize=10.5, labelcolor="black")
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
    """Draw one mark per observer; `values[row]` is `(n_seeds,)`, or None if it was not run."""
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
