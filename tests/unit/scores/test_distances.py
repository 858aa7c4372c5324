from math import sqrt

import numpy as np
import pytest
from exact import random_policies
from scipy.sparse.linalg import lsmr

from malfl_algos.scores import distances
from malfl_algos.scores.distances import (
    averaged_space,
    epic,
    epic_canonical,
    joint_space,
    starc,
    starc_canonical,
)
from malfl_algos.soft import soft_evaluation
from malfl_env import MarkovGame
from malfl_env.markov_game import Factor, deterministic_game

MEASURES = [epic, starc]


def bandit(*n_actions):
    """A game of one state."""
    return deterministic_game(np.zeros((1, *n_actions), dtype=int), start=0)


def dense(game):
    """P(s' | s, a) of a small game, `(n_states * n_choices, n_states)`, entry by entry."""
    successors, probabilities = game.joint_successors()
    probabilities = np.broadcast_to(probabilities, successors.shape)
    table = np.zeros((game.n_states, int(np.prod(game.n_actions)), game.n_states))
    flat = successors.reshape(*table.shape[:2], -1)
    probabilities = probabilities.reshape(flat.shape)
    for state, choice, slot in np.ndindex(flat.shape):
        table[state, choice, flat[state, choice, slot]] += probabilities[state, choice, slot]
    return table.reshape(-1, game.n_states)


@pytest.mark.parametrize("measure", MEASURES)
def test_one_state_by_hand(measure):
    """With one state, all shapings are constants: this is Pearson's distance over actions."""
    space = joint_space(bandit(3), discount=0.9)
    one, other = np.array([[0.0, 1, 2]]), np.array([[0.0, 3, 3]])
    # deviations (-1, 0, 1) and (-2, 1, 1): rho = 3 / sqrt(12)
    assert measure(one, other, space).value == pytest.approx(sqrt((1 - 3 / sqrt(12)) / 2))
    assert measure(one, -one, space).value == pytest.approx(1.0)
    orthogonal = np.array([[1.0, -2, 1]])
    assert measure(one, orthogonal, space).value == pytest.approx(sqrt(1 / 2))


@pytest.mark.parametrize("discount", [0.5, 0.9])
def test_two_states_by_hand(discount):
    """Action 0 leads to state 0 and action 1 to state 1, from both states. Up to shaping and scale,
    a reward for standing in state 1 equals a reward for the action that leads there."""
    game = deterministic_game(np.array([[0, 1], [0, 1]]), start=0)
    space = joint_space(game, discount=discount)
    stands, goes = np.array([0.0, 1.0]), np.array([[0.0, 1], [0, 1]])
    # the values of uniform play differ by 1, so the advantage is gamma times that of going
    np.testing.assert_allclose(
        starc_canonical(space.values(stands), space), discount * (goes - 0.5), atol=1e-14
    )
    # in units u = (state 1 or 0) and v = (action 0 or 1), +-1/2 each, standing is u, going is -v
    # and the shapings are the multiples of u + gamma v
    u, v = np.array([[-0.5, -0.5], [0.5, 0.5]]), np.array([[0.5, -0.5], [0.5, -0.5]])
    expected = (discount**2 * u - discount * v) / (1 + discount**2)
    np.testing.assert_allclose(epic_canonical(space.values(stands), space), expected, atol=1e-14)
    for measure in MEASURES:
        assert measure(stands, goes, space).value < 1e-12
        assert measure(stands, -goes, space).value == pytest.approx(1.0)
    # with discount 0 the reward of a state is a constant over actions
    assert epic(stands, goes, joint_space(game, discount=0.0)).reason.startswith("the estimate is")


@pytest.mark.parametrize("options", [{}, {"slip": 0.3}, {"size": 2, "n_agents": 3}])
def test_epic_by_another_route(paper_game, options):
    """A dense projection: singular vectors of the shapings, Pearson's correlation by numpy."""
    game = paper_game(**options)
    rng = np.random.default_rng(1)
    one, other = rng.normal(size=(2, game.n_states, *game.n_actions))
    n_choices = int(np.prod(game.n_actions))
    shapings = np.repeat(np.eye(game.n_states), n_choices, axis=0) - 0.9 * dense(game)
    basis = np.linalg.svd(shapings, full_matrices=False)[0]
    left = [reward.ravel() - basis @ (basis.T @ reward.ravel()) for reward in (one, other)]
    rho = np.corrcoef(left)[0, 1]
    space = joint_space(game, discount=0.9)
    assert epic(one, other, space).value == pytest.approx(sqrt((1 - rho) / 2), abs=1e-12)


