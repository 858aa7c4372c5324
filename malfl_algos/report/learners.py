"""What the learners did: policies as arrows on the board, return and policy entropy per stage."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Rectangle
from numpy.typing import NDArray

from malfl_algos.report.run_files import Run, read_state_counts
from malfl_algos.report.style import (
    COLOURS,
    MUTED,
    band_note,
    draw_series,
    look,
    new_figure,
    new_panels,
    set_panel_title,
    set_title,
    shared_legend,
    soften,
    stage_axis,
)
from malfl_algos.soft.evaluation import entropy, soft_evaluation
from malfl_env.rules import GridRules

__all__ = [
    "arrow_outline",
    "draw_board",
    "draw_learning",
    "draw_policies",
    "learning_curves",
    "learning_figure",
    "policy_figure",
    "policy_slice",
]

FloatArray = NDArray[np.float64]

GOAL_COLOUR = "#dcefd9"
START_COLOUR = "#e3ecf7"
WALL_COLOUR = "#5a5a5a"

# (column, row) directions of down, up, left, right; rows are drawn downwards
DIRECTIONS = np.array([(0.0, 1.0), (0.0, -1.0), (-1.0, 0.0), (1.0, 0.0)])
HUB = 0.13
"""Radius, in cells, of the disc for the largest probability."""
LONGEST = 0.49 - HUB
"""Length, in cells, of the arrow for the largest probability: it reaches the cell's edge."""
LIKELIEST, OTHER = COLOURS[1], "#5b7fa3"


def draw_policies(run: Run, family: str) -> Figure | None:
    """Draw the policies of the first seed in the first, middle and last stage.

    None if the game has no board.
    """
    if run.rules is None:
        return None
    truth, _ = run.ground_truth(family, run.seeds[0])
    policies = [truth.joint_policies[agent] for agent in run.agents]
    n_stages = len(policies[0])
    stages = sorted({0, n_stages // 2, n_stages - 1})
    title = f"Policies of the learners, {family}, {run.first_seed}"
    return policy_figure(policies, rules=run.rules, stages=stages, title=title)


def policy_slice(policy: FloatArray, *, rules: GridRules, agent_index: int) -> FloatArray:
    """One agent's policy in each of its cells, while every other agent stands on its start.

    Args:
        policy: `(..., n_states, n_actions)`.
        rules: the board, which numbers cells and joint states.
        agent_index: index of the agent.

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
    """The seven corners `(7, 2)` of an arrow; its head is at most 0.1 of a cell long.

    Args:
        tail, direction: `(2,)`, (column, row) in cells; the direction is a unit vector along an
            axis.
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

    The length of an arrow and the area of a disc are proportional to the probability of the action.
    The arrow of the largest probability in the figure reaches the cell's edge, and the note states
    this probability. The most probable action of a cell has the accent colour, except where several
    are equally probable, and on the agent's goal, where all actions have the same effect.

    Args:
        policies: per agent `(n_stages, n_states, 5)`, actions down, up, left, right, stay.
        rules: the board; every other agent stands on its start.
        stages: indices of the stages to draw, one column each.
        title: of the figure.
    """
    side = min(6.0, max(2.3, 0.55 * rules.size))
    figure = new_figure(max(6.5, 0.5 + side * len(stages)), 1.35 + (side + 0.1) * len(policies))
    panels = new_panels(figure, len(policies), len(stages))
    shown = [
        policy_slice(policy[list(stages)], rules=rules, agent_index=agent_index)
        for agent_index, policy in enumerate(policies)
    ]
    largest = max(float(per_agent[:, ~_wall_mask(rules)].max()) for per_agent in shown)
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


def draw_board(axes: Axes, rules: GridRules, agent_indices: tuple[int, ...]) -> None:
    """Draw the board, row 0 on top: starts (blue) and goals (green) of some agents, dark walls."""
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


def draw_learning(run: Run, family: str) -> Figure:
    """Draw the learning curves of a family."""
    curves = [learning_curves(run, family, seed) for seed in run.seeds]
    returns, entropies = (np.stack(part) for part in zip(*curves, strict=True))
    title = f"Return and policy entropy by stage, {family}"
    return learning_figure(returns, entropies, n_actions=run.n_actions, title=title)


def learning_curves(run: Run, family: str, seed: str) -> tuple[FloatArray, FloatArray]:
    """Return and visit-weighted entropy of one seed, each `(n_agents, n_stages)`."""
    truth, learner_folder = run.ground_truth(family, seed)
    visits = read_state_counts(learner_folder)
    weights = visits / visits.sum(axis=1, keepdims=True)
    game = run.config.markov_game(family)
    policies = [truth.joint_policies[agent] for agent in run.agents]
    entropies = np.stack([(entropy(policy) * weights).sum(axis=1) for policy in policies])
    returns = np.empty_like(entropies)
    for agent_index, stage in np.ndindex(returns.shape):
        joint_policy = [policy[stage] for policy in policies]
        _, value = soft_evaluation(
            game, joint_policy, agent_index, discount=run.config.discount, temperature=0.0
        )
        returns[agent_index, stage] = game.at_start(value)
    return returns, entropies


def learning_figure(
    returns: FloatArray, entropies: FloatArray, *, n_actions: int, title: str
) -> Figure:
    """Draw every agent's return and policy entropy against the stage.

    Args:
        returns: `(n_seeds, n_agents, n_stages)`: exact expected discounted sum of rewards from the
            start state.
        entropies: `(n_seeds, n_agents, n_stages)`: entropy of the policy in nats, averaged over
            visits.
        n_actions: of each agent; a dotted line shows the entropy of the uniform policy.
        title: of the figure.
    """
    n_seeds, n_agents, n_stages = returns.shape
    stages = range(n_stages)
    figure = new_figure(8.6, 3.75 + 0.22 * (-(-n_agents // 6)))
    left, right = new_panels(figure, 1, 2)[0]
    for axes, values in ((left, returns), (right, entropies)):
        for agent_index in range(n_agents):
            draw_series(
                axes,
                stages,
                values[:, agent_index],
                look(agent_index),
                label=f"agent {agent_index}",
                n_series=n_agents,
            )
        soften(axes)
        stage_axis(axes, stages, "stage")
    set_panel_title(left, "Return from the start state")
    left.set_ylabel("expected return (discounted reward)")
    set_panel_title(right, "Entropy of the policy")
    right.set_ylabel("mean policy entropy (nats)")
    uniform = float(np.log(n_actions))
    right.axhline(uniform, color=MUTED, linestyle=":", linewidth=1)
    right.annotate(
        f"uniform policy: ln {n_actions} = {uniform:.2f}",
        (1, uniform),
        xycoords=("axes fraction", "data"),
        xytext=(0, 4),
        textcoords="offset points",
        ha="right",
        color=MUTED,
        size=8.5,
    )
    right.set_ylim(0, 1.1 * uniform)
    shared_legend(figure)
    note = band_note(n_seeds, "entropy averaged over visits")
    set_title(figure, title, note)
    return figure


def _wall_mask(rules: GridRules) -> NDArray[np.bool_]:
    """Bool `(n_cells,)`: which cells are walls."""
    mask = np.zeros(rules.n_cells, dtype=np.bool_)
    mask[[rules.cell_number(cell) for cell in rules.walls]] = True
    return mask


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
    """Draw probabilities `(n_cells, 5)`, given as shares of the largest in the figure."""
    outlines, colours = [], []
    for cell in np.flatnonzero(~_wall_mask(rules)):
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
