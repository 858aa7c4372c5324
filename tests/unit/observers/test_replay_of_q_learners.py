"""`ma-lfl-replay` on Q-learners that carry q over: rule and rewards are found, error bars hold."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import gammaln

from malfl_algos import LearningTrace
from malfl_algos.learners.q_learning import QLearning
from malfl_algos.ma_lfl.cut_stages import cut_stages, log_orders
from malfl_algos.ma_lfl.stages import StageArrays
from malfl_algos.observers.reading import stage_arrays
from malfl_algos.observers.replay import MaLflReplay
from malfl_env import grid_world_v0, markov_game
from malfl_env.errors import InputError

SETTINGS = {"discount": 0.9, "temperature": 2.0}
KNOWN = {"step_size": 0.1, "step_size_decay": 0.0}


def learned(n_stages=4, **options):
    env = grid_world_v0.parallel_env(rewards="heterogeneous")
    learner = QLearning(**SETTINGS, episodes=60, episode_length=300, **options)
    rng = np.random.default_rng(0)
    stages = learner.learn(env, n_stages=n_stages, rng=rng)
    return LearningTrace(tuple(stage.observed for stage in stages)), markov_game(env)


@pytest.mark.slow
@pytest.mark.parametrize("rule", ["q-learning", "sarsa"])
def test_rule_and_reward_are_found(rule):
    trace, game = learned(algorithm=rule.replace("-", "_"), keep_transitions=True)
    result = MaLflReplay(choice="soft", **KNOWN).recover(trace, game=None, **SETTINGS)
    for index, agent in enumerate(trace.agents):
        truth = game.reward(index)
        found = result.diagnostics[agent]
        assert found["rule"] == rule
        assert found["improvement"] == 0
        assert np.corrcoef(result.rewards[agent], truth)[0, 1] > 0.9
        error = result.rewards[agent] - (truth - truth.mean())
        assert np.mean(np.abs(error) < 2 * result.sd[agent]) > 0.75
        assert result.estimated_policies[agent].shape == (4, game.n_states, 5)
        np.testing.assert_allclose(result.estimated_policies[agent].sum(axis=-1), 1)


def test_orders_are_those_of_the_counts():
    counts = np.zeros((2, 3, 2), dtype=np.int64)
    counts[0, 0, 0], counts[0, 2, 1], counts[1, 1, 0] = 2, 1, 5
    expected = gammaln(4) - gammaln(3)  # 3 orders of two actions 0 and one action 2
    assert log_orders([StageArrays(counts)], 0) == pytest.approx(expected)
    assert log_orders([StageArrays(counts)] * 2, 0) == pytest.approx(2 * expected)


def test_parts_have_fewer_orders_than_their_stages():
    trace, _ = learned(n_stages=2, keep_transitions=True)
    stages = stage_arrays(trace)
    assert log_orders(cut_stages(stages, 4, explain_first=True), 0) < log_orders(stages, 0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"policy": "free"}, r"policy must be auto, frozen or moving, got 'free'"),
        ({"choice": "hard"}, "choice must be auto, soft or greedy, got 'hard'"),
        (
            {"bootstrap": "fresh", "policy": "moving"},
            "policy and choice must be auto for bootstrap",
        ),
        ({"bootstrap": "sarsa", "improvement": 0.5}, "improvement must be auto or 0 for bootstrap"),
        ({"policy": "moving", "improvement": 0.5}, "improvement must be auto or 0 where policy"),
        ({"initial_q": "ones"}, "initial_q must be zero or uniform_others, got 'ones'"),
        (
            {"bootstrap": "executed", "initial_q": "uniform_others"},
            "initial_q must be zero for bootstrap executed",
        ),
        ({"step_size_decay": 2.0}, r"step_size_decay must be in \[0, 1\], got 2.0"),
    ],
)
def test_options_that_do_not_fit_are_named(options, message):
    with pytest.raises(InputError, match=message):
        MaLflReplay(**options)


def test_counts_alone_cannot_be_replayed():
    trace, _ = learned(n_stages=2)
    with pytest.raises(InputError, match=r"needs the ordered transitions.*keep_transitions"):
        MaLflReplay(bootstrap="q-learning").recover(trace, game=None, **SETTINGS)
