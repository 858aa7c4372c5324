"""The plugins keep the contract, and the learner learns."""

import numpy as np
from malfl_example import ExampleNpg

from malfl_algos.plugins import load_learner, load_observer
from malfl_algos.testing import check_learner, check_observer
from malfl_env import grid_world_v0, markov_game


def test_the_learner_conforms():
    check_learner("example-npg")


def test_the_observer_conforms():
    check_observer("example-first-step")


def test_installed_under_their_names():
    options = {"discount": 0.9, "temperature": 3.0, "episodes": 3, "episode_length": 5}
    assert load_learner("example-npg", **options) == ExampleNpg(**options)
    assert load_observer("example-first-step").pseudo_count == 1.0


def test_agents_get_more_of_what_they_want():
    """The mean reward of a step rises for both agents."""
    env = grid_world_v0.parallel_env(rewards="homogeneous")
    learner = ExampleNpg(discount=0.9, temperature=1.0, episodes=100, episode_length=100)
    stages = list(learner.learn(env, n_stages=5, rng=np.random.default_rng(0)))
    game = markov_game(env)
    for index in range(game.n_agents):
        first, last = (
            np.average(game.reward(index), weights=stage.observed.state_counts)
            for stage in (stages[0], stages[-1])
        )
        assert last > first + 0.1
