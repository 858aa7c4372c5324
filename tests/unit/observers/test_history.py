"""The observer `ma-lfl-history` on small games."""

from __future__ import annotations

import numpy as np
import pytest
from recovery_cases import SETTINGS, learn

from malfl_algos.learners.ma_spi import MaSpi
from malfl_algos.observers.bayesian import MaLflBellman
from malfl_algos.observers.history import MaLflHistory
from malfl_algos.observers.reading import dynamics_of
from malfl_algos.trace import LearningTrace, Stage
from malfl_env import InputError, grid_world_v0, markov_game
from malfl_env.markov_game import MarkovGame


@pytest.fixture(scope="module")
def small():
    return learn(size=2, episodes=100, n_stages=4, evaluation="exact", keep=False)


def test_it_agrees_with_the_bellman_observer_where_everything_is_visited_often(small):
    trace, game = small
    given = {"game": game.without_rewards(), **SETTINGS}
    history = MaLflHistory(prior="iid", improvement=0.0, covariance=True).recover(trace, **given)
    bellman = MaLflBellman(learner="exact", improvement=0.0, stages="same").recover(trace, **given)
    for index, agent in enumerate(trace.agents):
        gap = history.rewards[agent] - bellman.rewards[agent]
        assert np.abs(gap / bellman.sd[agent]).max() < 1
        assert np.corrcoef(history.rewards[agent], game.reward(index))[0, 1] > 0.9
        assert history.sd[agent] == pytest.approx(bellman.sd[agent], rel=0.5)
        spread = np.diag(history.covariance[agent])
        assert history.sd[agent] == pytest.approx(np.sqrt(spread))


@pytest.fixture(scope="module")
def small_td():
    return learn(size=2, episodes=100, n_stages=4, evaluation="td", keep=False)


@pytest.mark.parametrize("step_size", [0.1, None])
def test_td_learners_are_told_and_their_rewards_agree_with_those_of_the_bellman_observer(
    small_td, step_size
):
    trace, game = small_td
    given = {"game": game.without_rewards(), **SETTINGS}
    history = MaLflHistory(prior="iid", improvement=0.0, step_size=step_size)
    found = history.recover(trace, **given)
    bellman = MaLflBellman(learner="td", improvement=0.0, stages="same", prior="iid")
    wanted = bellman.recover(trace, **given)
    for index, agent in enumerate(trace.agents):
        said = found.diagnostics[agent]
        assert said["rule"] == "td"
        assert said["searches"]["rule"]["td"] > said["searches"]["rule"]["exact"] + 5
        assert said["step_size"] in {0.05, 0.1, 0.2}
        gap = found.rewards[agent] - wanted.rewards[agent]
        assert np.abs(gap / wanted.sd[agent]).max() < 1
        assert found.sd[agent] == pytest.approx(wanted.sd[agent], rel=0.5)
        assert np.corrcoef(found.rewards[agent], game.reward(index))[0, 1] > 0.9


def test_a_horizon_leaves_later_stages_out_of_the_fit_and_predicts_their_policies(small):
    trace, game = small
    given = {"game": game.without_rewards(), **SETTINGS}
    short = LearningTrace(trace.stages[:3])
    found = MaLflHistory(prior="iid", improvement=0.0, horizon=3).recover(trace, **given)
    wanted = MaLflHistory(prior="iid", improvement=0.0).recover(short, **given)
    for agent in trace.agents:
        assert found.rewards[agent] == pytest.approx(wanted.rewards[agent])
        assert found.sd[agent] == pytest.approx(wanted.sd[agent])
        policies = found.estimated_policies[agent]
        assert policies[:3] == pytest.approx(wanted.estimated_policies[agent])
        assert policies.shape[0] == 4
        counts = trace.stages[3].action_counts(trace.agents.index(agent))
        often = counts.sum(axis=1) > 1000
        assert often.any()
        shares = counts[often] / counts[often].sum(axis=1, keepdims=True)
        assert policies[3][often] == pytest.approx(shares, abs=0.05)


@pytest.mark.slow
def test_a_smooth_prior_recovers_more_from_little_data():
    trace, game = learn(episodes=30, n_stages=10, evaluation="exact", seed=5, keep=False)
    given = {"game": game.without_rewards(), **SETTINGS}
    found = MaLflHistory().recover(trace, **given)
    assert found.diagnostics["agent_0"]["prior_share"] > 0
    assert found.diagnostics["agent_0"]["improvement"] == 0
    for index, agent in enumerate(trace.agents):
        truth = game.reward(index)
        assert np.corrcoef(found.rewards[agent], truth)[0, 1] > 0.97
        off = found.rewards[agent] - (truth - truth.mean())
        assert np.mean(np.abs(off) < 2 * found.sd[agent]) > 0.85


