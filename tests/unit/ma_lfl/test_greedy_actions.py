"""Greedy actions and their shares, from counts that were drawn with known ones."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import multinomial

from malfl_algos.ma_lfl.greedy_actions import frozen_actions, moving_actions

EPSILON = np.array([0.8, 0.3])
N_STATES, N_ACTIONS = 40, 5


def drawn(shares, visits=4000):
    """Counts of two stages in which each action is greedy for a share of the visits."""
    rng = np.random.default_rng(4)
    rate = EPSILON[:, None, None]
    policies = (1 - rate) * shares + rate / N_ACTIONS
    return rng.multinomial(visits, policies).astype(float), policies


def certain(seed=0):
    best = np.random.default_rng(seed).integers(N_ACTIONS, size=(2, N_STATES))
    return best, np.eye(N_ACTIONS)[best]


def test_frozen_actions_and_their_likelihood():
    best, shares = certain()
    counts, _ = drawn(shares)
    found = frozen_actions(counts)
    assert np.array_equal(found.best, best)
    np.testing.assert_allclose(found.epsilon, EPSILON, atol=0.02)
    others = np.take_along_axis(found.lapses, best[..., None], axis=-1)
    assert np.all(others == 1)
    assert found.lapses.sum() - others.sum() < 1e-6
    expected = sum(
        multinomial.logpmf(own, 4000, policy)
        for h in range(2)
        for own, policy in zip(counts[h], found.policies[h], strict=True)
    )
    assert found.log_likelihood == pytest.approx(expected)


def test_few_visits_leave_the_greedy_action_open():
    _, shares = certain()
    counts, _ = drawn(shares, visits=6)
    counts[0, 0] = 0
    found = frozen_actions(counts)
    assert np.all(found.lapses[0, 0] == 1)
    assert np.median(np.sort(found.lapses, axis=-1)[..., -2]) > 0.05


def test_shares_of_moving_policies():
    best, shares = certain()
    other = (best + 1) % N_ACTIONS
    shares = 0.7 * shares + 0.3 * np.eye(N_ACTIONS)[other]
    shares[:, :20] = np.eye(N_ACTIONS)[best[:, :20]]
    counts, policies = drawn(shares)
    found = moving_actions(counts, 0.5)
    assert np.array_equal(found.best, best)
    np.testing.assert_allclose(found.epsilon, EPSILON, atol=0.02)
    np.testing.assert_allclose(found.policies, policies, atol=0.05)
    lost = np.take_along_axis(found.losses, other[..., None], axis=-1)[..., 0]
    np.testing.assert_allclose(lost[:, 20:], 0.15, atol=0.07)
    assert np.mean(lost[:, :20] > 0) < 0.05
    assert np.all(np.take_along_axis(found.wins, best[..., None], axis=-1) == 0)


def test_states_without_visits_say_nothing():
    _, shares = certain()
    counts, _ = drawn(shares)
    counts[:, 3] = 0
    found = moving_actions(counts, 1.0)
    assert np.all(found.lapses[:, 3] == 1)
    assert not found.wins[:, 3].any()
    np.testing.assert_allclose(found.policies.sum(axis=-1), 1)
