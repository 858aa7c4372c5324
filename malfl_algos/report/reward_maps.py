"""Maps of the ground-truth and the recovered reward of each agent, own cell by another's cell."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec
from numpy.typing import NDArray

from malfl_algos.recovered import RecoveredRewards
from malfl_algos.report.boards import draw_board
from malfl_algos.report.run_files import Run, averages
from malfl_algos.report.style import (
    MUTED,
    new_figure,
    set_panel_title,
    set_title,
    standardise,
    style_axes,
)
from malfl_algos.scores.agreement import state_values
from malfl_algos.scores.registry import CORRELATION, score_groups
from malfl_env.rules import GridRules

__all__ = ["draw", "draw_spread", "reward_figure", "reward_map", "spread_figure"]

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

COLOUR_MAP = "RdBu_r"
WIDTH = 8.4
"""Of the figure, in inches like all lengths here."""
EMPTY_GREY = "#c9c9c9"


def draw(run: Run, family: str, observer: str) -> Figure | None:
    """Draw the rewards of the first seed.

    None if the game has no board, or if every observing agent has its own result.
    """
    seed = run.seeds[0]
    recovered = run.recovered(family, seed, observer)
    if not recovered or run.rules is None:
        return None
    truth = run.true_rewards(family, seed)
    scores = [entry for entry in score_groups(run.results[0])[CORRELATION]]
    axes = {"family": [family], "observer": [observer], "seed": [seed], "agent": run.agents}
    values = averages(run.results, axes, [score.name for score in scores])[0, 0, 0]
    notes = [
        ", ".join(f"{score.title} {_number(v)}" for score, v in zip(scores, own, strict=True))
        for own in values
    ]
    return reward_figure(
        [truth[agent] for agent in run.agents],
        [recovered[agent] for agent in run.agents],
        rules=run.rules,
        states=run.states,
        notes=notes,
        title=f"Rewards recovered by {observer}, {family}, {run.first_seed}",
    )


def draw_spread(run: Run, family: str, observer: str) -> Figure | None:
    """Draw the recovered rewards of the first seed with their standard deviations.

    None as in `draw`, and without standard deviations.
    """
    result = run.result(family, run.seeds[0], observer)
    if result is None or run.rules is None or not result.sd:
        return None
    title = f"Rewards recovered by {observer}, and their sd, {family}, {run.first_seed}"
    return spread_figure(result, run.agents, rules=run.rules, states=run.states, title=title)


def reward_map(
    reward: FloatArray, *, rules: GridRules, agent_index: int, states: BoolArray
) -> FloatArray:
    """A reward as a map over the agent's own cell and the cell of one other agent.

    The other agent is the next in agent order; after the last agent comes agent 0. The reward is
    averaged uniformly over joint actions, and over the cells of all remaining agents.

    Args:
        reward: `(n_states,)` or `(n_states, *n_actions)`.
        rules: the board, which numbers cells and joint states.
        agent_index: index of the agent whose reward this is, 0..n_agents-1.
        states: bool `(n_states,)`: the joint states that are averaged over.

    Returns:
        `(n_cells, n_cells)`, own cell by the other's cell; NaN where no such state exists.
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
    """Draw every agent's ground-truth reward beside the recovered one, on one colour scale.

    Args:
        true_rewards, recovered_rewards: per agent, as in `reward_map`.
        rules: the board, drawn as the key to the cell numbers.
        states: bool `(n_states,)`: the joint states that are drawn; cells without any are grey.
        notes: per agent the text above its recovered reward.
        title: of the figure; a line below it states what was averaged.
    """
    maps = [
        [
            standardise(reward_map(reward, rules=rules, agent_index=agent_index, states=states))
            for reward in pair
        ]
        for agent_index, pair in enumerate(zip(true_rewards, recovered_rewards, strict=True))
    ]
    titles = [("ground truth", f"recovered\n{note}") for note in notes]
    over = _averaged(recovered_rewards, rules)
    note = f"rewards averaged uniformly over {over}" if over else ""
    largest = max(1.0, float(np.nanmax(np.abs(maps))))
    unit = "reward, standardised (mean 0, sd 1)"
    return _map_figure(maps, titles, rules, largest, unit=unit, title=title, note=note)


def spread_figure(
    result: RecoveredRewards,
    agents: Sequence[str],
    *,
    rules: GridRules,
    states: BoolArray,
    title: str,
) -> Figure:
    """Draw every agent's recovered reward, less its mean, beside 2 posterior standard deviations.

    Where maps are averages, those of 2 sd are averages, too, which are never too small.

    Args:
        result: with standard deviations.
        agents: all agents of the board, in order.
        rules: the board.
        states: bool `(n_states,)`: the joint states that are drawn; cells without any are grey.
        title: of the figure.
    """
    known = [agent for agent in agents if agent in (result.sd or {})]
    tables = [(result.rewards[agent], 2 * (result.sd or {})[agent]) for agent in known]
    maps = [
        [
            reward_map(own, rules=rules, agent_index=agents.index(agent), states=states)
            for own in pair
        ]
        for agent, pair in zip(known, tables, strict=True)
    ]
    for own in maps:
        own[0] = own[0] - np.nanmean(own[0])
    over = _averaged([reward for reward, _ in tables], rules)
    note = "where 2 sd are as dark as a reward, it hardly differs from the mean"
    note += f"; averaged over {over}" if over else ""
    titles = [("recovered reward", "2 posterior sd")] * len(known)
    largest = float(np.nanmax(np.abs(maps))) or 1.0
    return _map_figure(
        maps,
        titles,
        rules,
        largest,
        unit="reward, less its mean",
        title=title,
        note=note,
        agents=[agents.index(agent) for agent in known],
    )


