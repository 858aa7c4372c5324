"""Smooth priors of low rank: rewards of all states from those of a few."""

from __future__ import annotations

import numpy as np
import pytest
from recovery_cases import SETTINGS, known_exactly, learn

from malfl_algos import judge
from malfl_algos.ma_lfl import prior_comparison
from malfl_algos.ma_lfl.low_rank_fit import interpolation
from malfl_algos.ma_lfl.prior_comparison import Comparison
from malfl_algos.ma_lfl.prior_shapes import LEAST_IID, shape_root
from malfl_algos.ma_lfl.reward_priors import alike_states, prior_of_alike_states
from malfl_algos.observers.bayesian import MaLflBellman
from malfl_algos.observers.state_coordinates import seen_states
from malfl_env.errors import InputError

CHOSEN = np.array([-2.0, 0.3, -0.5, 0.8, 0.6])
"""Logarithms of the variances (independent, own, others, own and others) and of the length."""
FIXED = {"learner": "td", "improvement": 0.0, "stages": "same"}


@pytest.fixture(scope="module")
def little():
    return learn("homogeneous", episodes=5, n_stages=4, keep=False)


@pytest.fixture(scope="module")
def smooth(little):
    """What the states are, and the covariance of all of them without the independent part."""
    seen = seen_states(*little)
    prior = prior_of_alike_states(alike_states(seen, 0))
    covariance, _ = prior.covariance(CHOSEN)
    return seen, covariance - np.exp(CHOSEN[0]) * np.eye(81)


def test_interpolation_is_kriging_with_an_unknown_mean(smooth):
    seen, covariance = smooth
    found = interpolation(seen, 0, CHOSEN, most=20)
    few = found.states
    assert len(few) == 20
    np.testing.assert_allclose(found.weights.sum(axis=1), 1)
    np.testing.assert_allclose(found.weights[few], np.eye(20), atol=1e-3)
    # another route: a constant of nearly flat prior variance, integrated out with the rest
    wide = covariance + 1e4
    weights = np.linalg.solve(wide[np.ix_(few, few)] + 1e-6 * np.eye(20), wide[few]).T
    np.testing.assert_allclose(found.weights, weights, atol=1e-3)


def test_what_is_left_out_is_the_variance_of_the_error(smooth):
    seen, covariance = smooth
    found = interpolation(seen, 0, CHOSEN, most=20)
    gap = np.eye(81) - found.weights @ np.eye(81)[found.states]
    unit = shape_root(found.prior, CHOSEN)[1]
    alone = np.exp(CHOSEN[0]) / unit + LEAST_IID
    expected = np.diag(gap @ covariance @ gap.T) / unit + alone
    expected[found.states] = 0.0
    np.testing.assert_allclose(found.left_out(CHOSEN), expected, atol=1e-10)
    whole = interpolation(seen, 0, CHOSEN, most=81)
    assert not whole.left_out(CHOSEN).any()


def test_with_all_states_it_is_the_dense_smooth_prior():
    trace, game = learn("homogeneous", size=2, episodes=5, n_stages=4, keep=False)
    found = {
        solver: MaLflBellman(**FIXED, solver=solver, prior="smooth", columns=16, passes=12).recover(
            trace, game=game.without_rewards(), **SETTINGS
        )
        for solver in ("dense", "low-rank")
    }
    for agent in game.agents:
        dense, low = (found[solver] for solver in ("dense", "low-rank"))
        sd = np.sqrt(np.mean(dense.sd[agent] ** 2))
        assert np.std(dense.rewards[agent] - low.rewards[agent]) < 0.1 * sd
        np.testing.assert_allclose(low.sd[agent], dense.sd[agent], rtol=0.1)


