"""Expected updates of Q-learners against simulated learners and finite differences."""

from __future__ import annotations

import numpy as np
import pytest
from exact import random_policies

from malfl_algos.learners.q_learning import QLearning
from malfl_algos.ma_lfl.carried_rules import Carried
from malfl_algos.ma_lfl.expected_updates import ExpectedQ, log_kept
from malfl_algos.ma_lfl.stages import StageArrays
from malfl_algos.observers.bayesian import MaLflBellman
from malfl_algos.play.q_learning import QLearners, QStage, play_q_learning
from malfl_algos.trace import LearningTrace
from malfl_env import InputError, grid_world_v0, markov_game

GAMMA, ALPHA = 0.8, 2.0


def simulated(game, algorithm, *, moving=False, temperature=1e6, n_stages=2, copies=24, **options):
    """Mean q after every stage and mean counts of many learners with a frozen uniform policy."""
    shape = (game.n_agents, game.n_states, max(game.n_actions))
    ends, counts = [], []
    for copy in range(copies):
        learners = QLearners(np.zeros(shape), np.zeros(shape, dtype=np.int64))
        rng = np.random.default_rng(copy)
        for _ in range(n_stages):
            stage = QStage(
                100,
                50,
                GAMMA,
                algorithm,
                False,
                moving,
                (temperature,) * 2,
                **options,
                restart=None,
                keep_steps=False,
            )
            sample, _ = play_q_learning(
                game, learners, stage, seed=int(rng.integers(2**63, dtype=np.uint64))
            )
            ends.append(learners.q.copy())
            counts.append(sample.joint_counts.reshape(game.n_states, *game.n_actions))
    ends = np.array(ends).reshape(copies, n_stages, *shape)
    return ends.mean(axis=0), np.array(counts).reshape(copies, n_stages, *counts[0].shape)


@pytest.mark.parametrize(("rule", "algorithm"), [("q-learning", "q_learning"), ("sarsa", "sarsa")])
@pytest.mark.parametrize("decay", [0.0, 0.6])
@pytest.mark.slow
def test_expected_updates_are_the_mean_of_many_simulated_learners(
    paper_game, rule, algorithm, decay
):
    game = paper_game(size=2)
    ends, counts = simulated(game, algorithm, step_size=0.2, step_size_decay=decay)
    mean_counts = np.rint(counts.mean(axis=0)).astype(np.int64)
    stages = [StageArrays(own) for own in mean_counts]
    uniform = [np.full((game.n_states, 5), 0.2)] * 2
    reward = game.reward(0)
    model = ExpectedQ(game, "state", GAMMA, ALPHA, 0.2, rule, decay, reward=reward)
    q = model.coefficients(stages, [uniform] * 2, 0) @ np.append(reward, 1.0)
    error = (q - ends[:, 0])[mean_counts.sum(axis=3) > 10]
    assert np.sqrt((error**2).mean()) < 0.03 * np.ptp(ends[:, 0])


def test_without_a_stage_before_it_a_single_update_is_the_reward(paper_game):
    game = paper_game(size=2)
    counts = np.zeros((game.n_states, 5, 5), dtype=np.int64)
    counts[3, 1, 2] = 1
    uniform = [np.full((game.n_states, 5), 0.2)] * 2
    model = ExpectedQ(game, "state", GAMMA, ALPHA, 0.25, "expected-sarsa")
    q = model.coefficients([StageArrays(counts)], [uniform], 0)[0]
    expected = np.zeros(q.shape)
    expected[3, 1, 3] = 0.25
    np.testing.assert_allclose(q, expected, atol=0.05)  # its own successor, at most gamma beta^2


