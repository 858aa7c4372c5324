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

from malfl_algos.report.cross_correlation import cross_correlation_figure
from malfl_algos.report.learners import learning_figure, policy_figure
from malfl_algos.report.reward_maps import reward_figure
from malfl_algos.report.scores import scores_figure, trend_figure
from malfl_algos.report.style import png_bytes
from malfl_algos.scores import SCORES
from malfl_algos.scores.registry import GROUPS, score_groups
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
    return policy_figure(played, rules=rules, stages=[0, 1, 2], title="Policies played")


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
