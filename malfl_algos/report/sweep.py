"""The figure of a sweep: a score against one key, with a line for each value of another key."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator
from numpy.typing import NDArray

from malfl_algos.report.series import draw_band, draw_points, side_by_side
from malfl_algos.report.style import (
    axis_label,
    legend_columns,
    look,
    new_figure,
    new_panels,
    set_panel_title,
    set_title,
    shared_legend,
    soften,
)
from malfl_algos.scores.means import INTERVAL, mean_of_rows
from malfl_algos.scores.registry import SCORES

__all__ = ["draw", "sweep_figure"]

FloatArray = NDArray[np.float64]
Rows = Sequence[Mapping[str, Any]]
Bands = Mapping[str, Mapping[str, FloatArray]]
"""Per panel and line `(3, n_positions)`: lower end, mean, upper end; NaN = missing."""

WIDTH = 9.6
_PANELS = ("family", "observer")
_LOGARITHMIC = 50.0
"""The axis of two positive numbers is logarithmic if they differ by this factor."""


def draw(rows: Rows, *, x: str, hue: str | None, measure: str) -> tuple[str, Figure] | None:
    """Draw means over seeds with Student t intervals; all other keys are averaged over.

    Args:
        rows: of the table of a sweep, in its order.
        x: the column on the horizontal axis.
        hue: the column with a line for each value; None for one line. Families and observers have
            separate panels unless they are `x` or `hue`.
        measure: the score.

    Returns:
        The name of the file, without `.png`, and the figure; None if no row has this score.
    """
    rows = [row for row in rows if row[measure] is not None]
    if not rows:
        return None
    positions = _distinct(rows, x)
    lines = [None] if hue is None else _distinct(rows, hue)
    split = [key for key in _PANELS if key not in (x, hue) and len(_distinct(rows, key)) > 1]
    bands: dict[str, dict[str, FloatArray]] = {}
    for row in rows:
        title = ", ".join(str(row[key]) for key in split)
        if title not in bands:
            panel = [r for r in rows if all(r[key] == row[key] for key in split)]
            bands[title] = {
                _label(hue, line): np.stack(
                    [_band(panel, {x: position, hue: line}, measure) for position in positions],
                    axis=1,
                )
                for line in lines
            }
    n_seeds = len({row["seed"] for row in rows})
    figure = sweep_figure(bands, positions, x=x, hue=hue, measure=measure, n_seeds=n_seeds)
    name = "_".join([measure, "by", x, *([] if hue is None else [hue])])
    return re.sub(r"[^A-Za-z0-9_.-]", "-", name), figure


def sweep_figure(
    bands: Bands, positions: Sequence[Any], *, x: str, hue: str | None, measure: str, n_seeds: int
) -> Figure:
    """Draw a panel for every family and observer.

    Args:
        bands: per panel and line the means and intervals.
        positions: values of `x`. Numbers are drawn on an axis, other values side by side.
        x, hue, measure: names for axes and title.
        n_seeds: the largest number of seeds of any mean.
    """
    labels = list(next(iter(bands.values())))
    n_columns = min(2 if len(bands) <= 4 else 3, len(bands))
    n_rows = -(-len(bands) // n_columns)
    legend_rows = -(-len(labels) // legend_columns(labels, WIDTH)) if hue else 0
    height = 1.0 + (3.6 if len(bands) == 1 else 2.9) * n_rows + 0.22 * legend_rows
    figure = new_figure(WIDTH if len(bands) > 1 else 7.2, height)
    panels = new_panels(figure, n_rows, n_columns, sharex=True, sharey=True)
    for axes in panels.flat[len(bands) :]:
        axes.set_visible(False)
    numeric = all(type(value) in (int, float) for value in positions)
    for axes, (title, by_line) in zip(panels.flat, bands.items(), strict=False):
        for index, (label, band) in enumerate(by_line.items()):
            if numeric:
                draw_band(axes, positions, band, look(index), label=label, n_series=len(by_line))
            else:
                aside = side_by_side(len(positions), index, len(by_line))
                draw_points(axes, aside, band, look(index), label=label)
        soften(axes, grid="both" if numeric else "y")
        set_panel_title(axes, title)
        _horizontal_axis(axes, positions, x, numeric=numeric)
    for row in panels:
        row[0].set_ylabel(axis_label(SCORES[measure]))
    if hue is not None:
        shared_legend(figure)
    interval = f"{INTERVAL} over {n_seeds} seeds" if n_seeds > 1 else "one seed"
    title = f"{SCORES[measure].title} by {_words(x)}" + (f" and {_words(hue)}" if hue else "")
    set_title(figure, title, f"mean and {interval}; all other keys averaged within a seed")
    return figure


def _band(rows: Rows, wanted: Mapping[str | None, Any], measure: str) -> FloatArray:
    """`(3,)`: lower end, mean, upper end over seeds."""
    own = [
        row
        for row in rows
        if all(_same(row[key], value) for key, value in wanted.items() if key is not None)
    ]
    found = mean_of_rows(own, measure).columns()
    return np.array([found[name] for name in ("low", "mean", "high")], dtype=np.float64)


def _distinct(rows: Rows, key: str) -> list[Any]:
    """The values of a column: numbers sorted, other values in order of appearance."""
    values = list({json.dumps(row[key]): row[key] for row in rows}.values())
    numeric = all(type(value) in (int, float) for value in values)
    return sorted(values) if numeric else values


def _same(one: Any, other: Any) -> bool:
    return json.dumps(one) == json.dumps(other)


def _label(hue: str | None, value: Any) -> str:
    if hue is None:
        return "mean"
    text = value if isinstance(value, str) else json.dumps(value)
    return (
        text if hue in _PANELS or hue == "learner" else f"{_words(hue.rpartition('.')[2])} {text}"
    )


def _horizontal_axis(axes: Axes, positions: Sequence[Any], name: str, *, numeric: bool) -> None:
    axes.set_xlabel(_words(name))
    axes.tick_params(labelbottom=True)
    if not numeric:
        labels = [v if isinstance(v, str) else json.dumps(v) for v in positions]
        axes.set_xticks(range(len(labels)), [_short(label) for label in labels])
        axes.set_xlim(-0.5, len(labels) - 0.5)
        if sum(map(len, labels)) > 24:
            axes.tick_params(axis="x", labelrotation=20)
        return
    if _logarithmic(positions):
        axes.set_xscale("log")
        axes.xaxis.set_minor_locator(NullLocator())
    if len(positions) <= 8:
        axes.set_xticks(list(positions), [f"{value:g}" for value in positions])


def _words(key: str) -> str:
    """The name of a column for readers: `learner.options.step_size` is `step size (learner)`."""
    *owners, name = key.split(".")
    owners = [owner for owner in owners if owner not in ("options", "observer_options")]
    return name.replace("_", " ") + (f" ({', '.join(owners)})" if owners else "")


def _logarithmic(positions: Sequence[float]) -> bool:
    """Whether the numbers are positive and more evenly spaced in their logarithms."""
    if min(positions) <= 0:
        return False
    if len(positions) < 3:
        return max(positions) / min(positions) >= _LOGARITHMIC
    plain, log = np.diff(positions), np.diff(np.log(positions))
    return bool(np.std(log) / np.mean(log) < np.std(plain) / np.mean(plain) - 1e-9)


def _short(text: str) -> str:
    return text if len(text) <= 24 else text[:21] + "..."
