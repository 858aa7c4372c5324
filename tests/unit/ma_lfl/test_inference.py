"""Posterior, evidence and the search for noise and prior, against dense Gaussian conditioning."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from malfl_algos.ma_lfl.inference import NOISE_BOUNDS, fit
from malfl_algos.ma_lfl.posterior import (
    MEAN_VARIANCE,
    PRIOR_BOUNDS,
    Evidence,
    best_prior,
    posterior,
)
from malfl_algos.ma_lfl.rows import Rows, normal_equations

FLAT = 1e9


def random_rows(seed, *, n_unknowns=5, temperature=1.0, level=True):
    rng = np.random.default_rng(seed)
    shape = (2, 3, 4)
    k = rng.normal(size=(*shape, n_unknowns))
    theta = rng.normal(0, 2, n_unknowns) * temperature
    variance = rng.lognormal(-2, 0.5, shape) * temperature**2
    response = k @ theta + rng.normal(size=shape) * np.sqrt(variance + 0.05 * temperature**2)
    share = 1 / n_unknowns if level else 0.0
    return Rows(
        coefficients=k,
        response=response + rng.normal(size=(2, 3, 1)) * 10,
        response_variance=variance,
        model_variance=rng.lognormal(-3, 0.5, shape) * temperature**2,
        prior=np.eye(n_unknowns) - share,
        log_constant=0.0,
        temperature=temperature,
    )


def chosen(noise=0.05, scale=1.5, prior=4.0):
    return Evidence(0.0, noise, scale, prior, ())


def dense(rows, evidence):
    """Prior covariance of theta, design, covariance of the rows and a flat constant per state."""
    n = len(rows.prior)
    level = np.eye(n) - rows.prior
    prior = evidence.prior_variance * rows.prior + MEAN_VARIANCE * rows.temperature**2 * level
    k, y = rows.coefficients.reshape(-1, n), rows.response.ravel()
    noise = evidence.noise_variance + evidence.noise_scale * rows.model_variance
    noise = (noise + rows.response_variance).ravel()
    states = np.kron(np.eye(len(y) // 4), np.ones((4, 1)))
    return prior, k, y, noise, states


@pytest.mark.parametrize("level", [True, False])
def test_posterior_is_dense_conditioning(level):
    """A constant per state as unknowns of their own, and contrasts that cancel it: both agree."""
    rows, evidence = random_rows(0, level=level), chosen()
    prior, k, y, noise, states = dense(rows, evidence)
    ours = posterior(rows, evidence)
    joint = np.block([k, states])
    start = np.zeros((joint.shape[1],) * 2)
    start[: len(prior), : len(prior)] = np.linalg.inv(prior)
    start[len(prior) :, len(prior) :] = np.eye(states.shape[1]) / FLAT
    covariance = np.linalg.inv(start + joint.T @ (joint / noise[:, None]))
    mean = covariance @ (joint.T @ (y / noise))
    np.testing.assert_allclose(ours.mean, mean[: len(prior)], atol=1e-5)
    np.testing.assert_allclose(
        ours.covariance(), covariance[: len(prior), : len(prior)], rtol=1e-5, atol=1e-8
    )
    contrasts = np.linalg.svd(states)[0][:, states.shape[1] :].T
    seen = contrasts @ (k @ prior @ k.T + np.diag(noise)) @ contrasts.T
    gain = prior @ k.T @ contrasts.T @ np.linalg.inv(seen)
    np.testing.assert_allclose(ours.mean, gain @ contrasts @ y, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("level", [True, False])
def test_evidence_is_the_density_of_the_contrasts(level):
    """A flat constant leaves orthonormal contrasts of the actions, weighted or not."""
    rows = random_rows(1, level=level)
    found, variance = best_prior(normal_equations(rows, 0.05, 1.5), rows)
    prior, k, y, noise, states = dense(rows, chosen(prior=variance))
    contrasts = np.linalg.svd(states)[0][:, states.shape[1] :].T
    covariance = contrasts @ (k @ prior @ k.T + np.diag(noise)) @ contrasts.T
    density = multivariate_normal(cov=covariance, allow_singular=False)
    # integrating exp(-w c^2 / 2) dc over the constant itself, not over its unit vector
    assert found == pytest.approx(density.logpdf(contrasts @ y) - 6 * np.log(4) / 2, abs=1e-6)


@pytest.mark.parametrize("level", [True, False])
def test_the_prior_of_largest_evidence_is_found(level):
    for seed in range(5):
        rows = random_rows(seed, level=level)
        found, variance = best_prior(normal_equations(rows, 0.05, 1.0), rows)
        prior, k, y, noise, states = dense(rows, chosen(scale=1.0))
        contrasts = np.linalg.svd(states)[0][:, states.shape[1] :].T
        grid = np.exp(np.linspace(*np.log(PRIOR_BOUNDS), 400))
        spread = prior - 4.0 * rows.prior
        table = []
        for value in grid:
            whole = k @ (spread + value * rows.prior) @ k.T + np.diag(noise)
            density = multivariate_normal(cov=contrasts @ whole @ contrasts.T)
            table.append(density.logpdf(contrasts @ y) - 6 * np.log(4) / 2)
        assert found >= max(table) - 1e-3
        assert np.abs(np.log(variance / grid[np.argmax(table)])) < 0.15


def test_data_without_a_reward_leave_it_uncertain():
    """Data without a sign of a reward do not prove it to be 0: standard deviations stay > 0."""
    rows = replace(random_rows(0), response=np.zeros((2, 3, 4)))
    found = fit(rows, start=None, evaluations=12, scaled=True)
    assert "prior_variance" in found.evidence.bounds_hit
    sd = np.sqrt(np.diag(rows.prior @ found.covariance() @ rows.prior))
    assert np.all(sd > 0.01 * rows.temperature)


def test_noise_is_found_from_any_start_of_the_search():
    rng = np.random.default_rng(3)
    k = rng.normal(size=(4, 60, 5, 8))
    model = rng.lognormal(-2, 1, k.shape[:-1])
    rows = Rows(
        coefficients=k,
        response=k @ rng.normal(0, 1, 8) + rng.normal(size=model.shape) * np.sqrt(0.05 + 2 * model),
        response_variance=np.full(model.shape, 1e-6),
        model_variance=model,
        prior=np.eye(8) - 1 / 8,
        log_constant=0.0,
        temperature=1.0,
    )
    best = max(
        best_prior(normal_equations(rows, noise, scale), rows)[0]
        for noise in np.geomspace(0.005, 0.2, 12)
        for scale in np.geomspace(1, 4, 12)
    )
    corners = [chosen(NOISE_BOUNDS[1], 10.0), chosen(NOISE_BOUNDS[0], 0.1)]
    starts = [None, chosen(), *(replace(one, bounds_hit=("noise_scale",)) for one in corners)]
    for start in starts:
        found = fit(rows, start=start, evaluations=60, scaled=True).evidence
        assert found.log_evidence > best - 0.1
        assert 0.01 < found.noise_variance < 0.1
        assert 1.5 < found.noise_scale < 3
        assert found.bounds_hit == ()


@pytest.mark.parametrize(("size", "name"), [(0.0, "noise_variance"), (100.0, "noise_variance")])
def test_bounds_hit_are_named(size, name):
    rng = np.random.default_rng(4)
    k = rng.normal(size=(2, 40, 4, 3))
    noise = rng.normal(size=k.shape[:-1]) * size
    rows = Rows(k, k @ np.ones(3) + noise, np.full(noise.shape, 1e-12), np.zeros(noise.shape),
                np.eye(3) - 1 / 3, 0.0, 1.0)  # fmt: skip
    assert name in fit(rows, start=None, evaluations=60, scaled=False).evidence.bounds_hit


def test_a_reward_without_spread_or_without_end_hits_the_bounds_of_its_prior():
    rows = random_rows(2)
    flat = replace(rows, response=np.zeros_like(rows.response))
    huge = replace(rows, response=rows.coefficients @ (np.arange(5) * 1e4))
    for odd in (flat, huge):
        found = fit(odd, start=None, evaluations=20, scaled=False)
        assert "prior_variance" in found.evidence.bounds_hit
        assert np.all(np.isfinite(found.mean))


def test_the_unit_is_the_temperature():
    """Everything measured in other units: same choice, same evidence up to the change of units."""
    one, hundred = random_rows(6), random_rows(6, temperature=100.0)
    a, b = (fit(rows, start=None, evaluations=40, scaled=True) for rows in (one, hundred))
    np.testing.assert_allclose(a.mean * 100, b.mean, rtol=1e-6)
    assert a.evidence.noise_variance * 1e4 == pytest.approx(b.evidence.noise_variance, rel=1e-6)
    assert a.evidence.prior_variance * 1e4 == pytest.approx(b.evidence.prior_variance, rel=1e-6)
    degrees = 2 * 3 * 3
    change = a.evidence.log_evidence - b.evidence.log_evidence
    assert change == pytest.approx(degrees * np.log(100), abs=1e-6)


def test_the_order_of_states_and_the_constants_do_not_matter():
    rows, evidence = random_rows(7), chosen()
    order = np.random.default_rng(0).permutation(3)
    moved = replace(
        rows,
        coefficients=rows.coefficients[:, order],
        response=rows.response[:, order] + np.array([5.0, -100.0, 3.0])[None, :, None],
        response_variance=rows.response_variance[:, order],
        model_variance=rows.model_variance[:, order],
    )
    a, b = posterior(rows, evidence), posterior(moved, evidence)
    np.testing.assert_allclose(a.mean, b.mean, atol=1e-10)
    np.testing.assert_allclose(a.covariance(), b.covariance(), rtol=1e-8, atol=1e-10)


def test_rows_of_infinite_variance_do_not_count():
    rows, evidence = random_rows(8), chosen()
    variance = rows.response_variance.copy()
    variance[0, 1], variance[1, 2, 3] = np.inf, np.inf
    spoilt = rows.response.copy()
    spoilt[~np.isfinite(variance)] = 1e6
    clean = posterior(replace(rows, response_variance=variance), evidence)
    other = posterior(replace(rows, response_variance=variance, response=spoilt), evidence)
    np.testing.assert_array_equal(clean.mean, other.mean)
    assert np.trace(clean.covariance()) > np.trace(posterior(rows, evidence).covariance())
