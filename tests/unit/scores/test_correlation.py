from math import sqrt

import numpy as np
import pytest
from scipy import stats

from malfl_algos.scores import mean_interval, pearson, spearman


def test_hand_computed():
    # deviations (-1, 0, 1) and (-2, 1, 1): 3 / sqrt(2 * 6)
    assert pearson(np.array([1.0, 2, 3]), np.array([0.0, 3, 3])).value == pytest.approx(
        3 / sqrt(12), abs=1e-15
    )
    # ranks (1, 2, 3) and (1, 2.5, 2.5): 1.5 / sqrt(2 * 1.5)
    assert spearman(np.array([1.0, 20, 300]), np.array([0.0, 3, 3])).value == pytest.approx(
        1.5 / sqrt(3), abs=1e-15
    )


@pytest.mark.parametrize("n_levels", [3, 1000])
def test_agrees_with_scipy(n_levels):
    rng = np.random.default_rng(5)
    one, other = rng.integers(n_levels, size=(2, 81)).astype(float)
    assert pearson(one, other).value == pytest.approx(stats.pearsonr(one, other)[0], abs=1e-13)
    assert spearman(one, other).value == pytest.approx(stats.spearmanr(one, other)[0], abs=1e-13)


def test_joint_actions_are_averaged_uniformly():
    rng = np.random.default_rng(2)
    joint, truth = rng.normal(size=(16, 5, 5)), rng.normal(size=16)
    assert pearson(joint, truth) == pearson(joint.mean(axis=(1, 2)), truth)
    assert pearson(truth, joint) == pearson(truth, joint.mean(axis=(1, 2)))


@pytest.mark.parametrize("measure", [pearson, spearman])
@pytest.mark.parametrize("scale", [1e-300, 1.0, 1e300])
def test_extreme_scales_change_nothing(measure, scale):
    rng = np.random.default_rng(3)
    one, other = rng.normal(size=(2, 9))
    assert measure(scale * one, other).value == pytest.approx(measure(one, other).value, abs=1e-12)
    assert measure(scale * one, scale * one).value == pytest.approx(1.0, abs=1e-12)
    assert measure(-scale * one, one).value == pytest.approx(-1.0, abs=1e-12)


@pytest.mark.parametrize("measure", [pearson, spearman])
def test_no_number_without_variation(measure):
    varied, constant = np.arange(4.0), np.full(4, 0.1)
    assert measure(varied, constant).reason == "the ground-truth reward is constant"
    assert measure(constant, varied).reason == "the estimate is constant"
    # rounding on top of a constant is not variation
    assert measure(constant + np.array([0, 1e-17, 0, 0]), varied).value is None
    assert measure(np.array([0, np.nan, 1, 2]), varied).reason is not None
    assert measure(np.array([0, np.inf, 1, 2]), varied).value is None
    assert measure(varied, varied).reason is None


def test_states_that_do_not_count_are_left_out():
    truth, estimate = np.arange(4.0), np.array([0.0, 1, 2, -50])
    counted = np.array([True, True, True, False])
    assert pearson(estimate, truth, states=counted).value == pytest.approx(1.0)
    assert pearson(estimate, truth).value < 0


def test_refused():
    with pytest.raises(ValueError, match="4 joint states, the truth of 3"):
        pearson(np.zeros(4), np.zeros(3))
    with pytest.raises(ValueError, match="ground-truth reward has values that are not finite"):
        pearson(np.zeros(2), np.array([np.nan, 1]))


def test_interval_of_a_textbook_sample():
    # t(0.975, 2) = 4.302653
    found = mean_interval({0: [1.0], 1: [2.0], 2: [3.0]})
    half = 4.302652729696142 / sqrt(3)
    assert found.mean == 2.0
    assert found.interval == pytest.approx((2 - half, 2 + half))
    assert (found.n_seeds, found.reason) == (3, None)


def test_interval_agrees_with_scipy_at_another_level():
    values = np.random.default_rng(0).normal(size=7)
    found = mean_interval({seed: [value] for seed, value in enumerate(values)}, level=0.8)
    expected = stats.t.interval(0.8, 6, loc=values.mean(), scale=stats.sem(values))
    assert found.interval == pytest.approx(expected)


def test_agents_are_averaged_within_a_seed():
    """Four numbers of two seeds are two observations, not four."""
    assert mean_interval({0: [0.0, 1.0], 1: [0.5, 1.5]}) == mean_interval({0: [0.5], 1: [1.0]})


def test_where_there_is_no_interval():
    one = mean_interval({3: [0.25, 0.75]})
    assert (one.mean, one.interval, one.n_seeds) == (0.5, None, 1)
    assert one.reason == "one seed has no interval"
    none = mean_interval({0: [None], 1: [None]})
    assert (none.mean, none.interval, none.reason) == (None, None, "no seed has a value")
    some = mean_interval({0: [None, 0.5], 1: [0.5, 0.5], 2: [None, None]})
    assert (some.mean, some.n_seeds) == (0.5, 2)
    assert some.reason == "3 of 6 values are missing"
