"""Correlation of the rewards recovered in one family with the ground truth of every family."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray

from malfl_algos.report.run_files import Run, averages, distinct
from malfl_algos.report.style import (
    new_figure,
    new_panels,
    set_panel_title,
    set_title,
    standardise,
    style_axes,
)
from malfl_algos.scores.agreement import state_values

__all__ = ["cross_correlation_figure", "draw", "equal_truths"]

FloatArray = NDArray[np.float64]

COLOUR_MAP = "RdBu_r"
CELL_HEIGHT = 0.4
_WHITE_RIM = [withStroke(linewidth=3.0, foreground="white")]


def draw(run: Run) -> Figure | None:
    """Draw the matrices of a run; None if it has no cross-correlation table, or one family only."""
    columns = ("observer", "seed", "agent", "recovered_family", "true_family")
    rows = run.read_table("cross_correlation.csv", columns)
    if not rows or len(run.families) < 2:
        return None
    observers = distinct(rows, "observer")
    axes = {
        "observer": observers,
        "agent": run.agents,
        "recovered_family": run.families,
        "true_family": run.families,
    }
    table = averages(rows, axes, ["pearson"])[..., 0]
    truths = [run.ground_truth(family, run.seeds[0])[0].rewards for family in run.families]
    equal = equal_truths(
        [[truth[agent] for truth in truths] for agent in run.agents], states=run.states
    )
    return cross_correlation_figure(
        dict(zip(observers, table, strict=True)),
        run.families,
        equal_truths=equal,
        n_seeds=len(distinct(rows, "seed")),
    )


def equal_truths(
    truths: Sequence[Sequence[FloatArray]], *, states: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Which families give an agent the same ground-truth reward, up to scale and mean.

    Args:
        truths: the ground-truth reward per agent and family, `(n_states,)` or
            `(n_states, *n_actions)`. The second form is averaged over joint actions, as it is in
            correlations.
        states: bool `(n_states,)`: the joint states that are compared.

    Returns:
        Bool `(n_agents, n_families, n_families)`, symmetric, true on the diagonal. A constant
        reward equals constant rewards only.
    """
    shapes = np.array(
        [[standardise(state_values(reward)[states]) for reward in row] for row in truths]
    )
    gaps = np.abs(shapes[:, :, None] - shapes[:, None]).max(axis=-1)
    return np.asarray(gaps <= 1e-9, dtype=np.bool_)


def cross_correlation_figure(
    matrices: Mapping[str, FloatArray],
    families: Sequence[str],
    *,
    equal_truths: NDArray[np.bool_],
    n_seeds: int,
) -> Figure:
    """Draw a matrix per observer and agent, recovered by ground-truth family, on one colour scale.

    The cells that should have the highest value of their row are framed: the family itself (solid
    line), and other families in which the agent has the same ground-truth reward (dashed line).

    Args:
        matrices: per observer `(n_agents, n_families, n_families)`: Pearson r of the reward
            recovered from one family (rows) with the ground truth of another (columns), averaged
            over seeds; NaN = not defined.
        families: the names of the families.
        equal_truths: bool `(n_agents, n_families, n_families)`: whether the agent's ground-truth
            rewards in two families are the same.
        n_seeds: number of seeds averaged.
    """
    n_agents, n_families = equal_truths.shape[:2]
    same_truths = equal_truths & ~np.eye(n_families, dtype=np.bool_)
    longest = max(map(len, matrices)) + len(", agent 0 (*)")
    panel_width = max(2.5, 0.75 * n_families, 0.08 * longest)
    height = len(matrices) * (0.4 + CELL_HEIGHT * n_families)
    figure = new_figure(2.0 + n_agents * panel_width, 1.7 + height)
    panels = new_panels(figure, len(matrices), n_agents, sharex=True, sharey=True)
    scale = Normalize(-1.0, 1.0)
    for row, (name, by_agent) in zip(panels, matrices.items(), strict=True):
        for agent_index, axes in enumerate(row):
            axes.imshow(by_agent[agent_index], cmap=COLOUR_MAP, norm=scale, aspect="auto")
            _write_numbers(axes, by_agent[agent_index])
            _frame_expected(axes, same_truths[agent_index])
            mark = " (*)" if same_truths[agent_index].any() else ""
            set_panel_title(axes, f"{name}, agent {agent_index}{mark}")
    panels[0, 0].set_xticks(range(n_families), families)
    panels[0, 0].set_yticks(range(n_families), families)
    if 0.085 * max(map(len, families)) > panel_width / n_families:
        _tilt_labels(panels[-1])
    figure.supxlabel("family of the ground-truth reward" + _note(same_truths), size=10)
    figure.supylabel("family of the recovered reward", size=10)
    bar = figure.colorbar(
        ScalarMappable(scale, COLOUR_MAP),
        ax=list(panels.flat),
        label="Pearson r",
        ticks=[-1, -0.5, 0, 0.5, 1],
        aspect=height / 0.17,
    )
    style_axes(bar.ax)
    seeds = "one seed" if n_seeds == 1 else f"mean over {n_seeds} seeds"
    note = f"{seeds}; framed: pairs that should have the highest value of their row"
    set_title(figure, "Correlation with the ground truth of every family", note)
    return figure


def _tilt_labels(panels: Iterable[Axes]) -> None:
    for axes in panels:
        for label in axes.get_xticklabels():
            label.set(rotation=30, ha="right", rotation_mode="anchor")


def _write_numbers(axes: Axes, matrix: FloatArray) -> None:
    for (row, column), value in np.ndenumerate(matrix):
        text = "n/a" if np.isnan(value) else f"{round(value, 2) + 0.0:.2f}"
        colour = "white" if abs(value) > 0.7 else "black"
        axes.text(column, row, text, ha="center", va="center", color=colour, size=9.5)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def _frame_expected(axes: Axes, same: NDArray[np.bool_]) -> None:
    inset, side = 0.44, 0.88
    for row, column in np.ndindex(same.shape):
        if row == column or same[row, column]:
            axes.add_patch(
                Rectangle(
                    (column - inset, row - inset),
                    side,
                    side,
                    fill=False,
                    edgecolor="black",
                    linewidth=1.4,
                    path_effects=_WHITE_RIM,
                    linestyle="-" if row == column else (0, (3, 2)),
                )
            )


def _note(same_truths: NDArray[np.bool_]) -> str:
    if not same_truths.any():
        return ""
    return "\n(*) this agent's ground-truth reward is the same in the families with a dashed frame"
