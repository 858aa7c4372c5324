"""The compiled Q-learners against plain Python ones that follow the same steps."""

from __future__ import annotations

import numpy as np
import pytest
from factored_cases import GAMES, factored

from malfl_algos.play.q_learning import ALGORITHMS, QLearners, QStage, play_q_learning

GAMMA, BETA = 0.8, 0.3


def policy_of(q, exploration, *, greedy):
    if greedy:
        best = q == q.max()
        return (1 - exploration) * best / best.sum() + exploration / len(q)
    raised = np.exp((q - q.max()) / exploration)
    return raised / raised.sum()


def followed(game, q, visits, steps, stage):
    """Follow the steps of a stage; q and the policies that were played, per agent and state."""
    first, after = stage.exploration
    frozen = [[policy_of(row, first, greedy=stage.greedy) for row in own] for own in q]
    if stage.restart is not None:
        q, visits = [np.full_like(own, stage.restart) for own in q], [np.zeros_like(n) for n in q]
    played = [[[] for _ in range(game.n_states)] for _ in q]

    def policy(i, s, n):
        if not stage.moving:
            return frozen[i][s]
        now = first + (after - first) * n / len(steps[0])
        if stage.exploration_decay is not None:
            now = first * np.exp(-stage.exploration_decay * n)
        return policy_of(q[i][s], now, greedy=stage.greedy)

    joint_actions = [np.unravel_index(joint, game.n_actions) for joint in steps[1]]
    chosen = [policy(i, steps[0][0], 0) for i in range(len(q))]
    for n, (s, t, last) in enumerate(zip(steps[0], steps[2], steps[3], strict=True)):
        if n and steps[3][n - 1]:
            chosen = [policy(i, s, n) for i in range(len(q))]
        before = [policy(i, t, n + 1) for i in range(len(q))]
        for i in range(len(q)):
            played[i][s].append(chosen[i])
            ahead = q[i][t].max()
            if stage.algorithm == "sarsa" and not last:
                ahead = q[i][t][joint_actions[n + 1][i]]
            elif stage.algorithm != "q_learning":
                ahead = before[i] @ q[i][t]
            at = s, joint_actions[n][i]
            table = game.reward(i)
            r = table[s] if table.ndim == 1 else table[(s, *joint_actions[n])]
            visits[i][at] += 1
            beta = stage.step_size / visits[i][at] ** stage.step_size_decay
            q[i][at] += beta * (r + GAMMA * ahead - q[i][at])
        sarsa = stage.algorithm == "sarsa"
        chosen = before if sarsa else [policy(i, t, n + 1) for i in range(len(q))]
    ending = [[policy(i, s, len(steps[0])) for s in range(game.n_states)] for i in range(len(q))]
    averages = [
        np.array(
            [np.mean(own, axis=0) if own else end for own, end in zip(mine, ends, strict=True)]
        )
        for mine, ends in zip(played, ending, strict=True)
    ]
    return q, visits, averages


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("greedy", [False, True])
@pytest.mark.parametrize(("moving", "restart"), [(False, None), (True, None), (False, 1.0)])
@pytest.mark.parametrize("game", ["grid", "slip", "table"])
def test_the_learner_is_its_rule(game, algorithm, greedy, moving, restart):
    decays = game == "table"
    game = GAMES[game]()
    shape = (game.n_agents, game.n_states, max(game.n_actions))
    learners = QLearners(np.zeros(shape), np.zeros(shape, dtype=np.int64))
    q = [np.zeros((game.n_states, n)) for n in game.n_actions]
    visits = [np.zeros_like(own) for own in q]
    for number in range(2):
        exploration = (0.8 - 0.2 * number, 0.7 - 0.2 * number)
        stage = QStage(
            6,
            25,
            GAMMA,
            algorithm,
            greedy,
            moving,
            exploration,
            BETA,
            0.4,
            restart,
            True,
            exploration_decay=0.01 if decays else None,
        )
        sample, played = play_q_learning(game, learners, stage, seed=number)
        q, visits, averages = followed(game, q, visits, sample.steps, stage)
        for i, n in enumerate(game.n_actions):
            np.testing.assert_allclose(sample.q[i], q[i], atol=1e-12)
            np.testing.assert_array_equal(learners.visits[i, :, :n], visits[i])
            np.testing.assert_allclose(played[i, :, :n], averages[i], atol=1e-12)
        assert sample.joint_counts.sum() == 150
        assert sample.steps[3].sum() == 6


def test_actions_follow_the_policy():
    """Frequencies of actions against the claimed policies, in standard deviations."""
    game = factored([3, 2], [((0, 1), 6, 3)])
    for greedy, moving in [(False, True), (True, True), (True, False)]:
        shape = (game.n_agents, game.n_states, max(game.n_actions))
        learners = QLearners(np.zeros(shape), np.zeros(shape, dtype=np.int64))
        for number in range(2):
            stage = QStage(
                400, 50, GAMMA, "q_learning", greedy, moving, (0.5, 0.3), BETA, 0.0, None, False
            )
            sample, played = play_q_learning(game, learners, stage, seed=number)
            assert sample.steps is None
            for i, n in enumerate(game.n_actions):
                others = tuple(axis for axis in (1, 2) if axis != i + 1)
                counts, policy = sample.joint_counts.sum(axis=others), played[i, :, :n]
                total = counts.sum(axis=1, keepdims=True)
                variance = total * policy * (1 - policy) + 1e-9
                score = (counts - total * policy) / np.sqrt(variance)
                assert np.abs(score).max() < 4.5
                assert 0.4 < (score[variance > 5] ** 2).mean() < 2
