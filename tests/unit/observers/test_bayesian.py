"""The Bayesian observers from outside: reward models, seats, invariances and odd traces."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from exact import exact_policies
from recovery_cases import SETTINGS, known_exactly, learn

from malfl_algos.contract import Observer
from malfl_algos.learners.ma_spi import MaSpi
from malfl_algos.ma_lfl.data_fit import LATER_EVALUATIONS, noise_settings
from malfl_algos.observers.bayesian import MaLflBellman
from malfl_algos.observers.replay import MaLflReplay
from malfl_algos.trace import LearningTrace, Stage, Transitions
from malfl_env import grid_world_v0
from malfl_env.markov_game import deterministic_game

TD, REPLAY = MaLflBellman(learner="td"), MaLflReplay(bootstrap="fresh", step_size=0.1)
EXACT = MaLflBellman(learner="exact")
AGENTS = ("agent_0", "agent_1")


@pytest.fixture(scope="module")
def small():
    """A hundredth of the paper's data, and the game."""
    return learn()


def correlation(result, game, index):
    return np.corrcoef(result.rewards[f"agent_{index}"], game.reward(index))[0, 1]


def finite(result):
    for agent, reward in result.rewards.items():
        assert np.all(np.isfinite(reward))
        assert np.all(np.isfinite(result.sd[agent]))
        assert np.all(result.sd[agent] > 0)
        policies = result.estimated_policies[agent]
        np.testing.assert_allclose(policies.sum(axis=-1), 1, atol=1e-9)
        json.dumps(dict(result.diagnostics[agent]), allow_nan=False)


@pytest.mark.parametrize("observer", [TD, EXACT, REPLAY, MaLflBellman()])
def test_result_is_whole(small, observer):
    trace, game = small
    assert isinstance(observer, Observer)
    result = replace(observer, covariance=True).recover(
        trace, game=game.without_rewards(), **SETTINGS
    )
    finite(result)
    for agent in AGENTS:
        assert result.rewards[agent].shape == (81,)
        assert abs(result.rewards[agent].mean()) < 1e-9
        covariance = result.covariance[agent]
        np.testing.assert_allclose(covariance, covariance.T, atol=1e-8)
        np.testing.assert_allclose(np.sqrt(np.diag(covariance)), result.sd[agent])
        assert np.abs(covariance.sum(axis=0)).max() < 1e-6
        assert np.linalg.eigvalsh(covariance).min() > -1e-6
        diagnostics = result.diagnostics[agent]
        assert diagnostics["reward_model"] == "state"
        assert diagnostics["discount"] == 0.9
        assert 0 < diagnostics["effective_parameters"] <= 81


@pytest.mark.parametrize("observer", [MaLflBellman(), REPLAY])
def test_same_trace_same_bytes_and_nothing_is_written_to(small, observer):
    trace, game = small
    for stage in trace.stages:
        steps = stage.transitions
        for array in (stage.joint_counts, steps.states, steps.joint_actions, steps.next_states):
            array.flags.writeable = False
    first, again = (
        observer.recover(trace, game=game.without_rewards(), **SETTINGS) for _ in range(2)
    )
    for agent in AGENTS:
        np.testing.assert_array_equal(first.rewards[agent], again.rewards[agent])
        np.testing.assert_array_equal(first.sd[agent], again.sd[agent])
        assert first.diagnostics[agent] == again.diagnostics[agent]


@pytest.mark.parametrize("observer", [TD, replace(EXACT, prior="iid"), REPLAY])
def test_agents_may_change_names(observer):
    """The same trace with the agents in the other order."""
    trace, game = learn(family="homogeneous", n_stages=3)
    swap = np.arange(81).reshape(9, 9).T.ravel()
    stages = []
    for stage in trace.stages:
        old = stage.transitions
        steps = Transitions(
            swap[old.states],
            old.joint_actions[:, ::-1],
            swap[old.next_states],
            old.episode_ends,
            complete=True,
        )
        counts = np.ascontiguousarray(np.swapaxes(stage.joint_counts[swap], 1, 2))
        stages.append(Stage(counts, None, steps))
    a = observer.recover(trace, game=game.without_rewards(), **SETTINGS)
    b = observer.recover(LearningTrace(tuple(stages)), game=game.without_rewards(), **SETTINGS)
    for mine, theirs in (AGENTS, AGENTS[::-1]):
        np.testing.assert_allclose(a.rewards[mine], b.rewards[theirs][swap], atol=2e-3)
        np.testing.assert_allclose(a.sd[mine], b.sd[theirs][swap], rtol=1e-2)


