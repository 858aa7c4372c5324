"""How policies change from stage to stage, in any game."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from malfl_algos.recovered import Source
from malfl_algos.report.boards import policy_figure
from malfl_algos.report.run_files import Run, read_state_counts
from malfl_algos.report.style import new_figure, new_panels, set_panel_title, set_title, shortened

__all__ = ["draw", "stage_figure", "stage_tables", "stages_shown"]

FloatArray = NDArray[np.float64]

COLOUR_MAP = "Blues"
MOST_STATES, MOST_ACTIONS, MOST_PANELS = 14, 5, 5
"""Joint states in a panel of an action; actions with a panel of their own; panels of a row."""
ALL_STATES = "all states"


def draw(run: Run, family: str) -> Figure:
    """Draw the policies that the learners of the first seed had."""
    seed = run.seeds[0]
    truth, learner = run.ground_truth(family, seed)
    visits = read_state_counts(learner)
    policies = [truth.joint_policies[agent] for agent in run.agents]
    title = f"Policies of the learners by stage, {family}, {run.first_seed}"
    if run.rules is not None:
        stages = stages_shown(len(visits))
        return policy_figure(policies, visits, rules=run.rules, stages=stages, title=title)
    return stage_figure(policies, visits, run.source(family, seed), title=title)


def stages_shown(n_stages: int) -> list[int]:
    """The first, the middle and the last stage."""
    return sorted({0, n_stages // 2, n_stages - 1})


def stage_tables(
    policy: FloatArray, visits: FloatArray, *, most: int
) -> tuple[FloatArray, list[int]]:
    """One agent's policy in the most visited joint states, and on average.

    Args:
        policy: `(n_stages, n_states, n_actions)`.
        visits: of the joint states in every stage, `(n_stages, n_states)`.
        most: number of joint states.

    Returns:
        `(n_stages, 1 + n_shown, n_actions)`: first the mean over all states, weighted by the
        visits of the stage; NaN where a state was not visited in a stage. And the joint states that
        follow, the most visited first.
    """
    order = np.argsort(-visits.sum(axis=0), kind="stable")[:most]
    states = [int(state) for state in order if visits[:, state].any()]
    total = np.maximum(visits.sum(axis=1), 1)[:, None]
    average = np.einsum("hs,hsa->ha", visits, policy) / total
    own = np.where(visits[:, states, None] > 0, policy[:, states], np.nan)
    return np.concatenate([average[:, None], own], axis=1), states


def stage_figure(
    policies: Sequence[FloatArray],
    visits: FloatArray,
    source: Source,
    *,
    title: str,
    agents: Sequence[int] | None = None,
) -> Figure:
    """Draw probabilities of actions by stage, in the most visited joint states and on average.

    With few actions there is a panel for each action, with a row for each joint state; with many, a
    panel for each joint state, with a row for each action.

    Args:
        policies: per agent in `agents`, `(n_stages, n_states, n_actions)`.
        visits: of the joint states in every stage, `(n_stages, n_states)`.
        source: names of agents, states and actions.
        title: of the figure.
        agents: indices of the agents of `policies`; None: all.
    """
    numbers = list(range(len(policies)) if agents is None else agents)
    parts = [
        _panels_of(policy, visits, source, index)
        for policy, index in zip(policies, numbers, strict=True)
    ]
    rows = [len(names) for _, _, names in parts]
    width = max(len(titles) for _, titles, _ in parts)
    label = 0.075 * max(len(name) for _, _, names in parts for name in names)
    figure = new_figure(
        label + 1.6 + 1.25 * max(width, 3), 1.0 + sum(0.75 + 0.2 * max(n, 4) for n in rows)
    )
    panels = new_panels(
        figure, len(parts), width, height_ratios=[0.35 + 0.2 * max(n, 4) for n in rows]
    )
    largest = max(float(np.nanmax(tables)) for tables, _, _ in parts)
    scale = Normalize(0.0, largest)
    for row, (tables, titles, names), index in zip(panels, parts, numbers, strict=True):
        for column, axes in enumerate(row):
            if column >= len(tables):
                axes.set_axis_off()
                continue
            _draw_table(axes, tables[column], scale, names if column == 0 else None)
            set_panel_title(axes, titles[column].replace("$", r"\$"), loc="center")
        row[0].set_ylabel(shortened(str(source.agents[index]), 24).replace("$", r"\$"))
    for axes in panels[-1]:
        axes.set_xlabel("stage")
    bar = figure.colorbar(
        ScalarMappable(scale, COLOUR_MAP), ax=list(panels.flat), label="probability", fraction=0.04
    )
    bar.outline.set_linewidth(0.5)
    bar.ax.tick_params(labelsize=9)
    n_states = int((visits.sum(axis=0) > 0).sum())
    shown = min(n_states, max(_most(policy) for policy in policies))
    set_title(
        figure,
        title,
        f"{shown} most visited of {n_states} visited joint states; {ALL_STATES}: mean by visits; "
        "grey: not visited",
    )
    return figure


def _most(policy: FloatArray) -> int:
    return MOST_STATES if policy.shape[-1] <= MOST_ACTIONS else MOST_PANELS - 1


def _panels_of(
    policy: FloatArray, visits: FloatArray, source: Source, index: int
) -> tuple[FloatArray, list[str], list[str]]:
    """Tables `(n_panels, n_rows, n_stages)`, titles of panels and names of rows."""
    tables, states = stage_tables(policy, visits, most=_most(policy))
    places = [ALL_STATES, *(shortened(source.state_name(state), 30) for state in states)]
    actions = [source.action_name(index, action) for action in range(policy.shape[-1])]
    if len(actions) <= MOST_ACTIONS:
        return np.moveaxis(tables, (2, 1, 0), (0, 1, 2)), list(map(_on_two_lines, actions)), places
    actions = [shortened(action, 14) for action in actions]
    return np.moveaxis(tables, (1, 2, 0), (0, 1, 2)), list(map(_on_two_lines, places)), actions


def _on_two_lines(text: str) -> str:
    """A title above a narrow panel."""
    lines = textwrap.wrap(text, 14) or [""]
    return "\n".join(lines if len(lines) <= 2 else [lines[0], shortened(f"{lines[1]}...", 14)])


def _draw_table(
    axes: Axes, table: FloatArray, scale: Normalize, names: Sequence[str] | None
) -> None:
    axes.set_facecolor("#d5d5d5")
    axes.imshow(table, cmap=COLOUR_MAP, norm=scale, aspect="auto", interpolation="nearest")
    axes.xaxis.set_major_locator(MaxNLocator(nbins=4, integer=True, min_n_ticks=1))
    axes.set_yticks(range(len(table)))
    axes.tick_params(length=2, labelsize=8.5)
    if names is None:
        axes.set_yticklabels([])
    else:
        axes.set_yticks(range(len(table)), names, parse_math=False)
