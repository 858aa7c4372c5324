"""Figures of every kind, also of awkward sizes: texts are inside the figure and do not overlap."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.text import Text

from malfl_algos import RecoveredRewards
from malfl_algos.contract import Source, Verdict
from malfl_algos.report.boards import policy_figure
from malfl_algos.report.cross_correlation import cross_correlation_figure
from malfl_algos.report.evidence import evidence_figure
from malfl_algos.report.learners import learning_figure
from malfl_algos.report.policies import stage_figure
from malfl_algos.report.reward_maps import reward_figure
from malfl_algos.report.scatter import truth_figure
from malfl_algos.report.scores import scores_figure, trend_figure
from malfl_algos.report.style import png_bytes
from malfl_algos.scores import SCORES
from malfl_algos.scores.registry import GROUPS, score_groups
from malfl_algos.verdict.drawn import EDGES
from malfl_env.rules import grid_rules

FAMILIES = ("homogeneous", "heterogeneous")
LONG_NAMES = [f"an-observer-with-a-long-label-{index}" for index in range(10)]


def trend(names: list[str], *, n_seeds: int = 3, families: tuple[str, ...] = FAMILIES) -> Figure:
    """A trend of random curves."""
    rng = np.random.default_rng(0)
    curves = {f: {name: rng.uniform(-0.2, 1, (n_seeds, 9, 2)) for name in names} for f in families}
    scores = [SCORES["pearson"], SCORES["spearman"]]
    return trend_figure(curves, range(2, 11), scores, n_seeds=n_seeds)


def scores(
    names: list[str], group: str = "correlation", *, families: tuple[str, ...] = FAMILIES
) -> Figure:
    """Random values of a group of scores."""
    rng = np.random.default_rng(1)
    entries = score_groups(SCORES)[group]
    table = {f: {name: rng.uniform(-0.2, 1, (4, len(entries))) for name in names} for f in families}
    return scores_figure(table, entries, n_seeds=4, title=GROUPS[group])


def cross(names: list[str], *, families: tuple[str, ...] = FAMILIES) -> Figure:
    """Random cross-correlations; the second agent has the same reward in all families."""
    n = len(families)
    equal = np.array([np.eye(n, dtype=bool), np.ones((n, n), dtype=bool)])
    rng = np.random.default_rng(2)
    matrices = {name: rng.uniform(-1, 1, (2, n, n)) for name in names}
    return cross_correlation_figure(matrices, families, equal_truths=equal, n_seeds=4)


def rewards(n_agents: int = 2, size: int = 3, walls: tuple[Any, ...] = ()) -> Figure:
    """Maps of random rewards over joint actions."""
    rules = grid_rules(size=size, n_agents=n_agents, walls=walls)
    rng = np.random.default_rng(3)
    true = [rng.normal(size=rules.n_states) for _ in range(n_agents)]
    recovered = [rng.normal(size=(rules.n_states, *(5,) * n_agents)) for _ in range(n_agents)]
    return reward_figure(
        true,
        recovered,
        rules=rules,
        states=np.ones(rules.n_states, dtype=bool),
        notes=["Pearson r 0.123, Spearman rho not defined"] * n_agents,
        title="Rewards recovered by an-observer, a family, seed 0 (first of 5)",
    )


def policies(n_agents: int = 2, size: int = 3) -> Figure:
    """Random policies in three stages."""
    rules = grid_rules(size=size, n_agents=n_agents)
    rng = np.random.default_rng(4)
    played = [rng.dirichlet(np.ones(5), (3, rules.n_states)) for _ in range(n_agents)]
    visits = np.ones((3, rules.n_states))
    return policy_figure(played, visits, rules=rules, stages=[0, 1, 2], title="Policies played")


def by_stage(n_actions: int, n_states: int = 30, n_agents: int = 2) -> Figure:
    """Random policies of a game without a board, with long names."""
    rng = np.random.default_rng(6)
    source = Source(
        agents=tuple(f"the agent of number {index}" for index in range(n_agents)),
        n_actions=(n_actions,) * n_agents,
        steps=(9,) * 12,
        states=tuple(f"the state of the whole game {state}" for state in range(n_states)),
        actions=(tuple(f"a long action name {a}" for a in range(n_actions)),) * n_agents,
    )
    played = [rng.dirichlet(np.ones(n_actions), (12, n_states)) for _ in range(n_agents)]
    visits = rng.integers(0, 3, (12, n_states)).astype(float)
    return stage_figure(played, visits, source, title="Policies by stage, a family, seed 0")


def recovered(n_states: int = 90, n_agents: int = 2) -> RecoveredRewards:
    """Random rewards with the arrays of a verdict."""
    rng = np.random.default_rng(7)
    agents = [f"agent_{index}" for index in range(n_agents)]
    steps = rng.integers(30, 4000, (2, len(EDGES) - 1))
    middle = np.convolve(EDGES, [0.5, 0.5], "valid")
    arrays = {
        "calibration": np.stack([steps, steps * middle, rng.binomial(steps, middle)], axis=-1),
        "divergence": np.array([0.0123, 0.123]),
        "halves": np.abs(rng.normal(size=(2, 2, n_states))),
        "states": np.arange(n_states),
    }
    own = Verdict("believe", ("so it is",), arrays=arrays)
    return RecoveredRewards(
        {agent: rng.normal(size=n_states) for agent in agents},
        sd={agent: np.full(n_states, 0.5) for agent in agents},
        verdict=Verdict("believe", agents=dict.fromkeys(agents, own)),
    )


def truths(n_agents: int = 2) -> Figure:
    """Recovered rewards against a ground truth with many ties."""
    made = recovered(n_agents=n_agents)
    truth = {agent: np.arange(90.0) // 10 for agent in made.rewards}
    title = "Recovered against ground-truth reward, an-observer, a family, seed 0 (first of 5)"
    found = truth_figure(made, truth, None, title=title)
    assert found is not None
    return found


def learning(n_agents: int = 2) -> Figure:
    """Random learning curves."""
    values = np.random.default_rng(5).uniform(0, 1.6, (3, n_agents, 10))
    return learning_figure(-values, values, n_actions=5, title="Learning, homogeneous")


FOUR = (*FAMILIES, "another-family", "and-one-more-family")
FIGURES: dict[str, Callable[[], Figure]] = {
    "trend": lambda: trend(["ma-lfl", "ma-lfl-own-action", "ma-lfl-state", "ma-lfl-faithful"]),
    "trend of many": lambda: trend(LONG_NAMES),
    "trend of one seed and family": lambda: trend(["x"], n_seeds=1, families=("homogeneous",)),
    "correlation": lambda: scores(["ma-lfl", "ma-lfl-own-action"]),
    "correlation of many": lambda: scores(LONG_NAMES, families=FOUR),
    "correlation of one": lambda: scores(["x"], families=("homogeneous",)),
    "distances": lambda: scores(["ma-lfl", "ma-lfl-own-action"], "distance"),
    "calibration of many": lambda: scores(LONG_NAMES, "calibration"),
    "cross": lambda: cross(["ma-lfl", "ma-lfl-own-action"]),
    "cross of many": lambda: cross(LONG_NAMES),
    "cross of four families": lambda: cross(["ma-lfl"], families=FOUR),
    "cross of one family": lambda: cross(["ma-lfl"], families=("homogeneous",)),
    "rewards": rewards,
    "rewards of three agents": lambda: rewards(n_agents=3),
    "rewards on a large board": lambda: rewards(size=7, walls=((1, 1),)),
    "rewards on a very large board": lambda: rewards(size=11),
    "policies": policies,
    "policies of three agents": lambda: policies(n_agents=3),
    "policies on a large board": lambda: policies(size=7),
    "policies of many actions by stage": lambda: by_stage(15),
    "policies of few actions by stage": lambda: by_stage(3),
    "policies in one state": lambda: by_stage(2, n_states=1, n_agents=1),
    "evidence": lambda: evidence_figure(recovered(), title="Held-out evidence, x, y, seed 0"),
    "evidence on a phone": lambda: evidence_figure(
        recovered(n_agents=1), title="Held-out evidence", narrow=True
    ),
    "truth": truths,
    "truth of one agent": lambda: truths(1),
    "truth of three agents": lambda: truths(3),
    "learning": learning,
    "learning of eight agents": lambda: learning(8),
}


def visible_texts(figure: Figure) -> list[Text]:
    """The texts that are drawn; tick labels outside the limits of their axis are not."""
    ticks: dict[int, bool] = {}
    found: list[Any] = figure.findobj(Axis)
    for axis in found:
        low, high = sorted(axis.get_view_interval())
        slack = 1e-9 * (high - low)
        for tick in axis.get_major_ticks():
            shown = axis.get_visible() and low - slack <= tick.get_loc() <= high + slack
            ticks |= {id(tick.label1): shown and axis.axes.axison, id(tick.label2): False}
    return [
        text
        for text in figure.findobj(Text)
        if text.get_visible() and text.get_text().strip() and ticks.get(id(text), True)
    ]


@pytest.mark.parametrize("name", FIGURES)
def test_texts_are_inside_the_figure_and_do_not_overlap(name: str) -> None:
    figure = FIGURES[name]()
    png_bytes(figure)
    canvas: Any = figure.canvas
    renderer = canvas.get_renderer()
    boxes = [
        (text, text.get_window_extent(renderer))
        for text in visible_texts(figure)
        if text.get_rotation() % 90 == 0
    ]
    assert len(boxes) > 8
    width, height = canvas.get_width_height()
    for text, box in boxes:
        inside = box.x0 >= 0 and box.y0 >= 0 and box.x1 <= width and box.y1 <= height
        assert inside, f"{text.get_text()!r} is cut off"
    for (one, box), (other, other_box) in combinations(boxes, 2):
        if one.get_text().endswith("\n") or other.get_text().endswith("\n"):
            continue  # the heading keeps an empty line for the note under it
        overlap = (min(box.x1, other_box.x1) - max(box.x0, other_box.x0)) > 1 and (
            min(box.y1, other_box.y1) - max(box.y0, other_box.y0)
        ) > 1
        assert not overlap, f"{one.get_text()!r} lies on {other.get_text()!r}"
