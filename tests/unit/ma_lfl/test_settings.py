"""The choice of the solver, rejected settings, and the agreement of both solvers."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from factored_cases import GAMES, grid
from recovery_cases import SETTINGS, known_exactly, learn

from malfl_algos.ma_lfl.learner_models import ExactEvaluation, ExpectedTd
from malfl_algos.ma_lfl.reward_models import count_unknowns
from malfl_algos.ma_lfl.settings import (
    DENSE_UNKNOWNS,
    check_solver,
    choose_solver,
)
from malfl_algos.observers.bayesian import MaLflBellman
from malfl_algos.observers.replay import MaLflReplay
from malfl_env import checks

AGENTS = ("agent_0", "agent_1")
GIVEN = {"noise_variance": 1e-3, "prior_variance": 1.0}
EXACT = MaLflBellman(learner="exact", improvement=0.0, **GIVEN)
TD = MaLflBellman(learner="td", noise_variance=1e-2, prior_variance=1.0, improvement=0.0)


def recovered(observer, game, trace, known=None, **changed):
    rules = {**SETTINGS, **changed}
    return observer.recover(trace, game=game.without_rewards(), known_policies=known, **rules)


def by_both(observer, game, trace, known=None):
    return tuple(
        recovered(replace(observer, solver=solver), game, trace, known)
        for solver in ("dense", "iterative")
    )


def same_reward(dense, iterative, *, allowed_sd=0.05):
    for agent, reward in dense.rewards.items():
        other, sd = iterative.rewards[agent], dense.sd[agent]
        assert other.shape == reward.shape
        assert abs(other.mean()) < 1e-9
        assert np.corrcoef(reward.ravel(), other.ravel())[0, 1] > 0.999
        assert np.abs((reward - other) / sd).max() < allowed_sd
        ratio = iterative.sd[agent] / sd
        assert np.mean((ratio > 0.5) & (ratio < 2)) >= 0.9
        np.testing.assert_allclose(
            iterative.estimated_policies[agent], dense.estimated_policies[agent], atol=1e-3
        )


@pytest.fixture(scope="module")
def known():
    """The 3 x 3 game, and exact learners' policies in it."""
    game = grid(size=3, rewards="heterogeneous")
    return game, *known_exactly(game, 4)


@pytest.fixture(scope="module")
def both(known):
    return by_both(EXACT, *known)


def test_known_policies_give_the_same_reward(known, both):
    same_reward(*both)
    for result in both:
        for index, agent in enumerate(AGENTS):
            truth = known[0].reward(index)
            assert np.corrcoef(result.rewards[agent], truth)[0, 1] > 0.99


def test_with_all_policies_known_one_iteration_is_enough(both):
    for result in both:
        for agent in AGENTS:
            assert result.diagnostics[agent]["passes"] == 1
            assert result.diagnostics[agent]["settled"] is True


def test_without_matrices_noise_and_prior_are_searched(known):
    """The search ends where that by the evidence ends."""
    searched = replace(EXACT, noise_variance=None, prior_variance=None, prior="iid")
    dense, iterative = by_both(searched, *known)
    same_reward(dense, iterative, allowed_sd=0.1)  # noise and prior differ a little
    for agent in AGENTS:
        ours, exact = iterative.diagnostics[agent], dense.diagnostics[agent]
        assert ours["noise_variance"] == pytest.approx(exact["noise_variance"], rel=0.01)
        assert 0.75 < ours["prior_variance"] / exact["prior_variance"] < 1.25


def test_noise_and_prior_of_td_learners_are_searched_without_matrices():
    trace, game = learn("homogeneous", n_stages=4, keep=False)
    observer = MaLflBellman(learner="td", improvement=0.0, stages="same", prior="iid")
    dense, iterative = by_both(observer, game, trace)
    for agent in AGENTS:
        ours, exact = iterative.diagnostics[agent], dense.diagnostics[agent]
        away = np.std(iterative.rewards[agent] - dense.rewards[agent])
        assert away < 0.2 * np.sqrt(np.mean(dense.sd[agent] ** 2))
        assert ours["effective_parameters"] == pytest.approx(exact["effective_parameters"], rel=0.2)
        assert 0.7 < ours["prior_variance"] / exact["prior_variance"] < 1.4
        away = abs(ours["log_evidence"] - exact["log_evidence"])
        assert away < 4 * ours["log_evidence_error"] + 3  # each at its own noise and policies


