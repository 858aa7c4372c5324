"""The likelihood of epsilon-greedy choices against enumeration and finite differences."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from scipy.special import softmax
from scipy.stats import multinomial

from malfl_algos.learners.q_learning import QLearning
from malfl_algos.ma_lfl.carried_rules import Carried, among, choice_of
from malfl_algos.ma_lfl.greedy import exploration, greedy_log_likelihood, greedy_response
from malfl_algos.ma_lfl.policy_estimation import working_response
from malfl_algos.observers.bayesian import MaLflBellman
from malfl_algos.trace import LearningTrace
from malfl_env import InputError, grid_world_v0, markov_game

X = np.array([0.4, -0.3, 1.1])
RATE = np.array(0.3)


def compositions(total: int, parts: int) -> list[tuple[int, ...]]:
    found = product(range(total + 1), repeat=parts)
    return [counts for counts in found if sum(counts) == total]


@pytest.mark.parametrize("moving", [False, True])
def test_likelihood_is_that_of_every_way_to_play(moving):
    visits = 4
    for counts in compositions(visits, 3):
        expected = 0.0
        if moving:
            play = 0.7 * softmax(X) + 0.1
            expected = multinomial.pmf(counts, visits, play)
        else:
            for greedy in range(3):
                play = np.full(3, 0.1)
                play[greedy] += 0.7
                expected += softmax(X)[greedy] * multinomial.pmf(counts, visits, play)
        found = greedy_log_likelihood(X, np.array(counts, dtype=float), RATE, moving=moving)
        np.testing.assert_allclose(np.exp(found), expected, rtol=1e-12)


@pytest.mark.parametrize("moving", [False, True])
def test_probabilities_of_all_counts_sum_to_one(moving):
    counts = np.array(compositions(5, 3), dtype=float)
    found = greedy_log_likelihood(np.tile(X, (len(counts), 1)), counts, RATE, moving=moving)
    np.testing.assert_allclose(np.exp(found).sum(), 1.0, rtol=1e-12)


def slope(x, counts, rate, *, moving):
    steps = 1e-6 * np.eye(x.shape[-1])
    value = [
        greedy_log_likelihood(x + step, counts, rate, moving=moving)
        - greedy_log_likelihood(x - step, counts, rate, moving=moving)
        for step in steps
    ]
    return np.stack(value, axis=-1) / 2e-6


@pytest.mark.parametrize("moving", [False, True])
def test_the_mode_is_a_point_where_the_slope_is_that_of_the_prior(moving):
    rng = np.random.default_rng(4)
    counts = rng.integers(0, 30, (2, 6, 4)).astype(float)
    counts[0, 0] = 0
    mean, variance = rng.normal(size=counts.shape), rng.uniform(0.3, 2, counts.shape)
    found = greedy_response(
        mean, variance, counts, np.array([0.2, 0.4]), temperature=1.0, moving=moving
    )
    x = np.log(found.greedy)
    rate = found.epsilon[:, None, None]
    ahead = slope(x, counts, rate, moving=moving)
    # x is known up to a constant, which the prior determines
    level = ((x - mean) / variance).sum(-1, keepdims=True) / (1 / variance).sum(-1, keepdims=True)
    pull = (x - level - mean) / variance
    np.testing.assert_allclose(ahead, pull, atol=0.05)
    # the Gaussian has the same slope there
    gap = np.where(np.isfinite(found.response.variance), found.response.mean - x, 0.0)
    weight = 1 / found.response.variance
    np.testing.assert_allclose(weight * gap, ahead, atol=1e-5)
    assert np.all(np.isinf(found.response.variance[0, 0]))


def test_without_exploration_a_moving_choice_is_the_soft_one():
    rng = np.random.default_rng(5)
    counts = rng.integers(20, 300, (1, 5, 4)).astype(float)
    mean, variance = rng.normal(size=counts.shape), np.full(counts.shape, 0.5)
    soft, policy = working_response(mean, variance, counts, temperature=2.0)
    from malfl_algos.ma_lfl.greedy import _expanded

    x = np.log(policy)
    greedy = _expanded(x, counts, np.array([1e-12]), temperature=2.0, moving=True)
    centred = [own - own.mean(axis=-1, keepdims=True) for own in (soft.mean, greedy.response.mean)]
    np.testing.assert_allclose(*centred, atol=1e-6)
    np.testing.assert_allclose(soft.variance, greedy.response.variance, rtol=1e-6)
    # 20 visits and more of each action: the difference is that of Stirling's formula
    np.testing.assert_allclose(
        soft.log_constant, greedy.response.log_constant, atol=0.02 * counts.shape[1]
    )


def test_epsilon_is_found_from_the_counts():
    rng = np.random.default_rng(6)
    epsilon = np.array([0.8, 0.3, 0.1])
    best = rng.integers(0, 5, (3, 40))
    play = np.broadcast_to(epsilon[:, None, None] / 5, (3, 40, 5)).copy()
    np.put_along_axis(play, best[..., None], 1 - 0.8 * epsilon[:, None, None], axis=-1)
    counts = rng.multinomial(3000, play).astype(float)
    np.testing.assert_allclose(exploration(counts), epsilon, rtol=0.12)
    for moving in (False, True):
        found = greedy_response(
            *(np.zeros(counts.shape), np.full(counts.shape, 9.0), counts, exploration(counts)),
            temperature=1.0,
            moving=moving,
        )
        if not moving:
            np.testing.assert_allclose(found.epsilon, epsilon, rtol=0.02)
        assert np.all(found.epsilon < 1.05 * epsilon)
        assert np.array_equal(found.greedy.argmax(axis=-1), best)


def test_names_of_learners_and_what_the_options_allow():
    for name in ("q-learning", "q-learning, moving", "sarsa, greedy", "sarsa, moving, greedy"):
        assert Carried.named(name).name == name
    assert choice_of("td") == "soft"
    assert choice_of("q-learning, moving, greedy") == "greedy"
    rules = MaLflBellman.rules
    assert among(rules, learner="auto", policy="auto", choice="auto") == rules
    assert among(rules, learner="td", policy="auto", choice="auto") == ("td",)
    greedy = among(rules, learner="auto", policy="auto", choice="greedy")
    assert greedy == ("q-learning, greedy", "q-learning, moving, greedy")
    named = among(rules, learner="sarsa", policy="moving", choice="auto")
    assert named == ("sarsa, moving", "sarsa, moving, greedy")
    with pytest.raises(InputError, match="choice must be"):
        MaLflBellman(choice="optimal")
    with pytest.raises(InputError, match="does not carry q over"):
        MaLflBellman(learner="td", choice="greedy")


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["frozen", "moving"])
@pytest.mark.parametrize(("words", "choice"), [("epsilon_greedy", "greedy"), ("softmax", "soft")])
def test_evidence_finds_how_actions_are_chosen(policy, words, choice):
    env = grid_world_v0.parallel_env(size=2, rewards="heterogeneous")
    game = markov_game(env)
    learner = QLearning(
        discount=0.9, temperature=2.0, policy=policy, choice=words, episodes=100, episode_length=200
    )
    stages = list(learner.learn(env, n_stages=5, rng=np.random.default_rng(8)))
    trace = LearningTrace(tuple(stage.observed for stage in stages))
    observer = MaLflBellman(learner="q-learning")
    result = observer.recover(trace, game=game, discount=0.9, temperature=2.0)
    said = result.diagnostics["agent_0"]
    assert Carried.named(said["rule"]) == ("q-learning", policy, choice)
    assert said["scale"] == ("open" if choice == "greedy" else "temperature")
    reward = result.rewards["agent_0"]
    assert np.corrcoef(reward, game.reward(0))[0, 1] > (0.6 if choice == "greedy" else 0.9)
    if choice == "greedy":
        assert said["epsilon"][0] is None
        assert np.all(np.diff(said["epsilon"][1:]) < 0)


@pytest.mark.slow
def test_the_unit_of_frozen_greedy_rewards_is_the_temperature():
    env = grid_world_v0.parallel_env(rewards="heterogeneous")
    game = markov_game(env)
    learner = QLearning(
        discount=0.9, temperature=2.0, choice="epsilon_greedy", episodes=100, episode_length=300
    )
    stages = list(learner.learn(env, n_stages=5, rng=np.random.default_rng(8)))
    trace = LearningTrace(tuple(stage.observed for stage in stages))
    observer = MaLflBellman(learner="q-learning", policy="frozen", choice="greedy", passes=2)
    one, other = (
        observer.recover(trace, game=game, discount=0.9, temperature=t) for t in (2.0, 6.0)
    )
    reward = one.rewards["agent_0"]
    np.testing.assert_allclose(other.rewards["agent_0"], 3 * reward, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(other.sd["agent_0"], 3 * one.sd["agent_0"], rtol=1e-6)
    assert np.corrcoef(reward, game.reward(0))[0, 1] > 0.8