@pytest.mark.parametrize("moving", [False, True])
@pytest.mark.parametrize("rule", ["q-learning", "expected-sarsa"])
def test_linearised_coefficients_are_the_derivative(paper_game, moving, rule):
    game = paper_game(size=2)
    rng = np.random.default_rng(3)
    policies = random_policies(game, 5)
    stages = [StageArrays(rng.integers(0, 60, (game.n_states, 5, 5))) for _ in range(3)]
    if rule == "q-learning":  # the other agent stands still: no noise that grows with the reward
        stages = [StageArrays(own.joint_counts * (np.arange(5) == 4)) for own in stages]
    reward, step = rng.normal(size=game.n_states), rng.normal(size=game.n_states)

    def at(estimate):
        return ExpectedQ(
            game, "state", GAMMA, ALPHA, 0.1, rule, moving=moving, reward=estimate
        ).coefficients(stages, [policies] * 3, 0)

    def value(estimate):
        return at(estimate) @ np.append(estimate, 1.0)

    small = 1e-5
    numeric = (value(reward + small * step) - value(reward - small * step)) / (2 * small)
    affine = at(reward) @ np.append(step, 0.0)
    centred = [own - own.mean(axis=-1, keepdims=True) for own in (numeric, affine)]
    np.testing.assert_allclose(*centred, atol=1e-6)
    assert len(numeric) == (2 if moving else 3)


@pytest.mark.slow
def test_the_average_policy_of_a_stage_is_that_of_simulated_learners(paper_game):
    game = paper_game(size=2)
    _, counts = simulated(
        game, "q_learning", moving=True, temperature=ALPHA, step_size=0.02, step_size_decay=0.0
    )
    played = counts.sum(axis=0)
    stages = [StageArrays(own // len(counts)) for own in played]
    shares = [[own.sum(axis=2) + 0.3, own.sum(axis=1) + 0.3] for own in played]
    policies = [[own / own.sum(axis=1, keepdims=True) for own in both] for both in shares]
    reward = game.reward(0)
    model = ExpectedQ(game, "state", GAMMA, ALPHA, 0.02, moving=True, reward=reward)
    (x,) = model.coefficients(stages, policies, 0) @ np.append(reward, 1.0) / ALPHA
    expected = np.exp(x - x.max(axis=-1, keepdims=True))
    expected /= expected.sum(axis=-1, keepdims=True)
    often = shares[1][0].sum(axis=1) > 2000
    assert often.sum() >= 8
    assert np.abs(expected - policies[1][0])[often].max() < 0.03
    assert np.abs(policies[1][0] - 0.2)[often].max() > 0.05


@pytest.mark.parametrize("decay", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("step_size", [0.3, 1.0])
def test_the_kept_share_is_the_product_over_visits(decay, step_size):
    if decay == 0 and step_size == 1:
        assert log_kept(np.array([0.0, 3.0]), 1.0, 0.0)[1] < -600
        return
    for visits in (0, 1, 7, 30_000):
        factors = np.maximum(1 - step_size * np.arange(1.0, visits + 1) ** -decay, np.exp(-700.0))
        expected = np.log(factors).sum()
        np.testing.assert_allclose(
            log_kept(np.array([float(visits)]), step_size, decay)[0], expected, rtol=1e-3, atol=1e-3
        )


def recovered(policy, **options):
    env = grid_world_v0.parallel_env(size=2, rewards="heterogeneous")
    learner = QLearning(
        discount=0.9, temperature=2.0, policy=policy, episodes=300, episode_length=200
    )
    stages = list(learner.learn(env, n_stages=7, rng=np.random.default_rng(8)))
    game = markov_game(env)
    trace = LearningTrace(tuple(stage.observed for stage in stages))
    result = MaLflBellman(**options).recover(trace, game=game, discount=0.9, temperature=2.0)
    found = [
        np.corrcoef(result.rewards[agent], game.reward(index))[0, 1]
        for index, agent in enumerate(trace.agents)
    ]
    return result.diagnostics[trace.agents[0]], found


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["frozen", "moving"])
def test_evidence_finds_whether_the_policy_moves_and_the_reward(policy):
    diagnostics, found = recovered(policy, learner="q-learning")
    assert Carried.named(diagnostics["rule"]) == ("q-learning", policy, "soft")
    assert min(found) > 0.9


def test_a_share_of_the_policy_is_not_kept_by_a_q_learner():
    with pytest.raises(InputError, match="improvement must be auto or 0"):
        MaLflBellman(learner="q-learning", improvement=0.3)
    with pytest.raises(InputError, match="step_size_decay"):
        MaLflBellman(step_size_decay=1.5)
    with pytest.raises(InputError, match="policy must be"):
        MaLflBellman(policy="thawed")
