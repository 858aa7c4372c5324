"""The option `prior` of the Bayesian observers, and the coordinates that it stands on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from recovery_cases import SETTINGS, known_exactly, learn

from malfl_algos import judge
from malfl_algos.observers.bayesian import MaLflBellman
from malfl_algos.observers.replay import MaLflReplay
from malfl_algos.observers.state_coordinates import seen_states
from malfl_env import MarkovGame
from malfl_env.errors import InputError

FIXED = {"learner": "exact", "improvement": 0.0, "stages": "same", "passes": 4}


@pytest.fixture(scope="module")
def little():
    return learn("homogeneous", episodes=5, n_stages=6, evaluation="exact", keep=False)


def recovered(trace, game, **options):
    observer = MaLflBellman(**FIXED, **options)
    return observer.recover(trace, game=game and game.without_rewards(), **SETTINGS)


def correlation(result, game):
    pairs = [(result.rewards[agent], game.reward(i)) for i, agent in enumerate(game.agents)]
    return np.mean([np.corrcoef(*pair)[0, 1] for pair in pairs])


def test_smooth_rewards_gain_and_their_deviations_hold(little):
    trace, game = little
    iid, auto = (recovered(trace, game, prior=prior) for prior in ("iid", "auto"))
    assert correlation(auto, game) > correlation(iid, game) + 0.02
    inside = []
    for index, agent in enumerate(game.agents):
        chosen = auto.diagnostics[agent]["prior"]
        assert chosen["kind"] == "smooth"
        assert chosen["gain"] > 3
        assert sum(chosen["shares"].values()) == pytest.approx(1)
        assert 0 < auto.diagnostics[agent]["told_variance"] <= 1
        assert "prior" not in iid.diagnostics[agent]
        truth = game.reward(index) - game.reward(index).mean()
        inside.append(np.abs(auto.rewards[agent] - truth) < 2 * auto.sd[agent])
    assert np.mean(inside) > 0.88
    assert "similar states have similar rewards" in auto.summary()


def test_the_verdict_is_made_under_the_chosen_prior():
    trace, game = learn("homogeneous", size=2, episodes=5, n_stages=5, evaluation="exact")
    smooth = recovered(trace, game, prior="smooth")
    observer = MaLflBellman(**FIXED)
    verdict = judge(smooth, trace, game=game.without_rewards(), observer=observer, **SETTINGS)
    for agent in game.agents:
        told = smooth.diagnostics[agent]["told_variance"]
        assert verdict.agents[agent].numbers["identified"] == pytest.approx(told, abs=0.1)


def test_random_rewards_stay_independent_to_the_last_bit():
    rewards = np.random.default_rng(3).standard_normal((2, 81))
    trace, game = learn(tuple(rewards), episodes=5, n_stages=6, evaluation="exact", keep=False)
    iid, auto = (recovered(trace, game, prior=prior) for prior in ("iid", "auto"))
    for agent in game.agents:
        assert auto.diagnostics[agent]["prior"]["kind"] == "iid"
        assert np.array_equal(iid.rewards[agent], auto.rewards[agent])
        assert np.array_equal(iid.sd[agent], auto.sd[agent])


def test_states_never_visited_follow_from_their_neighbours():
    trace, game = learn("homogeneous", walls=[(1, 1)], episodes=5, n_stages=6, evaluation="exact")
    result = recovered(trace, game)
    unseen = ~result.visited
    assert unseen.sum() >= 17
    for index, agent in enumerate(game.agents):
        own, sd = result.diagnostics[agent], result.sd[agent]
        assert own["n_without_data"] == unseen.sum()
        assert sd[~unseen].mean() < sd[unseen].mean() < 0.9 * np.sqrt(own["prior_variance"])
        truth = game.reward(index)
        assert np.corrcoef(result.rewards[agent][unseen], truth[unseen])[0, 1] > 0.7
        gap = np.abs(result.rewards[agent] - truth + truth.mean())
        assert np.mean(gap[unseen] < 2 * sd[unseen]) > 0.85


@pytest.mark.parametrize("model", ["own_action", pytest.param("joint", marks=pytest.mark.slow)])
def test_rewards_of_actions_have_a_smooth_prior_too(model):
    trace, game = learn(size=2, episodes=5, n_stages=3, evaluation="exact", keep=False)
    result = recovered(trace, game, prior="smooth", reward_model=model)
    assert result.diagnostics["agent_0"]["prior"]["kind"] == "smooth"
    assert np.all(result.sd["agent_0"] > 0)


def test_a_known_policy_needs_no_smooth_prior(paper_game):
    game = paper_game()
    trace, known = known_exactly(game, 3)
    result = MaLflBellman(**FIXED).recover(
        trace, game=game.without_rewards(), known_policies=known, **SETTINGS
    )
    said = result.diagnostics["agent_0"]["prior"]
    assert said == {"kind": "iid", "reason": "the agent's policies are known"}


def test_labels_of_columns_take_the_place_of_a_board(little):
    trace, game = little
    digits = game.observation(np.arange(81)).tolist()
    labelled = replace(trace, states=tuple((10 * a, b, "xyz"[c], d) for a, b, c, d in digits))
    seen = seen_states(labelled, None)
    assert seen.owners is None
    assert seen.names == ("column 0", "column 1", "column 2", "column 3")
    np.testing.assert_allclose(np.unique(np.diff(np.unique(seen.coordinates[0]))), 1)
    text = seen.coordinates[2]
    apart = ((text[:, None] - text[None]) ** 2).sum(axis=-1)
    assert sorted(np.unique(apart.round(12))) == [0, 1]
    board = seen_states(labelled, game)
    assert board.owners == (0, 1)


def test_states_that_are_mere_numbers_have_no_smooth_prior(little):
    trace, _ = little
    flat = MarkovGame.from_tables(np.zeros((81, 5, 5), dtype=int))
    assert seen_states(trace, None) is None
    assert seen_states(trace, flat) is None
    single = replace(trace, states=tuple(map(str, range(81))))
    assert seen_states(single, flat) is None
    with pytest.raises(InputError, match="prior smooth is not possible: the states are mere"):
        recovered(trace, flat, prior="smooth")


def test_options_that_exclude_a_smooth_prior():
    with pytest.raises(InputError, match="prior must be one of auto, iid, smooth, got 'rbf'"):
        MaLflReplay(prior="rbf")
    trace, game = learn(size=2, episodes=2, n_stages=2, evaluation="exact", keep=False)
    given = {"noise_variance": 0.1, "prior_variance": 1.0}
    with pytest.raises(InputError, match="noise_variance and prior_variance are given"):
        recovered(trace, game, prior="smooth", **given)
    kept = recovered(trace, game, **given).diagnostics["agent_0"]["prior"]
    assert kept == {"kind": "iid", "reason": "noise_variance and prior_variance are given"}
