"""Rewards of one special cell, averaged with the reward of a fit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from malfl_algos.ma_lfl.posterior import PRIOR_BOUNDS, Evidence, Posterior
from malfl_algos.ma_lfl.sparse_rewards import VARIANCES, with_special_cell

CELLS = np.repeat([0, 1, 2], 4)
FLAT, NOISE = 1e4, 0.25


def data(rng, reward, n_rows=40):
    rows = rng.standard_normal((n_rows, 12))
    return rows, rows @ reward + np.sqrt(NOISE) * rng.standard_normal(n_rows)


def fitted(rows, response, variance):
    """The posterior of independent rewards about a nearly flat level."""
    level = np.full((12, 12), 1 / 12)
    prior = (np.eye(12) - level) / variance + level / (12 * FLAT)
    information = rows.T @ rows / NOISE
    mean = np.linalg.solve(information + prior, rows.T @ response / NOISE)
    return Posterior(mean, information + prior, information, Evidence(None, 0, 0, variance, ()))


def log_density(rows, response, covariance):
    whole = rows @ covariance @ rows.T + NOISE * np.eye(len(rows))
    return -(np.linalg.slogdet(whole)[1] + response @ np.linalg.solve(whole, response)) / 2


def test_the_average_is_that_of_the_models_one_by_one():
    rng = np.random.default_rng(0)
    rows, response = data(rng, 0.3 * (CELLS == 2))
    found = with_special_cell(fitted(rows, response, 0.02), CELLS, 1.0)
    flat = FLAT * np.ones((12, 12))
    covariances = [
        flat + variance * np.outer(cell == CELLS, cell == CELLS)
        for variance in VARIANCES
        for cell in range(3)
    ]
    independent = 0.02 * (np.eye(12) - 1 / 12) + flat
    logs = [log_density(rows, response, own) - np.log(9) for own in covariances]
    logs.append(log_density(rows, response, independent))
    weights = np.exp(np.array(logs) - max(logs))
    weights /= weights.sum()
    means, spreads = [], []
    for own in [*covariances, independent]:
        whole = rows @ own @ rows.T + NOISE * np.eye(len(rows))
        gain = own @ rows.T @ np.linalg.inv(whole)
        means.append(gain @ response)
        spreads.append(own - gain @ rows @ own)
    assert found.probability == pytest.approx(weights[:-1].sum(), abs=1e-4)
    assert found.cell == 2
    mean = np.array(means).T @ weights
    centre = np.eye(12) - 1 / 12
    np.testing.assert_allclose(centre @ found.posterior.mean, centre @ mean, atol=1e-3)
    exact = sum(w * (s + np.outer(m, m)) for w, s, m in zip(weights, spreads, means, strict=True))
    exact = centre @ (exact - np.outer(mean, mean)) @ centre
    # the fit's own covariance counts in full
    exact += (1 - weights[-1]) * centre @ spreads[-1] @ centre
    told = centre @ found.posterior.covariance() @ centre
    np.testing.assert_allclose(told, exact, atol=2e-3)


def test_rewards_that_are_no_single_cell_stay_as_they_are():
    rng = np.random.default_rng(1)
    rows, response = data(rng, rng.standard_normal(12))
    assert with_special_cell(fitted(rows, response, 1.0), CELLS, 1.0) is None


def test_a_fit_at_the_lower_bound_counts_as_a_level_alone():
    rng = np.random.default_rng(0)
    rows, response = data(rng, 0.5 * (CELLS == 2))
    least = PRIOR_BOUNDS[0]
    fit = fitted(rows, response, least)
    fit = replace(fit, evidence=Evidence(None, 0, 0, least, ("prior_variance",)))
    found = with_special_cell(fit, CELLS, 1.0)
    by_cell = found.posterior.mean.reshape(3, 4)
    np.testing.assert_allclose(by_cell, by_cell[:, :1] + np.zeros(4), atol=1e-12)