@pytest.mark.parametrize("factor", [1e-3, 1 / 3, 1e3])
@pytest.mark.parametrize(("observer", "evaluation"), [(TD, "td"), (EXACT, "exact"), (REPLAY, "td")])
def test_the_temperature_is_the_unit_of_reward(small, observer, evaluation, factor):
    """alpha c with r c gives the same policies and counts, so the result is multiplied by c."""
    trace, game = small if evaluation == "td" else learn(evaluation=evaluation)
    rules = {"game": game.without_rewards(), "discount": 0.9}
    one = observer.recover(trace, temperature=3.0, **rules)
    scaled = observer.recover(trace, temperature=3.0 * factor, **rules)
    for agent in AGENTS:
        size = np.abs(one.rewards[agent]).max()
        np.testing.assert_allclose(
            scaled.rewards[agent] / factor, one.rewards[agent], atol=2e-3 * size
        )
        np.testing.assert_allclose(scaled.sd[agent] / factor, one.sd[agent], rtol=1e-2)
        for name in ("noise_variance", "prior_variance"):
            ratio = scaled.diagnostics[agent][name] / one.diagnostics[agent][name]
            assert ratio == pytest.approx(factor**2, rel=0.05)
        assert scaled.diagnostics[agent]["log_evidence"] == pytest.approx(
            one.diagnostics[agent]["log_evidence"], abs=0.5
        )


def test_the_mean_of_the_reward_is_removed(paper_game, random_rewards):
    game = random_rewards(paper_game(), 3)
    lifted = game.with_rewards([game.reward(index) + 50 for index in range(2)])
    results = []
    for one in (game, lifted):
        trace, known = known_exactly(one, 4)
        results.append(
            EXACT.recover(trace, game=game.without_rewards(), known_policies=known, **SETTINGS)
        )
    for agent in AGENTS:
        np.testing.assert_allclose(results[0].rewards[agent], results[1].rewards[agent], atol=1e-3)


def test_own_and_joint_rewards_fit_and_say_what_is_free(paper_game):
    game = paper_game(size=2)
    rng = np.random.default_rng(0)
    game = game.with_rewards([rng.normal(size=(16, 5, 5)) for _ in AGENTS])
    trace, known = known_exactly(game, 6)
    for model, n_unknowns in (("own_action", 80), ("joint", 400)):
        observer = replace(EXACT, reward_model=model, covariance=True)
        result = observer.recover(
            trace, game=game.without_rewards(), known_policies=known, **SETTINGS
        )
        finite(result)
        for index, agent in enumerate(AGENTS):
            diagnostics, reward = result.diagnostics[agent], result.rewards[agent]
            assert diagnostics["n_unknowns"] == n_unknowns
            assert diagnostics["n_unidentified"] > 1
            assert diagnostics["identification"].startswith("not identified")
            assert reward.shape == result.sd[agent].shape == (16, 5, 5)
            assert result.covariance[agent].shape == (400, 400)
            spread = np.sqrt(np.diag(result.covariance[agent]))
            np.testing.assert_allclose(spread, result.sd[agent].ravel())
            if model == "own_action":
                assert not np.ptp(reward, axis=2 - index).any()


