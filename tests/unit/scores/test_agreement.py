"""Correlation with the ground truth, and calibration of the posterior."""

from math import sqrt

import numpy as np
import pytest
from scipy import stats

from malfl_algos.scores import pearson, spearman
from malfl_algos.scores.agreement import CALIBRATION, calibration, mean_removed_sd


def test_correlation_by_hand():
    # deviations (-1, 0, 1) and (-2, 1, 1): 3 / sqrt(2 * 6)
    assert pearson(np.array([1.0, 2, 3]), np.array([0.0, 3, 3])).value == pytest.approx(
        3 / sqrt(12), abs=1e-15
    )
    # ranks (1, 2, 3) and (1, 2.5, 2.5): 1.5 / sqrt(2 * 1.5)
    assert spearman(np.array([1.0, 20, 300]), np.array([0.0, 3, 3])).value == pytest.approx(
        1.5 / sqrt(3), abs=1e-15
    )


@pytest.mark.parametrize("n_levels", [3, 1000])
def test_correlation_agrees_with_scipy(n_levels):
    rng = np.random.default_rng(5)
    one, other = rng.integers(n_levels, size=(2, 81)).astype(float)
    assert pearson(one, other).value == pytest.approx(stats.pearsonr(one, other)[0], abs=1e-13)
    assert spearman(one, other).value == pytest.approx(stats.spearmanr(one, other)[0], abs=1e-13)


def test_joint_actions_are_averaged_uniformly():
    rng = np.random.default_rng(2)
    joint, truth = rng.normal(size=(16, 5, 5)), rng.normal(size=16)
    assert pearson(joint, truth) == pearson(joint.mean(axis=(1, 2)), truth)
    assert pearson(truth, joint) == pearson(truth, joint.mean(axis=(1, 2)))


@pytest.mark.parametrize("measure", [pearson, spearman])
@pytest.mark.parametrize("scale", [1e-300, 1.0, 1e300])
def test_extreme_scales_change_nothing(measure, scale):
    rng = np.random.default_rng(3)
    one, other = rng.normal(size=(2, 9))
    assert measure(scale * one, other).value == pytest.approx(measure(one, other).value, abs=1e-12)
    assert measure(scale * one, scale * one).value == pytest.approx(1.0, abs=1e-12)
    assert measure(-scale * one, one).value == pytest.approx(-1.0, abs=1e-12)


@pytest.mark.parametrize("measure", [pearson, spearman])
def test_no_number_without_variation(measure):
    varied, constant = np.arange(4.0), np.full(4, 0.1)
    assert measure(varied, constant).reason == "the ground-truth reward is constant"
    assert measure(constant, varied).reason == "the estimate is constant"
    # rounding on top of a constant is not variation
    assert measure(constant + np.array([0, 1e-17, 0, 0]), varied).value is None
    assert measure(np.array([0, np.nan, 1, 2]), varied).reason is not None
    assert measure(np.array([0, np.inf, 1, 2]), varied).value is None
    assert measure(varied, varied).reason is None


def test_correlation_leaves_out_other_states():
    truth, estimate = np.arange(4.0), np.array([0.0, 1, 2, -50])
    counted = np.array([True, True, True, False])
    assert pearson(estimate, truth, states=counted).value == pytest.approx(1.0)
    assert pearson(estimate, truth).value < 0


def test_correlation_rejects_other_games_and_infinite_rewards():
    with pytest.raises(ValueError, match="4 joint states, the ground truth 3"):
        pearson(np.zeros(4), np.zeros(3))
    with pytest.raises(ValueError, match="ground-truth reward has values that are not finite"):
        pearson(np.zeros(2), np.array([np.nan, 1]))


def values(scores):
    return [scores[name].value for name in CALIBRATION]


def test_calibration_by_hand():
    """Independent values of variance 1: minus their mean, each has variance 1 - 1/n."""
    n, sd = 4, np.sqrt(3 / 4)
    errors = np.array([0.5, -0.5, 1.5, -1.5]) * sd
    truth = np.array([1.0, -1, 1, -1])
    scores = calibration(truth + errors + 100, truth - 7, np.eye(n))
    assert values(scores) == [0.5, 1.0, 1.0, pytest.approx(sd)]