def test_a_few_states_tell_the_others(little):
    trace, game = little
    result = MaLflBellman(**FIXED, solver="low-rank", columns=30).recover(
        trace, game=game.without_rewards(), **SETTINGS
    )
    for index, agent in enumerate(game.agents):
        truth = game.reward(index) - game.reward(index).mean()
        assert np.corrcoef(result.rewards[agent], truth)[0, 1] > 0.75
        assert np.mean(np.abs(result.rewards[agent] - truth) < 2 * result.sd[agent]) > 0.88
        said = result.diagnostics[agent]["prior"]
        assert len(said["states"]) == 30
        assert 0 < said["left_out"] < 0.3
    assert "from the rewards of 30 states" in result.summary()


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"prior": "iid"}, "solver low-rank needs prior smooth or auto"),
        ({"learner": "q-learning"}, "solver low-rank needs learner td, exact or auto"),
        ({"reward_model": "joint"}, "solver low-rank needs reward_model state or next_state"),
        ({"columns": 1}, "columns must be >= 2, got 1"),
    ],
)
def test_options_that_low_rank_excludes(little, options, match):
    trace, game = little
    with pytest.raises(InputError, match=match):
        MaLflBellman(**{**FIXED, "solver": "low-rank", **options}).recover(
            trace, game=game.without_rewards(), **SETTINGS
        )


@pytest.mark.slow
def test_random_rewards_are_independent_and_no_worse_than_with_matrices():
    rewards = tuple(np.random.default_rng(3).standard_normal((2, 81)))
    trace, game = learn(rewards, episodes=100, n_stages=5, evaluation="exact", keep=False)
    shared = {**FIXED, "learner": "exact"}
    auto, iid = (
        MaLflBellman(**shared, **own).recover(trace, game=game.without_rewards(), **SETTINGS)
        for own in ({"solver": "low-rank", "columns": 20}, {"prior": "iid"})
    )
    for index, agent in enumerate(game.agents):
        said = auto.diagnostics[agent]
        assert said["solver"] == "iterative"
        assert said["prior"]["kind"] == "iid"
        assert "change the log evidence of all agents by -" in said["prior"]["reason"]
        ratio = said["prior_variance"] / iid.diagnostics[agent]["prior_variance"]
        assert 0.8 < ratio < 1.25
        truth = game.reward(index)
        found, wanted = (np.corrcoef(own.rewards[agent], truth)[0, 1] for own in (auto, iid))
        assert found > wanted - 0.02


def test_td_learners_of_random_rewards_take_independent_ones():
    """As with matrices, and the same rewards."""
    rewards = tuple(np.random.default_rng(3).standard_normal((2, 16)))
    trace, game = learn(rewards, size=2, episodes=10, n_stages=3, keep=False)
    low, dense = (
        MaLflBellman(**FIXED, solver=solver, columns=8, passes=3).recover(
            trace, game=game.without_rewards(), **SETTINGS
        )
        for solver in ("low-rank", "dense")
    )
    for agent in game.agents:
        said = low.diagnostics[agent]["prior"]
        assert said["kind"] == dense.diagnostics[agent]["prior"]["kind"] == "iid"
        assert said["gain"] < 0 < said["gain_error"]
        assert "change the log evidence of all agents by -" in said["reason"]
        assert low.diagnostics[agent]["solver"] == "iterative"
        assert np.corrcoef(low.rewards[agent], dense.rewards[agent])[0, 1] > 0.97


@pytest.mark.slow
@pytest.mark.parametrize("evaluation", ["td", "exact"])
@pytest.mark.parametrize(("size", "rewards"), [(3, "homogeneous"), (4, "random")])
def test_the_choice_is_that_of_matrices(size, rewards, evaluation):
    smooth = rewards != "random"
    if not smooth:
        rewards = tuple(np.random.default_rng(3).standard_normal((2, size**4)))
    shared = {"episodes": 30, "n_stages": 4, "evaluation": evaluation, "keep": False}
    trace, game = learn(rewards, size=size, **shared)
    low, dense = (
        MaLflBellman(**{**FIXED, "learner": evaluation}, solver=solver, passes=4).recover(
            trace, game=game.without_rewards(), **SETTINGS
        )
        for solver in ("low-rank", "dense")
    )
    gains = {}
    for name, found in (("low", low), ("dense", dense)):
        said = [own["prior"] for own in found.diagnostics.values()]
        assert {own["kind"] for own in said} == {"smooth" if smooth else "iid"}
        gains[name] = sum(own["gain"] for own in said)
    if smooth:  # there the noise of independent rewards is that of smooth ones, here their own
        assert 0.6 < gains["low"] / gains["dense"] < 1.1


