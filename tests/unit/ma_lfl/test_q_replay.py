"""Replayed Q-learners: against the learners themselves, and against finite differences."""

from __future__ import annotations

import numpy as np
import pytest
from factored_cases import GAMES, factored

from malfl_algos.ma_lfl.cut_stages import cut_stages
from malfl_algos.ma_lfl.q_replay import Q_RULES, ReplayedQ
from malfl_algos.ma_lfl.q_replay_loops import EXPECTED_SARSA, GIVEN, follow
from malfl_algos.ma_lfl.stages import StageArrays, Steps
from malfl_algos.play.q_learning import QLearners, QStage, play_q_learning
from malfl_env.errors import InputError
from malfl_env.markov_game import MarkovGame

GAMMA, BETA, T = 0.8, 0.3, 2.0


def foreign() -> MarkovGame:
    """Random transitions and rewards of a few states."""
    game = factored([3, 2], [((0, 1), 6, 3)])
    rng = np.random.default_rng(7)
    return game.with_rewards([rng.normal(0, 3, game.n_states) for _ in range(2)])


def learned(game, rule, *, moving=False, restart=None, decay=0.0, n_stages=3, start=0.0, **given):
    """Stages; the policies at their start, and q at their end, by stage and agent."""
    options = {"greedy": False, "exploration": (T, T), "episodes": 5, "length": 60} | given
    shape = (game.n_agents, game.n_states, max(game.n_actions))
    learners = QLearners(np.full(shape, start), np.zeros(shape, dtype=np.int64))
    stages, policies, ends = [], [], []
    for number in range(n_stages):
        stage = QStage(
            options["episodes"],
            options["length"],
            GAMMA,
            rule.replace("-", "_"),
            options["greedy"],
            moving,
            options["exploration"],
            BETA,
            decay,
            restart,
            True,
        )
        sample, played = play_q_learning(game, learners, stage, seed=number)
        states, joint, after, last = sample.steps
        actions = np.stack(np.unravel_index(joint, game.n_actions), axis=-1)
        stages.append(StageArrays(sample.joint_counts, Steps(states, actions, after, last)))
        policies.append([played[i, :, :n] for i, n in enumerate(game.n_actions)])
        ends.append(sample.q)
    return stages, policies, ends


@pytest.mark.parametrize("decay", [0.0, 0.6])
@pytest.mark.parametrize("restart", [None, 0.0])
@pytest.mark.parametrize("rule", Q_RULES)
@pytest.mark.parametrize("game", ["foreign", "grid", "slip"])
def test_replay_is_the_learner(game, rule, restart, decay):
    game = foreign() if game == "foreign" else GAMES[game]()
    stages, policies, ends = learned(game, rule, restart=restart, decay=decay)
    for agent in range(game.n_agents):
        reward = game.reward(agent)
        learner = ReplayedQ(
            "state", GAMMA, T, BETA, rule, decay, carried=restart is None, reward=reward
        )
        rows = learner.coefficients(stages, policies, agent)
        assert rows.shape == (3, game.n_states, game.n_actions[agent], game.n_states + 1)
        for own, q in zip(rows, ends, strict=True):
            np.testing.assert_allclose(own[..., :-1] @ reward + own[..., -1], q[agent], atol=1e-5)
        assert not learner.variance(stages, policies, agent, reward, rows[..., -1]).any()


@pytest.mark.parametrize("rule", ["sarsa", "q-learning"])
def test_reward_of_own_actions(rule):
    """A game whose rewards depend on joint actions, under the model of all joint actions."""
    game = GAMES["table"]()
    stages, policies, ends = learned(game, rule)
    for agent in range(2):
        reward = np.moveaxis(game.reward(agent), agent + 1, 1).ravel()
        learner = ReplayedQ("joint", GAMMA, T, BETA, rule, reward=reward)
        rows = learner.coefficients(stages, policies, agent)
        predicted = rows[..., :-1] @ reward + rows[..., -1]
        np.testing.assert_allclose(predicted[-1], ends[-1][agent], atol=1e-5)


@pytest.mark.parametrize("rule", Q_RULES)
def test_the_first_q_shifts_the_reward_by_a_constant(rule):
    game, start = foreign(), 4.0
    stages, policies, ends = learned(game, rule, start=start, n_stages=2)
    shifted = game.reward(0) - (1 - GAMMA) * start
    learner = ReplayedQ("state", GAMMA, T, BETA, rule, reward=shifted)
    rows = learner.coefficients(stages, policies, 0)
    np.testing.assert_allclose(
        rows[-1, ..., :-1] @ shifted + rows[-1, ..., -1] + start, ends[-1][0], atol=1e-5
    )


def log_policies(learner, parts, policies, reward):
    """T times the log of the averaged policies at a reward, `(n_parts, n_states, n_actions)`."""
    rows = learner.linearised(reward).coefficients(parts, policies, 0)
    return rows[..., :-1] @ reward + rows[..., -1]


