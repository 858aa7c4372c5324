"""Held-out explanation, evidence and agreement, against routes of their own."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import multivariate_normal
from verdict_rows import sums_of

from malfl_algos.verdict.agreement import agreement
from malfl_algos.verdict.halves import (
    Improvement,
    determined,
    halves,
    held_out,
    log_evidence,
    mean,
    total,
)

N_STATES, N_ACTIONS, N_UNKNOWNS = 6, 3, 4


def made(theta, *, noise=0.05, n_improvements=6, seed=0, counting=1e-4):
    """Improvements whose responses follow from theta."""
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(n_improvements):
        k = rng.normal(size=(N_STATES, N_ACTIONS, N_UNKNOWNS))
        shape = k.shape[:-1]
        y = k @ theta + rng.normal(scale=np.sqrt(noise + counting), size=shape)
        y += rng.normal(scale=10, size=(N_STATES, 1))  # the constant of a state says nothing
        level = np.full(shape, noise)
        rows.append(Improvement(k, y, np.full(shape, counting), level, level))
    return rows


def predicted(rows):
    return held_out(rows, np.eye(N_UNKNOWNS), [sums_of(own) for own in rows])


def test_evidence_is_that_of_the_contrasts():
    (rows,) = made(np.zeros(N_UNKNOWNS), n_improvements=1)
    prior = 2.0 * np.eye(N_UNKNOWNS)
    contrasts = np.linalg.qr(np.column_stack([np.ones(N_ACTIONS), np.eye(N_ACTIONS)[:, 1:]]))[0]
    k = np.einsum("ac,sau->scu", contrasts[:, 1:], rows.coefficients).reshape(-1, N_UNKNOWNS)
    y = np.einsum("ac,sa->sc", contrasts[:, 1:], rows.response).ravel()
    spread = k @ np.linalg.inv(prior) @ k.T + (0.05 + 1e-4) * np.eye(len(y))
    oracle = multivariate_normal(np.zeros(len(y)), spread).logpdf(y)
    # a flat constant per state integrates to sqrt(1 / A) of the contrasts' density
    oracle += -N_STATES * np.log(N_ACTIONS) / 2
    assert log_evidence(sums_of(rows), prior) == pytest.approx(oracle, rel=1e-9)


def test_what_the_rule_predicts_is_explained():
    found = predicted(made(np.array([2.0, -1.0, 0.5, 1.0])))
    assert found.explained > 0.99
    assert found.misfit == pytest.approx(1, abs=0.35)
    assert found.p_value > 0.01


def test_responses_that_no_reward_explains():
    rows = made(np.zeros(N_UNKNOWNS), noise=1.0)
    unexpected = [
        Improvement(own.coefficients, own.response, own.counting, own.learning, 0.01 * own.learning)
        for own in rows
    ]
    assert predicted(unexpected).explained < 0.2


def test_noise_that_is_larger_than_the_fit_says():
    rows = made(np.ones(N_UNKNOWNS), noise=0.5)
    small = [
        Improvement(own.coefficients, own.response, own.counting, own.learning / 9, own.predicted)
        for own in rows
    ]
    found = predicted(small)
    assert found.misfit > 3
    assert found.p_value < 1e-6


def test_directions_that_no_row_touches_are_not_determined():
    rows = made(np.ones(N_UNKNOWNS))
    blind = []
    for own in rows:
        k = own.coefficients.copy()
        k[..., 0] = 0
        blind.append(Improvement(k, own.response, own.counting, own.learning, own.predicted))
    prior = np.eye(N_UNKNOWNS)
    assert determined(total([sums_of(own) for own in rows]), prior) == N_UNKNOWNS
    assert determined(total([sums_of(own) for own in blind]), prior) == N_UNKNOWNS - 1


def test_halves_add_up_to_the_whole():
    parts = [sums_of(own) for own in made(np.ones(N_UNKNOWNS), n_improvements=5)]
    one, two = halves(parts)
    np.testing.assert_allclose((one + two).information, total(parts).information)
    assert one.degrees == 3 * N_STATES * (N_ACTIONS - 1)


def test_the_expected_correlation_is_calibrated():
    """Over rewards drawn from the prior, the expected correlation is the mean of the actual one."""
    expected, actual = [], []
    for seed in range(40):
        theta = np.random.default_rng(1000 + seed).normal(size=N_UNKNOWNS)
        parts = [sums_of(own) for own in made(theta, noise=20.0, n_improvements=4, seed=seed)]
        found = agreement(
            halves(parts), total(parts), np.eye(N_UNKNOWNS), None, lambda reward: reward
        )
        expected.append(found.expected)
        actual.append(np.corrcoef(theta, mean(total(parts), np.eye(N_UNKNOWNS)))[0, 1])
    assert np.mean(expected) == pytest.approx(np.mean(actual), abs=0.1)
    assert 0.2 < np.mean(actual) < 0.95


def test_another_reward_is_expected_to_be_far_from_the_ground_truth():
    theta = np.array([2.0, -1.0, 0.5, 1.0])
    parts = [sums_of(own) for own in made(theta)]
    both, whole = halves(parts), total(parts)
    found = agreement(both, whole, np.eye(N_UNKNOWNS), theta[::-1], lambda reward: reward)
    right = agreement(both, whole, np.eye(N_UNKNOWNS), None, lambda reward: reward)
    assert right.low > 0.99
    assert found.expected == pytest.approx(np.corrcoef(theta, theta[::-1])[0, 1], abs=0.1)
