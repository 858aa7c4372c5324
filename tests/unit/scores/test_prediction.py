from math import log

import numpy as np
import pytest
from exact import exact_policies
from hypothesis import given
from hypothesis import strategies as st

from malfl_algos.scores.prediction import (
    PREDICTIONS,
    estimated_policy,
    predicted_log_policies,
    prediction_score,
    prediction_scores,
)

LEARNERS = {"discount": 0.9, "temperature": 3.0}


def counted(game, n_stages, n_visits):
    """The policies of exact learners, and the counts of their actions when every joint state is
    visited equally often, rounded to whole numbers."""
    policies = exact_policies(game, n_stages, **LEARNERS)
    stages = [
        np.rint(n_visits * one[:, :, None] * other[:, None, :]).astype(np.int64)
        for one, other in policies
    ]
    return policies, stages


def rewards_of(game):
    return {agent: game.reward(index) for index, agent in enumerate(game.agents)}


def test_by_hand():
    policy = np.log([[0.5, 0.5], [0.9, 0.1]])
    counts = np.array([[3, 1], [0, 4]])
    found = prediction_score([policy], [counts])
    likelihood = (4 * log(0.5) + 4 * log(0.1)) / 8
    assert found.n_steps == 8
    assert found.log_likelihood.value == pytest.approx(likelihood)
    state_0 = 0.75 * log(0.75 / 0.5) + 0.25 * log(0.25 / 0.5)
    assert found.divergence.value == pytest.approx((4 * state_0 + 4 * log(1 / 0.1)) / 8)
    # steps, not stages, are averaged over
    twice = prediction_score([policy, policy], [counts, 3 * counts])
    assert twice.log_likelihood.value == pytest.approx(likelihood)
    assert twice.n_steps == 32


@given(st.integers(0, 2**32 - 1))
def test_the_divergence_is_the_largest_likelihood_minus_the_likelihood(seed):
    rng = np.random.default_rng(seed)
    counts = rng.integers(0, 5, size=(4, 3))
    counts[0, 0] += 1
    guess = np.log(rng.dirichlet(np.ones(3), size=4))
    visits = np.maximum(counts.sum(axis=1, keepdims=True), 1)
    with np.errstate(divide="ignore"):
        best = prediction_score([np.log(counts / visits)], [counts])
    found = prediction_score([guess], [counts])
    assert best.divergence.value == pytest.approx(0, abs=1e-12)
    assert found.divergence.value >= 0
    assert best.log_likelihood.value - found.log_likelihood.value == pytest.approx(
        found.divergence.value, abs=1e-12
    )


def test_the_ground_truth_predicts_exact_learners(paper_game):
    game = paper_game("heterogeneous")
    policies, _ = counted(game, 3, 1)
    predicted = predicted_log_policies(game, policies[1], **LEARNERS)
    for log_policy, after in zip(predicted, policies[2], strict=True):
        np.testing.assert_allclose(np.exp(log_policy), after, atol=1e-13)


@pytest.mark.parametrize("first_stage", [1, 2])
def test_the_ground_truth_beats_both_baselines(paper_game, first_stage):
    game = paper_game("heterogeneous")
    _, counts = counted(game, 4, 1_000_000)
    scores = prediction_scores(
        game.without_rewards(), rewards_of(game), counts, first_stage=first_stage, **LEARNERS
    )
    assert list(scores) == ["agent_0", "agent_1"]
    for own in scores.values():
        assert tuple(own) == PREDICTIONS
        predicted, no_change, uniform = (own[name] for name in PREDICTIONS)
        assert predicted.divergence.value < 1e-6
        assert min(no_change.divergence.value, uniform.divergence.value) > 1e-3
        for baseline in (no_change, uniform):
            assert predicted.log_likelihood.value > baseline.log_likelihood.value
        assert uniform.log_likelihood.value == pytest.approx(-log(5))


def test_the_sign_of_a_reward_matters_and_its_mean_does_not(paper_game):
    game = paper_game()
    _, counts = counted(game, 3, 10_000)
    found, raised, wrong = (
        prediction_scores(
            game,
            {agent: change(reward) for agent, reward in rewards_of(game).items()},
            counts,
            first_stage=2,
            **LEARNERS,
        )["agent_0"]
        for change in (np.copy, lambda reward: reward + 5, np.negative)
    )
    value = found["predicted"].divergence.value
    assert raised["predicted"].divergence.value == pytest.approx(value, abs=1e-12)
    assert wrong["predicted"].divergence.value > found["uniform"].divergence.value > value
    assert wrong["no_change"] == found["no_change"]


def test_a_zero_reward_predicts_uniform_play(paper_game):
    game = paper_game()
    _, counts = counted(game, 2, 1000)
    silent = {"agent_1": np.zeros((81, 5, 5))}
    scores = prediction_scores(game, silent, counts, first_stage=1, **LEARNERS)
    assert list(scores) == ["agent_1"]
    own = scores["agent_1"]
    # the stage before is uniform as well, so its entropy is the same in all states
    likelihood = own["predicted"].log_likelihood.value
    assert likelihood == pytest.approx(own["uniform"].log_likelihood.value, abs=1e-12)


def test_estimated_policies_are_positive_and_find_the_frequencies():
    counts = np.array([[0, 0, 0, 0, 0], [10**9, 0, 10**9, 0, 0]])
    policy = estimated_policy(counts)
    assert np.all(policy[0] == pytest.approx(0.2))
    np.testing.assert_allclose(policy[1], [0.5, 0, 0.5, 0, 0], atol=1e-9)
    assert np.all(policy > 0)
    assert estimated_policy(np.array([[1, 0]]))[0] == pytest.approx([1.3 / 1.6, 0.3 / 1.6])


def test_missing_scores_have_a_reason():
    nothing = prediction_score([np.log([[0.5, 0.5]])], [np.zeros((1, 2), int)])
    assert nothing.log_likelihood.reason == "the stages to predict have no steps"
    assert nothing.divergence.value is None
    certain = np.array([[0.0, -np.inf]])
    assert prediction_score([certain], [np.array([[3, 0]])]).divergence.value == 0.0
    impossible = prediction_score([certain], [np.array([[3, 1]])])
    assert "probability 0" in impossible.log_likelihood.reason


def test_invalid_arguments_are_rejected(paper_game):
    game = paper_game()
    _, counts = counted(game, 3, 10)
    for first_stage in (0, 3):
        with pytest.raises(ValueError, match=r"first_stage must be 1\.\.2"):
            prediction_scores(game, rewards_of(game), counts, first_stage=first_stage, **LEARNERS)
    with pytest.raises(ValueError, match=r"shape \(81, 5, 5\), the game has \(16, 5, 5\)"):
        prediction_scores(paper_game(size=2), {}, counts, first_stage=1, **LEARNERS)
    with pytest.raises(ValueError, match="not finite"):
        prediction_scores(game, {"agent_0": np.full(81, np.nan)}, counts, first_stage=1, **LEARNERS)
