"""scripts/own_logs.py: from the log of a foreign game to scores."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path

import numpy as np

from malfl_algos.trace.matching import in_numbering_of
from malfl_env.games import key_and_door

sys.path.append(str(Path(__file__).parents[2] / "scripts"))
script = import_module("own_logs")
sys.path.pop()


def test_the_history_of_the_bound_is_that_of_the_learners(tmp_path) -> None:
    game = key_and_door().game
    rewards = np.array([game.reward(index) for index in range(2)]) / script.TEMPERATURE
    logs = script._history(game, rewards)
    learner = script.MaSpi(discount=0.9, temperature=0.4, evaluation="exact", episodes=1)
    env = script.TabularEnv(game, max_cycles=5)
    stages = list(learner.learn(env, n_stages=3, rng=np.random.default_rng(0)))
    for stage, own in zip(stages, logs[:3], strict=True):
        for index, policy in enumerate(stage.joint_policy.values()):
            np.testing.assert_allclose(policy, np.exp(own[index]), atol=1e-9)


def test_the_imported_log_has_the_counts_of_the_learners(tmp_path) -> None:
    game = key_and_door().game
    trace = script.imported(tmp_path, game, episodes=2, seed=0)
    assert trace.agents == ("ann", "bob")
    whole = in_numbering_of(game, trace, name="the log")
    learner = script.MaSpi(
        discount=0.9, temperature=0.4, evaluation="exact", episodes=2, episode_length=60
    )
    env = script.TabularEnv(game)
    stages = learner.learn(env, n_stages=script.STAGES, rng=np.random.default_rng([0, 1]))
    for own, learned in zip(whole.stages, stages, strict=True):
        np.testing.assert_array_equal(own.counts, learned.observed.counts)
