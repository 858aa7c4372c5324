"""Weights and step sizes of gradient learners, and cloning, from their definitions."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import log_softmax

from malfl_algos.baselines.gradient_learner import fit_weights, softmax_parameters
from malfl_algos.ma_lfl.adam import cloned_policies


def learner(seed, *, noise=0.0, n_improvements=6, n_parameters=20, k=4):
    """Gradients, weights, step sizes, and the changes that they make."""
    rng = np.random.default_rng(seed)
    gradients = rng.standard_normal((n_improvements, n_parameters, k))
    weights, steps = rng.standard_normal(k), rng.uniform(0.1, 2.0, n_improvements)
    changes = steps[:, None] * (gradients @ weights)
    return gradients, weights, steps, changes + noise * rng.standard_normal(changes.shape)


@pytest.mark.parametrize("seed", range(5))
def test_weights_and_step_sizes_of_an_exact_learner(seed):
    gradients, weights, steps, changes = learner(seed)
    fit = fit_weights(changes, gradients)
    np.testing.assert_allclose(fit.weights / steps.mean(), weights, rtol=1e-5)
    np.testing.assert_allclose(fit.step_sizes, steps / steps.mean(), rtol=1e-5)
    assert fit.step_sizes.mean() == pytest.approx(1)
    assert (fit.rank, fit.converged) == (4, True)
    assert fit.residual < 1e-9


def test_given_step_sizes_are_the_closed_form():
    gradients, _, steps, changes = learner(7, noise=0.5)
    fit = fit_weights(changes, gradients, step_sizes=steps)
    left = sum(a**2 * J.T @ J for a, J in zip(steps, gradients, strict=True))
    right = sum(a * J.T @ d for a, J, d in zip(steps, gradients, changes, strict=True))
    np.testing.assert_allclose(fit.weights, np.linalg.solve(left, right))
    np.testing.assert_array_equal(fit.step_sizes, steps)
    assert (fit.iterations, fit.converged) == (0, True)


def test_the_alternation_ends_where_no_step_size_and_no_weight_can_be_better():
    gradients, _, _, changes = learner(8, noise=0.3)
    fit = fit_weights(changes, gradients)

    def loss(weights, steps):
        return ((changes - steps[:, None] * (gradients @ weights)) ** 2).sum()

    least = loss(fit.weights, fit.step_sizes)
    assert fit.residual == pytest.approx(least / (changes**2).sum())
    for step in np.eye(4) * 1e-3:
        assert min(loss(fit.weights + s * step, fit.step_sizes) for s in (1, -1)) > least
    for step in np.eye(6) * 1e-2:
        assert min(loss(fit.weights, fit.step_sizes + s * step) for s in (1, -1)) > least


def test_steps_against_the_gradient_are_not_taken():
    """Step sizes stay positive, so that the sign of the weights is that of most changes."""
    gradients, weights, _, changes = learner(9)
    changes[2] *= -1
    fit = fit_weights(changes, gradients)
    assert np.all(fit.step_sizes > 0)
    assert fit.step_sizes[2] < 0.01
    assert np.corrcoef(fit.weights, weights)[0, 1] > 0.99


def test_nothing_changed_gives_no_reward():
    gradients, *_ = learner(10)
    fit = fit_weights(np.zeros((6, 20)), gradients)
    np.testing.assert_array_equal(fit.weights, np.zeros(4))
    np.testing.assert_array_equal(fit.step_sizes, np.ones(6))
    assert fit.residual == 0


@pytest.mark.parametrize("last_fixed", [True, False])
def test_parameters_give_the_policy_back(last_fixed):
    logits = np.random.default_rng(11).standard_normal((3, 4, 5))
    logs = np.asarray(log_softmax(logits, axis=-1))
    parameters = softmax_parameters(logs, last_fixed=last_fixed)
    if last_fixed:
        assert parameters.shape == (3, 4, 4)
        parameters = np.concatenate([parameters, np.zeros((3, 4, 1))], axis=-1)
    else:
        np.testing.assert_allclose(parameters.sum(axis=-1), 0, atol=1e-12)
    np.testing.assert_allclose(log_softmax(parameters, axis=-1), logs)


@pytest.mark.parametrize("last_fixed", [True, False])
def test_cloning_takes_three_steps_of_adam_per_stage_from_the_stage_before(last_fixed):
    counts = np.random.default_rng(12).integers(0, 9, size=(3, 4, 3))
    counts[:, 2] = 0
    free, point = 2 if last_fixed else 3, np.zeros((4, 3))
    for stage, ours in zip(counts, cloned_policies(counts, last_fixed=last_fixed), strict=True):
        mean, square = np.zeros((4, 3)), np.zeros((4, 3))
        for epoch in (1, 2, 3):
            policy = np.exp(log_softmax(point, axis=1))
            entropy = -(policy * np.log(policy)).sum(axis=1, keepdims=True)
            bonus = -policy * (np.log(policy) + entropy)  # of the entropy, in the logits
            visits = stage.sum(axis=1, keepdims=True)
            slope = -(stage - visits * policy) - 0.01 * visits * bonus
            slope[:, free:] = 0
            mean, square = 0.9 * mean + 0.1 * slope, 0.999 * square + 0.001 * slope**2
            size = np.sqrt(square / (1 - 0.999**epoch)) + 1e-8
            point = point - 0.5 * mean / (1 - 0.9**epoch) / size
        np.testing.assert_allclose(ours, log_softmax(point, axis=1))
    np.testing.assert_allclose(np.exp(ours[2]), 1 / 3)  # never visited
    assert np.ptp(ours) > 0.5
