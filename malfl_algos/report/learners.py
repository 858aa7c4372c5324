"""How the learners learned: return and policy entropy by stage."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from malfl_algos.report.run_files import Run, read_state_counts
from malfl_algos.report.series import draw_series
from malfl_algos.report.style import (
    MUTED,
    band_note,
    look,
    new_figure,
    new_panels,
    set_margins,
    set_panel_title,
    set_title,
    shared_legend,
    soften,
    stage_axis,
)
from malfl_algos.soft.evaluation import entropy, soft_evaluation

__all__ = ["draw_learning", "learning_curves", "learning_figure"]

FloatArray = NDArray[np.float64]


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
            game, joint_policy, agent_index, discount=run.config.learners_discount, temperature=0.0
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
    label = f"uniform policy: ln {n_actions} = {uniform:.2f}"
    right.axhline(uniform, color=MUTED, linestyle=":", linewidth=1, label=label)
    right.set_ylim(0, 1.1 * max(uniform, 0.1))
    rows_of_legend = shared_legend(figure)
    note = band_note(n_seeds, "entropy averaged over visits")
    set_title(figure, title, note)
    set_margins(figure, (1, 2), left=0.8, title_lines=1, legend_rows=rows_of_legend)
    return figure