def test_diagnostics_name_the_solver(both):
    dense, iterative = (result.diagnostics["agent_0"] for result in both)
    assert dense["solver"] == "dense"
    assert dense["sd_method"] == "exact"
    assert dense["iterations"] is None
    assert np.isfinite(dense["log_evidence"])
    assert iterative["solver"] == "iterative"
    assert "samples" in iterative["sd_method"]
    assert iterative["iterations"] >= iterative["iterations_of_the_mean"] > 0
    assert 0 < iterative["accuracy"] <= 0.05
    away = abs(iterative["log_evidence"] - dense["log_evidence"])
    assert away < 4 * iterative["log_evidence_error"] + 1
    assert iterative["rank"] is None
    assert "not computed" in iterative["identification"]
    assert iterative["effective_parameters"] == pytest.approx(dense["effective_parameters"], abs=6)
    for said in (dense, iterative):
        assert said["noise_variance"] == GIVEN["noise_variance"]
        assert said["prior_variance"] == GIVEN["prior_variance"]
        assert said["noise_scale"] == 1.0
        assert said["bounds_hit"] == []
        assert said["searches"] == {}
        assert json.loads(json.dumps(dict(said), allow_nan=False)) == dict(said)


def test_td_learners_by_counts_give_the_same_reward():
    trace, game = learn(keep=False, n_stages=3)
    results = by_both(replace(TD, passes=3), game, trace)
    same_reward(*results)
    for agent in AGENTS:
        dense, iterative = (result.diagnostics[agent] for result in results)
        assert dense["passes"] == iterative["passes"] > 1
        assert iterative["learner_model"] == "td"


@pytest.mark.parametrize("name", ["two move one", "lone", "one action"])
def test_games_of_other_kinds(name):
    game = GAMES[name]()
    trace, known = known_exactly(game, 3)
    dense, iterative = by_both(EXACT, game, trace, known)
    for agent, reward in dense.rewards.items():
        off = np.abs(iterative.rewards[agent] - reward) / dense.sd[agent]
        assert off.max() < 0.1


def test_rewards_of_actions_give_the_same_reward():
    game = grid(size=2)
    trace, known = known_exactly(game, 4)
    observer = replace(EXACT, reward_model="own_action", noise_variance=0.1)
    dense, iterative = by_both(observer, game, trace, known)
    same_reward(dense, iterative)
    assert iterative.rewards["agent_0"].shape == (16, 5, 5)


@pytest.mark.parametrize("given", [{}, GIVEN])
@pytest.mark.parametrize("shape", ["states", "actions"])
def test_features_need_no_noise_and_give_the_same_reward(given, shape):
    game = grid(size=2)
    rng = np.random.default_rng(0)
    phi = rng.normal(size=(16, 3) if shape == "states" else (16, 5, 5, 3))
    game = game.with_rewards([phi @ np.array([1.0, -2.0, 0.5])] * 2)
    trace, known = known_exactly(game, 3)
    observer = MaLflBellman(reward_model="features", features=phi, learner="exact", **given)
    dense, iterative = by_both(observer, game, trace, known)
    for agent in AGENTS:
        np.testing.assert_allclose(iterative.rewards[agent], dense.rewards[agent], atol=1e-6)
        np.testing.assert_allclose(iterative.sd[agent], dense.sd[agent], rtol=1e-4)
        said = iterative.diagnostics[agent]
        assert said["solver"] == "iterative"
        assert said["sd_method"] == "exact"
        # both searches end where the evidence is flat to 0.05
        assert said["log_evidence"] == pytest.approx(
            dense.diagnostics[agent]["log_evidence"], abs=0.02
        )
        truth = game.reward(0).ravel()
        assert np.corrcoef(iterative.rewards[agent].ravel(), truth)[0, 1] > 0.999


@pytest.mark.parametrize("learner", ["exact", "td"])
def test_given_what_the_search_chose_the_evidence_is_that_of_the_search(learner):
    game = grid(size=2)
    trace, known = known_exactly(game, 4)
    if learner == "td":
        trace, game = learn(size=2, keep=False)
        known = None
    searched = MaLflBellman(learner=learner, improvement=0.0, stages="same", passes=1)
    found = recovered(searched, game, trace, known)
    for agent in AGENTS:
        said = found.diagnostics[agent]
        given = {name: said[name] for name in ("noise_variance", "prior_variance")}
        again = recovered(replace(searched, solver="dense", **given), game, trace, known)
        told = again.diagnostics[agent]
        assert told["log_evidence"] == pytest.approx(said["log_evidence"], abs=1e-6)
        np.testing.assert_allclose(again.rewards[agent], found.rewards[agent], atol=1e-9)
        np.testing.assert_allclose(again.sd[agent], found.sd[agent], rtol=1e-9)


