"""Posteriors of half-spaces against closed forms and integration on a grid."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from malfl_algos.ma_lfl.greedy_posterior import Pairs, fit_pairs
from malfl_algos.ma_lfl.halfspaces import Halfspaces, halfspace_posterior
from malfl_algos.ma_lfl.reward_priors import prior_of_states

PRIOR = np.array([[1.5, 0.4], [0.4, 0.8]])
FACTORS = Halfspaces(
    np.array([[1.0, 0.3], [-0.2, 1.0], [0.7, -0.5]]),
    np.array([0.1, -0.3, 0.2]),
    np.array([0.3, 0.8, 0.5]),
    np.array([0.0, 0.1, 0.02]),
    np.array([1.0, 2.0, 0.5]),
)


def by_grid(prior, factors):
    """Log evidence, mean and covariance by summation."""
    axis = np.linspace(-7, 7, 561)
    theta = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 2)
    logs = -(theta @ np.linalg.inv(prior) * theta).sum(axis=1) / 2
    weights = np.exp(logs) / (2 * np.pi * np.sqrt(np.linalg.det(prior))) * (axis[1] - axis[0]) ** 2
    for row, offset, sd, lapse, times in zip(*factors, strict=True):
        weights *= (lapse + (1 - lapse) * norm.cdf((theta @ row + offset) / sd)) ** times
    total = weights.sum()
    mean = weights @ theta / total
    return np.log(total), mean, (theta - mean).T * weights @ (theta - mean) / total


def test_one_halfspace_is_exact():
    sd, prior = 0.4, np.array([[2.0]])
    factors = Halfspaces(np.ones((1, 1)), np.array([0.7]), np.array([sd]), np.zeros(1), np.ones(1))
    spread = np.hypot(sd, np.sqrt(2.0))
    found = halfspace_posterior(prior, factors)
    z = 0.7 / spread
    slope = norm.pdf(z) / norm.cdf(z)
    assert found.log_evidence == pytest.approx(norm.logcdf(z), abs=1e-6)
    assert found.mean[0] == pytest.approx(2.0 * slope / spread, rel=1e-3)
    expected = 2.0 - (2.0 / spread) ** 2 * slope * (slope + z)
    assert found.covariance[0, 0] == pytest.approx(expected, rel=1e-3)


def test_several_halfspaces_against_a_grid():
    log_evidence, mean, covariance = by_grid(PRIOR, FACTORS)
    found = halfspace_posterior(PRIOR, FACTORS)
    assert found.log_evidence == pytest.approx(log_evidence, abs=0.01)
    np.testing.assert_allclose(found.mean, mean, atol=0.02)
    np.testing.assert_allclose(found.covariance, covariance, atol=0.03)


def test_the_start_does_not_matter():
    found = halfspace_posterior(PRIOR, FACTORS)
    again = halfspace_posterior(PRIOR, FACTORS, start=found.sites)
    np.testing.assert_allclose(again.mean, found.mean, atol=1e-3)
    assert again.log_evidence == pytest.approx(found.log_evidence, abs=1e-3)


def test_factors_that_always_lapse_say_nothing():
    found = halfspace_posterior(PRIOR, FACTORS._replace(lapses=np.ones(3)))
    assert found.log_evidence == 0
    np.testing.assert_allclose(found.covariance, PRIOR, rtol=1e-12)
    assert not found.mean.any()


def test_contradictions_far_in_the_tails_stay_finite():
    factors = Halfspaces(
        np.array([[1.0, 0.0], [-1.0, 0.0]]),
        np.array([-40.0, 0.0]),
        np.full(2, 0.1),
        np.zeros(2),
        np.ones(2),
    )
    found = halfspace_posterior(np.eye(2), factors)
    assert np.isfinite(found.log_evidence)
    assert found.log_evidence < -100


def board(smooth):
    """Half-spaces of a reward on a board of 5 x 5 cells."""
    rng = np.random.default_rng(3)
    cells = np.stack(np.unravel_index(np.arange(25), (5, 5)), axis=-1)
    reward = rng.standard_normal(25)
    if smooth:
        reward = np.sin(cells[:, 0] / 1.5) + cells[:, 1] / 3
    rows = rng.standard_normal((400, 25))
    rows -= rows.mean(axis=1, keepdims=True)
    rows *= np.where(rows @ reward < 0, -1, 1)[:, None]
    pairs = Pairs(rows, *np.zeros((3, 400)), np.ones(400))
    return reward, fit_pairs(pairs, prior_of_states(cells), start=None)


@pytest.mark.parametrize("smooth", [True, False])
def test_the_evidence_finds_whether_rewards_are_smooth(smooth):
    reward, found = board(smooth)
    assert (found.settings["prior_iid"] < -2) == smooth
    assert np.corrcoef(found.posterior.mean, reward)[0, 1] > (0.99 if smooth else 0.9)
    mean = found.posterior.mean - found.posterior.mean.mean()
    centred = reward - reward.mean()
    spread = found.posterior.covariance
    centre = np.eye(25) - 1 / 25
    sd = np.sqrt(np.diag(centre @ spread @ centre))
    scale = mean @ centred / (mean @ mean)
    assert np.mean(np.abs(scale * mean - centred) < 2 * scale * sd) > 0.8


def test_noise_of_the_learner_enters_with_its_factor():
    pairs = Pairs(FACTORS.rows, FACTORS.offsets, np.array([0.1, 0.2, 0.3]), *FACTORS[3:])
    found = fit_pairs(pairs, prior_of_states(np.arange(2)[:, None]), start=None)
    assert set(found.settings) == {"noise_variance", "noise_scale"}
    assert not found.bounds_hit