@pytest.mark.parametrize("options", [{}, {"slip": 0.3}, {"size": 2, "n_agents": 3}])
def test_starc_by_another_route(paper_game, options):
    """Advantages from values that are computed by iteration."""
    game = paper_game(**options)
    rng = np.random.default_rng(2)
    one, other = rng.normal(size=(2, game.n_states, *game.n_actions))
    probabilities = dense(game).reshape(game.n_states, -1, game.n_states)
    units = []
    for reward in (one, other):
        flat, value = reward.reshape(game.n_states, -1), np.zeros(game.n_states)
        for _ in range(400):
            q = flat + 0.9 * probabilities @ value
            value = q.mean(axis=1)
        units.append((q - value[:, None]) / np.linalg.norm(q - value[:, None]))
    space = joint_space(game, discount=0.9)
    expected = np.linalg.norm(units[0] - units[1]) / 2
    assert starc(one, other, space).value == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("measure", MEASURES)
def test_an_averaged_space_ignores_differences_that_the_policies_hide(paper_game, measure):
    game = paper_game(slip=0.2)
    policies = random_policies(game, 3)
    rng = np.random.default_rng(4)
    reward = rng.normal(size=(81, 5, 5))
    hidden = rng.normal(size=(81, 5, 5))
    # agent 0 is compared; averaged over agent 1's actions, this reward is 0
    hidden -= (hidden * policies[1][:, None, :]).sum(axis=2, keepdims=True)
    space = averaged_space(game, policies, 0, discount=0.9)
    assert measure(reward + hidden, reward, space).value < 1e-12
    assert measure(reward + hidden, reward, joint_space(game, discount=0.9)).value > 0.1
    other = averaged_space(game, random_policies(game, 5), 0, discount=0.9)
    assert measure(reward + hidden, reward, other).value > 0.01


def test_the_averaged_advantage_is_that_of_soft_evaluation(paper_game):
    game = paper_game("heterogeneous")
    policies = [np.full((81, 5), 0.2), random_policies(game, 6)[1]]
    space = averaged_space(game, policies, 0, discount=0.9)
    q, value = soft_evaluation(game, policies, 0, discount=0.9, temperature=0.0)
    advantage = starc_canonical(space.values(game.reward(0)), space)
    np.testing.assert_allclose(advantage, q - value[:, None], atol=1e-12)


@pytest.mark.parametrize("measure", MEASURES)
def test_states_of_weight_zero_are_ignored(paper_game, random_rewards, measure):
    """Rewards of states inside walls do not matter; weights set the influence of the others."""
    game = random_rewards(paper_game(size=3, walls=[(0, 1), (1, 1)]), 0)
    cells = game.local_states(np.arange(81))
    counted = ~np.isin(cells, [1, 4]).any(axis=1)
    elsewhere = np.where(counted, game.reward(0), game.reward(1))
    space = joint_space(game, discount=0.9, weights=counted)
    assert measure(elsewhere, game.reward(0), space).value < 1e-12
    assert measure(elsewhere, game.reward(0), joint_space(game, discount=0.9)).value > 0.01
    found = measure(game.reward(1), game.reward(0), space).value
    doubled = joint_space(game, discount=0.9, weights=2.0 * counted)
    assert measure(game.reward(1), game.reward(0), doubled).value == pytest.approx(found)
    uneven = joint_space(game, discount=0.9, weights=counted * np.arange(1.0, 82))
    assert measure(game.reward(1), game.reward(0), uneven).value != pytest.approx(found, abs=1e-4)


