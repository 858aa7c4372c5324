"""Figures of the studies of boards seen in part: recovered and ground-truth rewards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from malfl_algos.report.style import (
    look,
    new_figure,
    new_panels,
    png_bytes,
    set_panel_title,
    set_title,
    soften,
)
from malfl_algos.storage.durable import write_bytes

__all__ = ["reward_figure", "write_network_figures"]

Cells = Sequence[Mapping[str, Any]]

SIDE = 3.1
MOST_BARS = 500


def write_network_figures(cells: Cells, folder: Path) -> list[Path]:
    """Draw figures of the first seed for every observer, board, learner, amount of data and form.

    A picture of the board is drawn for two agents and the first family.

    Args:
        cells: of the studies, as `scripts/networks.py` writes them.
        folder: for the figures.

    Returns:
        The files written.
    """
    keys = ("size", "learner", "episodes", "form", "observer")
    cells = [{"observer": "ma-lfl-network", **cell} for cell in cells]
    written = []
    for setting in sorted({tuple(cell[key] for key in keys) for cell in cells}):
        own = [cell for cell in cells if tuple(cell[key] for key in keys) == setting]
        first = min(cell["seed"] for cell in own)
        shown = sorted((c for c in own if c["seed"] == first), key=lambda c: str(c["family"]))
        size, learner, episodes, form, observer = setting
        kind = form if observer == "ma-lfl-network" else observer
        name = f"{size}x{size}_{learner}_{episodes}_{kind}.png"
        drawn = {f"rewards_{name}": reward_figure(shown)}
        agents = [one for cell in shown for one in cell["agents"]]
        if all(one["sd"] is not None for one in agents) and len(shown[0]["agents"]) == 2:
            drawn[f"boards_{name}"] = board_figure(shown[0])
        for file, figure in drawn.items():
            write_bytes(folder / file, png_bytes(figure))
            written.append(folder / file)
    return written


def reward_figure(cells: Cells) -> Figure:
    """Draw the recovered against the ground-truth reward of every joint state.

    Error bars show two posterior standard deviations.

    Args:
        cells: one per family, of one setting and seed. Each is a row with a panel per agent.
    """
    n_agents = len(cells[0]["agents"])
    figure = new_figure(SIDE * n_agents + 0.8, SIDE * len(cells) + 0.9)
    panels = new_panels(figure, len(cells), n_agents)
    for row, cell in zip(panels, cells, strict=True):
        for axes, one in zip(row, cell["agents"], strict=True):
            _panel(axes, one)
            set_panel_title(
                axes,
                f"{cell['family']}, {one['agent']}: r = {one['all']['pearson']:.3f}",
                loc="center",
            )
        row[0].set_ylabel("recovered reward, mean removed")
    for axes in panels[-1]:
        axes.set_xlabel("ground-truth reward, mean removed")
    one = cells[0]
    handles, labels = panels[0, 0].get_legend_handles_labels()
    if len(labels) > 1:
        figure.legend(handles, labels, loc="outside lower center", ncols=2)
    bars = "" if _crowded(one["agents"][0]) else "bars: two posterior sd; "
    set_title(
        figure,
        f"Recovered and ground-truth reward, {one['size']}x{one['size']} board",
        f"{one['learner']} learners, {one['episodes']} episodes per stage, seed {one['seed']}; "
        f"{bars}titles: Pearson r",
    )
    return figure


def board_figure(cell: Mapping[str, Any]) -> Figure:
    """Draw maps of agent 0's reward over its own cells, with the other agent on the middle cell:
    the ground-truth reward, the recovered one, and two posterior standard deviations.
    """
    size, n_cells = cell["size"], cell["size"] ** 2
    middle = size // 2 * size + size // 2
    own = cell["agents"][0]
    maps = [np.array(own[name]) for name in ("truth", "recovered", "sd")]
    maps = [maps[0] - maps[0].mean(), maps[1] - maps[1].mean(), 2 * maps[2]]
    shown = [table.reshape(n_cells, n_cells)[:, middle].reshape(size, size) for table in maps]
    most = max(float(np.abs(table).max()) for table in shown)
    figure = new_figure(SIDE * 3 + 0.8, SIDE + 0.9)
    panels = new_panels(figure, 1, 3)[0]
    titles = ("Ground-truth reward", "Recovered reward", "Error bars (two posterior sd)")
    for axes, table, title in zip(panels, shown, titles, strict=True):
        image = axes.imshow(table, cmap="RdBu_r", vmin=-most, vmax=most)
        axes.plot(size // 2, size // 2, "o", color="#333333", markersize=5)
        axes.set_xticks([])
        axes.set_yticks([])
        set_panel_title(axes, title, loc="center")
    figure.colorbar(image, ax=list(panels), shrink=0.8, label="reward, mean removed")
    set_title(
        figure,
        f"Reward of one agent by its own cell, {size}x{size} board",
        f"the other agent stands on the dot; {cell['family']} rewards, {cell['learner']} learners, "
        f"{cell['episodes']} episodes per stage, seed {cell['seed']}",
    )
    return figure


def _crowded(one: Mapping[str, Any]) -> bool:
    """Whether there are too many states for error bars."""
    return len(one["truth"]) > MOST_BARS


def _panel(axes: Axes, one: Mapping[str, Any]) -> None:
    truth, mean = np.array(one["truth"]), np.array(one["recovered"])
    truth, mean = truth - truth.mean(), mean - mean.mean()
    spread = np.zeros(len(mean)) if one["sd"] is None else 2 * np.array(one["sd"])
    visited = np.array(one["visits"]) > 0
    line = [min(truth.min(), mean.min()), max(truth.max(), mean.max())]
    axes.plot(line, line, color="#8a8a8a", linewidth=0.8, zorder=1)
    small = _crowded(one)
    for index, (among, label) in enumerate(((visited, "visited"), (~visited, "never visited"))):
        if not among.any():
            continue
        own = look(index)
        axes.errorbar(
            truth[among],
            mean[among],
            None if small else spread[among],
            fmt=own.marker,
            color=own.colour,
            markersize=2.0 if small else 3.5,
            alpha=0.35 if small and index == 0 else 0.8,
            elinewidth=0.7,
            label=label,
            zorder=2 + index,
        )
    soften(axes)
