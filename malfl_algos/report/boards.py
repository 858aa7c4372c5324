"""The board of a grid world, and policies on it as arrows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Rectangle
from numpy.typing import NDArray

from malfl_algos.report.style import (
    COLOURS,
    MUTED,
    new_figure,
    new_panels,
    set_panel_title,
    set_title,
)
from malfl_env.rules import GridRules

__all__ = ["arrow_outline", "draw_board", "policy_figure", "policy_of_cells"]

FloatArray = NDArray[np.float64]

GOAL_COLOUR = "#dcefd9"
START_COLOUR = "#e3ecf7"
WALL_COLOUR = "#5a5a5a"
UNSEEN_COLOUR = "#ececec"

# (column, row) directions of down, up, left, right; rows are drawn downwards
DIRECTIONS = np.array([(0.0, 1.0), (0.0, -1.0), (-1.0, 0.0), (1.0, 0.0)])
HUB = 0.13
"""Radius, in cells, of the disc for probability 1."""
LONGEST = 0.49 - HUB
"""Length, in cells, of the arrow for probability 1: it reaches the cell's edge."""
FULL = 0.2
"""Length, in cells, from which on an arrow is drawn in full width."""
LEAST = 0.05
"""Smallest probability that is drawn."""
LIKELIEST, OTHER = COLOURS[1], "#5b7fa3"


def policy_of_cells(
    policy: FloatArray, visits: FloatArray, *, rules: GridRules, agent_index: int
) -> FloatArray:
    """One agent's policy in each of its cells, as it was played wherever the others were.

    It is the mean over the joint states with the agent in that cell, weighted by their visits.

    Args:
        policy: `(..., n_states, n_actions)`.
        visits: of the joint states, `(..., n_states)`, >= 0.
        rules: the board, which numbers cells and joint states.
        agent_index: index of the agent.

    Returns:
        `(..., n_cells, n_actions)`; NaN in cells where the agent never was.
    """
    n_agents = rules.n_agents
    cells = (rules.n_cells,) * n_agents
    rest = tuple(own - n_agents - 1 for own in range(n_agents) if own != agent_index)
    weighted = (policy * visits[..., None]).reshape(*policy.shape[:-2], *cells, policy.shape[-1])
    played = weighted.sum(axis=rest)
    total = played.sum(axis=-1, keepdims=True)
    return np.asarray(np.where(total > 0, played / np.where(total > 0, total, 1), np.nan))


def arrow_outline(tail: FloatArray, direction: FloatArray, length: float) -> FloatArray:
    """The seven corners `(7, 2)` of an arrow. Short arrows are small copies of long ones.

    Args:
        tail, direction: `(2,)`, (column, row) in cells; the direction is a unit vector along an
            axis.
        length: from tail to tip, in cells.
    """
    size = min(1.0, length / FULL)
    neck = length - 0.1 * size
    along = np.array([0.0, neck, neck, length, neck, neck, 0.0])
    across = size * np.array([0.028, 0.028, 0.075, 0.0, -0.075, -0.028, -0.028])
    sideways = direction[::-1]
    return np.asarray(tail + np.outer(along, direction) + np.outer(across, sideways))


def policy_figure(
    policies: Sequence[FloatArray],
    visits: FloatArray,
    *,
    rules: GridRules,
    stages: Sequence[int],
    title: str,
) -> Figure:
    """Draw every agent's policy in a few stages: an arrow for each move, a disc for staying.

    The length of an arrow and the area of a disc are proportional to the probability of the action;
    actions less probable than `LEAST` are left out. The most probable action of a cell has the
    accent colour, except where several are equally probable, and on the agent's goal, where all
    actions have the same effect.

    Args:
        policies: per agent `(n_stages, n_states, 5)`, actions down, up, left, right, stay.
        visits: of the joint states in every stage, `(n_stages, n_states)`.
        rules: the board.
        stages: indices of the stages to draw, one column each.
        title: of the figure.
    """
    side = min(6.0, max(2.3, 0.55 * rules.size))
    figure = new_figure(max(6.5, 0.5 + side * len(stages)), 1.35 + (side + 0.1) * len(policies))
    panels = new_panels(figure, len(policies), len(stages))
    for agent_index, row in enumerate(panels):
        played = policy_of_cells(
            policies[agent_index][list(stages)],
            visits[list(stages)],
            rules=rules,
            agent_index=agent_index,
        )
        for column, axes in enumerate(row):
            _draw_unseen(axes, played[column], rules)
            draw_board(axes, rules, (agent_index,))
            _draw_actions(axes, played[column], rules, rules.goal_cells[agent_index])
            set_panel_title(axes, f"agent {agent_index}, stage {stages[column]}", loc="center")
    figure.supxlabel(
        "Arrow length: probability of a move, 1 to the cell's edge; disc area: of staying; "
        f"none below {LEAST:g};\norange: most probable. Blue cell: own start; green: own goal "
        "(every action leads to the start); grey: never visited.",
        size=8.5,
        color=MUTED,
    )
    set_title(figure, title, "mean over the cells of the other agents, weighted by visits")
    return figure


def draw_board(axes: Axes, rules: GridRules, agent_indices: tuple[int, ...]) -> None:
    """Draw the board, row 0 on top: starts (blue) and goals (green) of some agents, dark walls."""
    for cells, colour in (
        (tuple(rules.starts[index] for index in agent_indices), START_COLOUR),
        (tuple(rules.goals[index] for index in agent_indices), GOAL_COLOUR),
        (rules.walls, WALL_COLOUR),
    ):
        for cell in set(cells):
            _draw_cell(axes, cell, colour)
    edges = np.arange(rules.size + 1) - 0.5
    axes.hlines(edges, edges[0], edges[-1], color="#b5b5b5", linewidth=0.7)
    axes.vlines(edges, edges[0], edges[-1], color="#b5b5b5", linewidth=0.7)
    axes.set(xlim=(-0.55, rules.size - 0.45), ylim=(rules.size - 0.45, -0.55), aspect="equal")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)


def _draw_cell(axes: Axes, cell: tuple[int, int], colour: str) -> None:
    row, column = cell
    axes.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, facecolor=colour, edgecolor="none"))


def _draw_unseen(axes: Axes, played: FloatArray, rules: GridRules) -> None:
    for cell in np.flatnonzero(np.isnan(played[:, 0])).tolist():
        _draw_cell(axes, divmod(cell, rules.size), UNSEEN_COLOUR)


def _draw_actions(axes: Axes, played: FloatArray, rules: GridRules, goal: int) -> None:
    """Draw probabilities `(n_cells, 5)`; none in cells where they are NaN."""
    outlines, colours = [], []
    for cell in np.flatnonzero(~np.isnan(played[:, 0])):
        centre = np.array([cell % rules.size, cell // rules.size], dtype=np.float64)
        likeliest = played[cell] >= played[cell].max() - 1e-9
        accented = likeliest & (likeliest.sum() == 1) & (cell != goal)
        palette = [LIKELIEST if accent else OTHER for accent in accented]
        for part, direction, colour in zip(played[cell], DIRECTIONS, palette, strict=False):
            if part >= LEAST:
                outlines.append(arrow_outline(centre + HUB * direction, direction, LONGEST * part))
                colours.append(colour)
        if played[cell, 4] >= LEAST:
            radius = (HUB - 0.02) * np.sqrt(played[cell, 4])
            axes.add_patch(Circle(tuple(centre), radius, facecolor=palette[4], edgecolor="none"))
    axes.add_collection(PolyCollection(outlines, facecolors=colours, edgecolors="none"))
