"""EPIC and STARC are metrics on rewards up to shaping and positive scale, on any game."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from malfl_algos.scores.distances import (
    averaged_space,
    epic,
    epic_canonical,
    joint_space,
    starc,
    starc_canonical,
)
from malfl_env import MarkovGame
from malfl_env.markov_game import Factor

MEASURES = [epic, starc]


@st.composite
def spaces(draw):
    """A random game and a space of rewards on it, with a source of random rewards."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n_actions = draw(st.sampled_from([(2,), (2, 3), (2, 2, 2)]))
    discount = draw(st.sampled_from([0.0, 0.5, 0.9, 0.99]))
    factors = []
    for agent, n in enumerate(n_actions):
        shape = (draw(st.integers(2, 4)), n, draw(st.integers(1, 3)))
        successors = rng.integers(shape[0], size=shape)
        factors.append(Factor((agent,), successors, rng.dirichlet(np.ones(shape[2]), shape[:2])))
    game = MarkovGame(n_actions, tuple(factors), 0)
    weights = rng.uniform(0.1, 1, size=game.n_states)
    if draw(st.booleans()):
        return joint_space(game, discount=discount, weights=weights), rng
    policies = [rng.dirichlet(np.ones(n), size=game.n_states) for n in n_actions]
    agent = draw(st.integers(0, len(n_actions) - 1))
    return averaged_space(game, policies, agent, discount=discount, weights=weights), rng


def random_reward(space, rng):
    return rng.normal(size=(space.game.n_states, *space.game.n_actions))


def joint_shaping(space, potential):
    game = space.game
    successors, probabilities = game.joint_successors()
    ahead = (probabilities * potential[successors]).sum(axis=-1)
    return potential.reshape(-1, *[1] * game.n_agents) - space.discount * ahead


@pytest.mark.parametrize("measure", MEASURES)
@settings(max_examples=60)
@given(case=spaces(), exponent=st.integers(-3, 3), level=st.floats(-100, 100))
def test_blind_to_shaping_constants_and_positive_scale(measure, case, exponent, level):
    space, rng = case
    one, other = random_reward(space, rng), random_reward(space, rng)
    potential = 10.0 * rng.normal(size=space.game.n_states)
    same = 10.0**exponent * one + joint_shaping(space, potential) * 10.0**exponent
    same = same + level * 10.0**exponent
    assert measure(same, one, space).value <= 1e-8
    assert measure(-same, one, space).value == pytest.approx(1, abs=1e-8)
    expected = measure(one, other, space).value
    assert measure(same, other, space).value == pytest.approx(expected, abs=1e-8)


@pytest.mark.parametrize("measure", MEASURES)
@settings(max_examples=40)
@given(case=spaces())
def test_a_metric(measure, case):
    space, rng = case
    one, other, third = (random_reward(space, rng) for _ in range(3))
    apart = measure(one, other, space).value
    assert 0 <= apart <= 1
    assert apart == pytest.approx(measure(other, one, space).value, abs=1e-12)
    assert apart <= measure(one, third, space).value + measure(third, other, space).value + 1e-12
    assert apart**2 + measure(one, -other, space).value ** 2 == pytest.approx(1)


@pytest.mark.parametrize("canonical", [epic_canonical, starc_canonical])
@settings(max_examples=40)
@given(case=spaces())
def test_a_canonical_form(canonical, case):
    """Linear, idempotent, itself a shaped copy, and one and the same for all shaped copies."""
    space, rng = case
    one, other = (space.values(random_reward(space, rng)) for _ in range(2))
    left = canonical(one, space)
    np.testing.assert_allclose(canonical(left, space), left, atol=1e-9)
    both = canonical(2 * one - 3 * other, space)
    np.testing.assert_allclose(both, 2 * left - 3 * canonical(other, space), atol=1e-9)
    potential = np.linalg.lstsq(
        np.stack([space.shaping(unit).ravel() for unit in np.eye(len(space.states))], axis=1),
        (one - left).ravel(),
        rcond=None,
    )[0]
    np.testing.assert_allclose(space.shaping(potential), one - left, atol=1e-9)


@settings(max_examples=40)
@given(case=spaces())
def test_epic_keeps_the_copy_nearest_to_zero(case):
    space, rng = case
    values = space.values(random_reward(space, rng))

    def size(copy):
        return float(space.weights @ (copy**2).mean(axis=1))

    smallest = size(epic_canonical(values, space))
    assert smallest <= size(starc_canonical(values, space)) + 1e-12
    for _ in range(5):
        potential = rng.normal(size=len(space.states))
        assert smallest <= size(values + space.shaping(potential)) + 1e-12
