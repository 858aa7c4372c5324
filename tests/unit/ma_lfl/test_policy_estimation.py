"""Equation (10): stationarity, a numerical optimiser, and the limits."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.special import log_softmax

from malfl_algos.ma_lfl.adam import adam, adam_policy
from malfl_algos.ma_lfl.policy_estimation import entropy_regularised_policy

COUNTS = st.lists(st.integers(0, 10**7), min_size=2, max_size=7).filter(any)


@given(COUNTS, st.floats(1e-3, 50))
def test_every_action_has_the_same_multiplier(counts, coefficient):
    counts = np.array(counts)
    policy = entropy_regularised_policy(counts, entropy_coefficient=coefficient)
    assert np.all(policy > 0) or coefficient < 0.05
    assert abs(policy.sum() - 1) < 1e-12
    positive = policy > 1e-290
    frequency = counts / counts.sum()
    multiplier = frequency[positive] / policy[positive] - coefficient * np.log(policy[positive])
    np.testing.assert_allclose(multiplier, multiplier[0], rtol=1e-9)


@given(COUNTS)
def test_more_entropy_never_means_a_more_peaked_policy(counts):
    counts = np.array(counts)
    peaks = [
        entropy_regularised_policy(counts, entropy_coefficient=c).max() for c in (0.1, 0.3, 1.0)
    ]
    assert peaks[0] >= peaks[1] - 1e-12 >= peaks[2] - 2e-12


def test_agrees_with_a_general_optimiser():
    counts = np.array([800, 100, 60, 30, 10])

    def loss(logits):
        log_policy = log_softmax(logits)
        policy = np.exp(log_policy)
        return -(counts / 1000 @ log_policy) + 0.3 * (policy @ log_policy)

    found = minimize(loss, np.zeros(5), method="BFGS", options={"gtol": 1e-10}).x
    policy = entropy_regularised_policy(counts, entropy_coefficient=0.3)
    np.testing.assert_allclose(policy, np.exp(log_softmax(found)), atol=1e-7)


def test_figures_of_the_bias():
    """The entropy bonus takes (.8 .1 .06 .03 .01) to about (.67 .14 .10 .06 .03)."""
    policy = entropy_regularised_policy(np.array([80, 10, 6, 3, 1]), entropy_coefficient=0.3)
    np.testing.assert_allclose(policy, [0.67, 0.14, 0.10, 0.06, 0.03], atol=0.006)


def test_without_bonus_it_is_the_frequency_and_unvisited_is_uniform():
    counts = np.array([[3, 1, 0], [0, 0, 0]])
    plain = entropy_regularised_policy(counts, entropy_coefficient=0.0)
    np.testing.assert_array_equal(plain, [[0.75, 0.25, 0], [1 / 3] * 3])
    bonus = entropy_regularised_policy(counts, entropy_coefficient=0.3)
    np.testing.assert_allclose(bonus[1], 1 / 3)


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="counts must be >= 0, got -1"):
        entropy_regularised_policy(np.array([[1, -1]]), entropy_coefficient=0.3)
    with pytest.raises(ValueError, match="entropy_coefficient must be >= 0, got nan"):
        entropy_regularised_policy(np.array([[1, 1]]), entropy_coefficient=float("nan"))


def test_adam_makes_its_first_step_of_the_learning_rate_and_finds_a_minimum():
    centre = np.array([3.0, -2.0])
    one = adam(lambda x: 2 * (x - centre), np.zeros(2), learning_rate=0.1, epochs=1)
    np.testing.assert_allclose(one, [0.1, -0.1], rtol=1e-6)
    many = adam(lambda x: 2 * (x - centre), np.zeros(2), learning_rate=0.05, epochs=3000)
    np.testing.assert_allclose(many, centre, atol=1e-3)


def test_adam_reaches_the_exact_policy_if_it_is_let_run_and_not_in_ten_steps():
    counts = np.random.default_rng(0).integers(1, 500, size=(20, 5))
    exact = entropy_regularised_policy(counts, entropy_coefficient=0.3)
    options = {"entropy_coefficient": 0.3, "learning_rate": 0.1}
    few = adam_policy(counts, epochs=10, rng=np.random.default_rng(1), **options)
    many = adam_policy(counts, epochs=3000, rng=np.random.default_rng(1), **options)
    np.testing.assert_allclose(many, exact, atol=5e-3)
    assert np.abs(few - exact).max() > 0.02