def test_what_diagnostics_say_was_chosen_can_be_given(known):
    """All three values of the diagnostics, also for a learner model without noise."""
    game, trace, policies = known
    said = recovered(MaLflBellman(learner="exact"), game, trace, policies).diagnostics["agent_0"]
    names = ("noise_variance", "noise_scale", "prior_variance")
    again = MaLflBellman(learner="exact", **{name: said[name] for name in names})
    told = recovered(again, game, trace, policies).diagnostics["agent_0"]
    assert told["log_evidence"] == pytest.approx(said["log_evidence"], abs=1e-6)


def test_replay_takes_noise_and_prior_too():
    trace, game = learn(size=2, n_stages=3, episodes=5)
    result = recovered(MaLflReplay(step_size=0.1, **GIVEN, noise_scale=2.0), game, trace)
    for agent in AGENTS:
        said = result.diagnostics[agent]
        assert (said["noise_variance"], said["noise_scale"]) == (1e-3, 2.0)
        assert said["solver"] == "dense"
        assert np.isfinite(said["log_evidence"])


def test_larger_given_noise_gives_larger_standard_deviations(known, both):
    game, trace, policies = known
    louder = recovered(replace(EXACT, noise_variance=1.0, solver="dense"), game, trace, policies)
    for agent in AGENTS:
        assert np.all(louder.sd[agent] > both[0].sd[agent])


# Which one


def test_unknowns_are_counted():
    assert count_unknowns("state", 81, (5, 5)) == 81
    assert count_unknowns("own_action", 7, (2, 3)) == 21
    assert count_unknowns("joint", 7, (2, 3)) == 42


def test_the_solver_follows_size_and_what_is_given():
    above, below = DENSE_UNKNOWNS + 1, DENSE_UNKNOWNS
    assert below == 1000
    assert choose_solver("auto", above, given=True, low_rank=False) == "iterative"
    assert choose_solver("auto", below, given=True, low_rank=False) == "dense"
    assert choose_solver("auto", 10**9, given=False, low_rank=False) == "dense"
    assert choose_solver("auto", above, given=False, low_rank=True) == "low-rank"
    assert choose_solver("auto", below, given=False, low_rank=True) == "dense"
    for given in (True, False):
        assert choose_solver("dense", 10**9, given=given, low_rank=True) == "dense"
        assert choose_solver("iterative", 1, given=given, low_rank=True) == "iterative"
        assert choose_solver("low-rank", 1, given=given, low_rank=True) == "low-rank"


def test_auto_stays_dense_on_small_games(known):
    game, trace, policies = known
    assert recovered(EXACT, game, trace, policies).diagnostics["agent_1"]["solver"] == "dense"


# Rejected settings


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"noise_variance": 1.0}, "given together or both left out, got 1.0 and None"),
        ({"prior_variance": 1.0}, "given together or both left out, got None and 1.0"),
        ({**GIVEN, "noise_variance": 0.0}, "noise_variance must be > 0 and finite, got 0.0"),
        ({**GIVEN, "prior_variance": -1.0}, "prior_variance must be > 0 and finite, got -1.0"),
        ({**GIVEN, "noise_scale": np.nan}, "noise_scale must be .* got nan"),
        ({**GIVEN, "noise_variance": np.inf}, "noise_variance must be > 0 and finite, got inf"),
    ],
)
@pytest.mark.parametrize("observer", [MaLflBellman, MaLflReplay])
def test_bad_noise_and_prior_are_named(observer, options, match):
    with pytest.raises(ValueError, match=match):
        observer(**options)


def test_an_unknown_solver_is_named():
    with pytest.raises(ValueError, match="solver must be auto, dense, iterative or low-rank"):
        MaLflBellman(solver="lu")


ITERATIVE = replace(EXACT, solver="iterative")


