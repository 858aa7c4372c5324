"""Soft evaluation and improvement against closed forms and a second, slower route."""

from __future__ import annotations

import numpy as np
import pytest
from exact import random_policies
from interpreter import printed

from malfl_algos.soft import (
    averaged_reward,
    averaged_transition,
    entropy,
    log_soft_improvement,
    soft_evaluation,
)
from malfl_algos.soft import evaluation as soft
from malfl_env.markov_game import Factor, MarkovGame, deterministic_game


def brute_force_q(game, policies, agent, *, discount, temperature, sweeps=2000):
    """Iterated backup over every joint action and successor, nothing averaged beforehand."""
    successors, probabilities = game.joint_successors()
    n_joint = int(np.prod(game.n_actions))
    successors = successors.reshape(game.n_states, n_joint, -1)
    probabilities = probabilities.reshape(game.n_states, n_joint, -1)
    table = game.reward(agent)
    reward = np.broadcast_to(table.reshape(game.n_states, -1), (game.n_states, n_joint))
    actions = np.stack(np.unravel_index(np.arange(n_joint), game.n_actions))
    q = np.zeros((game.n_states, game.n_actions[agent]))
    others = np.ones((game.n_states, n_joint))
    for other, policy in enumerate(policies):
        if other != agent:
            others = others * policy[:, actions[other]]
    for _ in range(sweeps):
        value = (policies[agent] * (q - temperature * np.log(policies[agent]))).sum(axis=1)
        backup = reward + discount * (probabilities * value[successors]).sum(axis=2)
        q = np.stack(
            [
                (others * backup)[:, actions[agent] == own].sum(axis=1)
                for own in range(game.n_actions[agent])
            ],
            axis=1,
        )
    return q


@pytest.mark.parametrize(
    "options", [{}, {"slip": 0.3}, {"size": 2, "n_agents": 3}, {"walls": [(1, 1)], "slip": 0.1}]
)
def test_linear_solve_agrees_with_iterated_backup(paper_game, options):
    game = paper_game("heterogeneous", **options)
    policies = random_policies(game, 0)
    for agent in range(game.n_agents):
        q, value = soft_evaluation(game, policies, agent, discount=0.9, temperature=3.0)
        slow = brute_force_q(game, policies, agent, discount=0.9, temperature=3.0, sweeps=400)
        np.testing.assert_allclose(q, slow, atol=1e-9)
        own = policies[agent]
        np.testing.assert_allclose(value, (own * (q - 3.0 * np.log(own))).sum(axis=1), atol=1e-9)


def test_joint_action_rewards_are_averaged_over_the_others(paper_game):
    game = paper_game()
    rng = np.random.default_rng(1)
    game = game.with_rewards([rng.standard_normal((81, 5, 5)) for _ in range(2)])
    policies = random_policies(game, rng)
    expected = np.einsum("sab,sa->sb", game.reward(1), policies[0])
    np.testing.assert_allclose(averaged_reward(game, policies, 1), expected, atol=1e-13)
    slow = brute_force_q(game, policies, 1, discount=0.5, temperature=1.0, sweeps=100)
    q, _ = soft_evaluation(game, policies, 1, discount=0.5, temperature=1.0)
    np.testing.assert_allclose(q, slow, atol=1e-10)


def test_one_state_has_a_closed_form():
    game = deterministic_game(np.zeros((1, 2, 2), dtype=int), start=0, rewards=[np.ones(1)] * 2)
    policies = [np.array([[0.25, 0.75]]), np.array([[0.5, 0.5]])]
    bonus = 2.0 * (0.25 * np.log(4) + 0.75 * np.log(4 / 3))
    q, value = soft_evaluation(game, policies, 0, discount=0.8, temperature=2.0)
    np.testing.assert_allclose(value, (1 + bonus) / 0.2, rtol=1e-13)
    np.testing.assert_allclose(q, 1 + 0.8 * value[0], rtol=1e-13)


def test_transition_rows_are_distributions_and_match_a_generic_table(paper_game):
    game = paper_game(slip=0.2, n_agents=2)
    successors, probabilities = game.joint_successors()
    table = MarkovGame(game.n_actions, (Factor((0, 1), successors, probabilities),), game.start)
    policies = random_policies(game, 2)
    for agent in range(2):
        factored = averaged_transition(game, policies, agent)
        generic = averaged_transition(table, policies, agent)
        np.testing.assert_allclose(factored.sum(axis=1), 1, atol=1e-12)
        np.testing.assert_allclose(factored.toarray(), generic.toarray(), atol=1e-12)


def test_iterative_and_dense_solves_agree(paper_game, monkeypatch):
    game = paper_game("heterogeneous", slip=0.1)
    policies = random_policies(game, 3)
    dense = soft_evaluation(game, policies, 0, discount=0.95, temperature=1.0)
    monkeypatch.setattr(soft, "DENSE_STATES", 0)
    iterative = soft_evaluation(game, policies, 0, discount=0.95, temperature=1.0)
    np.testing.assert_allclose(dense[0], iterative[0], rtol=1e-9)


def test_improvement_never_lowers_the_value_of_a_lone_learner(paper_game):
    """With the other agent fixed, soft improvement is monotone in every state."""
    game = paper_game("heterogeneous")
    policies = random_policies(game, 4)
    before = soft_evaluation(game, policies, 0, discount=0.9, temperature=3.0)
    improved = [np.exp(log_soft_improvement(before[0], temperature=3.0)), policies[1]]
    after = soft_evaluation(game, improved, 0, discount=0.9, temperature=3.0)
    assert np.all(after[1] >= before[1] - 1e-9)
    assert np.any(after[1] > before[1] + 1e-3)


@pytest.mark.parametrize("temperature", [1e-3, 1.0, 1e3])
def test_improvement_survives_extreme_values(temperature):
    q = np.array([[1e4, -1e4, 0.0], [1e6, 1e6, 1e6]])
    policy = np.exp(log_soft_improvement(q, temperature=temperature))
    assert np.all(np.isfinite(policy))
    np.testing.assert_allclose(policy.sum(axis=1), 1)
    np.testing.assert_allclose(policy[1], 1 / 3)


def test_entropy_of_zero_probability_is_zero():
    np.testing.assert_allclose(entropy(np.array([[1.0, 0.0], [0.5, 0.5]])), [0, np.log(2)])


def test_inputs_are_not_written_to(paper_game):
    game = paper_game()
    policies = random_policies(game, 5)
    for policy in policies:
        policy.flags.writeable = False
    q, _ = soft_evaluation(game, policies, 0, discount=0.9, temperature=1.0)
    q.flags.writeable = False
    log_soft_improvement(q, temperature=1.0)


@pytest.mark.parametrize(
    ("discount", "temperature"), [(1.0, 1.0), (-0.1, 1.0), (float("nan"), 1.0), (0.9, -1.0)]
)
def test_bad_numbers_are_named(paper_game, discount, temperature):
    game = paper_game()
    policies = random_policies(game, 6)
    with pytest.raises(ValueError, match=r"discount must|temperature must"):
        soft_evaluation(game, policies, 0, discount=discount, temperature=temperature)
    with pytest.raises(ValueError, match="temperature must be > 0"):
        log_soft_improvement(np.zeros((1, 2)), temperature=0.0)


def test_the_face_loads_nothing_that_only_compiled_loops_or_figures_need():
    heavy = {"numba", "scipy.stats", "scipy.optimize", "matplotlib"}
    assert (
        printed("import sys, malfl_algos.soft", f"print({heavy!r} & set(sys.modules))") == "set()"
    )
