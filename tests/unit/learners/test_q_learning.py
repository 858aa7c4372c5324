"""The learner `q-learning`: schedules, what is carried over, and its options."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from malfl_algos.learners.q_learning import QLearning
from malfl_algos.testing import check_learner
from malfl_env import games, grid_world_v0
from malfl_env.errors import InputError

SMALL = {"discount": 0.9, "temperature": 2.0, "episodes": 20, "episode_length": 100}


def stages(n_stages=4, seed=0, **options):
    env = grid_world_v0.parallel_env(rewards="heterogeneous")
    rng = np.random.default_rng(seed)
    return list(QLearning(**{**SMALL, **options}).learn(env, n_stages=n_stages, rng=rng))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"algorithm": "sarsa", "policy": "moving"},
        {"algorithm": "expected_sarsa", "choice": "epsilon_greedy"},
        {"choice": "epsilon_greedy", "policy": "moving"},
    ],
)
def test_it_keeps_the_contract(options):
    check_learner(QLearning, options=options)


def test_a_greedy_policy_explores_less_and_less():
    played = stages(choice="epsilon_greedy", epsilon_start=0.9, epsilon_end=0.3, n_stages=3)
    for stage, epsilon in zip(played[1:], (0.6, 0.3), strict=True):
        np.testing.assert_allclose(stage.joint_policy["agent_1"].min(), epsilon / 5, atol=1e-12)
    first = played[0].joint_policy["agent_0"]
    np.testing.assert_allclose(first, 1 / 5, atol=1e-12)  # all ties: every action is the greatest
    moving = stages(choice="epsilon_greedy", policy="moving", epsilon_end=0.2, n_stages=2)
    assert moving[0].joint_policy["agent_0"].min() >= 0.6 / 5
    assert 0.2 / 5 < moving[1].joint_policy["agent_0"].min() < 0.6 / 5


def test_epsilon_decays_by_the_step_over_all_stages():
    played = stages(choice="epsilon_greedy", epsilon_start=0.8, epsilon_decay=1e-3, n_stages=3)
    for number, stage in enumerate(played):
        least = stage.joint_policy["agent_0"].min() if number else 0.8 / 5
        np.testing.assert_allclose(least, 0.8 * np.exp(-2.0 * number) / 5, atol=1e-12)
    moving = stages(choice="epsilon_greedy", policy="moving", epsilon_decay=1e-3, n_stages=2)
    low = [stage.joint_policy["agent_0"].min() for stage in moving]
    assert np.exp(-2.0) / 5 - 1e-9 <= low[0] < 0.5 / 5
    assert np.exp(-4.0) / 5 - 1e-9 <= low[1] < np.exp(-2.0) / 5


def test_the_first_q_may_be_the_discounted_profit_against_uniform_rivals():
    """The first greedy price is the best reply to a rival that draws its price evenly."""
    env = games.pricing(n_prices=4, cost=(1.0, 1.2))
    learner = QLearning(
        discount=0.95,
        temperature=1.0,
        choice="epsilon_greedy",
        initial_q="uniform_others",
        epsilon_start=0.0,
        episodes=1,
        episode_length=1,
    )
    first = next(learner.learn(env, n_stages=1, rng=np.random.default_rng(0)))
    for index, agent in enumerate(("agent_0", "agent_1")):
        profit = env.markov_game().reward(index)[0].mean(axis=1 - index)
        expected = np.tile(profit == profit.max(), (16, 1)).astype(float)
        np.testing.assert_array_equal(first.joint_policy[agent], expected)


def test_a_softmax_policy_cools_down():
    warm, cold = stages(n_stages=2), stages(n_stages=2, temperature_end=1.0)
    logs = [np.log(run[1].joint_policy["agent_0"]) for run in (warm, cold)]
    centred = [own - own.mean(axis=1, keepdims=True) for own in logs]
    np.testing.assert_allclose(2 * centred[0], centred[1], atol=1e-9)


def test_a_learner_that_is_reset_forgets_earlier_stages():
    """No reward is positive, so an action without updates since the reset has the greatest q, 0."""
    played = stages(carry_over=False)
    for before, now in pairwise(played):
        seen = before.observed.action_counts(0) > 0
        policy = now.joint_policy["agent_0"]
        top = policy == policy.max(axis=1, keepdims=True)
        assert (~seen).any()
        assert seen[~top].all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"algorithm": "dyna"}, "algorithm must be .*sarsa or expected_sarsa, got 'dyna'"),
        ({"choice": "greedy"}, "choice must be softmax or epsilon_greedy, got 'greedy'"),
        ({"policy": "free"}, "policy must be frozen or moving, got 'free'"),
        ({"policy": "moving", "carry_over": False}, "carry_over must be True .*got False"),
        ({"discount": 1.0}, r"discount must be in \[0, 1\), got 1.0"),
        ({"temperature": 0.0}, "temperature must be > 0 and finite, got 0.0"),
        ({"temperature_end": -1.0}, "temperature_end must be > 0 and finite, got -1.0"),
        ({"initial_q": np.nan}, "initial_q must be a finite number or uniform_others, got nan"),
        ({"initial_q": "profits"}, "initial_q must be a finite number .*, got profits"),
        ({"epsilon_decay": -1.0}, "epsilon_decay must be >= 0 and finite, got -1.0"),
        ({"step_size": 0.0}, r"step_size must be in \(0, 1\], got 0.0"),
        ({"step_size_decay": 1.5}, r"step_size_decay must be in \[0, 1\], got 1.5"),
        ({"epsilon_end": -0.1}, r"epsilon_end must be in \[0, 1\], got -0.1"),
        ({"epsilon_start": 1.1}, r"epsilon_start must be in \[0, 1\], got 1.1"),
        ({"episodes": 0}, "episodes must be >= 1, got 0"),
    ],
)
def test_options_out_of_range_are_named(options, message):
    with pytest.raises(InputError, match=message):
        QLearning(**{**SMALL, **options})
