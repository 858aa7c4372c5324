"""Tables that followed the gradients of their own episodes: the rows predict their steps."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import log_softmax

from malfl_algos.ma_lfl.gpomdp import episodes_of, gpomdp_gradient
from malfl_algos.ma_lfl.gradient_fit import fit_policy_gradient
from malfl_algos.ma_lfl.learner_models import ExactEvaluation
from malfl_algos.ma_lfl.policy_gradient import coordinate_orders, gradient_rows
from malfl_algos.ma_lfl.stages import StageArrays, Steps
from malfl_env.markov_game import deterministic_game

SIZE, LENGTH, DISCOUNT, STEP = 6, 12, 0.9, 0.3


def walk():
    """One agent on a ring; it goes left, stays, or goes right."""
    cells = np.arange(SIZE)
    table = np.stack([(cells - 1) % SIZE, cells, (cells + 1) % SIZE], axis=-1)
    reward = np.array([0.0, 1.0, -1.0, 2.0, 0.5, -0.5])
    return deterministic_game(table, start=0, rewards=[reward]), reward


def learned(n_stages=6, episodes=40, *, last_fixed=False):
    game, reward = walk()
    rng = np.random.default_rng(1)
    logits = np.zeros((SIZE, 3))
    stages, policies = [], []
    for _ in range(n_stages):
        policy = np.exp(log_softmax(logits, axis=1))
        states, actions, following = [], [], []
        for _ in range(episodes):
            s = 0
            for _ in range(LENGTH):
                a = int(rng.choice(3, p=policy[s]))
                states.append(s)
                actions.append(a)
                s = (s + a - 1) % SIZE
                following.append(s)
        ends = np.arange(1, len(states) + 1) % LENGTH == 0
        steps = Steps(np.array(states), np.array(actions)[:, None], np.array(following), ends)
        counts = np.zeros((SIZE, 3), dtype=np.int64)
        np.add.at(counts, (steps.states, steps.joint_actions[:, 0]), 1)
        stages.append(StageArrays(counts, steps))
        policies.append(policy)
        own = episodes_of(steps.states, steps.joint_actions, ends)
        gradient = gpomdp_gradient(policy, own, 0, reward[:, None], discount=DISCOUNT)[..., 0]
        if last_fixed:
            gradient[:, -1] = 0
        logits = logits + STEP * gradient
    return game, reward, stages, policies


@pytest.mark.parametrize("last_fixed", [False, True])
def test_rows_are_the_steps(last_fixed):
    game, reward, stages, policies = learned(3, last_fixed=last_fixed)
    none = np.zeros((SIZE, 3))
    rows = gradient_rows(
        ExactEvaluation(game, "state", DISCOUNT, 1.0),
        (stages[0], stages[1]),
        ([policies[0]], [policies[1]]),
        0,
        coordinate_orders(game.observation_shape),
        change=np.log(policies[1]) - np.log(policies[0]),
        variances=(none, none),
        linked=False,
        features=None,
        logits="table, last fixed, replayed" if last_fixed else "table, replayed",
    )
    np.testing.assert_allclose(STEP * LENGTH * rows.gradient @ reward, rows.change, atol=1e-12)


def test_known_policies_give_the_reward_exactly():
    game, reward, stages, policies = learned(last_fixed=True)
    known = [np.stack(policies)]
    for steps in (True, False):
        used = [StageArrays(own.joint_counts, own.steps if steps else None) for own in stages]
        (fit,) = fit_policy_gradient(
            used,
            game,
            "state",
            discount=DISCOUNT,
            known_policies=known,
            features=[None],
            passes=2,
        )
        assert (fit.further["logits"] == "table, last fixed, replayed") == steps
        if steps:
            assert np.corrcoef(fit.posterior.mean, reward)[0, 1] > 0.999
