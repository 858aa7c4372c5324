"""The log evidence, its derivatives, and the search along them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from malfl_algos.ma_lfl import row_sums
from malfl_algos.ma_lfl.noise_search import WIDEST_STEP, _newton_step, noise_fit, searched_noise
from malfl_algos.ma_lfl.posterior import evidence_of
from malfl_algos.ma_lfl.rows import Rows, normal_equations

LOGS = np.log([0.3, 0.8, 2.0])


def some_rows():
    rng = np.random.default_rng(5)
    shape, n = (3, 6, 4), 7
    k = rng.normal(size=(*shape, n))
    counting, model = rng.uniform(0.05, 0.3, shape), rng.uniform(0.1, 0.5, shape)
    counting[1, 2], counting[2, 3, 1] = np.inf, np.inf
    sd = np.sqrt(0.2 + 1.3 * model + np.where(np.isfinite(counting), counting, 0))
    response = k @ rng.normal(size=n) + sd * rng.normal(size=shape)
    return Rows(k, response, counting, model, np.eye(n) - 1 / n, 0.0, 1.0)


@pytest.mark.parametrize("block", [40, 2**18])
def test_evidence_and_gradient(monkeypatch, block):
    monkeypatch.setattr(row_sums, "BLOCK", block)
    rows = some_rows()
    found = noise_fit(rows, LOGS)
    noise, scale, prior = np.exp(LOGS)
    value = evidence_of(normal_equations(rows, noise, scale), rows)(np.log(prior))
    assert found.log_evidence == pytest.approx(value, abs=1e-8)
    step = 1e-4 * np.eye(3)
    sides = [(noise_fit(rows, LOGS + own), noise_fit(rows, LOGS - own)) for own in step]
    slopes = [(up.log_evidence - down.log_evidence) / 2e-4 for up, down in sides]
    np.testing.assert_allclose(found.gradient, slopes, rtol=1e-5, atol=1e-6)
    shared = noise_fit(replace(rows, model_variance=0 * rows.model_variance), LOGS[[0, 2]])
    assert shared.gradient.shape == (2,)


def test_average_information_is_half_of_w_q_w():
    """The dense covariance, with a nearly flat constant for every stage and state."""
    rows = some_rows()
    seen = np.isfinite(rows.response_variance).ravel()
    k = rows.coefficients.reshape(-1, 7)[seen]
    model = rows.model_variance.ravel()[seen]
    variance = np.exp(LOGS[0]) + np.exp(LOGS[1]) * model + rows.response_variance.ravel()[seen]
    groups = np.repeat(np.arange(18), 4)[seen]
    flat = 1e7 * (groups[:, None] == groups[None])
    of_prior = np.exp(LOGS[2]) * k @ rows.prior @ k.T
    inverse = np.linalg.inv(
        np.diag(variance) + of_prior + 1e5 / 7 * np.outer(*2 * [k.sum(1)]) + flat
    )
    pulled = inverse @ rows.response.ravel()[seen]
    w = np.stack([np.exp(LOGS[0]) * pulled, np.exp(LOGS[1]) * model * pulled, of_prior @ pulled])
    found = noise_fit(rows, LOGS)
    np.testing.assert_allclose(found.information, w @ inverse @ w.T / 2, rtol=2e-3, atol=1e-3)


def test_the_search_ends_where_no_neighbour_is_better():
    rows = some_rows()
    bounds = np.full(3, -7.0), np.array([0.0, 2.3, 6.9])
    found = searched_noise(rows, LOGS, bounds, evaluations=16)
    assert found.log_evidence > noise_fit(rows, LOGS).log_evidence
    inside = (found.logs > bounds[0]) & (found.logs < bounds[1])
    for own in 0.3 * np.eye(3)[inside]:
        for there in (found.logs + own, found.logs - own):
            assert noise_fit(rows, there).log_evidence < found.log_evidence + 1e-3
    held = np.array([-7.0, 2.0, 6.9]), np.array([-6.9, 2.3, 6.9])
    stuck = searched_noise(rows, LOGS, held, evaluations=16)
    assert (stuck.logs >= held[0]).all()
    assert (stuck.logs <= held[1]).all()


def test_a_noise_near_zero_does_not_hold_the_others_back():
    """Its derivative is nearly 0, and its information nearer."""
    flat = replace(
        noise_fit(some_rows(), LOGS),
        gradient=np.array([-1e-3, -3e-3, 3.7]),
        information=np.diag([1e-9, 0.7, 20.0]),
    )
    step = _newton_step(flat, np.full(3, -16.0), np.full(3, 7.0))
    assert abs(step).max() <= WIDEST_STEP
    assert step[2] == pytest.approx(3.7 / 20, rel=0.01)
