"""Every kind of figure, drawn from arrays, shows the numbers that it was given."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.text import Text
from scipy import stats

from malfl_algos import RecoveredRewards
from malfl_algos.report.boards import (
    FULL,
    LIKELIEST,
    arrow_outline,
    policy_figure,
    policy_of_cells,
)
from malfl_algos.report.cross_correlation import cross_correlation_figure, equal_truths
from malfl_algos.report.evidence import frequencies
from malfl_algos.report.learners import learning_figure
from malfl_algos.report.policies import stage_tables
from malfl_algos.report.reward_maps import reward_figure, reward_map
from malfl_algos.report.run_files import averages
from malfl_algos.report.scatter import side_by_side, truth_figure
from malfl_algos.report.scores import scores_figure, trend_figure
from malfl_algos.report.series import student_band
from malfl_algos.report.style import (
    look,
    png_bytes,
    standardise,
)
from malfl_algos.scores import SCORES
from malfl_env.rules import grid_rules

RULES = grid_rules(size=3)
EVERYWHERE = np.ones(RULES.n_states, dtype=bool)
FAMILIES = ("homogeneous", "heterogeneous")
CORRELATIONS = [SCORES["pearson"], SCORES["spearman"]]


def read_only(*arrays: np.ndarray[Any, Any]) -> None:
    """Make writing to an input an error."""
    for array in arrays:
        array.flags.writeable = False


def texts(figure: Figure) -> list[str]:
    """All texts of a figure."""
    return [text.get_text() for text in figure.findobj(Text) if text.get_text()]


def test_trend_draws_means_and_intervals_on_one_scale() -> None:
    rng = np.random.default_rng(0)
    values = rng.uniform(0.2, 0.6, (5, 3, 2))
    values[:, 1, 0] = np.nan
    read_only(values)
    figure: Any = trend_figure({"homogeneous": {"x": values}}, [2, 3, 4], CORRELATIONS, n_seeds=5)
    left, right = figure.axes
    np.testing.assert_array_equal(left.lines[0].get_ydata(), [*values[:, :, 0].mean(axis=0)])
    np.testing.assert_allclose(right.lines[0].get_ydata(), values[:, :, 1].mean(axis=0))
    low, high = stats.t.interval(
        0.95, 4, loc=values[:, 0, 1].mean(), scale=stats.sem(values[:, 0, 1])
    )
    (band,) = right.collections
    corners = band.get_paths()[0].vertices
    at_first = corners[corners[:, 0] == 2, 1]
    np.testing.assert_allclose([at_first.min(), at_first.max()], [low, high])
    assert left.get_ylim() == right.get_ylim()
    assert (left.get_xlabel(), left.get_ylabel()) == (
        "number of stages seen",
        "correlation with the\nground-truth reward",
    )
    assert all(tick == int(tick) for tick in left.get_xticks())


def test_trend_of_one_seed_states_that_there_is_no_interval() -> None:
    for n_seeds in (1, 2):
        curves = {"homogeneous": {"x": np.full((n_seeds, 2, 2), 0.5)}}
        written = texts(trend_figure(curves, [2, 3], CORRELATIONS, n_seeds=n_seeds))
        assert any("one seed, so no interval" in text for text in written) == (n_seeds == 1)


def test_scores_write_every_mean_and_name_missing_values() -> None:
    values = np.array([[0.5, 0.1], [0.7, 0.3], [np.nan, 0.2]])
    nothing = np.full((3, 2), np.nan)
    read_only(values, nothing)
    table = {"homogeneous": {"x": values, "y": nothing}, "heterogeneous": {"x": values}}
    written = texts(scores_figure(table, CORRELATIONS, n_seeds=3, title="x"))
    assert written.count("0.600 (n = 2)") == 2
    assert written.count("0.200") == 2
    assert written.count("not defined") == 2
    assert any("Student t interval over 3 seeds" in text for text in written)


def test_scores_show_every_seed_and_the_interval() -> None:
    values = np.array([[0.5, 0.1], [0.7, 0.3], [0.9, 0.2]])
    figure: Any = scores_figure({"homogeneous": {"x": values}}, CORRELATIONS, n_seeds=3, title="x")
    axes = figure.axes[0]
    (dots,) = [c for c in axes.collections if len(c.get_offsets()) == 3]
    np.testing.assert_allclose(dots.get_offsets()[:, 0], values[:, 0])
    interval = axes.lines[0].get_xdata()
    expected = stats.t.interval(0.95, 2, loc=0.7, scale=stats.sem(values[:, 0]))
    np.testing.assert_allclose(interval, expected)
    assert axes.get_xlabel() == "Pearson r\nhigher is better"


def test_scores_of_different_ranges_have_separate_axes() -> None:
    names = ["epic", "starc", "regret"]
    values = np.array([[0.1, 0.2, 3.0], [0.2, 0.2, 1.5]])
    figure: Any = scores_figure(
        {"homogeneous": {"x": values}}, [SCORES[name] for name in names], n_seeds=2, title="x"
    )
    epic, starc, regret, hidden = figure.axes
    assert [axes.get_xlabel() for axes in (epic, regret)] == [
        "EPIC distance\nlower is better",
        "regret\nlower is better",
    ]
    for axes, column in zip((epic, starc, regret), values.T, strict=True):
        low, high = axes.get_xlim()
        assert low < 0 < column.max() < high
    assert epic.get_xlim()[1] <= 1.05 < 3 < regret.get_xlim()[1]
    assert not hidden.get_visible()


def test_cross_correlation_writes_its_matrix_on_a_scale_from_minus_one_to_one() -> None:
    matrix = np.array([[[0.91, -0.2], [0.03, 0.8]], [[0.5, 0.5], [np.nan, -0.001]]])
    equal = np.array([np.eye(2, dtype=bool), np.ones((2, 2), dtype=bool)])
    read_only(matrix, equal)
    figure: Any = cross_correlation_figure({"x": matrix}, FAMILIES, equal_truths=equal, n_seeds=2)
    first, second = figure.axes[:2]
    assert [text.get_text() for text in first.texts] == ["0.91", "-0.20", "0.03", "0.80"]
    assert [text.get_text() for text in second.texts] == ["0.50", "0.50", "n/a", "0.00"]
    for axes, values in zip((first, second), matrix, strict=True):
        np.testing.assert_array_equal(axes.images[0].get_array().filled(np.nan), values)
        assert axes.images[0].get_clim() == (-1.0, 1.0)
    assert [len(axes.patches) for axes in (first, second)] == [2, 4]
    titles = [axes.get_title(loc="left") for axes in (first, second)]
    assert titles == ["x, agent 0", "x, agent 1 (*)"]


def test_equal_truths_differ_by_scale_and_mean_only() -> None:
    rng = np.random.default_rng(0)
    truth, other = rng.normal(size=(2, 81))
    constant = np.full(81, 3.0)
    counted = np.arange(81) < 80
    elsewhere = truth + 5.0 * ~counted
    over_actions = np.broadcast_to(truth[:, None, None], (81, 5, 5))
    row = [truth, 2 * truth + 1, -truth, other, constant, elsewhere, over_actions]
    found = equal_truths([row], states=counted)
    assert found.shape == (1, 7, 7)
    np.testing.assert_array_equal(np.flatnonzero(found[0, 0]), [0, 1, 5, 6])
    np.testing.assert_array_equal(found[0], found[0].T)
    assert found[0].diagonal().all()


def test_reward_maps_share_one_symmetric_scale_and_are_standardised() -> None:
    rng = np.random.default_rng(0)
    true = [rng.normal(size=81), rng.normal(size=81)]
    recovered = [7 + 3 * rng.normal(size=(81, 5, 5)), np.full((81, 5, 5), 2.0)]
    read_only(*true, *recovered)
    figure: Any = reward_figure(
        true,
        recovered,
        rules=RULES,
        states=EVERYWHERE,
        notes=["Pearson r 0.500", "Pearson r not defined"],
        title="x",
    )
    images = [axes.images[0] for axes in figure.axes if axes.images]
    assert len(images) == 4
    (limits,) = {image.get_clim() for image in images}
    assert limits[0] == -limits[1]
    for image in images[:3]:
        shown = image.get_array().filled(np.nan)
        np.testing.assert_allclose([shown.mean(), shown.std()], [0, 1], atol=1e-12)
    assert not images[3].get_array().any()
    written = texts(figure)
    assert "agent 0: recovered\nPearson r 0.500" in written
    assert "agent 1: recovered\nPearson r not defined" in written
    assert "rewards averaged uniformly over joint actions" in written
    assert "reward, standardised (mean 0, sd 1)" in written
    assert written.count("cell of agent 1 (own)") == 2


@pytest.mark.parametrize("agent_index", [0, 1, 2])
def test_reward_map_averages_over_joint_actions_and_the_remaining_agents(agent_index: int) -> None:
    rules = grid_rules(size=2, n_agents=3)
    rng = np.random.default_rng(agent_index)
    reward = rng.normal(size=(64, 5, 5, 5))
    states = np.ones((4, 4, 4), dtype=bool)
    states[:, 3] = states[3] = states[:, :, 3] = False
    found = reward_map(reward, rules=rules, agent_index=agent_index, states=states.ravel())
    other, rest = (agent_index + 1) % 3, (agent_index + 2) % 3
    for own_cell in range(4):
        for other_cell in range(4):
            seen = []
            for rest_cell in range(4):
                cells = [0, 0, 0]
                cells[agent_index], cells[other], cells[rest] = own_cell, other_cell, rest_cell
                if states[tuple(cells)]:
                    seen.append(reward[rules.joint_state(cells)].mean())
            expected = np.mean(seen) if seen else np.nan
            np.testing.assert_allclose(found[own_cell, other_cell], expected)


def test_policy_of_cells_is_the_mean_over_the_others_weighted_by_visits() -> None:
    rules = grid_rules(size=2, n_agents=3)
    rng = np.random.default_rng(0)
    policy = rng.dirichlet(np.ones(5), (2, rules.n_states))
    visits = rng.integers(0, 4, (2, rules.n_states)).astype(float)
    cells = np.stack(np.unravel_index(np.arange(rules.n_states), (4, 4, 4)))
    visits[:, cells[1] == 2] = 0
    read_only(policy, visits)
    found = policy_of_cells(policy, visits, rules=rules, agent_index=1)
    assert found.shape == (2, 4, 5)
    for cell in (0, 1, 3):
        own = cells[1] == cell
        for stage in range(2):
            expected = np.average(policy[stage, own], axis=0, weights=visits[stage, own])
            np.testing.assert_allclose(found[stage, cell], expected)
    assert np.isnan(found[:, 2]).all()


def test_arrows_are_as_long_as_the_action_is_probable_and_small_ones_are_no_brackets() -> None:
    down = np.array([0.0, 1.0])
    for length in (0.3, 0.02):
        outline = arrow_outline(np.array([1.0, 2.0]), down, length)
        np.testing.assert_allclose(np.ptp(outline[:, 1]), length)
        np.testing.assert_allclose(outline[:, 0].mean(), 1.0)
        width = np.ptp(outline[:, 0])
        np.testing.assert_allclose(width, 0.15 * min(1, length / FULL))

    policy = np.tile([0.5, 0.25, 0.15, 0.04, 0.06], (1, 81, 1))
    read_only(policy)
    figure: Any = policy_figure(
        [policy, policy], np.ones((1, 81)), rules=RULES, stages=[0], title="x"
    )
    arrows = figure.axes[0].collections[-1]
    assert len(arrows.get_paths()) == 3 * 9  # to the right is less probable than 0.05
    sizes = [np.ptp(path.vertices, axis=0).max() for path in arrows.get_paths()[:3]]
    np.testing.assert_allclose(sizes[1:2], 0.5 * sizes[0])
    down_arrow, up_arrow, left_arrow = (p.vertices for p in arrows.get_paths()[:3])
    assert down_arrow[:, 1].min() > 0 > up_arrow[:, 1].max()
    assert left_arrow[:, 0].max() < 0


def test_the_most_probable_action_is_accented_except_for_ties_and_on_the_goal() -> None:
    policy = np.tile([0.5, 0.25, 0.15, 0.1, 0.0], (1, 81, 1))
    tied = np.full((1, 81, 5), 0.2)
    figure: Any = policy_figure(
        [policy, tied], np.ones((1, 81)), rules=RULES, stages=[0], title="x"
    )
    accents = [
        [to_hex(colour) == LIKELIEST.lower() for colour in axes.collections[-1].get_facecolor()]
        for axes in figure.axes
    ]
    assert np.flatnonzero(accents[0]).tolist() == [4 * cell for cell in range(8)]
    assert not any(accents[1])


def test_learning_draws_its_arrays_with_units() -> None:
    rng = np.random.default_rng(0)
    returns, entropies = rng.normal(size=(2, 2, 3, 4))
    read_only(returns, entropies)
    figure: Any = learning_figure(returns, entropies, n_actions=5, title="x")
    for axes, values in zip(figure.axes, (returns, entropies), strict=True):
        for agent_index in range(3):
            line = axes.lines[agent_index]
            np.testing.assert_allclose(line.get_ydata(), values[:, agent_index].mean(axis=0))
            np.testing.assert_array_equal(line.get_xdata(), range(4))
    assert [axes.get_ylabel() for axes in figure.axes] == [
        "expected return (discounted reward)",
        "mean policy entropy (nats)",
    ]


@given(st.integers(0, 2**32), st.integers(2, 6))
def test_band_is_students_interval_of_the_present_values(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(n, 3))
    values[0, 1] = np.nan
    values[1:, 2] = np.nan
    low, mean, high = student_band(values)
    expected = stats.t.interval(0.95, n - 1, loc=values[:, 0].mean(), scale=stats.sem(values[:, 0]))
    np.testing.assert_allclose(
        [low[0], mean[0], high[0]], [expected[0], sum(expected) / 2, expected[1]]
    )
    np.testing.assert_allclose(mean[1], values[1:, 1].mean())
    assert mean[2] == values[0, 2]
    assert np.isnan([low[2], high[2]]).all()


def test_standardise_leaves_out_values_that_are_not_finite() -> None:
    found = standardise(np.array([1.0, 3.0, np.nan, np.inf]))
    np.testing.assert_array_equal(found, [-1.0, 1.0, np.nan, np.nan])
    np.testing.assert_array_equal(standardise(np.full(3, 0.1)), 0.0)
    assert np.isnan(standardise(np.full(3, np.nan))).all()


def test_averages_leave_out_null_and_empty_values() -> None:
    rows: list[dict[str, Any]] = [
        {"seed": 3, "agent": "agent_0", "pearson": 0.5, "spearman": None},
        {"seed": "3", "agent": "agent_1", "pearson": "0.7", "spearman": ""},
        {"seed": 4, "agent": "agent_0", "pearson": None, "spearman": 0.1},
        {"seed": 5, "agent": "agent_0", "pearson": 1.0, "spearman": 1.0},
    ]
    by_seed = averages(rows, {"seed": ["4", "3"]}, ["pearson", "spearman"])
    np.testing.assert_allclose(by_seed, [[np.nan, 0.1], [0.6, np.nan]])
    both = averages(rows, {"agent": ["agent_0", "agent_1"], "seed": ["3"]}, ["pearson", "spearman"])
    np.testing.assert_allclose(both, [[[0.5, np.nan]], [[0.7, np.nan]]])


def test_ten_series_differ_in_colour_and_marker() -> None:
    looks = [look(index) for index in range(10)]
    assert len({each.colour for each in looks}) == len({each.marker for each in looks}) == 10


def test_calibration_has_its_nominal_shares() -> None:
    entries = [SCORES[f"coverage_{k}sd"] for k in (1, 2, 3)]
    figure: Any = scores_figure({"f": {"x": np.full((2, 3), 0.8)}}, entries, n_seeds=2, title="x")
    for k, axes in zip((1, 2, 3), figure.axes, strict=False):
        (line,) = (own for own in axes.lines if own.get_linestyle() == ":")
        np.testing.assert_allclose(line.get_xdata(), 2 * stats.norm.cdf(k) - 1, atol=1e-3)


def test_stage_tables_show_the_most_visited_states_and_the_mean_by_visits() -> None:
    policy = np.random.default_rng(0).dirichlet(np.ones(3), (2, 4))
    visits = np.array([[5.0, 0.0, 1.0, 0.0], [5.0, 0.0, 2.0, 4.0]])
    read_only(policy, visits)
    table, states = stage_tables(policy, visits, most=3)
    assert states == [0, 3, 2]
    np.testing.assert_allclose(table[0, 0], (5 * policy[0, 0] + policy[0, 2]) / 6)
    np.testing.assert_allclose(table[1, [1, 2, 3]], policy[1, [0, 3, 2]])
    assert np.isnan(table[0, 2]).all()  # state 3 was not visited in stage 0


def test_frequencies_have_errors_that_hold() -> None:
    rng = np.random.default_rng(0)
    p, steps, inside = np.array([0.002, 0.05, 0.5, 0.98]), 400, []
    for _ in range(200):
        bins = np.stack([np.full(4, steps), steps * p, rng.binomial(steps, p)], axis=1)
        predicted, seen, error = frequencies(bins.astype(float))
        np.testing.assert_allclose(predicted, p)
        inside.append(np.abs(seen - p) <= error)
    assert np.mean(inside) > 0.9
    assert len(frequencies(np.array([[19.0, 1.0, 1.0]]))[0]) == 0


def test_ties_are_drawn_side_by_side_and_other_values_where_they_are() -> None:
    values = np.array([0.0, 1.0, 1.0, 4.0, 1.0, 0.0])
    moved = side_by_side(values)
    assert len(set(moved)) == 6
    np.testing.assert_allclose(moved[3], 4.0)
    assert np.abs(moved - values).max() <= 0.3
    np.testing.assert_array_equal(side_by_side(values[[0, 1, 3]]), values[[0, 1, 3]])


def test_truth_is_compared_at_the_values_that_the_reward_has() -> None:
    rng = np.random.default_rng(0)
    truth = rng.normal(size=(5, 2, 3))
    own = np.broadcast_to(truth.mean(axis=2)[..., None], truth.shape)
    made = RecoveredRewards({"a": own + 7.0}, sd={"a": np.full(truth.shape, 0.1)})
    figure: Any = truth_figure(made, {"a": truth}, None, title="x")
    line = figure.axes[0].lines[0]
    np.testing.assert_allclose(line.get_xdata(), line.get_ydata(), atol=1e-12)
    assert "10 values, 100 % within 2 sd" in figure.axes[0].get_title(loc="left")
    silent = RecoveredRewards({"a": np.arange(5.0)})
    alike = np.broadcast_to(np.arange(6.0).reshape(2, 3), (5, 2, 3))
    assert truth_figure(silent, {"a": alike}, None, title="x") is None


def test_letters_that_the_font_lacks_are_drawn_without_a_warning():
    figure = Figure(figsize=(1, 1))
    FigureCanvasAgg(figure)
    figure.text(0, 0, "\u4e00\u4e8c")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert png_bytes(figure).startswith(b"\x89PNG")
