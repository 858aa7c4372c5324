"""The picture of the line `scaling`: time and memory against joint states x joint actions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from malfl_algos.report.style import MUTED, house_style, look, new_figure, set_title, soften

SERIES = (
    ("learning", "exact learning, all stages"),
    ("recovery", "recovery, all agents"),
    ("per_iteration", "one iteration of it"),
)


@house_style
def scaling_figure(found: Mapping[str, Any]) -> Figure:
    """Draw what `benchmark_scaling.scaling` returns, both axes logarithmic.

    Args:
        found: games that failed are left out.
    """
    rows = [row for row in found["games"] if "fault" not in row]
    figure = new_figure(9.5, 4.4)
    set_title(
        figure,
        "Exact learning and recovery as games grow",
        f"MA-SPI, {found['stages']} stages, and ma-lfl-bellman; filled: boards with 2 agents, "
        "hollow: 3x3 with more",
    )
    time, memory = figure.subplots(1, 2)
    for index, (key, label) in enumerate(SERIES):
        shown = [row for row in rows if row[key] is not None]
        _points(time, shown, [row[key]["median"] for row in shown], index=index, label=label)
    fit = found["fits"].get("larger half")
    if fit is not None:
        ends = np.array([fit["from"], fit["to"]], dtype=float)
        time.plot(
            ends,
            np.exp(fit["constant"]) * ends ** fit["exponent"],
            color=MUTED,
            linestyle=":",
            label=f"fit to larger boards: exponent {fit['exponent']:.2f}",
        )
    _points(memory, rows, [row["peak_bytes"] / 1e9 for row in rows], index=3, label="peak memory")
    for axes, title in ((time, "seconds"), (memory, "peak memory, GB")):
        axes.set(xscale="log", yscale="log", xlabel="joint states x joint actions", title=title)
        soften(axes)
    time.legend()
    memory.margins(x=0.12, y=0.12)
    memory.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    memory.yaxis.set_major_formatter("{x:g}")
    memory.yaxis.set_minor_formatter(NullFormatter())
    for row in rows:
        board = row["n_agents"] == 2
        memory.annotate(
            f"{row['size']}x{row['size']}" if board else row["game"],
            (_size(row), row["peak_bytes"] / 1e9),
            xytext=(-7, 4) if board else (-2, 8),
            textcoords="offset points",
            ha="right",
            color=MUTED,
            size=8,
        )
    return figure


def _points(
    axes: Axes,
    rows: Sequence[Mapping[str, Any]],
    values: Sequence[float],
    *,
    index: int,
    label: str,
) -> None:
    """Boards as a line with filled markers, teams as hollow markers of the same colour."""
    colour, marker, dash = look(index)
    for boards in (True, False):
        chosen = [n for n, row in enumerate(rows) if (row["n_agents"] == 2) == boards]
        axes.plot(
            [_size(rows[n]) for n in chosen],
            [values[n] for n in chosen],
            color=colour,
            marker=marker,
            markerfacecolor=colour if boards else "white",
            linestyle=dash if boards else "none",
            label=label if boards else None,
        )


def _size(row: Mapping[str, Any]) -> int:
    return int(row["n_states"] * row["n_joint_actions"])