def test_rewards_that_the_functions_cannot_be_are_doubted():
    rng = np.random.default_rng(0)
    tables = [4 * rng.normal(size=4**4) for _ in range(2)]
    env = grid_world_v0.parallel_env(size=4, rewards=tables)
    learner = MaSpi(
        discount=0.9, temperature=3.0, evaluation="exact", episodes=10, episode_length=200
    )
    stages = learner.learn(env, n_stages=3, rng=rng)
    trace, game = LearningTrace(tuple(own.observed for own in stages)), markov_game(env)
    found = MaLflHistory(columns=20, improvement=0.0).recover(
        trace, game=game.without_rewards(), **SETTINGS
    )
    said = found.diagnostics["agent_0"]
    assert said["explained"] < 0.8
    assert "doubt this reward: it explains" in said["identification"]
    for index, agent in enumerate(trace.agents):
        truth, mean, sd = game.reward(index), found.rewards[agent], found.sd[agent]
        assert np.corrcoef(truth, mean)[0, 1] < 0.5
        assert np.sqrt(np.mean(sd**2)) > truth.std() / 2


@pytest.mark.slow
def test_estimated_dynamics_widen_the_deviations():
    learner = MaSpi(
        discount=0.9,
        temperature=3.0,
        evaluation="exact",
        episodes=4,
        episode_length=200,
        keep_transitions=True,
    )
    env = grid_world_v0.parallel_env(size=2, slip=0.3)
    stages = learner.learn(env, n_stages=3, rng=np.random.default_rng(0))
    trace = LearningTrace(tuple(own.observed for own in stages))
    observer = MaLflHistory(prior="iid", improvement=0.0)
    known, _ = dynamics_of(trace, None)
    there = observer.recover(trace, game=known, **SETTINGS)
    found = observer.recover(trace, game=None, **SETTINGS)
    for agent in trace.agents:
        assert found.rewards[agent] == pytest.approx(there.rewards[agent], abs=1e-6)
        assert (found.sd[agent] >= there.sd[agent]).all()
        assert np.mean(found.sd[agent]) > 1.003 * np.mean(there.sd[agent])


def test_a_first_policy_that_is_not_uniform_is_estimated_and_said(small):
    trace, game = small
    found = MaLflHistory(prior="iid", improvement=0.0).recover(
        trace.__class__(trace.stages[1:]), game=game.without_rewards(), **SETTINGS
    )
    assert found.diagnostics["agent_0"]["first_policy"] == "estimated"


def test_states_without_coordinates_have_no_smooth_prior(small):
    trace, game = small
    plain = MarkovGame.from_tables(game.next_states)
    with pytest.raises(InputError, match=r"needs states with coordinates.*set prior to iid"):
        MaLflHistory(prior="smooth").recover(trace, game=plain, **SETTINGS)
    with pytest.raises(InputError, match="as many columns as joint states, 16, got 3"):
        MaLflHistory(prior="iid", columns=3).recover(trace, game=game, **SETTINGS)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"learner": "sarsa"}, "learner must be auto, exact or td, got 'sarsa'"),
        ({"step_size": 1.5}, r"step_size must be in \(0, 1\)"),
        ({"prior": "rough"}, "prior must be auto, iid or smooth, got 'rough'"),
        ({"columns": 0}, "columns must be >= 1, got 0"),
        ({"horizon": 1}, "horizon must be >= 2 or null"),
        ({"improvement": 1.0}, "improvement must be auto or below 1"),
    ],
)
def test_options_are_checked(options, complaint):
    with pytest.raises(InputError, match=complaint):
        MaLflHistory(**options)


def test_the_unit_of_the_temperature_is_that_of_the_reward(small):
    trace, game = small
    observer = MaLflHistory(prior="iid", improvement=0.0)
    found = [
        observer.recover(trace, game=game.without_rewards(), discount=0.9, temperature=alpha)
        for alpha in (None, 1e45)
    ]
    for agent in trace.agents:
        assert found[1].rewards[agent] == pytest.approx(1e45 * found[0].rewards[agent])
        assert found[1].sd[agent] == pytest.approx(1e45 * found[0].sd[agent])


@pytest.mark.parametrize(
    ("discount", "complaint"),
    [(None, "discount must be given"), (0.99999, "discount must be at most 0.9999")],
)
def test_a_discount_that_it_cannot_take_is_rejected(small, discount, complaint):
    trace, game = small
    with pytest.raises(InputError, match=complaint):
        MaLflHistory().recover(trace, game=game, discount=discount, temperature=3.0)


def test_a_stage_without_data_is_rejected(small):
    trace, game = small
    empty = Stage(np.zeros_like(trace.stages[1].counts))
    stages = (trace.stages[0], empty, *trace.stages[2:])
    with pytest.raises(InputError, match="stage 1 holds no data"):
        MaLflHistory().recover(LearningTrace(stages), game=game, **SETTINGS)
