"""Discounted sums side by side, against dense solves and against one at a time."""

from __future__ import annotations

import numpy as np
import pytest
from factored_cases import GAMES, policies_of

from malfl_algos.soft import iteration
from malfl_algos.soft.averaging import averaged_dynamics
from malfl_algos.soft.iteration import iterated_sum


def onward_of(name, seed=0):
    game = GAMES[name]()
    policies = policies_of(game, seed)
    return averaged_dynamics(game, policies, 0).under(policies[0])


@pytest.mark.parametrize("name", ["slip", "three agents", "crossed", "lone"])
def test_several_gains_are_those_of_a_dense_solve(name):
    onward = onward_of(name)
    n = onward.shape[0]
    gains = np.random.default_rng(1).normal(size=(n, 4)) * [1.0, 1e-6, 1e6, 0.0]
    for form in (onward, onward.sparse(), onward.sparse().T):
        dense = np.eye(n) - 0.95 * (form @ np.eye(n))
        found = iterated_sum(form, gains, discount=0.95, residual=1e-13)
        expected = np.linalg.solve(dense, gains)
        assert np.all(np.abs(found - expected) <= 1e-10 * np.abs(expected).max(axis=0))


def test_each_gain_reaches_a_residual_of_its_own():
    onward = onward_of("walls")
    gains = np.random.default_rng(2).normal(size=(onward.shape[0], 3))
    wanted = np.array([1e-2, 1e-6, 1e-12])
    found = iterated_sum(onward, gains, discount=0.9, residual=wanted)
    left = np.linalg.norm(gains + 0.9 * (onward @ found) - found, axis=0)
    left /= np.linalg.norm(gains, axis=0)
    assert np.all(left <= wanted)
    assert left[0] > 1e-8  # no more work than was asked for


def test_a_gain_is_summed_as_if_it_were_alone():
    onward = onward_of("slip").sparse()
    gains = np.random.default_rng(3).normal(size=(onward.shape[0], 3))
    together = iterated_sum(onward, gains, discount=0.9, residual=1e-12)
    for gain, found in zip(gains.T, together.T, strict=True):
        alone = iterated_sum(onward, gain, discount=0.9, residual=1e-12)
        np.testing.assert_allclose(found, alone, rtol=1e-10, atol=1e-10)


def test_where_one_breaks_down_gmres_ends_it_and_the_others_stay(monkeypatch):
    onward = onward_of("slip").sparse()
    gains = np.random.default_rng(4).normal(size=(onward.shape[0], 3))
    expected = iterated_sum(onward, gains, discount=0.9, residual=1e-12)
    solve = iteration._bicgstab

    def broken(apply, right, *, allowed):
        found = solve(apply, right, allowed=allowed)
        found[:, 1] = np.nan
        return found

    monkeypatch.setattr(iteration, "_bicgstab", broken)
    found = iterated_sum(onward, gains, discount=0.9, residual=1e-12)
    np.testing.assert_array_equal(found[:, [0, 2]], expected[:, [0, 2]])
    np.testing.assert_allclose(found[:, 1], expected[:, 1], rtol=1e-9, atol=1e-9)


def test_the_gain_is_not_written_to():
    onward = onward_of("walls")
    gains = np.ones((onward.shape[0], 2))
    gains.flags.writeable = False
    iterated_sum(onward, gains, discount=0.9, residual=1e-12)
