"""Means over seeds and their Student t intervals."""

from math import sqrt

import numpy as np
import pytest
from scipy import stats

from malfl_algos.scores import mean_interval
from malfl_algos.scores.means import Score


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


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_score_that_is_not_finite_is_missing_with_a_reason(value):
    """Whatever computes it: tables and JSON have no NaN."""
    found = Score(value)
    assert found.value is None
    assert f"which give {value}" in found.reason
    assert Score(1.0) == Score(1.0, None)