def test_weights_set_the_influence_of_states():
    """A state of weight 0 is ignored; other weights mix the distances of the states."""
    game = deterministic_game(np.array([[0, 0], [1, 1]]), start=0)  # two states that are never left
    one, other = np.array([[0.0, 1], [0, 1]]), np.array([[0.0, 1], [1, 0]])
    for weights, expected in (((1, 0), 0.0), ((0, 1), 1.0), ((1, 1), sqrt(1 / 2)), ((3, 1), 0.5)):
        space = joint_space(game, discount=0.5, weights=np.array(weights))
        for measure in MEASURES:
            assert measure(one, other, space).value == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("measure", MEASURES)
def test_no_number_without_preferences(paper_game, measure):
    game = paper_game()
    space = joint_space(game, discount=0.9)
    reward, potential = game.reward(0), np.random.default_rng(0).normal(size=81)
    shaping = space.shaping(potential).reshape(81, 5, 5)
    for nothing in (np.zeros(81), np.full(81, 0.1), np.full((81, 5, 5), -3e5), 1e6 * shaping):
        score = measure(nothing, reward, space)
        assert (score.value, score.reason) == (
            None,
            "the estimate is constant up to shaping: it ranks all policies equally",
        )
        assert measure(reward, nothing, space).reason.startswith(
            "the ground-truth reward is constant"
        )
    holed = np.where(np.arange(81) == 3, np.nan, reward)
    assert measure(holed, reward, space).reason == "the estimate has values that are not finite"
    with pytest.raises(ValueError, match="ground-truth reward has values that are not finite"):
        measure(reward, holed, space)


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("scale", [1e-250, 1e250])
def test_extreme_scales_change_nothing(paper_game, measure, scale):
    game = paper_game()
    space = joint_space(game, discount=0.9)
    one, other = np.random.default_rng(0).normal(size=(2, 81))
    expected = measure(one, other, space).value
    assert measure(scale * one, other, space).value == pytest.approx(expected, abs=1e-12)
    assert measure(one, scale * other, space).value == pytest.approx(expected, abs=1e-12)


def test_large_games_take_the_iterative_route(paper_game, monkeypatch):
    game = paper_game(slip=0.1)
    one, other = np.random.default_rng(0).normal(size=(2, 81, 5, 5))
    expected = epic(one, other, joint_space(game, discount=0.9)).value
    calls = []
    monkeypatch.setattr(distances, "DENSE_STATES", 80)
    monkeypatch.setattr(distances, "lsmr", lambda *a, **k: calls.append(1) or lsmr(*a, **k))
    assert epic(one, other, joint_space(game, discount=0.9)).value == pytest.approx(
        expected, abs=1e-10
    )
    assert calls


def test_invalid_arguments_are_rejected(paper_game):
    game = paper_game()
    space = joint_space(game, discount=0.9)
    with pytest.raises(ValueError, match=r"has shape \(81, 5\), expected \(81,\) or \(81, 5, 5\)"):
        epic(np.zeros((81, 5)), game.reward(0), space)
    with pytest.raises(ValueError, match=r"discount must be a number in \[0, 1\), got 1"):
        joint_space(game, discount=1)
    for weights in (np.ones(80), np.zeros(81), np.full(81, -1.0), np.full(81, np.nan)):
        with pytest.raises(ValueError, match="weights must be 81 numbers >= 0, not all 0"):
            joint_space(game, discount=0.9, weights=weights)
    with pytest.raises(ValueError, match="leads out of joint state 0"):
        averaged_space(game, random_policies(game, 0), 1, discount=0.9, weights=np.arange(81) == 0)


def test_dynamics_of_one_big_factor(paper_game):
    """The distance depends on the dynamics, not on their factors."""
    game = paper_game()
    table = game.next_states
    whole = MarkovGame((5, 5), (Factor((0, 1), table[..., None], np.ones((81, 5, 5, 1))),), 0)
    one, other = np.random.default_rng(0).normal(size=(2, 81, 5, 5))
    for measure in MEASURES:
        expected = measure(one, other, joint_space(game, discount=0.9)).value
        found = measure(one, other, joint_space(whole, discount=0.9)).value
        assert found == pytest.approx(expected, abs=1e-12)
