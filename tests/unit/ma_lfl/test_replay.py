"""Replayed learners against learners in plain Python, and the noise of unobserved draws."""

from __future__ import annotations

import numpy as np
import pytest
from exact import random_policies
from scipy.special import logsumexp

from malfl_algos.ma_lfl.replay import ReplayedTd
from malfl_algos.ma_lfl.stages import StageArrays, Steps
from malfl_algos.play.tabular import sample_stage

GAMMA, ALPHA, BETA = 0.9, 2.0, 0.2


def played(game, policies, *, episodes=20, length=100, seed=0):
    """A stage under these policies, and the q of learners with fresh draws."""
    with np.errstate(divide="ignore"):
        log_policies = [np.log(policy) for policy in policies]
    sample = sample_stage(
        game,
        log_policies,
        seed=seed,
        episodes=episodes,
        episode_length=length,
        discount=GAMMA,
        temperature=ALPHA,
        step_size=BETA,
        keep_steps=True,
    )
    states, joint, after, ends = sample.steps
    actions = np.stack(np.unravel_index(joint, game.n_actions), axis=-1)
    return StageArrays(sample.joint_counts, Steps(states, actions, after, ends)), sample.q


def plain(stage, policy, reward, agent, rule, *, decay=0.0):
    """The learner as its rule reads, in double precision.

    Args:
        reward: table `(n_states, *n_actions)`.
    """
    steps = stage.steps
    log_policy = ALPHA * np.log(np.maximum(policy, 1e-300))
    q, visits = np.zeros_like(policy), np.zeros(policy.shape)
    for n, (s, joint, t) in enumerate(
        zip(steps.states, steps.joint_actions, steps.next_states, strict=True)
    ):
        a = joint[agent]
        visits[s, a] += 1
        last = steps.episode_ends[n] or n + 1 == len(steps.states)
        if rule == "soft_q":
            future = ALPHA * logsumexp(q[t] / ALPHA)
        elif rule == "executed" and not last:
            b = steps.joint_actions[n + 1][agent]
            future = q[t, b] - log_policy[t, b]
        else:
            future = policy[t] @ (q[t] - log_policy[t])
        beta = BETA / visits[s, a] ** decay
        q[s, a] += beta * (reward[(s, *joint)] + GAMMA * future - q[s, a])
    return q


def reward_table(game, model, agent, rng):
    """A random reward that the model can express: as a table, and as its unknowns."""
    if model == "state":
        values = rng.normal(0, 3, game.n_states)
        shape = (game.n_states, *[1] * game.n_agents)
        return np.broadcast_to(values.reshape(shape), (game.n_states, *game.n_actions)), values
    others = [n for index, n in enumerate(game.n_actions) if index != agent]
    sizes = others if model == "joint" else [1] * len(others)
    own_first = rng.normal(0, 3, (game.n_states, game.n_actions[agent], *sizes))
    table = np.moveaxis(own_first, 1, agent + 1)
    return np.broadcast_to(table, (game.n_states, *game.n_actions)), own_first.ravel()


@pytest.mark.parametrize("decay", [0.0, 0.6])
@pytest.mark.parametrize("rule", ["fresh", "expected", "executed", "soft_q"])
@pytest.mark.parametrize(
    ("options", "model"),
    [
        ({}, "state"),
        ({"slip": 0.2}, "state"),
        ({"size": 2}, "own_action"),
        ({"size": 2}, "joint"),
        ({"size": 2, "n_agents": 3}, "joint"),
    ],
)
def test_replay_is_the_learner(paper_game, options, model, rule, decay):
    game = paper_game(**options)
    policies = random_policies(game, 0)
    stage, _ = played(game, policies)
    for agent in range(game.n_agents):
        table, values = reward_table(game, model, agent, np.random.default_rng(agent))
        truth = plain(stage, policies[agent], table, agent, rule, decay=decay)
        learner = ReplayedTd(model, GAMMA, ALPHA, BETA, rule, decay, reward=values)
        rows = learner.stage_coefficients(stage, policies, agent)
        assert rows.shape == (*policies[agent].shape, len(values) + 1)
        np.testing.assert_allclose(rows[..., :-1] @ values + rows[..., -1], truth, atol=1e-3)
        never = stage.action_counts(agent) == 0
        assert not rows[never].any()


def test_replay_stays_exact_over_many_steps(paper_game):
    """Long enough for the running values to be recomputed many times, with near-certain actions."""
    game = paper_game()
    policies = random_policies(game, 1, concentration=0.1)
    stage, _ = played(game, policies, episodes=200, length=500)
    truth = plain(stage, policies[0], reward := game_table(game), 0, "expected")
    rows = ReplayedTd("state", GAMMA, ALPHA, BETA).stage_coefficients(stage, policies, 0)
    values = reward[:, 0, 0]
    # without being recomputed, the running values would be off by twice as much
    np.testing.assert_allclose(rows[..., :-1] @ values + rows[..., -1], truth, atol=4e-4)


