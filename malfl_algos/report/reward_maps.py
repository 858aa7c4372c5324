"""Ground-truth and recovered rewards: one map per agent each, own cell by another agent's cell."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec
from numpy.typing import NDArray

from malfl_algos.report.board import draw_board_key, number_ticks
from malfl_algos.report.run_files import Run, averages
from malfl_algos.report.series import standardise
from malfl_algos.report.style import (
    new_figure,
    set_panel_title,
    set_title,
    style_axes,
)
from malfl_algos.scores.correlation import state_values
from malfl_algos.scores.registry import CORRELATION, score_groups
from malfl_env.rules import GridRules

__all__ = ["draw", "reward_figure", "reward_map"]

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

COLOUR_MAP = "RdBu_r"
WIDTH = 8.4
"""Of the picture, in inches like all lengths here."""
EMPTY_GREY = "#c9c9c9"


def draw(run: Run, family: str, observer: str) -> Figure | None:
    """Draw the rewards of the first seed; nothing where each agent has an answer of its own."""
    seed = run.seeds[0]
    recovered = run.recovered(family, seed, observer)
    if not recovered:
        return None
    truth, _ = run.ground_truth(family, seed)
    scores = [entry for entry in score_groups(run.results[0])[CORRELATION]]
    axes = {"family": [family], "observer": [observer], "seed": [seed], "agent": run.agents}
    values = averages(run.results, axes, [score.name for score in scores])[0, 0, 0]
    notes = [
        ", ".join(f"{score.title} {_number(v)}" for score, v in zip(scores, own, strict=True))
        for own in values
    ]
    return reward_figure(
        [truth.rewards[agent] for agent in run.agents],
        [recovered[agent] for agent in run.agents],
        rules=run.rules,
        states=run.states,
        notes=notes,
        title=f"Rewards recovered by {observer}, {family}, {run.first_seed}",
    )


def reward_map(
    reward: FloatArray, *, rules: GridRules, agent_index: int, states: BoolArray
) -> FloatArray:
    """A reward as a map over the agent's own cell and the cell of one other agent.

    The other is the next agent in agent order (the last agent's is agent 0). A reward over joint
    actions is averaged over them, and with more than two agents over the cells of the rest, both
    uniformly.

    Args:
        reward: `(n_states,)` or `(n_states, *n_actions)`.
        rules: the board, which numbers cells and joint states.
        agent_index: whose reward, 0..n_agents-1.
        states: bool `(n_states,)`: the joint states that count.

    Returns:
        `(n_cells, n_cells)`, own cell by the other's cell; NaN where no state counts.
    """
    other = (agent_index + 1) % rules.n_agents
    rest = tuple(axis for axis in range(rules.n_agents) if axis not in (agent_index, other))
    shape = (rules.n_cells,) * rules.n_agents
    values = np.where(states, state_values(reward), 0.0).reshape(shape).sum(axis=rest)
    counted = states.reshape(shape).sum(axis=rest)
    pairs = np.where(counted > 0, values / np.maximum(counted, 1), np.nan)
    return pairs if agent_index < other else pairs.T


def reward_figure(
    true_rewards: Sequence[FloatArray],
    recovered_rewards: Sequence[FloatArray],
    *,
    rules: GridRules,
    states: BoolArray,
    notes: Sequence[str],
    title: str,
) -> Figure:
    """Draw every agent's true reward beside the recovered one, on one diverging colour scale.

    Args:
        true_rewards, recovered_rewards: per agent as `reward_map` takes them.
        rules: the board: the key to the cell numbers.
        states: bool `(n_states,)`: the joint states that count; cells without any are grey.
        notes: per agent what stands above its recovered reward.
        title: the figure's; what was averaged is added below it.
    """
    pairs = [
        tuple(
            standardise(reward_map(reward, rules=rules, agent_index=agent_index, states=states))
            for reward in pair
        )
        for agent_index, pair in enumerate(zip(true_rewards, recovered_rewards, strict=True))
    ]
    limit = max(1.0, float(np.nanmax(np.abs(pairs))))
    scale = Normalize(-limit, limit)
    n_agents = len(pairs)
    figure = new_figure(WIDTH, 0.6 + 3.75 * n_agents)
    maps, margin = _places(figure, rules)
    for agent_index, (true, recovered) in enumerate(pairs):
        titles = ("ground truth", f"recovered\n{notes[agent_index]}")
        for column, values in enumerate((true, recovered)):
            axes = style_axes(figure.add_subplot(maps[agent_index, column]))
            _draw_map(axes, values, scale, (agent_index, (agent_index + 1) % n_agents))
            set_panel_title(axes, f"agent {agent_index}: {titles[column]}", loc="center")
    _draw_margin(figure.add_subplot(margin[0]), scale, rules)
    averaged = [
        "joint actions" if any(table.ndim > 1 for table in recovered_rewards) else "",
        "the cells of the remaining agents" if n_agents > 2 else "",
    ]
    over = " and ".join(filter(None, averaged))
    set_title(figure, title, f"rewards averaged uniformly over {over}" if over else "")
    return figure


def _places(figure: Figure, rules: GridRules) -> tuple[GridSpec, GridSpec]:
    """Fixed places for two columns of maps and for the margin beside them.

    The sizes of all texts are known here, and working out a layout for this many would take longer
    than drawing them.
    """
    figure.set_layout_engine("none")
    height = figure.get_figheight()
    ends = {"bottom": 0.5 / height, "top": 0.98 - 0.85 / height}
    beside = 0.37 + 0.09 * len(str(rules.n_cells - 1))
    maps = figure.add_gridspec(
        rules.n_agents,
        2,
        left=beside / WIDTH,
        right=7.0 / WIDTH,
        wspace=2 * beside / (7.0 - 2 * beside),
        hspace=0.86 / (3.75 - 0.86),
        **ends,
    )
    return maps, figure.add_gridspec(1, 1, left=7.24 / WIDTH, right=8.28 / WIDTH, **ends)


def _draw_margin(host: Axes, scale: Normalize, rules: GridRules) -> None:
    """Put the key to the cell numbers and the colour bar into one narrow column."""
    host.set_axis_off()
    key_height = 0.28 / rules.n_agents
    draw_board_key(host.inset_axes((0.0, 1.0 - key_height, 1.0, key_height)), rules)
    bar = host.figure.colorbar(
        ScalarMappable(scale, COLOUR_MAP),
        cax=host.inset_axes((0.2, 0.0, 0.2, 1.0 - 1.7 * key_height)),
        label="reward, standardised (mean 0, sd 1)",
    )
    style_axes(bar.ax)


def _draw_map(
    axes: Axes, values: FloatArray, scale: Normalize, own_and_other: tuple[int, int]
) -> None:
    axes.set_facecolor(EMPTY_GREY)
    axes.imshow(values, cmap=COLOUR_MAP, norm=scale, aspect="auto", interpolation="nearest")
    number_ticks(axes, len(values))
    axes.set_xlabel(f"cell of agent {own_and_other[1]}")
    axes.set_ylabel(f"cell of agent {own_and_other[0]} (own)")


def _number(value: float) -> str:
    return "not defined" if np.isnan(value) else f"{value:.3f}"
