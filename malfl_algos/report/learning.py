"""How the learners fared: return and policy entropy per stage."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from malfl_algos.report.series import band_note, draw_series, shared_legend, stage_axis
from malfl_algos.report.style import MUTED, house_style, look, new_figure, set_title, soften

__all__ = ["learning_figure"]

FloatArray = NDArray[np.float64]


@house_style
def learning_figure(
    returns: FloatArray, entropies: FloatArray, *, n_actions: int, title: str
) -> Figure:
    """Draw every agent's return and policy entropy against the stage.

    Args:
        returns: `(n_seeds, n_agents, n_stages)`: expected discounted sum of rewards from the start
            state, exact.
        entropies: `(n_seeds, n_agents, n_stages)`: entropy of the policy in nats, averaged over the
            visited states.
        n_actions: of each agent; the entropy of a uniform policy is drawn as a dotted line.
        title: the figure's.
    """
    n_seeds, n_agents, n_stages = returns.shape
    stages = range(n_stages)
    figure = new_figure(8.6, 3.75 + 0.22 * (-(-n_agents // 6)))
    left, right = figure.subplots(1, 2)
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
    left.set_title("Return from the start state", loc="left")
    left.set_ylabel("expected return (discounted reward)")
    right.set_title("Randomness of the policy", loc="left")
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
    note = band_note(n_seeds, "entropy averaged over the states as visited")
    set_title(figure, title, note)
    return figure