def test_a_common_offset_does_not_matter():
    """Uncertainty of the mean of all values is not uncertainty of the reward."""
    rng = np.random.default_rng(0)
    root = rng.normal(size=(6, 6))
    covariance = root @ root.T
    removal = np.eye(6) - 1 / 6
    expected = np.sqrt(np.diag(removal @ covariance @ removal))
    np.testing.assert_allclose(mean_removed_sd(covariance), expected, rtol=1e-12)
    np.testing.assert_allclose(mean_removed_sd(covariance + 1e6), expected, rtol=1e-8)
    assert np.all(mean_removed_sd(np.full((6, 6), 0.3)) < 1e-7)


def test_gaussian_coverage():
    """Rewards drawn from the posterior are covered as often as the Gaussian predicts."""
    rng = np.random.default_rng(1)
    root = rng.normal(size=(300, 300)) / np.sqrt(300)
    covariance, mean = root @ root.T, rng.normal(size=300)
    draws = [
        values(calibration(mean, mean + root @ rng.normal(size=300), covariance))[:3]
        for _ in range(40)
    ]
    assert np.mean(draws, axis=0) == pytest.approx([0.683, 0.954, 0.997], abs=0.015)
    truth = mean + root @ rng.normal(size=300)
    narrow = values(calibration(mean, truth, covariance / 100))
    wide = values(calibration(mean, truth, covariance * 100))
    assert narrow[1] < 0.3
    assert wide[0] > 0.99
    assert wide[3] == pytest.approx(100 * narrow[3])


def test_calibration_of_joint_actions():
    rng = np.random.default_rng(2)
    state, covariance = rng.normal(size=3), np.diag(rng.uniform(0.1, 1, size=12))
    joint = np.broadcast_to(state[:, None, None], (3, 2, 2))
    estimate = joint + 0.5 * rng.normal(size=(3, 2, 2))
    assert calibration(estimate, state, covariance) == calibration(estimate, joint, covariance)
    flat = calibration(estimate.ravel(), joint.ravel(), covariance)
    assert flat == calibration(estimate, joint, covariance)
    varied = joint + rng.normal(size=(3, 2, 2))
    averaged = calibration(state, varied.mean(axis=(1, 2)), np.eye(3))
    assert calibration(state, varied, np.eye(3)) == averaged


def test_calibration_leaves_out_other_states_and_their_mean():
    rng = np.random.default_rng(3)
    root = rng.normal(size=(6, 6))
    covariance, counted = root @ root.T, np.array([1, 1, 0, 1, 1, 0], dtype=bool)
    estimate, truth = rng.normal(size=(2, 6))
    truth[2] = 1e9
    found = calibration(estimate, truth, covariance, states=counted)
    alone = calibration(estimate[counted], truth[counted], covariance[np.ix_(counted, counted)])
    assert found == alone
    joint = np.repeat(estimate, 2).reshape(6, 2)
    wide = calibration(joint, truth, np.kron(covariance, np.eye(2)), states=counted)
    assert wide["sd_ratio"].value is not None


def test_no_number_without_a_posterior():
    for covariance, estimate, reason in (
        (np.full((2, 2), np.nan), np.zeros(2), "the posterior has values that are not finite"),
        (np.eye(2), np.array([0, np.inf]), "the posterior has values that are not finite"),
    ):
        scores = calibration(estimate, np.arange(2.0), covariance)
        assert values(scores) == [None] * 4
        assert {score.reason for score in scores.values()} == {reason}
    flat = calibration(np.zeros(2), np.full(2, 0.1), np.eye(2))
    assert flat["coverage_1sd"].value == 1.0
    assert flat["sd_ratio"].reason == "the ground-truth reward is constant"


def test_calibration_rejects_shapes_that_do_not_fit():
    with pytest.raises(ValueError, match=r"covariance .* has shape \(2, 2\), expected \(3, 3\)"):
        calibration(np.zeros(3), np.zeros(3), np.eye(2))
    with pytest.raises(ValueError, match=r"estimate has shape \(3,\), the ground truth \(4,\)"):
        calibration(np.zeros(3), np.zeros(4), np.eye(3))
    with pytest.raises(ValueError, match=r"estimate has shape \(3, 2\), the ground truth \(3, 4\)"):
        calibration(np.zeros((3, 2)), np.zeros((3, 4)), np.eye(6))
