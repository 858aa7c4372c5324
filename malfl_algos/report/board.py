"""The board: drawn as a key to cell numbers, and as the ground that policies are drawn on."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from malfl_algos.report.style import MUTED
from malfl_env.rules import GridRules

__all__ = ["draw_board", "draw_board_key", "number_ticks", "wall_mask"]

GOAL_COLOUR = "#dcefd9"
START_COLOUR = "#e3ecf7"
WALL_COLOUR = "#5a5a5a"


def wall_mask(rules: GridRules) -> NDArray[np.bool_]:
    """Bool `(n_cells,)`: which cells are walls."""
    mask = np.zeros(rules.n_cells, dtype=np.bool_)
    mask[[rules.cell_number(cell) for cell in rules.walls]] = True
    return mask


def draw_board(axes: Axes, rules: GridRules, agent_indices: tuple[int, ...]) -> None:
    """Draw the cells, row 0 on top: starts (blue) and goals (green) of some agents, walls dark."""
    for cells, colour in (
        (tuple(rules.starts[index] for index in agent_indices), START_COLOUR),
        (tuple(rules.goals[index] for index in agent_indices), GOAL_COLOUR),
        (rules.walls, WALL_COLOUR),
    ):
        for row, column in set(cells):
            axes.add_patch(
                Rectangle((column - 0.5, row - 0.5), 1, 1, facecolor=colour, edgecolor="none")
            )
    edges = np.arange(rules.size + 1) - 0.5
    axes.hlines(edges, edges[0], edges[-1], color="#b5b5b5", linewidth=0.7)
    axes.vlines(edges, edges[0], edges[-1], color="#b5b5b5", linewidth=0.7)
    axes.set(xlim=(-0.55, rules.size - 0.45), ylim=(rules.size - 0.45, -0.55), aspect="equal")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)


def draw_board_key(axes: Axes, rules: GridRules) -> None:
    """Draw the board with its cells numbered: the key to the axes of a reward map."""
    draw_board(axes, rules, tuple(range(rules.n_agents)))
    font_size = max(4.0, min(9.0, 28.0 / rules.size))
    for cell in np.ndindex(rules.size, rules.size):
        # on a large board the numbers of the first column must do
        if cell not in rules.walls and (rules.size <= 6 or cell[1] == 0):
            axes.text(cell[1], cell[0], str(rules.cell_number(cell)), size=font_size, **_CENTRED)
    axes.set_title("cell numbers", size=9, color=MUTED)
    axes.set_xlabel("blue: start\ngreen: goal", size=8.5, color=MUTED)


def number_ticks(axes: Axes, n_cells: int) -> None:
    """Label both axes of a map by cell number: every cell, or round numbers on a large board."""
    most = 13 if n_cells <= 100 else 9
    step = next(step for step in (1, 2, 5, 10, 20, 50, 100, n_cells) if n_cells / step <= most)
    axes.set_xticks(range(0, n_cells, step))
    axes.set_yticks(range(0, n_cells, step))
    axes.tick_params(length=0 if step == 1 else 2)


_CENTRED: dict[str, Any] = {"ha": "center", "va": "center", "color": "#333333"}
