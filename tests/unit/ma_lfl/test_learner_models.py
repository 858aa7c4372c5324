"""Coefficients of the learner models against soft evaluation and values worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from exact import random_policies

from malfl_algos.ma_lfl.learner_models import SWEEPS, ExactEvaluation, ExpectedTd
from malfl_algos.ma_lfl.stages import StageArrays
from malfl_algos.soft import soft_evaluation
from malfl_env import MarkovGame
from malfl_env.markov_game import deterministic_game

GAMMA, ALPHA = 0.9, 2.0
GAMES = [
    {"size": 2},
    {"size": 2, "slip": 0.3},
    {"size": 2, "n_agents": 3},
    {"size": 2, "walls": [(0, 1)]},
]


def unknowns(table: np.ndarray, model: str, agent: int, n_actions: tuple[int, ...]) -> np.ndarray:
    """The unknowns, in their order, of a reward that the model can express."""
    if model == "state":
        return table
    own_first = np.moveaxis(
        np.broadcast_to(table.reshape(len(table), *table.shape[1:]), (len(table), *n_actions)),
        agent + 1,
        1,
    )
    own_first = own_first.reshape(len(table), n_actions[agent], -1)
    return (own_first[..., 0] if model == "own_action" else own_first).ravel()


def with_random_reward(game: MarkovGame, model: str, agent: int, seed: int) -> MarkovGame:
    rng = np.random.default_rng(seed)
    if model == "state":
        reward = rng.normal(size=game.n_states)
    elif model == "own_action":
        shape = [1] * game.n_agents
        shape[agent] = game.n_actions[agent]
        own = rng.normal(size=(game.n_states, *shape))
        reward = np.broadcast_to(own, (game.n_states, *game.n_actions)).copy()
    else:
        reward = rng.normal(size=(game.n_states, *game.n_actions))
    return game.with_rewards([reward] * game.n_agents)


def empty(game: MarkovGame) -> StageArrays:
    return StageArrays(np.zeros((game.n_states, *game.n_actions), dtype=np.int64))


@pytest.mark.parametrize("options", GAMES)
@pytest.mark.parametrize("model", ["state", "own_action", "joint"])
def test_exact_coefficients_are_soft_evaluation(paper_game, options, model):
    for agent in range(options.get("n_agents", 2)):
        game = with_random_reward(paper_game(**options), model, agent, agent)
        policies = random_policies(game, 1)
        learner = ExactEvaluation(game, model, GAMMA, ALPHA)
        table = learner.stage_coefficients(empty(game), policies, agent)
        reward = unknowns(game.reward(agent), model, agent, game.n_actions)
        q, _ = soft_evaluation(game, policies, agent, discount=GAMMA, temperature=ALPHA)
        np.testing.assert_allclose(table[..., :-1] @ reward + table[..., -1], q, atol=1e-9)
        noise = learner.stage_variance(empty(game), policies, agent, reward, q)
        np.testing.assert_array_equal(noise, np.zeros_like(q))


def test_unequal_numbers_of_actions():
    rng = np.random.default_rng(0)
    game = deterministic_game(
        rng.integers(0, 4, size=(4, 2, 3)), start=0, rewards=[rng.normal(size=(4, 2, 3))] * 2
    )
    policies = random_policies(game, 2)
    for agent in range(2):
        learner = ExactEvaluation(game, "joint", GAMMA, ALPHA)
        table = learner.stage_coefficients(empty(game), policies, agent)
        reward = unknowns(game.reward(agent), "joint", agent, game.n_actions)
        q, _ = soft_evaluation(game, policies, agent, discount=GAMMA, temperature=ALPHA)
        np.testing.assert_allclose(table[..., :-1] @ reward + table[..., -1], q, atol=1e-9)


def expected_counts(game: MarkovGame, policies: list[np.ndarray], total: float) -> StageArrays:
    """A stage in which every state was visited often and everyone played exactly as meant."""
    joint = np.ones((game.n_states, 1))
    for policy in policies:
        joint = (joint[:, :, None] * policy[:, None, :]).reshape(game.n_states, -1)
    counts = np.rint(joint * total).astype(np.int64)
    return StageArrays(counts.reshape(game.n_states, *game.n_actions))


@pytest.mark.parametrize("options", GAMES)
@pytest.mark.parametrize("model", ["state", "own_action", "joint"])
def test_expected_td_reaches_the_soft_value(paper_game, options, model):
    """With very large counts the difference is gamma^SWEEPS, from the parts of a stage."""
    discount = 0.6
    for agent in range(options.get("n_agents", 2)):
        game = with_random_reward(paper_game(**options), model, agent, agent)
        policies = random_policies(game, 3)
        stage = expected_counts(game, policies, 1e10)
        learner = ExpectedTd(game, model, discount, ALPHA, 0.1)
        table = learner.stage_coefficients(stage, policies, agent)
        reward = unknowns(game.reward(agent), model, agent, game.n_actions)
        q, _ = soft_evaluation(game, policies, agent, discount=discount, temperature=ALPHA)
        np.testing.assert_allclose(table[..., :-1] @ reward + table[..., -1], q, atol=1e-5)


@pytest.mark.parametrize("options", GAMES[:2])
def test_a_reward_of_the_next_state_comes_one_step_earlier(paper_game, options):
    """q of r(s) is r(s) + gamma q of r(s'), except for the entropy bonus."""
    discount, game = 0.6, paper_game(**options)
    policies = random_policies(game, 3)
    stage = expected_counts(game, policies, 1e10)
    for learner in (
        lambda model: ExactEvaluation(game, model, discount, ALPHA),
        lambda model: ExpectedTd(game, model, discount, ALPHA, 0.1),
    ):
        now, later = (
            learner(model).stage_coefficients(stage, policies, 1)
            for model in ("state", "next_state")
        )
        shifted = np.eye(game.n_states)[:, None] + discount * later[..., :-1]
        np.testing.assert_allclose(now[..., :-1], shifted, atol=1e-5)
        np.testing.assert_allclose(now[..., -1], later[..., -1], atol=1e-9)


def one_state(reward: float) -> MarkovGame:
    return deterministic_game(np.zeros((1, 2), dtype=int), start=0, rewards=[np.array([reward])])


def test_expected_td_of_one_state_by_hand():
    """With gamma 0, q(a) = (1 - (1 - beta)^n(a)) r; with gamma > 0 the parts one by one."""
    game, policy = one_state(5.0), np.array([[0.25, 0.75]])
    stage = StageArrays(np.array([[6, 18]], dtype=np.int64))
    table = ExpectedTd(game, "state", 0.0, ALPHA, 0.1).stage_coefficients(stage, [policy], 0)
    np.testing.assert_allclose(table[0, :, 0], 1 - 0.9 ** np.array([6, 18]))
    np.testing.assert_array_equal(table[0, :, 1], 0)
    table = ExpectedTd(game, "state", 0.8, ALPHA, 0.1).stage_coefficients(stage, [policy], 0)
    q, entropy = np.zeros(2), -(policy * np.log(policy)).sum()
    for end in range(1, SWEEPS + 1):
        target = 5.0 + 0.8 * (policy[0] @ q + ALPHA * entropy)
        part = (end**2 - (end - 1) ** 2) / SWEEPS**2
        q = q + (1 - 0.9 ** (np.array([6, 18]) * part)) * (target - q)
    np.testing.assert_allclose(table[0, :, 0] * 5.0 + table[0, :, 1], q)


def test_expected_td_follows_the_mean_of_learners_step_by_step():
    """Two states, one of them hardly visited; updates in turn, each in expectation."""
    game = deterministic_game(np.array([[0, 1], [0, 1]]), start=0, rewards=[np.array([1.0, -2.0])])
    policy, beta, gamma = np.array([[0.98, 0.02], [0.7, 0.3]]), 0.1, 0.9
    counts = np.array([[9600, 200], [140, 60]], dtype=np.int64)
    entropy = -(policy * np.log(policy)).sum(axis=1)
    order = np.argsort(np.concatenate([(np.arange(n) + 0.5) / n for n in counts.ravel()]))
    pairs = np.repeat(np.arange(4), counts.ravel())[order]
    q, reward = np.zeros((2, 2)), np.array([1.0, -2.0])
    for s, a in zip(*np.divmod(pairs, 2), strict=True):
        future = policy[a] @ q[a] + ALPHA * entropy[a]  # action a leads to state a
        q[s, a] += beta * (reward[s] + gamma * future - q[s, a])
    table = ExpectedTd(game, "state", gamma, ALPHA, beta).stage_coefficients(
        StageArrays(counts), [policy], 0
    )
    found = table[..., :-1] @ reward + table[..., -1]
    np.testing.assert_allclose(found, q, atol=0.15)


def test_pairs_never_visited_stay_at_zero(paper_game):
    game = paper_game()
    rng = np.random.default_rng(4)
    counts = rng.integers(0, 3, size=(81, 5, 5))
    counts[7], counts[11, 2] = 0, 0
    policies = random_policies(game, 5)
    learner = ExpectedTd(game, "state", GAMMA, ALPHA, 0.1)
    table = learner.stage_coefficients(StageArrays(counts), policies, 0)
    q = table @ np.append(game.reward(0), 1)
    noise = learner.stage_variance(StageArrays(counts), policies, 0, game.reward(0), q)
    never = counts.sum(axis=2) == 0
    assert never.sum() >= 6
    assert not table[never].any()
    assert not noise[never].any()
    assert np.all(table[~never].any(axis=-1))
    assert np.all(noise >= 0)


def test_td_follows_what_was_played_not_what_was_meant(paper_game):
    """The opponent always went right: its policy says otherwise and is not asked."""
    game = with_random_reward(paper_game(), "joint", 0, 6)
    counts = np.zeros((81, 5, 5), dtype=np.int64)
    counts[:, :, 3] = 10**6
    policies = random_policies(game, 7)
    table = ExpectedTd(game, "joint", 0.5, ALPHA, 0.1).stage_coefficients(
        StageArrays(counts), policies, 0
    )
    right = np.zeros((81, 5))
    right[:, 3] = 1
    q, _ = soft_evaluation(game, [policies[0], right], 0, discount=0.5, temperature=ALPHA)
    reward = unknowns(game.reward(0), "joint", 0, game.n_actions)
    np.testing.assert_allclose(table[..., :-1] @ reward + table[..., -1], q, atol=1e-8)


def test_variance_of_a_sampled_target_by_hand():
    """beta / (2 - beta) gamma^2 var(q(b) - alpha log pi(b)), for pairs visited for ever."""
    game, policy = one_state(1.0), np.array([[0.3, 0.7]])
    stage = StageArrays(np.array([[10**6, 10**6]], dtype=np.int64))
    learner = ExpectedTd(game, "state", GAMMA, ALPHA, 0.1)
    table = np.zeros((1, 2, 2))
    table[0, :, 1] = [4.0, 1.0]  # q whatever the reward
    draws = np.array([4.0, 1.0]) - ALPHA * np.log(policy[0])
    spread = 0.3 * 0.7 * (draws[0] - draws[1]) ** 2
    noise = learner.stage_variance(stage, [policy], 0, np.ones(1), table.sum(axis=-1))
    np.testing.assert_allclose(noise, np.full((1, 2), 0.1 / 1.9 * GAMMA**2 * spread))
    once = learner.stage_variance(
        StageArrays(np.array([[1, 0]])), [policy], 0, np.ones(1), table.sum(axis=-1)
    )
    np.testing.assert_allclose(once, [[0.1**2 * GAMMA**2 * spread, 0]])


def test_variance_is_that_of_simulated_learners():
    """Two actions, one state: many td runs of many steps, against the formula."""
    rng = np.random.default_rng(8)
    policy, beta, gamma, runs = np.array([0.4, 0.6]), 0.1, 0.5, 4000
    q, bonus = np.zeros((runs, 2)), -ALPHA * np.log(policy)
    index = np.arange(runs)
    for _ in range(250):
        a, b = (rng.random((2, runs)) < 0.6).astype(int)
        target = 1.0 + gamma * (q[index, b] + bonus[b])
        q[index, a] += beta * (target - q[index, a])
    game = one_state(1.0)
    stage = StageArrays(np.array([[100, 150]], dtype=np.int64))
    learner = ExpectedTd(game, "state", gamma, ALPHA, beta)
    table = learner.stage_coefficients(stage, [policy[None]], 0)
    np.testing.assert_allclose(table[0].sum(axis=-1), q.mean(axis=0), atol=0.03)
    formula = learner.stage_variance(stage, [policy[None]], 0, np.ones(1), table.sum(axis=-1))[0]
    ratio = q.var(axis=0) / formula
    assert np.all((ratio > 0.8) & (ratio < 1.6))  # bootstrapped values fluctuate too: not in it