def game_table(game):
    return np.broadcast_to(game.reward(0)[:, None, None], (game.n_states, *game.n_actions))


def test_soft_q_is_linear_about_the_reward_handed_in(paper_game):
    """With a neighbouring reward the error is of second order; without one it is expected SARSA."""
    game = paper_game(size=2)
    policies = random_policies(game, 2)
    stage, _ = played(game, policies)
    rng = np.random.default_rng(3)
    table, values = reward_table(game, "state", 0, rng)
    truth = plain(stage, policies[0], table, 0, "soft_q")
    direction = rng.normal(size=len(values))
    errors = []
    for step in (0.4, 0.2):
        near = ReplayedTd("state", GAMMA, ALPHA, BETA, "soft_q", reward=values + step * direction)
        rows = near.stage_coefficients(stage, policies, 0)
        errors.append(np.abs(rows[..., :-1] @ values + rows[..., -1] - truth).max())
    assert 3 < errors[0] / errors[1] < 5
    none = ReplayedTd("state", GAMMA, ALPHA, BETA, "soft_q").stage_coefficients(stage, policies, 0)
    expected = ReplayedTd("state", GAMMA, ALPHA, BETA, "expected").stage_coefficients(
        stage, policies, 0
    )
    np.testing.assert_array_equal(none, expected)


def test_narrow_integers_and_read_only_steps(paper_game):
    game = paper_game()
    policies = random_policies(game, 4)
    stage, _ = played(game, policies)
    wide = stage.steps
    narrow = [
        array.astype(np.uint8) for array in (wide.states, wide.joint_actions, wide.next_states)
    ]
    for array in (*narrow, *policies):
        array.flags.writeable = False
    small = StageArrays(stage.joint_counts, Steps(*narrow, wide.episode_ends))
    for rule in ("fresh", "executed"):
        learner = ReplayedTd("state", GAMMA, ALPHA, BETA, rule)
        np.testing.assert_array_equal(
            learner.stage_coefficients(stage, policies, 1),
            learner.stage_coefficients(small, policies, 1),
        )


@pytest.mark.parametrize("rule", ["executed", "expected", "soft_q"])
def test_rules_without_hidden_draws_leave_no_noise(paper_game, rule):
    game = paper_game(size=2)
    policies = random_policies(game, 5)
    stage, _ = played(game, policies)
    learner = ReplayedTd("state", GAMMA, ALPHA, BETA, rule)
    rows = learner.stage_coefficients(stage, policies, 0)
    assert not learner.stage_variance(stage, policies, 0, game.reward(0), rows[..., -1]).any()


@pytest.mark.parametrize("options", [{}, {"size": 2, "n_agents": 3}, {"slip": 0.2}])
def test_noise_is_that_of_simulated_learners(paper_game, options):
    """Difference between q of fresh draws and of the replay, in predicted standard deviations."""
    game = paper_game(**options)
    policies = random_policies(game, 6)
    squares, visits = [], []
    for seed in range(6):
        stage, q = played(game, policies, episodes=40, length=500, seed=seed)
        for agent in range(game.n_agents):
            reward = game.reward(agent)
            learner = ReplayedTd("state", GAMMA, ALPHA, BETA)
            rows = learner.stage_coefficients(stage, policies, agent)
            noise = learner.stage_variance(stage, policies, agent, reward, rows[..., -1])
            seen = stage.action_counts(agent) > 0
            gap = q[agent] - rows[..., :-1] @ reward - rows[..., -1]
            assert not noise[~seen].any()
            squares.append(gap[seen] ** 2 / noise[seen])
            visits.append(stage.action_counts(agent)[seen])
    squares, visits = np.concatenate(squares), np.concatenate(visits)
    # above 1: 64 / 62 for a variance known from 64 signs, and q's own noise widens the draws
    assert 0.98 < squares.mean() < 1.25
    assert 0.98 < squares[visits > 100].mean() < 1.3
    assert 0.98 < squares[visits < 30].mean() < 1.3


def test_noise_is_the_same_every_time(paper_game):
    game = paper_game()
    policies = random_policies(game, 7)
    stage, _ = played(game, policies)
    learner = ReplayedTd("state", GAMMA, ALPHA, BETA)
    rows = learner.stage_coefficients(stage, policies, 0)
    first, again = (
        learner.stage_variance(stage, policies, 0, game.reward(0), rows[..., -1]) for _ in range(2)
    )  # fmt: skip
    np.testing.assert_array_equal(first, again)


def test_transitions_must_have_been_kept(paper_game):
    game = paper_game()
    policies = random_policies(game, 8)
    stage, _ = played(game, policies)
    bare = StageArrays(stage.joint_counts)
    with pytest.raises(ValueError, match="keep_transitions"):
        ReplayedTd("state", GAMMA, ALPHA, BETA).stage_coefficients(bare, policies, 0)