@pytest.mark.parametrize(
    ("options", "match"),
    [
        (
            {"reward_model": "own_action", "noise_variance": None, "prior_variance": None},
            "give noise_variance and prior_variance",
        ),
        ({"learner": "auto"}, "give learner"),
        ({"learner": "td", "step_size": None}, "give step_size"),
        ({"covariance": True}, "set covariance to false"),
    ],
)
def test_options_that_the_iterative_solver_cannot_serve_are_rejected(options, match):
    with pytest.raises(ValueError, match=match):
        replace(ITERATIVE, **options)


def test_the_iterative_solver_does_not_choose_a_discount(known):
    game, trace, policies = known
    with pytest.raises(ValueError, match="give discount"):
        recovered(ITERATIVE, game, trace, policies, discount=None)


def test_exact_learners_need_no_step_size(known):
    game = grid(size=2)
    trace, policies = known_exactly(game, 2)
    observer = replace(ITERATIVE, step_size=None, noise_variance=0.1)
    assert recovered(observer, game, trace, policies).diagnostics["agent_0"]["iterations"] > 0


@pytest.mark.parametrize(
    ("observer", "formed", "n_formed"),
    [
        (MaLflBellman(), "100 rewards to interpolate from", 100),
        (MaLflBellman(prior="iid"), "160000 reward unknowns", 160_000),
        (replace(EXACT, solver="dense"), "160000 reward unknowns", 160_000),
    ],
)
def test_a_game_too_large_for_coefficients_is_rejected_with_bytes_and_a_remedy(
    observer, formed, n_formed
):
    with pytest.raises(ValueError, match=formed) as error:
        observer.check_size(160_000, (5, 5), 10)
    message = str(error.value)
    assert f"({8 * 10 * 160_000 * 5 * n_formed} bytes)" in message
    assert "noise_variance and prior_variance" in message


def test_the_same_game_is_let_through_without_coefficients():
    for observer in (EXACT, ITERATIVE, TD):
        observer.check_size(160_000, (5, 5), 10)


def test_a_game_too_large_for_both_is_rejected():
    with pytest.raises(ValueError, match=r"a value per stage, joint state.*GiB"):
        EXACT.check_size(64_000_000, (5, 5), 10)
    with pytest.raises(ValueError, match="the joint actions of"):
        check_solver("iterative", 10**5, 10**5, (5,) * 6, 2)
    check_solver("iterative", 100, 10**4, (5, 5), 10)
    with pytest.raises(ValueError, match=r"the coefficients of 1000 features.*3\.73 GiB"):
        check_solver("iterative", 1000, 10**4, (5, 5), 10)


def test_the_preconditioner_is_counted():
    """A matrix of 10,000 joint states takes 0.75 GiB, beside 1.5 GiB of coefficients."""
    with pytest.raises(ValueError, match=r"as preconditioner would take 2\.24 GiB"):
        check_solver("low-rank", 400, 10**4, (5, 5), 10)
    check_solver("low-rank", 400, 12_000, (5, 5), 10)  # no such matrix is formed there
    check_solver("iterative", 400, 10**4, (5, 5), 10)  # nor with features


@pytest.mark.parametrize("solver", ["dense", "iterative"])
def test_a_game_is_rejected_before_any_work(known, solver, monkeypatch):
    def work(*_, **__):
        raise AssertionError("worked before rejecting")

    for model in (ExactEvaluation, ExpectedTd):
        for method in ("coefficients", "values"):
            monkeypatch.setattr(model, method, work)
    monkeypatch.setattr(checks, "MAX_TABLE_BYTES", 10_000)
    game, trace, policies = known
    with pytest.raises(ValueError, match=r"would take .* bytes\b.* of memory, the limit is"):
        recovered(replace(EXACT, solver=solver), game, trace, policies)


def test_the_example_of_the_docs_runs(capsys):
    text = (Path(__file__).parents[3] / "docs" / "explanation" / "large_games.md").read_text(
        encoding="utf-8"
    )
    example = text.split("```python\n")[1].split("```")[0]
    assert "recover(7, " in example
    exec(
        example.replace("recover(4)", "recover(3)").replace(
            "recover(7, ", 'recover(4, solver="iterative", '
        ),
        {},
    )
    first, second, third = capsys.readouterr().out.splitlines()
    assert float(first.split()[1]) > 0.99
    assert float(second.split()[1]) > 0.99
    assert third.startswith("iterative ")
