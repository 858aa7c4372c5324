"""The policies of the learners, as arrows on the board."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from matplotlib.patches import Circle
from numpy.typing import NDArray

from malfl_algos.report.board import draw_board, wall_mask
from malfl_algos.report.run_files import Run
from malfl_algos.report.style import (
    COLOURS,
    MUTED,
    new_figure,
    new_panels,
    set_panel_title,
    set_title,
)
from malfl_env.rules import GridRules

__all__ = ["arrow_outline", "draw", "policy_figure", "policy_slice"]

FloatArray = NDArray[np.float64]

# (column, row) directions of down, up, left, right; rows are drawn downwards
DIRECTIONS = np.array([(0.0, 1.0), (0.0, -1.0), (-1.0, 0.0), (1.0, 0.0)])
HUB = 0.13
"""Radius, in cells, of the disc that is drawn for the largest probability."""
LONGEST = 0.49 - HUB
"""Length, in cells, of the arrow that is drawn for the largest probability: to the cell's edge."""
LIKELIEST, OTHER = COLOURS[1], "#5b7fa3"


def draw(run: Run, family: str) -> Figure:
    """Draw the policies of the first seed in the first, the middle and the last stage."""
    truth, _ = run.ground_truth(family, run.seeds[0])
    policies = [truth.joint_policies[agent] for agent in run.agents]
    n_stages = len(policies[0])
    stages = sorted({0, n_stages // 2, n_stages - 1})
    title = f"Policies of the learners, {family}, {run.first_seed}"
    return policy_figure(policies, rules=run.rules, stages=stages, title=title)


def policy_slice(policy: FloatArray, *, rules: GridRules, agent_index: int) -> FloatArray:
    """One agent's policy over its own cell, every other agent standing on its start.

    Args:
        policy: `(..., n_states, n_actions)`.

    Returns:
        `(..., n_cells, n_actions)`.
    """
    own = np.arange(rules.n_cells)
    cells = [
        own if index == agent_index else np.full_like(own, start)
        for index, start in enumerate(rules.start_cells)
    ]
    states = np.ravel_multi_index(tuple(cells), (rules.n_cells,) * rules.n_agents)
    return policy[..., states, :]


def arrow_outline(tail: FloatArray, direction: FloatArray, length: float) -> FloatArray:
    """The seven corners `(7, 2)` of an arrow; its head takes up to 0.1 of a cell.

    Args:
        tail, direction: `(2,)`, (column, row) in cells; direction of length one, along an axis.
        length: from tail to tip, in cells.
    """
    neck = max(length - 0.1, 0.35 * length)
    along = np.array([0.0, neck, neck, length, neck, neck, 0.0])
    across = np.array([0.028, 0.028, 0.075, 0.0, -0.075, -0.028, -0.028])
    sideways = direction[::-1]
    return np.asarray(tail + np.outer(along, direction) + np.outer(across, sideways))


def policy_figure(
    policies: Sequence[FloatArray], *, rules: GridRules, stages: Sequence[int], title: str
) -> Figure:
    """Draw every agent's policy in a few stages: an arrow for each move, a disc for staying.

    Arrows are as long, and discs as large in area, as the action is probable; the largest
    probability in the picture has an arrow to the cell's edge, and the note says what it is. The
    likeliest action of a cell is in the accent colour; not where several are equally likely, nor on
    the agent's goal, where all actions do the same.

    Args:
        policies: per agent `(n_stages, n_states, 5)`, actions down, up, left, right, stay.
        rules: the board; every other agent stands on its start.
        stages: indices of the stages to draw, one column each.
        title: the figure's.
    """
    side = min(6.0, max(2.3, 0.55 * rules.size))
    figure = new_figure(max(6.5, 0.5 + side * len(stages)), 1.35 + (side + 0.1) * len(policies))
    panels = new_panels(figure, len(policies), len(stages))
    shown = [
        policy_slice(policy[list(stages)], rules=rules, agent_index=agent_index)
        for agent_index, policy in enumerate(policies)
    ]
    largest = max(float(per_agent[:, ~wall_mask(rules)].max()) for per_agent in shown)
    for agent_index, row in enumerate(panels):
        for column, axes in enumerate(row):
            draw_board(axes, rules, (agent_index,))
            _draw_others(axes, rules, agent_index)
            relative = shown[agent_index][column] / largest
            _draw_actions(axes, relative, rules, rules.goal_cells[agent_index])
            set_panel_title(axes, f"agent {agent_index}, stage {stages[column]}", loc="center")
        row[0].set_ylabel(_others(rules, agent_index), size=9, color=MUTED)
    figure.supxlabel(
        "Arrow length: probability of a move; disc area: of staying; orange: most probable.\n"
        "Blue cell: own start; green: own goal (every action leads to the start); "
        "diamond: other agents.",
        size=8.5,
        color=MUTED,
    )
    set_title(figure, title, f"an arrow to the cell's edge is probability {largest:.2f}")
    return figure


def _others(rules: GridRules, agent_index: int) -> str:
    places = {index: cell for index, cell in enumerate(rules.start_cells) if index != agent_index}
    if len(places) == 1:
        ((index, cell),) = places.items()
        return f"agent {index} in cell {cell}, its start"
    return "all others on their starts"


def _draw_others(axes: Axes, rules: GridRules, agent_index: int) -> None:
    starts = {cell for index, cell in enumerate(rules.starts) if index != agent_index}
    rows, columns = np.array(sorted(starts)).T
    axes.plot(
        columns - 0.36,
        rows - 0.36,
        "D",
        markersize=max(2.0, 15.0 / rules.size),
        markerfacecolor="white",
        markeredgecolor="#333333",
    )


def _draw_actions(axes: Axes, relative: FloatArray, rules: GridRules, goal: int) -> None:
    """Draw probabilities `(n_cells, 5)`, given as parts of the largest in the picture."""
    outlines, colours = [], []
    for cell in np.flatnonzero(~wall_mask(rules)):
        centre = np.array([cell % rules.size, cell // rules.size], dtype=np.float64)
        likeliest = relative[cell] >= relative[cell].max() - 1e-9
        accented = likeliest & (likeliest.sum() == 1) & (cell != goal)
        palette = [LIKELIEST if accent else OTHER for accent in accented]
        for part, direction, colour in zip(relative[cell], DIRECTIONS, palette, strict=False):
            outlines.append(arrow_outline(centre + HUB * direction, direction, LONGEST * part))
            colours.append(colour)
        radius = (HUB - 0.02) * np.sqrt(relative[cell, 4])
        axes.add_patch(Circle(tuple(centre), radius, facecolor=palette[4], edgecolor="none"))
    axes.add_collection(PolyCollection(outlines, facecolors=colours, edgecolors="none"))
