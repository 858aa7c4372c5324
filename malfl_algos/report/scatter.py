"""Two rewards against each other: points with error bars, their agreement in words."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from numpy.typing import NDArray

from malfl_algos.experiments.games import reachable_states
from malfl_algos.experiments.recovered_files import unfit_for_scores
from malfl_algos.experiments.scoring import ScoringFiles
from malfl_algos.recovered import RecoveredRewards
from malfl_algos.report.run_files import Run
from malfl_algos.report.style import (
    MUTED,
    Look,
    look,
    new_figure,
    new_panels,
    png_bytes,
    set_margins,
    set_panel_title,
    set_title,
    shortened,
    soften,
)
from malfl_algos.report.values import Values, values_of
from malfl_algos.scores import pearson, spearman
from malfl_algos.scores.agreement import state_values
from malfl_algos.storage.durable import is_special, write_where_told
from malfl_algos.storage.outputs import check_writable
from malfl_algos.storage.results import posterior_parts
from malfl_env.errors import InputError

__all__ = [
    "DIAGONAL",
    "agreement_text",
    "draw",
    "draw_points",
    "side_by_side",
    "truth_figure",
    "write_truth_figure",
]

FloatArray = NDArray[np.float64]

DIAGONAL: dict[str, Any] = {"color": MUTED, "linestyle": ":", "linewidth": 1, "zorder": 1}
MANY, MOST = 60, 2000
"""Points from which on they are small and pale; points that are drawn."""


def draw(run: Run, family: str, observer: str) -> Figure | None:
    """Draw the recovered rewards of the first seed against the ground truth.

    None if every observing agent has its own result, if the rewards are of next states, or if the
    ground truth does not differ where the recovered rewards do: it is of actions, they are of
    states.
    """
    result = run.result(family, run.seeds[0], observer)
    if result is None or unfit_for_scores(result.diagnostics):
        return None
    truth = run.true_rewards(family, run.seeds[0])
    title = f"Recovered against ground-truth reward, {observer}, {family}, {run.first_seed}"
    return truth_figure(result, truth, run.states, title=title)


def truth_figure(
    result: RecoveredRewards,
    truth: Any,
    states: NDArray[np.bool_] | None,
    *,
    title: str,
) -> Figure | None:
    """Draw a panel for each agent: recovered by ground-truth reward, each less its mean.

    Agents are left out whose ground truth does not differ where the recovered rewards do.

    Args:
        result: the recovered rewards.
        truth: ground-truth rewards per agent, `(n_states,)` or `(n_states, *n_actions)`.
        states: bool `(n_states,)`: the joint states that are compared; None: all.
        title: of the figure.

    Returns:
        None if no agent is left.
    """
    drawn = []
    for agent in (agent for agent in result.rewards if agent in truth):
        true = np.asarray(truth[agent], dtype=np.float64)
        values = _values(result, agent, true)
        kept, own = _compared(values, true, states)
        if len(own) and np.ptp(own) > 1e-12:
            drawn.append((values, kept, own))
    if not drawn:
        return None
    n_columns = min(2, len(drawn))
    n_rows = -(-len(drawn) // n_columns)
    figure = new_figure(4.35 * max(n_columns, 1.4), 0.8 + 3.7 * n_rows)
    panels = new_panels(figure, n_rows, n_columns)
    for axes in panels.flat[len(drawn) :]:
        axes.set_axis_off()
    for index, (axes, parts) in enumerate(zip(panels.flat, drawn, strict=False)):
        _draw_agent(axes, *parts, look(index))
    whiskers = "bars: 2 posterior sd; " if result.sd else ""
    set_title(figure, title, f"{whiskers}dotted: equal; means removed; ties side by side")
    set_margins(figure, (n_rows, n_columns), left=0.8, title_lines=2)
    return figure


def write_truth_figure(files: ScoringFiles, path: Path) -> None:
    """Draw the rewards of some files against their ground truth into a PNG.

    Raises:
        InputError: if there is nothing to draw, or the file cannot be written.
    """
    assert files.truth is not None
    states = None if files.game is None else reachable_states(files.game)
    result = RecoveredRewards(files.rewards, sd=posterior_parts(files.posterior)["sd"] or None)
    title = "Recovered against ground-truth reward"
    drawn = truth_figure(result, files.truth.rewards, states, title=title)
    if drawn is None:
        raise InputError(
            "--figure: the ground truth does not differ between the values of the recovered "
            "rewards (it depends on actions, they do not), so there is nothing to draw"
        )
    if not is_special(path):
        check_writable(path.resolve().parent)
    write_where_told(path, png_bytes(drawn))


def _values(result: RecoveredRewards, agent: str, truth: FloatArray) -> Values:
    """The values of an agent; averaged over actions, as correlations are, where nothing is lost."""
    if truth.ndim == 1 and agent not in (result.sd or {}):
        averaged = {agent: state_values(result.rewards[agent])}
        return values_of(replace(result, rewards=averaged, sd=None), agent)
    return values_of(result, agent)


def _compared(
    values: Values, truth: FloatArray, states: NDArray[np.bool_] | None
) -> tuple[NDArray[np.intp], FloatArray]:
    """Places of the compared values, and their ground truth."""
    used = np.ones(len(truth), dtype=bool) if states is None else states
    kept = np.flatnonzero(used[values.states])
    return kept, _at_values(truth, values.acting, values.states, values.actions)[kept]


def _draw_agent(
    axes: Axes, values: Values, kept: NDArray[np.intp], true: FloatArray, own: Look
) -> None:
    found = values.reward[kept]
    true, found = true - true.mean(), found - found.mean()
    shown = np.unique(np.linspace(0, len(kept) - 1, min(len(kept), MOST)).astype(int))
    error = None if values.sd is None else 2 * values.sd[kept]
    bars = None if error is None else error[shown]
    draw_points(axes, side_by_side(true[shown]), found[shown], None, bars, own)
    axes.axline((0.0, 0.0), slope=1, **DIAGONAL)
    axes.set_xlabel("ground-truth reward")
    axes.set_ylabel("recovered reward")
    number = f"{len(kept)} values"
    if len(shown) < len(kept):
        number = f"{len(shown)} of {number}"
    if error is not None:
        inside = np.mean(np.abs(found - true) <= error)
        number += f", {100 * inside:.0f} % within 2 sd"
    name = shortened(str(values.agent), 20).replace("$", r"\$")
    set_panel_title(axes, f"{name}: {agreement_text(found, true)}\n{number}")
    soften(axes)


def _at_values(
    truth: FloatArray,
    acting: tuple[int, ...],
    states: NDArray[np.int64],
    actions: NDArray[np.int64],
) -> FloatArray:
    """The ground truth at every value, averaged over actions that the values do not have."""
    if truth.ndim == 1:
        return truth[states]
    rest = tuple(axis for axis in range(1, truth.ndim) if axis - 1 not in acting)
    table = truth.mean(axis=rest)
    return np.asarray(table[(states, *actions.T)])


def side_by_side(values: FloatArray) -> FloatArray:
    """Values, of which equal ones are moved apart by less than half the gap to the next value.

    Values are left as they are unless most are equal to others.
    """
    distinct, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    if len(distinct) < 2 or 2 * len(distinct) > len(values):
        return values
    order = np.argsort(place, kind="stable")
    first = np.cumsum(counts) - counts
    rank = np.empty(len(values))
    rank[order] = np.arange(len(values)) - first[place[order]]
    share = (rank + 0.5) / counts[place] - 0.5
    width = min(0.6 * float(np.diff(distinct).min()), 0.06 * float(np.ptp(distinct)))
    return np.asarray(values + width * share)


def agreement_text(one: FloatArray, two: FloatArray) -> str:
    """Pearson r and Spearman rho of two rewards, in words."""
    values = (pearson(one, two).value, spearman(one, two).value)
    shown = ["not defined" if own is None else f"{own:.2f}" for own in values]
    if values == (None, None):
        return "no correlation defined"
    return f"Pearson r {shown[0]}, Spearman rho {shown[1]}"


def draw_points(
    axes: Axes,
    x: FloatArray,
    y: FloatArray,
    x_error: Any,
    y_error: Any,
    own: Look,
    *,
    label: str | None = None,
    hollow: bool = False,
) -> None:
    """Draw points with error bars; many points are small and pale.

    Args:
        axes: the panel.
        x, y: `(n_points,)`.
        x_error, y_error: half lengths of the bars, as in `Axes.errorbar`; None: no bars.
        own: of the points.
        label: in the legend.
        hollow: whether the points are white inside.
    """
    many = len(x) > MANY
    shade = to_rgba(own.colour, 0.6 if many else 0.9)
    faint = min(0.45, 45 / len(x)) if many else 0.9
    axes.errorbar(
        x,
        y,
        xerr=x_error,
        yerr=y_error,
        fmt=own.marker,
        color=shade,
        ecolor=to_rgba(own.colour, max(faint, 0.12)),
        markersize=2.5 if many else 4.5,
        markerfacecolor="white" if hollow else shade,
        elinewidth=0.5 if many else 0.9,
        label=label,
    )