def _averaged(rewards: Sequence[FloatArray], rules: GridRules) -> str:
    """What a map is averaged over, in words."""
    averaged = [
        "joint actions" if any(table.ndim > 1 for table in rewards) else "",
        "the cells of the remaining agents" if rules.n_agents > 2 else "",
    ]
    return " and ".join(filter(None, averaged))


def _map_figure(
    maps: Sequence[Sequence[FloatArray]],
    titles: Sequence[tuple[str, str]],
    rules: GridRules,
    largest: float,
    *,
    unit: str,
    title: str,
    note: str,
    agents: Sequence[int] | None = None,
) -> Figure:
    """Two maps for each agent on one colour scale from -largest to largest."""
    scale = Normalize(-largest, largest)
    figure = new_figure(WIDTH, 0.6 + 3.75 * len(maps))
    places, margin = _places(figure, rules, len(maps))
    for row, (agent_index, pair) in enumerate(zip(agents or range(len(maps)), maps, strict=True)):
        for column, values in enumerate(pair):
            axes = style_axes(figure.add_subplot(places[row, column]))
            _draw_map(axes, values, scale, (agent_index, (agent_index + 1) % rules.n_agents))
            set_panel_title(axes, f"agent {agent_index}: {titles[row][column]}", loc="center")
    _draw_margin(figure.add_subplot(margin[0]), scale, rules, len(maps), unit)
    set_title(figure, title, note)
    return figure


def _places(figure: Figure, rules: GridRules, n_rows: int) -> tuple[GridSpec, GridSpec]:
    """Fixed places for two columns of maps and for the margin beside them.

    The sizes of all texts are known here. Matplotlib's layout engine would take longer than the
    drawing.
    """
    figure.set_layout_engine("none")
    height = figure.get_figheight()
    ends = {"bottom": 0.5 / height, "top": 0.98 - 0.85 / height}
    beside = 0.37 + 0.09 * len(str(rules.n_cells - 1))
    maps = figure.add_gridspec(
        n_rows,
        2,
        left=beside / WIDTH,
        right=7.0 / WIDTH,
        wspace=2 * beside / (7.0 - 2 * beside),
        hspace=0.86 / (3.75 - 0.86),
        **ends,
    )
    return maps, figure.add_gridspec(1, 1, left=7.24 / WIDTH, right=8.28 / WIDTH, **ends)


def _draw_margin(host: Axes, scale: Normalize, rules: GridRules, n_rows: int, unit: str) -> None:
    """Draw the key to the cell numbers and the colour bar in one narrow column."""
    host.set_axis_off()
    key_height = 0.28 / n_rows
    _draw_key(host.inset_axes((0.0, 1.0 - key_height, 1.0, key_height)), rules)
    bar = host.figure.colorbar(
        ScalarMappable(scale, COLOUR_MAP),
        cax=host.inset_axes((0.2, 0.0, 0.2, 1.0 - 1.7 * key_height)),
        label=unit,
    )
    style_axes(bar.ax)


def _draw_map(
    axes: Axes, values: FloatArray, scale: Normalize, own_and_other: tuple[int, int]
) -> None:
    axes.set_facecolor(EMPTY_GREY)
    axes.imshow(values, cmap=COLOUR_MAP, norm=scale, aspect="auto", interpolation="nearest")
    _number_ticks(axes, len(values))
    axes.set_xlabel(f"cell of agent {own_and_other[1]}")
    axes.set_ylabel(f"cell of agent {own_and_other[0]} (own)")


def _draw_key(axes: Axes, rules: GridRules) -> None:
    """Draw the board with numbered cells: the key to the axes of a reward map."""
    draw_board(axes, rules, tuple(range(rules.n_agents)))
    size = max(4.0, min(9.0, 28.0 / rules.size))
    look: dict[str, Any] = {"ha": "center", "va": "center", "color": "#333333", "size": size}
    for cell in np.ndindex(rules.size, rules.size):
        # a large board has room for the numbers of the first column only
        if cell not in rules.walls and (rules.size <= 6 or cell[1] == 0):
            axes.text(cell[1], cell[0], str(rules.cell_number(cell)), **look)
    axes.set_title("cell numbers", size=9, color=MUTED)
    axes.set_xlabel("blue: start\ngreen: goal", size=8.5, color=MUTED)


def _number_ticks(axes: Axes, n_cells: int) -> None:
    """Label both axes of a map by cell number: every cell, or round numbers if there are many."""
    most = 13 if n_cells <= 100 else 9
    step = next(step for step in (1, 2, 5, 10, 20, 50, 100, n_cells) if n_cells / step <= most)
    axes.set_xticks(range(0, n_cells, step))
    axes.set_yticks(range(0, n_cells, step))
    axes.tick_params(length=0 if step == 1 else 2)


def _number(value: float) -> str:
    return "not defined" if np.isnan(value) else f"{value:.3f}"
