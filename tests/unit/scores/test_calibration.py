import numpy as np
import pytest

from malfl_algos.scores.calibration import CALIBRATION, calibration, mean_removed_sd


def values(scores):
    return [scores[name].value for name in CALIBRATION]


def test_by_hand():
    """Independent values of variance 1: less their mean, each has variance 1 - 1/n."""
    n, sd = 4, np.sqrt(3 / 4)
    errors = np.array([0.5, -0.5, 1.5, -1.5]) * sd
    truth = np.array([1.0, -1, 1, -1])
    scores = calibration(truth + errors + 100, truth - 7, np.eye(n))
    assert values(scores) == [0.5, 1.0, 1.0, pytest.approx(sd)]


def test_the_level_is_not_claimed():
    """A doubt that all values share, however large, is no doubt about the reward."""
    rng = np.random.default_rng(0)
    root = rng.normal(size=(6, 6))
    covariance = root @ root.T
    removal = np.eye(6) - 1 / 6
    expected = np.sqrt(np.diag(removal @ covariance @ removal))
    np.testing.assert_allclose(mean_removed_sd(covariance), expected, rtol=1e-12)
    np.testing.assert_allclose(mean_removed_sd(covariance + 1e6), expected, rtol=1e-8)
    assert np.all(mean_removed_sd(np.full((6, 6), 0.3)) < 1e-7)


def test_gaussian_coverage():
    """Truths drawn from the posterior are covered as often as a Gaussian says."""
    rng = np.random.default_rng(1)
    root = rng.normal(size=(300, 300)) / np.sqrt(300)
    covariance, mean = root @ root.T, rng.normal(size=300)
    draws = [
        values(calibration(mean, mean + root @ rng.normal(size=300), covariance))[:3]
        for _ in range(40)
    ]
    assert np.mean(draws, axis=0) == pytest.approx([0.683, 0.954, 0.997], abs=0.015)
    truth = mean + root @ rng.normal(size=300)
    sure = values(calibration(mean, truth, covariance / 100))
    timid = values(calibration(mean, truth, covariance * 100))
    assert sure[1] < 0.3
    assert timid[0] > 0.99
    assert timid[3] == pytest.approx(100 * sure[3])


def test_joint_actions():
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


def test_states_that_do_not_count_leave_their_mean_behind():
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


def test_refused():
    with pytest.raises(ValueError, match=r"covariance has shape \(2, 2\), expected \(3, 3\)"):
        calibration(np.zeros(3), np.zeros(3), np.eye(2))
    with pytest.raises(ValueError, match=r"estimate has shape \(3,\), the truth \(4,\)"):
        calibration(np.zeros(3), np.zeros(4), np.eye(3))
    with pytest.raises(ValueError, match=r"estimate has shape \(3, 2\), the truth \(3, 4\)"):
        calibration(np.zeros((3, 2)), np.zeros((3, 4)), np.eye(6))
