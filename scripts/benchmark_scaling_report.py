"""The report of the line `scaling`: a table, fitted exponents, a figure of time and memory."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from benchmark_lines import cell, markdown, number, spread
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from malfl_algos.report.style import (
    MUTED,
    look,
    new_figure,
    new_panels,
    set_title,
    soften,
)

SERIES = (
    ("learning", "exact learning, all stages"),
    ("recovery", "recovery, all agents"),
    ("per_iteration", "one iteration of it"),
)


def fits(rows: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Power laws of the time per iteration in joint states x joint actions, by least squares in
    the logarithms: over the boards with two agents, which form one series, and over their larger
    half, where fixed costs weigh less.
    """
    points = sorted(
        (row["n_states"] * row["n_joint_actions"], row["per_iteration"]["median"])
        for row in rows
        if row.get("per_iteration") and row["n_agents"] == 2
    )
    found = {}
    for name, used in (("all boards", points), ("larger half", points[len(points) // 2 :])):
        if len(used) > 1:
            sizes, seconds = np.log(used).T
            exponent, constant = np.polyfit(sizes, seconds, 1)
            found[name] = {
                "exponent": float(exponent),
                "constant": float(constant),
                "from": used[0][0],
                "to": used[-1][0],
                "games": len(used),
            }
    return found


def table(found: Mapping[str, Any]) -> str:
    """Games as a Markdown table, and the fitted exponents below it."""
    head = (
        "game | joint states | joint actions | noise and prior | learning, s | recovery, s | aim | "
        "solver | iterations | per iteration, ms | peak memory, GB | Pearson r | dense / iterative"
    )
    lines = [markdown(head.split(" | "), map(_cells, found["games"])), ""]
    for name, fit in found["fits"].items():
        lines.append(
            f"time per iteration ~ (joint states x joint actions)^{fit['exponent']:.3f}, "
            f"{name}: {fit['games']} boards, {fit['from']:,} to {fit['to']:,}"
        )
    return "\n".join(lines)


def _cells(row: Mapping[str, Any]) -> list[str]:
    about = [row["game"], f"{row['n_states']:,}", f"{row['n_joint_actions']:,}"]
    if "fault" in row:
        return [*about, row["noise_and_prior"], *[""] * 8, f"FAILED: {row['fault']}"]
    aim = [] if row["aim_seconds"] is None else [f"{row['aim_seconds']:g} s"]
    aim += [] if row["aim_bytes"] is None else [f"{row['aim_bytes'] / 1e9:g} GB"]
    each, solvers = row["per_iteration"], row["solvers"]
    return [
        *about,
        row["noise_and_prior"],
        cell(row["learning"]),
        cell(row["recovery"]),
        ", ".join(aim),
        row["solver"],
        ", ".join(map(str, row["iterations"] or [])),
        cell(spread(1000 * np.array(each["values"]))) if each else "",
        number(row["peak_bytes"] / 1e9),
        f"{min(row['pearson']):.6f}",
        cell(solvers["ratio"]) if solvers else "",
    ]


def scaling_figure(found: Mapping[str, Any]) -> Figure:
    """Draw what `benchmark_scaling.scaling` returns, both axes logarithmic.

    Args:
        found: the results; failed games are skipped.
    """
    rows = [row for row in found["games"] if "fault" not in row]
    figure = new_figure(9.5, 4.4)
    set_title(
        figure,
        "Time and memory of exact learning and recovery by size of the game",
        f"MA-SPI, {found['stages']} stages, and ma-lfl-bellman; filled: boards with 2 agents, "
        "hollow: 3x3 with more",
    )
    time, memory = new_panels(figure, 1, 2)[0]
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
    for axes, label in ((time, "time (s)"), (memory, "peak memory (GB)")):
        axes.set(xscale="log", yscale="log", xlabel="joint states x joint actions", ylabel=label)
        soften(axes)
    time.legend(fontsize=9.5, frameon=False, handlelength=3.2)
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
