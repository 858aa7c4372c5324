"""Figures of the study: correlation against the amount of data, and calibration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator
from numpy.typing import NDArray

from malfl_algos.report.series import draw_points, draw_series, side_by_side, student_band
from malfl_algos.report.style import (
    MUTED,
    Look,
    band_note,
    legend_columns,
    look,
    new_figure,
    new_panels,
    png_bytes,
    set_panel_title,
    set_title,
    shared_legend,
    soften,
)
from malfl_algos.storage.durable import write_bytes

__all__ = ["calibration_figure", "data_efficiency_figure", "write_study_figures"]

FloatArray = NDArray[np.float64]
Rows = Sequence[Mapping[str, Any]]
Curves = Mapping[str, Mapping[str, FloatArray]]
"""Per panel and series `(n_seeds, n_positions)`, agents averaged within a seed; NaN = missing."""

WIDTH = 9.6
COVERAGES = ("coverage_1sd", "coverage_2sd", "coverage_3sd")
NOMINAL = (0.6827, 0.9545, 0.9973)
CORRELATIONS = (-0.5, 0.0, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999)
"""Ticks of the axis on which the distance to 1 is logarithmic."""
CLOSEST = 5e-4
"""Smallest distance to 1 on this axis; smaller distances are drawn as this one."""


def write_study_figures(
    rows: Rows, folder: Path, *, main_games: Sequence[str], observers: Sequence[str]
) -> list[Path]:
    """Draw the figures for which there are rows.

    Args:
        rows: of a study, one per game, learner, data, seed, observer and agent.
        folder: for the figures.
        main_games: these are drawn in separate figures from the other games.
        observers: all labels, in the order that gives them their looks.

    Returns:
        The files written.
    """
    varied = [row for row in rows if row["data"] != "policies"]
    looks = {name: look(index) for index, name in enumerate(observers)}
    others = list(dict.fromkeys(r["game"] for r in varied if r["game"] not in main_games))
    figures = {
        "data_efficiency.png": _efficiency(varied, main_games, looks),
        "data_efficiency_other_games.png": _efficiency(varied, others, looks),
        "calibration.png": _calibration(varied, main_games),
        "calibration_other_games.png": _calibration(varied, others),
    }
    written = []
    for name, figure in figures.items():
        if figure is not None:
            write_bytes(folder / name, png_bytes(figure))
            written.append(folder / name)
    return written


def data_efficiency_figure(
    curves: Curves, episodes: Sequence[int], looks: Mapping[str, Look], *, n_seeds: int
) -> Figure:
    """Draw Pearson r against episodes per stage, one panel per game and kind of learner.

    Args:
        curves: Pearson r per panel and observer, positions as `episodes`.
        episodes: per stage, increasing.
        looks: of every observer.
        n_seeds: the largest number of seeds of any panel.
    """
    present = [name for name in looks if any(name in panel for panel in curves.values())]
    legend_rows = -(-len(present) // legend_columns(present, WIDTH))
    n_columns = 2 if len(curves) <= 4 else 3
    n_rows = -(-len(curves) // n_columns)
    figure = new_figure(WIDTH, 0.9 + 3.1 * n_rows + 0.22 * legend_rows)
    panels = new_panels(figure, n_rows, n_columns, sharex=True, sharey=True)
    for axes in panels.flat[len(curves) :]:
        axes.set_visible(False)
    for axes, (title, by_observer) in zip(panels.flat, curves.items(), strict=False):
        for name in (name for name in present if name in by_observer):
            draw_series(
                axes, episodes, by_observer[name], looks[name], label=name, n_series=len(present)
            )
        soften(axes)
        set_panel_title(axes, title)
        _episode_axis(axes, episodes)
    _error_axis(panels[0, 0], [v for panel in curves.values() for v in panel.values()])
    for row in panels:
        row[0].set_ylabel("Pearson r with the ground-truth\nreward (log distance to 1)")
    shared_legend(figure)
    note = band_note(n_seeds, "agents averaged within a seed")
    set_title(figure, "Correlation of recovered rewards by amount of data", note)
    return figure


def calibration_figure(curves: Curves, *, n_seeds: int) -> Figure:
    """Draw the share of ground-truth values within 1, 2, 3 posterior sd, and the nominal shares.

    Args:
        curves: coverage per panel and amount of data, positions 1, 2, 3.
        n_seeds: the largest number of seeds of any panel.
    """
    names = list(dict.fromkeys(name for panel in curves.values() for name in panel))
    n_columns = min(4, len(curves))
    n_rows = -(-len(curves) // n_columns)
    figure = new_figure(WIDTH, 1.2 + 2.7 * n_rows)
    panels = new_panels(figure, n_rows, n_columns, sharex=True, sharey=True)
    for axes in panels.flat[len(curves) :]:
        axes.set_visible(False)
    for axes, (title, by_data) in zip(panels.flat, curves.items(), strict=False):
        for share in NOMINAL:
            axes.axhline(share, color=MUTED, linestyle="--", linewidth=1.0, zorder=1)
        for name in (name for name in names if name in by_data):
            index = names.index(name)
            draw_points(
                axes,
                side_by_side(3, index, len(names)),
                student_band(by_data[name]),
                look(index),
                label=name,
            )
        soften(axes)
        set_panel_title(axes, title)
        axes.set_xticks((0, 1, 2), ("1", "2", "3"))
        axes.set_xlim(-0.5, 2.5)
        axes.set_xlabel("posterior standard deviations")
        axes.tick_params(labelbottom=True)
    panels[0, 0].set_ylim(_lowest([v for panel in curves.values() for v in panel.values()]), 1.03)
    for row in panels:
        row[0].set_ylabel("share of ground-truth values within")
    shared_legend(figure)
    note = band_note(n_seeds, "agents averaged within a seed; dashed: nominal shares")
    set_title(figure, "Calibration of the posterior", note)
    return figure


def _efficiency(rows: Rows, games: Sequence[str], looks: Mapping[str, Look]) -> Figure | None:
    own = [row for row in rows if row["game"] in games]
    if not own:
        return None
    episodes = sorted({row["episodes"] for row in own})
    curves: dict[str, dict[str, FloatArray]] = {}
    for learner, game in _panels(own, games):
        panel = [row for row in own if (row["learner"], row["game"]) == (learner, game)]
        curves[f"{game}, {learner} learners{_fewer(panel, own)}"] = {
            name: _by_seed(
                [r for r in panel if r["observer"] == name],
                [(n, "pearson") for n in episodes],
            )
            for name in dict.fromkeys(row["observer"] for row in panel)
        }
    return data_efficiency_figure(curves, episodes, looks, n_seeds=_most_seeds(own))


def _calibration(rows: Rows, games: Sequence[str]) -> Figure | None:
    own = [r for r in rows if r["game"] in games and r["coverage_1sd"] is not None]
    if not own:
        return None
    curves: dict[str, dict[str, FloatArray]] = {}
    several = len({row["learner"] for row in own}) > 1
    for learner, game in _panels(own, games):
        panel = [row for row in own if (row["learner"], row["game"]) == (learner, game)]
        for name in dict.fromkeys(row["observer"] for row in panel):
            chosen = [row for row in panel if row["observer"] == name]
            title = f"{game}{_fewer(chosen, own)}\n{name}" + (f", {learner}" if several else "")
            curves[title] = {
                f"{n} episodes per stage": _by_seed(
                    chosen,
                    [(n, coverage) for coverage in COVERAGES],
                )
                for n in sorted({row["episodes"] for row in chosen}, reverse=True)
            }
    return calibration_figure(curves, n_seeds=_most_seeds(own))


def _panels(rows: Rows, games: Sequence[str]) -> list[tuple[str, str]]:
    """Learner and game of every panel, ordered by learner, then by game."""
    there = {(row["learner"], row["game"]) for row in rows}
    learners = dict.fromkeys(row["learner"] for row in rows)
    return [(learner, game) for learner in learners for game in games if (learner, game) in there]


def _by_seed(rows: Rows, columns: Sequence[tuple[int, str]]) -> FloatArray:
    """`(n_seeds, n_columns)`: mean over agents of a measure, for a number of episodes each."""
    seeds = sorted({row["seed"] for row in rows})
    table = np.full((len(seeds), len(columns)), np.nan)
    for position, (episodes, measure) in enumerate(columns):
        for number, seed in enumerate(seeds):
            found = [
                row[measure]
                for row in rows
                if (row["seed"], row["episodes"]) == (seed, episodes) and row[measure] is not None
            ]
            if found:
                table[number, position] = np.mean(found)
    return table


def _most_seeds(rows: Rows) -> int:
    return len({row["seed"] for row in rows})


def _lowest(coverages: Sequence[FloatArray]) -> float:
    """Lower end of the axis of coverages: 0.1 below all means, and at most 0.5."""
    means = [student_band(array)[1] for array in coverages]
    lowest = min(float(np.nanmin(m, initial=0.6)) for m in means)
    return max(0.0, float(np.floor(10 * lowest)) / 10 - 0.1)


def _fewer(rows: Rows, every: Rows) -> str:
    """The number of seeds, for the title of a panel with fewer seeds than others."""
    n_seeds = _most_seeds(rows)
    return f" ({n_seeds} seeds)" if n_seeds < _most_seeds(every) else ""


def _episode_axis(axes: Axes, episodes: Sequence[int]) -> None:
    axes.set_xscale("log")
    axes.set_xlim(episodes[0] / 1.4, episodes[-1] * 1.4)
    axes.set_xticks(episodes, [f"{n}" for n in episodes])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("episodes per stage")
    axes.tick_params(labelbottom=True)


def _error_axis(axes: Axes, values: Sequence[FloatArray]) -> None:
    """Set a vertical axis on which 0.9, 0.99 and 0.999 are equally far apart."""

    def to_axis(correlation: FloatArray) -> FloatArray:
        return -np.log10(np.maximum(1 - np.asarray(correlation), CLOSEST))

    def from_axis(height: FloatArray) -> FloatArray:
        return 1 - 10.0 ** -np.asarray(height)

    bands = np.concatenate([student_band(array).ravel() for array in values])
    low = max(-1.0, min(float(np.nanmin(bands, initial=0.0)) - 0.05, 0.0))
    axes.set_yscale("function", functions=(to_axis, from_axis))
    axes.set_ylim(low, 1 - CLOSEST)
    axes.set_yticks([tick for tick in CORRELATIONS if tick >= low])
    axes.set_yticklabels([f"{tick:g}" for tick in CORRELATIONS if tick >= low])
    axes.yaxis.set_minor_locator(NullLocator())