def test_a_joint_reward_that_is_recovered_explains_the_policies(paper_game):
    """It differs from the ground truth, but it belongs to the same class and gives the same
    policies.
    """
    game = paper_game(size=2)
    rng = np.random.default_rng(1)
    game = game.with_rewards([rng.normal(size=(16, 5, 5)) for _ in AGENTS])
    trace, known = known_exactly(game, 6)
    result = replace(EXACT, reward_model="joint").recover(
        trace, game=game.without_rewards(), known_policies=known, **SETTINGS
    )
    redone = exact_policies(game.with_rewards(list(result.rewards.values())), 6, **SETTINGS)
    for index, agent in enumerate(AGENTS):
        for stage in (1, 5):
            np.testing.assert_allclose(redone[stage][index], known[agent][stage], atol=5e-3)


@pytest.mark.parametrize("by_action", [False, True])
def test_features_are_the_reward_they_span(paper_game, by_action):
    """Also for the second agent, whose action is not the first axis of the table."""
    game, rng = paper_game(size=2), np.random.default_rng(2)
    phi = rng.normal(size=(16, 5, 5, 4) if by_action else (16, 4))
    truth = [phi @ rng.normal(size=4) for _ in AGENTS]
    game = game.with_rewards(truth)
    trace, known = known_exactly(game, 4)
    observer = MaLflBellman(learner="exact", reward_model="features", features=phi, covariance=True)
    result = observer.recover(trace, game=game.without_rewards(), known_policies=known, **SETTINGS)
    finite(result)
    for index, agent in enumerate(AGENTS):
        expected = truth[index] - truth[index].mean()
        np.testing.assert_allclose(result.rewards[agent], expected, atol=2e-2)
        assert result.diagnostics[agent]["n_unknowns"] == 5  # four weights and the intercept
        spread = np.sqrt(np.maximum(np.diag(result.covariance[agent]), 0))
        np.testing.assert_allclose(spread, result.sd[agent].ravel(), atol=1e-9)


def test_seat_of_an_agent(small):
    """It knows its own policy, hands it over, and gets it back as it was."""
    trace, game = small
    played = np.stack(
        [(s.action_counts(0) + 1.0) / (s.action_counts(0) + 1.0).sum(1, keepdims=True)
         for s in trace.stages]
    )  # fmt: skip
    for observer in (TD, REPLAY):
        result = observer.recover(
            trace, game=game.without_rewards(), known_policies={"agent_0": played}, **SETTINGS
        )
        finite(result)
        np.testing.assert_array_equal(result.estimated_policies["agent_0"], played)


def test_evidence_of_known_policies_has_nothing_of_counts(paper_game):
    """The trace's counts are made up and many; with every policy known they must not enter."""
    game = paper_game()
    trace, known = known_exactly(game, 4)
    other = LearningTrace(tuple(Stage(stage.joint_counts * 1000) for stage in trace.stages))
    a, b = (
        EXACT.recover(one, game=game.without_rewards(), known_policies=known, **SETTINGS)
        for one in (trace, other)
    )
    for agent in AGENTS:
        np.testing.assert_allclose(a.rewards[agent], b.rewards[agent], atol=1e-8)
        assert a.diagnostics[agent]["log_evidence"] == pytest.approx(
            b.diagnostics[agent]["log_evidence"]
        )


@pytest.mark.parametrize("observer", [TD, EXACT, REPLAY])
def test_states_never_visited_are_not_known(small, observer):
    """Joint states without data, here due to a wall, keep the prior standard deviation."""
    trace, game = learn(walls=[(1, 1)], episodes=100)
    observer = replace(observer, improvement=0.0, prior="iid")
    result = observer.recover(trace, game=game.without_rewards(), **SETTINGS)
    finite(result)
    unseen = sum(stage.state_counts for stage in trace.stages) == 0
    assert unseen.sum() >= 17
    for agent in AGENTS:
        diagnostics = result.diagnostics[agent]
        assert diagnostics["n_without_data"] == unseen.sum()
        assert (
            diagnostics["rank"] + diagnostics["n_unidentified"] + unseen.sum()
            == diagnostics["n_unknowns"]
            == 81
        )
        assert diagnostics["n_unidentified"] < 8  # of what was visited
        assert f"{unseen.sum()} joint states without data" in diagnostics["identification"]
        prior = np.sqrt(diagnostics["prior_variance"])
        assert np.all(result.sd[agent][unseen] > 0.9 * prior)
        assert np.median(result.sd[agent][~unseen]) < 0.7 * prior


