"""The mode and the covariance of a whole history, against slow routes."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import log_softmax

from malfl_algos.baselines.gradient_history import fit_history


def problem(seed=0, n_stages=4, n_states=3, n_actions=3, k=2):
    """Counts of a learner whose gradient depends on its policy."""
    rng = np.random.default_rng(seed)
    maps = rng.standard_normal((n_stages, n_states, n_actions, k))

    def gradient(stage, policy, weights):
        return (policy * (maps[stage] @ weights)).copy()

    truth, logits = rng.standard_normal(k), np.zeros((n_states, n_actions))
    counts = np.zeros((n_stages, n_states, n_actions))
    for stage in range(n_stages):
        policy = np.exp(log_softmax(logits, axis=1))
        counts[stage] = [rng.multinomial(300, own) for own in policy]
        logits = logits + gradient(stage, policy, truth)
    return counts, gradient, truth


def log_posterior(counts, gradient, weights, prior_variance, last_fixed):
    logits, total = np.zeros(counts.shape[1:]), 0.0
    for stage, own in enumerate(counts):
        logs = log_softmax(logits, axis=1)
        total += (own * logs).sum()
        change = gradient(stage, np.exp(logs), weights)
        if last_fixed:
            change[:, -1] = 0
        logits = logits + change
    return total - weights @ weights / (2 * prior_variance)


@pytest.mark.parametrize("last_fixed", [False, True])
def test_the_mode_is_the_greatest_posterior(last_fixed):
    counts, gradient, truth = problem()
    fit = fit_history(counts, gradient, 2, last_fixed=last_fixed, prior_variance=2.0)
    found = minimize(
        lambda w: -log_posterior(counts, gradient, w, 2.0, last_fixed),
        np.zeros(2),
        method="Nelder-Mead",
        options={"xatol": 1e-8, "fatol": 1e-10},
    )
    np.testing.assert_allclose(fit.weights, found.x, atol=1e-4)
    assert fit.converged
    assert fit.rank == 2
    idle = log_posterior(counts, gradient, np.zeros(2), 2.0, last_fixed)
    assert fit.gain > 0
    np.testing.assert_allclose(fit.log_likelihood - fit.gain, idle)
    if not last_fixed:
        sd = np.sqrt(np.diag(fit.covariance))
        assert np.all(np.abs(fit.weights - truth) < 4 * sd)


def test_standard_deviations_are_those_of_the_estimates():
    """Against the spread of the estimates over many draws of the counts."""
    errors, sizes = [], []
    for seed in range(60):
        counts, gradient, truth = problem(seed)
        fit = fit_history(counts, gradient, 2, last_fixed=False, prior_variance=100.0)
        errors.append((fit.weights - truth) / np.sqrt(np.diag(fit.covariance)))
        sizes.append(np.abs(fit.weights - truth).max())
    assert 0.8 < np.std(errors) < 1.25
    assert np.median(sizes) < 0.2


def test_an_agent_that_never_learns_has_no_reward():
    _, gradient, _ = problem()
    counts = np.full((4, 3, 3), 10**5)
    fit = fit_history(counts.astype(float), gradient, 2, last_fixed=False, prior_variance=1.0)
    assert np.all(np.abs(fit.weights) < 1e-6)
    assert abs(fit.gain) < 1e-6
