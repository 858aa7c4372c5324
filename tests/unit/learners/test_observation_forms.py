"""Learners and observers of tabular games do not depend on the form of the observations."""

from __future__ import annotations

import numpy as np
import pytest

from malfl_algos import LearningTrace
from malfl_algos.plugins import load_learner, load_observer
from malfl_env import grid_world_v0, markov_game


@pytest.mark.parametrize("form", ["one_hot", "coordinates"])
def test_traces_and_recovered_rewards_are_the_same(form: str) -> None:
    found = []
    for observations in ("cells", form):
        env = grid_world_v0.parallel_env(size=2, observations=observations)
        options = {"discount": 0.9, "temperature": 3.0, "episodes": 20, "episode_length": 50}
        stages = load_learner("ma-spi", **options).learn(
            env, n_stages=4, rng=np.random.default_rng(0)
        )
        trace = LearningTrace(tuple(stage.observed for stage in stages))
        game = markov_game(env).without_rewards()
        result = load_observer("ma-lfl-own-action").recover(
            trace, game=game, discount=0.9, temperature=3.0
        )
        found.append((trace, result))
    (one, first), (other, second) = found
    for left, right in zip(one.stages, other.stages, strict=True):
        np.testing.assert_array_equal(left.joint_counts, right.joint_counts)
    for agent, rewards in first.rewards.items():
        np.testing.assert_array_equal(rewards, second.rewards[agent])