@pytest.mark.parametrize("rule", Q_RULES)
def test_moving_policies_are_the_learners(rule):
    game = foreign()
    stages, policies, _ = learned(game, rule, moving=True)
    learner = ReplayedQ("state", GAMMA, T, BETA, rule, moving=True)
    whole = log_policies(learner, stages, policies, game.reward(0))
    for own, truth in zip(whole, policies[1:], strict=True):
        np.testing.assert_allclose(np.exp(own / T), truth[0], atol=1e-5)


@pytest.mark.parametrize("rule", Q_RULES)
def test_moving_coefficients_are_derivatives(rule):
    """Central differences of the averaged policies, at a reward without ties."""
    game = foreign()
    stages, _, _ = learned(game, rule, moving=True, n_stages=2)
    parts = cut_stages(stages, 3, explain_first=True)
    policies = [[np.full((game.n_states, n), 1 / n) for n in game.n_actions]] * len(parts)
    learner = ReplayedQ("state", GAMMA, T, BETA, rule, moving=True)
    reward = game.reward(0)
    rows = learner.linearised(reward).coefficients(parts, policies, 0)
    assert len(rows) == 9
    step = 1e-4
    for unknown in range(game.n_states):
        moved = step * np.eye(game.n_states)[unknown]
        ahead, behind = (
            log_policies(learner, parts, policies, reward + sign * moved) for sign in (1, -1)
        )
        seen = np.stack([part.action_counts(0).sum(axis=1) > 0 for part in parts[1:]])
        slope = (ahead - behind) / (2 * step)
        np.testing.assert_allclose(rows[seen][..., unknown], slope[seen], atol=2e-4)


def test_parts_hold_all_steps_once():
    stages, _, _ = learned(foreign(), "sarsa", n_stages=3)
    counts = sum(stage.joint_counts for stage in stages)
    parts = cut_stages(stages, 4, explain_first=True)
    assert len(parts) == 1 + 8 + 4 + 4
    assert not parts[0].joint_counts.any()
    np.testing.assert_array_equal(sum(part.joint_counts for part in parts), counts)
    later = cut_stages(stages, 4, explain_first=False)
    assert len(later) == 1 + 4 + 4
    assert later[0] is stages[0]
    lengths = [part.span[1] - part.span[0] for part in parts[1:9]]
    assert lengths == sorted(lengths)
    for part in parts[1:]:
        first, end = part.span
        assert part.joint_counts.sum() == end - first


def test_q_learning_without_a_reward_takes_the_preferred_action():
    """Until a reward is known, the greatest action is the most probable one of the next policy."""
    game = foreign()
    stages, policies, _ = learned(game, "q-learning", n_stages=2)
    greedy = [[(own == own.max(axis=1, keepdims=True)) / 1.0 for own in one] for one in policies]
    rows = ReplayedQ("state", GAMMA, T, BETA, "q-learning").coefficients(stages, policies, 0)
    expected = ReplayedQ("state", GAMMA, T, BETA, "expected-sarsa")
    wanted = expected.coefficients(stages, [greedy[1], greedy[1]], 0)
    np.testing.assert_allclose(rows, wanted, atol=1e-6)


def test_stages_without_steps_are_rejected():
    stages, policies, _ = learned(foreign(), "sarsa", n_stages=2)
    bare = [stages[0], StageArrays(stages[1].joint_counts)]
    with pytest.raises(InputError, match="needs the ordered transitions"):
        ReplayedQ("state", GAMMA, T, BETA, "sarsa").coefficients(bare, policies, 0)


def test_same_bytes_wherever_the_arrays_lie():
    rng, n_states, n_actions, n_steps = np.random.default_rng(0), 16, 5, 400
    states = rng.integers(n_states, size=n_steps)
    actions = rng.integers(n_actions, size=n_steps)
    steps = states, actions, states, np.roll(states, -1), np.zeros(n_steps, bool), (0, n_steps)
    reward, policy = rng.standard_normal(n_states), rng.dirichlet(np.ones(n_actions), n_states)
    rates, kinds = (0.9, 0.7, 0.1, 0.0, GIVEN), (EXPECTED_SARSA, True, False, False)
    found = set()
    for _ in range(600):  # sums were once reordered in about 1 of 70 calls
        sizes = rng.choice([1, 5, 6, 8, 16, 20, 48, 80, 81], size=rng.integers(60))
        between = [np.empty(size) for size in sizes]
        rng.shuffle(between)
        del between[len(between) // 2 :]
        q, visits = np.zeros((n_states, n_actions)), np.zeros((n_states, n_actions), np.int64)
        rows = np.zeros((n_states, n_actions, n_states + 1), np.float32)
        average, played = np.zeros_like(rows), np.zeros_like(q)
        follow(*steps, policy.copy(), reward, rates, kinds, rows, q, visits, average, played)
        found.add(b"".join(own.tobytes() for own in (rows, q, average, played)))
    assert len(found) == 1
