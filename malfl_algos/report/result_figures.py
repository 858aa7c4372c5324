"""Figures of a recovered result: rewards with their standard deviations, of any game."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from malfl_algos.recovered import RecoveredRewards
from malfl_algos.report.run_files import Run
from malfl_algos.report.style import (
    MUTED,
    look,
    new_figure,
    new_panels,
    set_panel_title,
    set_title,
    shortened,
    soften,
)
from malfl_algos.report.values import Values, cut_to, values_of
from malfl_env.errors import InputError

__all__ = ["draw", "draw_run"]

WIDTH, ROW = 5.2, 0.21
"""Of the figure, and the height of one value, in inches."""
LONGEST = 34
"""Letters of a label."""
MOST_OF_RUN = 24
"""Values of each agent in the figure of a run."""


def draw_run(run: Run, family: str, observer: str) -> Figure | None:
    """Draw the rewards of the first seed.

    None if every observing agent has its own result, if all rewards are equal, or if maps of a
    board show as much: where there are no posterior standard deviations.
    """
    result = run.result(family, run.seeds[0], observer)
    if result is None or (run.rules is not None and not result.sd):
        return None
    if all(np.ptp(table) == 0 for table in result.rewards.values()):
        return None
    title = f"Rewards recovered by {observer}, {family}, {run.first_seed}"
    return draw(result, most=MOST_OF_RUN, title=title)


def draw(
    result: RecoveredRewards,
    *,
    most: int = 40,
    agents: Sequence[str] | None = None,
    title: str = "Recovered rewards by joint state",
) -> Figure:
    """Draw the rewards of agents, largest first, with 2 posterior standard deviations.

    Args:
        result: the result.
        most: number of values shown of each agent; beyond it, the largest and the smallest.
        agents: whose rewards; None: of all agents with a table.
        title: of the figure.

    Raises:
        InputError: for rewards that are not tables.
    """
    if most < 2:
        raise InputError(f"most must be >= 2, got {most}")
    wanted = list(result.rewards) if agents is None else list(agents)
    if not wanted:
        raise InputError(
            "the result holds no table of rewards to plot: they are functions of observations"
        )
    shown = [values_of(result, agent) for agent in wanted]
    places = [cut_to(values, most) for values in shown]
    rows = [len(own) + len(gaps) for own, gaps in places]
    figure = new_figure(WIDTH, 0.9 + sum(ROW * max(n, 3) + 0.75 for n in rows))
    panels = new_panels(figure, len(shown), 1, height_ratios=[ROW * max(n, 3) + 0.4 for n in rows])
    for index, (axes, values, (own, gaps)) in enumerate(
        zip(panels[:, 0], shown, places, strict=True)
    ):
        _draw(axes, values, own, gaps, index)
    whiskers = "bars: 2 posterior sd" if result.sd else "no posterior sd"
    if any(own.visits is not None and not own.visits.all() for own in shown):
        whiskers += "; only visited states"
    unit = _unit(result)
    set_title(figure, title, f"{whiskers}; {unit}")
    return figure


def _unit(result: RecoveredRewards) -> str:
    source = result.source
    known = source is not None and source.temperature is not None
    return "unit of the given temperature" if known else "in units of the temperature"


def _draw(axes: Axes, values: Values, places: np.ndarray, gaps: Sequence[int], index: int) -> None:
    heights = [position + sum(position >= gap for gap in gaps) for position in range(len(places))]
    style = look(index)
    if values.reward[places].min(initial=0.0) < 0 < values.reward[places].max(initial=0.0):
        axes.axvline(0.0, color=MUTED, linewidth=0.8)
    axes.errorbar(
        values.reward[places],
        heights,
        xerr=None if values.sd is None else 2 * values.sd[places],
        fmt=style.marker,
        color=style.colour,
        markersize=4.5,
        elinewidth=1.1,
        capsize=2,
    )
    names = [shortened(values.name(int(place)), LONGEST) for place in places]
    ticks, labels = list(heights), list(names)
    for gap in gaps:
        ticks.append(gap)
        labels.append(f"({len(cut_to(values, len(values.reward))[0]) - len(places)} left out)")
    axes.set_yticks(ticks, labels, parse_math=False)
    axes.set_ylim(max(heights, default=0) + 0.7, -0.7)
    axes.set_xlabel("reward")
    soften(axes, grid="x")
    set_panel_title(axes, shortened(str(values.agent), LONGEST).replace("$", r"\$"))
