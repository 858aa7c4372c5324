"""Gradients of feature expectations against loops, finite differences and each other."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
from logel_grid import WEIGHTS, Gpomdp, colour_features, logel_grid
from scipy.special import softmax

from malfl_algos.ma_lfl.gpomdp import episodes_of, exact_gradient, gpomdp_gradient
from malfl_algos.ma_lfl.gpomdp_sums import bytes_of_sums, sums_of_episodes
from malfl_algos.play import sample_stage
from malfl_algos.soft import averaged_transition, discounted_sum, policy_transition
from malfl_algos.testing import check_learner
from malfl_env import TabularEnv
from malfl_env.testing import check_parallel_env

DISCOUNT = 0.9


def played(game, policies, episodes, length, seed=0):
    """Episodes under fixed policies, as lists of (state, joint action)."""
    rng = np.random.default_rng(seed)
    found = []
    for number in range(episodes):
        state, steps = game.start, []
        for _ in range(length - number % 3):  # of different lengths
            actions = [int(rng.choice(len(own[state]), p=own[state])) for own in policies]
            steps.append((state, actions))
            state = int(game.next_states[(state, *actions)])
        found.append(steps)
    return found


def as_episodes(found):
    flat = [step for steps in found for step in steps]
    ends = np.zeros(len(flat), dtype=bool)
    ends[np.cumsum([len(steps) for steps in found]) - 1] = True
    return episodes_of(np.array([s for s, _ in flat]), np.array([a for _, a in flat]), ends)


def slow_gpomdp(policy, found, agent_index, gains):
    """G(PO)MDP with its baseline, one episode, step and parameter after the other."""
    longest, shape = max(map(len, found)), (*policy.shape, gains.shape[-1])
    total = np.zeros(shape)
    summed = [np.zeros_like(policy) for _ in found]
    for t in range(longest):
        rows = []
        for n, steps in enumerate(found):
            gain, scored = np.zeros(shape[-1]), summed[n].copy()
            if t < len(steps):  # nothing is gained after an episode's end
                state, actions = steps[t]
                summed[n][state] -= policy[state]
                summed[n][state, actions[agent_index]] += 1
                by_state = gains.ndim == 2
                scored = scored if by_state else summed[n].copy()
                gain = DISCOUNT**t * gains[state if by_state else (state, *actions)]
            rows.append((scored, gain))
        for place in np.ndindex(policy.shape):
            squares = sum(scored[place] ** 2 for scored, _ in rows)
            weighted = sum(scored[place] ** 2 * gain for scored, gain in rows)
            baseline = weighted / (squares + 1e-3 * len(found))
            total[place] += sum(scored[place] * (gain - baseline) for scored, gain in rows)
    return total / len(found)


@pytest.mark.parametrize("agent_index", [0, 1])
@pytest.mark.parametrize("by_action", [False, True])
def test_gpomdp_agrees_with_a_loop(paper_game, agent_index, by_action):
    game = paper_game(size=2)
    rng = np.random.default_rng(1)
    policies = [rng.dirichlet(np.ones(5), size=16) for _ in range(2)]
    found = played(game, policies, episodes=7, length=6)
    gains = rng.standard_normal((16, 5, 5, 3) if by_action else (16, 3))
    ours = gpomdp_gradient(
        policies[agent_index], as_episodes(found), agent_index, gains, discount=DISCOUNT
    )
    expected = slow_gpomdp(policies[agent_index], found, agent_index, gains)
    np.testing.assert_allclose(ours, expected, atol=1e-12)
    assert np.abs(ours).max() > 0.1
    if not by_action:
        sparse = sp.csr_array(gains)
        again = gpomdp_gradient(
            policies[agent_index], as_episodes(found), agent_index, sparse, discount=DISCOUNT
        )
        np.testing.assert_allclose(again, ours, atol=1e-12)


@pytest.mark.parametrize("agent_index", [0, 1])
@pytest.mark.parametrize("by_action", [False, True])
def test_gradients_from_sums_are_those_of_the_episodes(paper_game, agent_index, by_action):
    game = paper_game(size=2)
    rng = np.random.default_rng(5)
    policies = [rng.dirichlet(np.ones(5), size=16) for _ in range(2)]
    found = played(game, policies, episodes=7, length=6)
    gains = rng.standard_normal((16, 5, 5, 3) if by_action else (16, 3))
    episodes = as_episodes(found)
    sums = sums_of_episodes(
        episodes, agent_index, gains, n_states=16, n_actions=5, discount=DISCOUNT
    )
    assert sums.counts.nbytes + sums.gained.nbytes <= bytes_of_sums(episodes, 16, 5, 3)
    for policy in (policies[agent_index], rng.dirichlet(np.ones(5), size=16)):
        weights = rng.standard_normal(3)
        expected = slow_gpomdp(policy, found, agent_index, gains) @ weights
        np.testing.assert_allclose(sums.gradient(policy, weights), expected, atol=1e-12)


def test_an_unfinished_last_episode_counts():
    states, actions = np.array([0, 1, 2, 0, 3]), np.zeros((5, 1), dtype=int)
    cut = episodes_of(states, actions, np.array([False, False, True, False, False]))
    np.testing.assert_array_equal(cut.states, [[0, 1, 2], [0, 3, 0]])
    np.testing.assert_array_equal(cut.played, [[True] * 3, [True, True, False]])


@pytest.mark.parametrize("by_action", [False, True])
def test_the_exact_gradient_agrees_with_finite_differences(paper_game, by_action):
    game = paper_game(size=2, slip=0.2)
    rng = np.random.default_rng(2)
    logits = rng.standard_normal((16, 5))
    other = rng.dirichlet(np.ones(5), size=16)
    transition = averaged_transition(game, [other, other], 0)
    gains = rng.standard_normal((16, 5, 2) if by_action else (16, 2))

    def expected(at):
        policy = softmax(at, axis=1)
        own = np.einsum("sa,sak->sk", policy, gains) if by_action else gains
        under = policy_transition(transition, policy)
        return [discounted_sum(under, column, discount=DISCOUNT)[game.start] for column in own.T]

    ours = exact_gradient(
        softmax(logits, axis=1), transition, gains, start=game.start, discount=DISCOUNT
    )
    steps = np.eye(80).reshape(80, 16, 5) * 1e-5
    slopes = [
        (np.array(expected(logits + step)) - expected(logits - step)) / 2e-5 for step in steps
    ]
    np.testing.assert_allclose(ours.reshape(80, 2), slopes, rtol=1e-5, atol=1e-7)


@pytest.mark.slow
def test_gpomdp_estimates_the_exact_gradient():
    game, features = logel_grid(), colour_features()
    rng = np.random.default_rng(3)
    policy = softmax(rng.standard_normal((25, 4)), axis=1)
    settings = {"discount": 0.8, "temperature": 1.0, "step_size": 0.0, "keep_steps": True}
    sample = sample_stage(
        game, [np.log(policy)], seed=0, episodes=20000, episode_length=60, **settings
    )
    states, actions, _, ends = sample.steps
    cut = episodes_of(states, actions[:, None], ends)
    ours = gpomdp_gradient(policy, cut, 0, features, discount=0.8)
    transition = averaged_transition(game, [policy], 0)
    exact = exact_gradient(policy, transition, features, start=0, discount=0.8)
    assert np.corrcoef(ours.ravel(), exact.ravel())[0, 1] > 0.995
    assert np.linalg.norm(ours - exact) < 0.1 * np.linalg.norm(exact)


# LOGEL's grid and its learner


def test_the_grid_is_the_papers():
    game = logel_grid()
    assert (game.n_states, game.n_actions, game.start) == (25, (4,), 0)
    reward = game.reward(0).reshape(5, 5)
    np.testing.assert_array_equal(reward[0], [-1, -1, -1, 0, 0])
    np.testing.assert_array_equal(reward[4], [-3, -3, -1, -1, 7])
    assert reward[2, 2] == min(WEIGHTS)
    np.testing.assert_array_equal(game.next_states[24], 0)
    np.testing.assert_array_equal(game.next_states[6], [11, 1, 5, 7])
    np.testing.assert_array_equal(game.next_states[0], [5, 0, 0, 1])


def test_its_environment_plays_the_game():
    check_parallel_env(lambda: TabularEnv(logel_grid(), max_cycles=20))


def test_its_learner_conforms():
    options = {"discount": 0.9, "episodes": 20, "episode_length": 20}
    check_learner(Gpomdp, options=options)


def test_its_learner_moves_along_its_gradient():
    """The change of the logits after a stage is the step size times G(PO)MDP of its own steps."""
    game = logel_grid()
    learner = Gpomdp(discount=DISCOUNT, step_size=0.5)
    env = TabularEnv(game)
    first, second = learner.learn(env, n_stages=2, rng=np.random.default_rng(4))
    steps = first.observed.transitions
    cut = episodes_of(steps.states, steps.joint_actions, steps.episode_ends)
    gains = game.reward(0)[:, None]
    gradient = gpomdp_gradient(np.full((25, 4), 0.25), cut, 0, gains, discount=DISCOUNT)[..., 0]
    log = np.log(second.truth.policies["agent_0"])
    np.testing.assert_allclose(log[:, :3] - log[:, 3:], 0.5 * gradient[:, :3], atol=1e-12)