@pytest.mark.parametrize("observer", [TD, EXACT, REPLAY])
def test_collapsed_policies(observer):
    """Cold learners whose policies have a single action left almost everywhere."""
    trace, game = learn(temperature=0.02, n_stages=4)
    result = observer.recover(trace, game=game.without_rewards(), discount=0.9, temperature=0.02)
    finite(result)


@pytest.mark.parametrize("discount", [0.0, 0.999])
@pytest.mark.parametrize("temperature", [1e-3, 1e3])
@pytest.mark.parametrize("observer", [TD, EXACT, REPLAY])
def test_extreme_settings_stay_finite(small, observer, discount, temperature):
    trace, game = small
    part = trace.first(3)
    finite(
        observer.recover(
            part, game=game.without_rewards(), discount=discount, temperature=temperature
        )
    )


@pytest.mark.parametrize("size", [0.0, 1e6])
def test_extreme_rewards_stay_finite(paper_game, size):
    base = paper_game()
    game = base.with_rewards([base.reward(index) * size for index in range(2)])
    trace, known = known_exactly(game, 4)
    result = EXACT.recover(trace, game=game.without_rewards(), known_policies=known, **SETTINGS)
    finite(result)
    for diagnostics in result.diagnostics.values():
        assert diagnostics["bounds_hit"]
        assert size == 0 or diagnostics["identification"].startswith("not identified")


def test_one_agent_alone():
    rng = np.random.default_rng(0)
    moves = np.stack([rng.permutation(12) for _ in range(3)], axis=1)
    game = deterministic_game(moves, start=0, rewards=[rng.normal(size=12)])
    trace, known = known_exactly(game, 5)
    result = EXACT.recover(trace, game=game.without_rewards(), known_policies=known, **SETTINGS)
    finite(result)
    assert correlation(result, game, 0) > 0.9999


@pytest.mark.slow
def test_directions_that_only_the_prior_determines_are_counted(small):
    """Rewards of own actions up to shaping: td learners show it faintly, which is not knowing."""
    trace, game = small
    result = replace(TD, reward_model="own_action", passes=3).recover(
        trace, game=game.without_rewards(), **SETTINGS
    )
    for agent in AGENTS:
        diagnostics = result.diagnostics[agent]
        assert 9 <= diagnostics["n_prior_dominated"] <= 405
        assert diagnostics["effective_parameters"] < 396
        assert "identified: " in diagnostics["identification"]


def test_fewer_noise_settings_are_tried_where_each_is_dear(small):
    assert noise_settings(9 * 81 * 5, 81, first=False) == LATER_EVALUATIONS
    assert noise_settings(9 * 729 * 5, 729, first=False) == LATER_EVALUATIONS // 2
    trace, game = small
    diagnostics = TD.recover(trace, game=game.without_rewards(), **SETTINGS).diagnostics["agent_0"]
    assert diagnostics["fixed"]["noise_settings"] == LATER_EVALUATIONS


@pytest.mark.parametrize(("rule", "once"), [("expected", True), ("soft_q", False)])
def test_known_policies_need_one_iteration_unless_the_learner_model_follows_the_reward(rule, once):
    env = grid_world_v0.parallel_env(size=2)
    learner = MaSpi(**SETTINGS, episodes=5, keep_transitions=True)
    stages = list(learner.learn(env, n_stages=4, rng=np.random.default_rng(0)))
    trace = LearningTrace(tuple(stage.observed for stage in stages))
    known = {a: np.stack([stage.joint_policy[a] for stage in stages]) for a in trace.agents}
    observer = MaLflReplay(bootstrap=rule, step_size=0.1)
    result = observer.recover(trace, game=None, known_policies=known, **SETTINGS)
    for diagnostics in result.diagnostics.values():
        assert diagnostics["settled"]
        assert (diagnostics["passes"] == 1) == once
