"""The learners: stages, seeds, and what is and is not put into a trace."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest
from exact import exact_policies

from malfl_algos.contract import Learner
from malfl_algos.learners.ma_spi import MaSpi
from malfl_algos.soft import soft_evaluation
from malfl_env import grid_world_v0

SMALL = {"discount": 0.9, "temperature": 3.0, "episodes": 10, "episode_length": 100}


def stages(n_stages=4, seed=0, rewards="heterogeneous", **options):
    env = grid_world_v0.parallel_env(rewards=rewards)
    rng = np.random.default_rng(seed)
    return list(MaSpi(**{**SMALL, **options}).learn(env, n_stages=n_stages, rng=rng))


def test_it_is_a_learner_and_a_lazy_generator():
    learner = MaSpi(**SMALL)
    assert isinstance(learner, Learner)
    env = grid_world_v0.parallel_env()
    endless = learner.learn(env, n_stages=10**9, rng=np.random.default_rng(0))
    assert len(list(islice(endless, 2))) == 2


def test_exact_evaluation_follows_the_recursion(paper_game):
    expected = exact_policies(paper_game("heterogeneous"), 4, discount=0.9, temperature=3.0)
    for stage, policies in zip(stages(evaluation="exact"), expected, strict=True):
        for agent, policy in zip(("agent_0", "agent_1"), policies, strict=True):
            np.testing.assert_allclose(stage.joint_policy[agent], policy, atol=1e-12)


def test_counts_are_of_the_protocol_asked_for():
    for stage in stages():
        assert stage.observed.joint_counts.sum() == 1000
        assert stage.observed.state_counts[0] >= 10
        assert stage.observed.transitions is None


@pytest.mark.parametrize("evaluation", ["td", "exact"])
def test_one_seed_one_result(evaluation):
    first, again, other = (stages(seed=s, evaluation=evaluation) for s in (1, 1, 2))
    for a, b in zip(first, again, strict=True):
        assert a.observed.joint_counts.tobytes() == b.observed.joint_counts.tobytes()
        assert a.joint_policy["agent_1"].tobytes() == b.joint_policy["agent_1"].tobytes()
    assert np.any(first[0].observed.joint_counts != other[0].observed.joint_counts)


def test_keeping_transitions_changes_nothing_else():
    for a, b in zip(stages(), stages(keep_transitions=True), strict=True):
        np.testing.assert_array_equal(a.observed.joint_counts, b.observed.joint_counts)
        np.testing.assert_array_equal(a.joint_policy["agent_0"], b.joint_policy["agent_0"])
        assert b.observed.transitions.complete


def test_td_learners_on_much_data_learn_what_exact_ones_do(paper_game):
    game = paper_game("homogeneous")
    td = stages(3, rewards="homogeneous", episodes=3000, episode_length=1000)
    exact = exact_policies(game, 3, discount=0.9, temperature=3.0)
    for index, agent in enumerate(game.agents):
        distance = 0.5 * np.abs(td[1].joint_policy[agent] - exact[1][index]).sum(axis=1)
        assert distance.mean() < 0.12
        gain = [
            soft_evaluation(game, policies, index, discount=0.9, temperature=0.0)[1][game.start]
            for policies in (exact[0], [td[2].joint_policy[a] for a in game.agents])
        ]
        assert gain[1] > gain[0] + 0.5


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("discount", 1.0),
        ("discount", float("nan")),
        ("temperature", 0.0),
        ("temperature", float("inf")),
        ("evaluation", "mc"),
        ("episodes", 0),
        ("episode_length", -5),
        ("step_size", 0.0),
        ("step_size", 1.5),
    ],
)
def test_bad_options_are_named(option, value):
    with pytest.raises(ValueError, match=f"^{option} must be .*{value}"):
        MaSpi(**{**SMALL, option: value})


def test_a_game_too_large_to_count_is_refused_at_once():
    rng = np.random.default_rng(0)
    env = grid_world_v0.parallel_env(size=60)
    with pytest.raises(
        ValueError, match=r"visits of 12960000 joint states .* would take 2\.41 GiB"
    ):
        MaSpi(discount=0.9, temperature=3.0).learn(env, n_stages=1, rng=rng)