def test_a_kept_share_of_the_policy_leaves_independent_rewards_untried(little):
    trace, game = little
    observer = MaLflBellman(**{**FIXED, "improvement": 0.3}, solver="low-rank", columns=8, passes=1)
    result = observer.recover(trace, game=game.without_rewards(), **SETTINGS)
    said = result.diagnostics["agent_0"]["prior"]
    assert said["kind"] == "smooth"
    assert said["gain"] is None
    assert "independent rewards were not tried" in said["reason"]
    assert "not known (independent rewards" in result.summary(), result.summary()


def test_what_stages_would_gain_is_measured_once_policies_are_known():
    """The first iteration has policies from counts alone, and promises a gain that is not there."""
    trace, game = learn("homogeneous", n_stages=4, keep=False)
    observer = MaLflBellman(
        learner="td", improvement=0.0, solver="low-rank", columns=30, prior="smooth"
    )
    result = observer.recover(trace, game=game.without_rewards(), **SETTINGS)
    assert "stages" not in result.diagnostics["agent_0"]["searches"]


def test_a_comparison_that_does_not_converge_leaves_smooth_rewards(little, monkeypatch):
    def diverges(*_):
        raise ArithmeticError("the posterior did not converge")

    monkeypatch.setattr(prior_comparison, "matrix_free_posterior", diverges)
    trace, game = little
    observer = MaLflBellman(**FIXED, solver="low-rank", columns=8, passes=1)
    result = observer.recover(trace, game=game.without_rewards(), **SETTINGS)
    said = result.diagnostics["agent_0"]["prior"]
    assert said["kind"] == "smooth"
    assert said["reason"].endswith("not compared: the posterior did not converge")


def test_a_choice_within_its_error_is_the_one_that_claims_less():
    close = Comparison((2.0, 6.0), (1.0, 1.0))
    assert not close.smooth
    assert "too close to tell" in close.words()
    for gains in ((20.0, 20.0), (-20.0, -20.0)):
        sure = Comparison(gains, (1.0, 1.0))
        assert sure.smooth == (gains[0] > 0)
        assert "too close" not in sure.words()


def test_a_verdict_is_made_with_the_few_states():
    trace, game = learn("homogeneous", size=2, episodes=20, n_stages=5, keep=False)
    shared = {"game": game.without_rewards(), **SETTINGS}
    numbers = {}
    for solver in ("dense", "low-rank"):
        observer = MaLflBellman(**FIXED, solver=solver, prior="smooth", columns=10)
        found = judge(observer.recover(trace, **shared), trace, observer=observer, **shared)
        numbers[solver] = found.agents["agent_0"].numbers
    dense, low = numbers["dense"], numbers["low-rank"]
    assert low["rows"] == dense["rows"]
    for name in ("explained", "expected", "gain_over_no_change"):
        assert low[name] == pytest.approx(dense[name], abs=0.15)


@pytest.mark.slow
def test_known_policies_take_independent_rewards(paper_game):
    game = paper_game(rewards=tuple(np.random.default_rng(3).standard_normal((2, 81))))
    trace, known = known_exactly(game, 4)
    observer = MaLflBellman(**{**FIXED, "learner": "exact"}, solver="low-rank", columns=20)
    found = observer.recover(trace, game=game.without_rewards(), known_policies=known, **SETTINGS)
    for index, agent in enumerate(game.agents):
        assert found.diagnostics[agent]["prior"]["reason"] == "the agents' policies are known"
        assert np.corrcoef(found.rewards[agent], game.reward(index))[0, 1] > 0.999
