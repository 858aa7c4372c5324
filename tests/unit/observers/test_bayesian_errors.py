"""Arguments and options that the Bayesian observers reject, with the reason."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from recovery_cases import SETTINGS, learn

from malfl_algos import judge
from malfl_algos.learners.ma_spi import MaSpi
from malfl_algos.observers.bayesian import MaLflBellman
from malfl_algos.observers.history import MaLflHistory
from malfl_algos.observers.replay import MaLflReplay
from malfl_algos.trace import LearningTrace, Stage
from malfl_env import MarkovGame, TabularEnv

TD, REPLAY = MaLflBellman(learner="td"), MaLflReplay(bootstrap="fresh", step_size=0.1)
AGENTS = ("agent_0", "agent_1")


@pytest.fixture(scope="module")
def small():
    return learn()


def rejected(match, observer=TD, **changed):
    trace, game = learn(episodes=2, n_stages=2)
    rules = {"trace": trace, "game": game.without_rewards(), **SETTINGS, **changed}
    with pytest.raises(ValueError, match=match):
        observer.recover(**rules)


def test_bad_input_is_named(small, paper_game):
    trace, _ = small
    rejected("at least 2 stages.*has 1", trace=trace.first(1))
    rejected("discount must be in .0, 1.*got 1.0", discount=1.0)
    rejected("discount must be in .0, 1.*got -0.1", discount=-0.1)
    rejected("temperature must be > 0.*got 0", temperature=0.0)
    rejected("temperature must be > 0.*got inf", temperature=np.inf)
    rejected("16 and", game=paper_game(size=2).without_rewards())
    rejected("has 'agent_9'", known_policies={"agent_9": np.ones((2, 81, 5)) / 5})
    nothing = trace.stages[0].transitions.slice(0, 0)
    empty = Stage(np.zeros((81, 5, 5), dtype=np.int64), None, nothing)
    stages = (trace.stages[0], empty, trace.stages[1])
    for observer in (TD, REPLAY):
        rejected("stage 1 holds no data", observer, trace=LearningTrace(stages))


def test_replay_rejects_traces_without_all_transitions(small):
    trace, _ = small
    bare = LearningTrace(tuple(Stage(stage.joint_counts) for stage in trace.stages))
    rejected(r"stages \[0, 1, 2\] hold none", REPLAY, trace=bare)
    rejected("neither next-state counts nor", TD, trace=bare, game=None)
    thinned = LearningTrace(
        tuple(
            replace(stage, transitions=replace(stage.transitions, complete=number != 1))
            for number, stage in enumerate(trace.stages)
        )
    )
    rejected(r"stages \[1\] lack some", REPLAY, trace=thinned)
    flagged = replace(REPLAY, incomplete="flag").recover(thinned, game=None, **SETTINGS)
    whole = REPLAY.recover(trace, game=None, **SETTINGS)
    for agent in AGENTS:
        assert flagged.diagnostics[agent]["incomplete_stages"] == [1]
        assert whole.diagnostics[agent]["incomplete_stages"] == []
        np.testing.assert_array_equal(flagged.rewards[agent], whole.rewards[agent])


@pytest.mark.parametrize("shape", [(80, 3), (81,), (81, 5, 3), (81, 5, 4, 3), (81, 0), ()])
def test_feature_maps_of_a_wrong_shape(shape):
    observer = MaLflBellman(reward_model="features", features=np.ones(shape))
    rejected(r"features must have shape \(81, k\) or \(81, 5, 5, k\), got", observer)


def test_dependent_feature_columns_are_named():
    phi = np.random.default_rng(0).normal(size=(81, 5))
    phi[:, 3] = phi[:, 0] - 2 * phi[:, 1]
    phi[:, 4] = 0
    rejected(r"columns \[3, 4\]", MaLflBellman(reward_model="features", features=phi))
    phi[0, 0] = np.nan
    rejected("finite", MaLflBellman(reward_model="features", features=phi))


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"reward_model": "cells"}, "reward_model must be one of.*'cells'"),
        ({"features": np.eye(81)}, "features and reward_model features must be given together"),
        ({"reward_model": "features"}, "features and reward_model features must be given together"),
        ({"step_size": 0.0}, "step_size must be in"),
        ({"step_size": 1.5}, "step_size must be in"),
        ({"passes": 0}, "passes must be >= 1"),
    ],
)
def test_bad_options_are_named(options, match):
    for observer in (MaLflBellman, MaLflReplay):
        with pytest.raises(ValueError, match=match):
            observer(**options)


def test_bad_rules_are_named():
    with pytest.raises(ValueError, match=r"learner must be one of auto, td, exact.*'dyna'"):
        MaLflBellman(learner="dyna")
    with pytest.raises(ValueError, match=r"bootstrap must be auto, fresh.*'dyna'"):
        MaLflReplay(bootstrap="dyna")
    with pytest.raises(ValueError, match="step_size_decay"):
        MaLflReplay(step_size_decay=-1)
    with pytest.raises(ValueError, match="incomplete must be"):
        MaLflReplay(incomplete="ignore")


@pytest.fixture(scope="module")
def with_one_action():
    rng = np.random.default_rng(0)
    tables, rewards = rng.integers(0, 5, (5, 1, 2)), list(rng.normal(size=(2, 5)))
    game = MarkovGame.from_tables(tables, rewards=rewards, start=np.full(5, 0.2))
    learner = MaSpi(evaluation="exact", episodes=100, episode_length=20, **SETTINGS)
    stages = learner.learn(TabularEnv(game), n_stages=3, rng=rng)
    return LearningTrace(tuple(one.observed for one in stages)), game.without_rewards()


@pytest.mark.parametrize("observer", [MaLflBellman(), MaLflHistory()])
def test_an_agent_with_one_action_shows_nothing(with_one_action, observer):
    trace, game = with_one_action
    found = observer.recover(trace, game=game, **SETTINGS)
    silent = found.diagnostics["agent_0"]["identification"]
    assert silent.startswith("not identified")
    assert not found.diagnostics["agent_1"]["identification"].startswith("not identified")
    np.testing.assert_array_equal(found.rewards["agent_0"], 0)
    words = judge(found, trace, game=game, observer=observer, **SETTINGS).of("agent_0").word
    assert words == "do not believe"


def test_an_agent_with_one_action_has_no_gradient(with_one_action):
    trace, game = with_one_action
    with pytest.raises(ValueError, match=r"two or more actions, got \(1, 2\)"):
        MaLflBellman(learner="policy-gradient").recover(trace, game=game, **SETTINGS)
