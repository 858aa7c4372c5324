"""Equation (10): stationarity, a numerical optimiser, and the limits; and the working response of
counts, against an optimiser and numerical integration.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad, simpson
from scipy.optimize import minimize
from scipy.special import gammaln, log_softmax
from scipy.stats import multivariate_normal

from malfl_algos.ma_lfl.adam import adam, adam_policy
from malfl_algos.ma_lfl.inference import fit
from malfl_algos.ma_lfl.policy_estimation import (
    CONCENTRATIONS,
    concentration_of,
    entropy_regularised_policy,
    working_response,
)
from malfl_algos.ma_lfl.posterior import Given
from malfl_algos.ma_lfl.rows import Rows

COUNTS = st.lists(st.integers(0, 10**7), min_size=2, max_size=7).filter(any)


@given(COUNTS, st.floats(1e-3, 50))
def test_every_action_has_the_same_multiplier(counts, coefficient):
    counts = np.array(counts)
    policy = entropy_regularised_policy(counts, entropy_coefficient=coefficient)
    assert np.all(policy > 0) or coefficient < 0.05
    assert abs(policy.sum() - 1) < 1e-12
    positive = policy > 1e-290
    frequency = counts / counts.sum()
    multiplier = frequency[positive] / policy[positive] - coefficient * np.log(policy[positive])
    np.testing.assert_allclose(multiplier, multiplier[0], rtol=1e-9)


@given(COUNTS)
def test_more_entropy_never_means_a_more_peaked_policy(counts):
    counts = np.array(counts)
    peaks = [
        entropy_regularised_policy(counts, entropy_coefficient=c).max() for c in (0.1, 0.3, 1.0)
    ]
    assert peaks[0] >= peaks[1] - 1e-12 >= peaks[2] - 2e-12


def test_agrees_with_a_general_optimiser():
    counts = np.array([800, 100, 60, 30, 10])

    def loss(logits):
        log_policy = log_softmax(logits)
        policy = np.exp(log_policy)
        return -(counts / 1000 @ log_policy) + 0.3 * (policy @ log_policy)

    found = minimize(loss, np.zeros(5), method="BFGS", options={"gtol": 1e-10}).x
    policy = entropy_regularised_policy(counts, entropy_coefficient=0.3)
    np.testing.assert_allclose(policy, np.exp(log_softmax(found)), atol=1e-7)


def test_figures_of_the_bias():
    """The entropy bonus takes (.8 .1 .06 .03 .01) to about (.67 .14 .10 .06 .03)."""
    policy = entropy_regularised_policy(np.array([80, 10, 6, 3, 1]), entropy_coefficient=0.3)
    np.testing.assert_allclose(policy, [0.67, 0.14, 0.10, 0.06, 0.03], atol=0.006)


def test_without_bonus_it_is_the_frequency_and_unvisited_is_uniform():
    counts = np.array([[3, 1, 0], [0, 0, 0]])
    plain = entropy_regularised_policy(counts, entropy_coefficient=0.0)
    np.testing.assert_array_equal(plain, [[0.75, 0.25, 0], [1 / 3] * 3])
    bonus = entropy_regularised_policy(counts, entropy_coefficient=0.3)
    np.testing.assert_allclose(bonus[1], 1 / 3)


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="counts must be >= 0, got -1"):
        entropy_regularised_policy(np.array([[1, -1]]), entropy_coefficient=0.3)
    with pytest.raises(ValueError, match="entropy_coefficient must be >= 0, got nan"):
        entropy_regularised_policy(np.array([[1, 1]]), entropy_coefficient=float("nan"))


def test_adam_makes_its_first_step_of_the_learning_rate_and_finds_a_minimum():
    centre = np.array([3.0, -2.0])
    one = adam(lambda x: 2 * (x - centre), np.zeros(2), learning_rate=0.1, epochs=1)
    np.testing.assert_allclose(one, [0.1, -0.1], rtol=1e-6)
    many = adam(lambda x: 2 * (x - centre), np.zeros(2), learning_rate=0.05, epochs=3000)
    np.testing.assert_allclose(many, centre, atol=1e-3)


def test_adam_reaches_the_exact_policy_if_it_is_let_run_and_not_in_ten_steps():
    counts = np.random.default_rng(0).integers(1, 500, size=(20, 5))
    exact = entropy_regularised_policy(counts, entropy_coefficient=0.3)
    options = {"entropy_coefficient": 0.3, "learning_rate": 0.1}
    few = adam_policy(counts, epochs=10, rng=np.random.default_rng(1), **options)
    many = adam_policy(counts, epochs=3000, rng=np.random.default_rng(1), **options)
    np.testing.assert_allclose(many, exact, atol=5e-3)
    assert np.abs(few - exact).max() > 0.02


def log_multinomial(counts, x, temperature):
    constant = gammaln(counts.sum() + 1) - gammaln(counts + 1).sum()
    return constant + (counts * log_softmax(x / temperature)).sum()


@pytest.mark.parametrize("temperature", [1e-3, 3.0, 1e3])
@pytest.mark.parametrize("seed", range(4))
def test_the_mode_is_the_optimum(seed, temperature):
    rng = np.random.default_rng(seed)
    mean = rng.normal(0, 2, 5) * temperature
    variance = rng.lognormal(0, 2, 5) * temperature**2
    counts = rng.poisson(rng.lognormal(1, 2, 5)).astype(float)
    response, policy = working_response(mean, variance, counts, temperature=temperature)

    def loss(y):
        gap = (y * temperature - mean) ** 2 / variance
        return gap.sum() / 2 - (counts * log_softmax(y)).sum()

    best = minimize(loss, mean / temperature, method="BFGS", options={"gtol": 1e-8}).x
    np.testing.assert_allclose(policy, np.exp(log_softmax(best)), atol=1e-5)
    assert response.mean.shape == policy.shape == (5,)


@pytest.mark.parametrize("counts", [[0, 0, 0], [1e7, 0, 0], [1e7, 1e7, 1], [3, 0, 1], [0, 0, 1]])
@pytest.mark.parametrize("variance", [1e-8, 1.0, 1e6])
def test_the_gradient_vanishes_at_the_mode(counts, variance):
    """Also for counts and variances of any size; the mode is x = z - alpha (n - mu) / mu."""
    counts, prior = np.array(counts, dtype=float), np.array([2.0, -1.0, 30.0])
    response, policy = working_response(prior, np.full(3, variance), counts, temperature=3.0)
    assert np.isfinite(response.log_constant)
    assert policy.sum() == pytest.approx(1)
    if not counts.any():
        assert np.all(np.isinf(response.variance))
        np.testing.assert_allclose(policy, np.exp(log_softmax(prior / 3)), rtol=1e-9)
        return
    expected = np.maximum(counts.sum() * policy, 1e-12)
    x = response.mean - 3 * (counts - expected) / expected
    slope = (counts - counts.sum() * policy) / 3 - (x - prior) / variance
    curvature = counts.sum() * policy / 9 + 1 / variance
    assert np.abs(slope / curvature).max() < 1e-7 * 30  # in units of x: digits of the largest
    np.testing.assert_allclose(response.variance, 9 / expected)


def test_a_single_action_says_nothing():
    response, policy = working_response(
        np.array([[5.0]]), np.array([[1.0]]), np.array([[100.0]]), temperature=2.0
    )
    np.testing.assert_array_equal(policy, [[1.0]])
    assert np.isfinite(response.log_constant)


def test_rows_do_not_disturb_each_other():
    rng = np.random.default_rng(5)
    mean, variance = rng.normal(size=(2, 3, 4)), rng.lognormal(size=(2, 3, 4))
    counts = rng.poisson(10.0, size=(2, 3, 4)).astype(float)
    counts[1, 2] = 0
    together, policies = working_response(mean, variance, counts, temperature=1.0)
    apart = [
        working_response(mean[i], variance[i], counts[i], temperature=1.0)[0] for i in range(2)
    ]
    assert together.log_constant == pytest.approx(sum(one.log_constant for one in apart))
    for i in range(2):
        np.testing.assert_allclose(together.mean[i], apart[i].mean, atol=1e-8)
    assert policies.shape == (2, 3, 4)


def tiny_evidence(counts, mean, variance, temperature):
    """Evidence of counts of one state by the Gaussian route, theta having no influence."""
    response, _ = working_response(mean, variance, counts, temperature=temperature)
    rows = Rows(
        coefficients=np.zeros((1, 1, len(counts), 1)),
        response=(response.mean - mean)[None, None],
        response_variance=response.variance[None, None],
        model_variance=variance[None, None],
        prior=np.eye(1),
        log_constant=response.log_constant,
        temperature=temperature,
    )
    # no noise of its own, the model's variance as it is, any prior
    given = Given(noise_variance=0.0, noise_scale=1.0, prior_variance=1.0)
    found = fit(rows, start=None, evaluations=1, scaled=True, given=given)
    return found.evidence.log_evidence


@pytest.mark.parametrize("temperature", [0.2, 3.0])
@pytest.mark.parametrize(("counts", "tolerance"), [([40, 25], 6e-3), ([400, 30], 3e-3)])
def test_evidence_of_two_actions_is_the_integral(counts, tolerance, temperature):
    counts = np.array(counts, dtype=float)
    mean = np.array([0.3, -0.2]) * temperature
    variance = np.array([0.3, 0.5]) * temperature**2
    spread = np.sqrt(variance.sum())

    def integrand(gap):
        x = np.array([gap, 0.0])
        density = np.exp(-((gap - (mean[0] - mean[1])) ** 2) / (2 * spread**2))
        return np.exp(log_multinomial(counts, x, temperature)) * density

    centre = temperature * np.log(counts[0] / counts[1])
    width = 8 * temperature / np.sqrt(counts.min())
    integral = quad(integrand, centre - width, centre + width, epsabs=0, epsrel=1e-10)[0]
    exact = np.log(integral / (spread * np.sqrt(2 * np.pi)))
    ours = tiny_evidence(counts, mean, variance, temperature)
    assert ours == pytest.approx(exact, abs=tolerance)


@pytest.mark.parametrize(("counts", "tolerance"), [([60, 30, 20], 5e-3), ([6, 1, 0], 0.06)])
def test_evidence_of_three_actions_is_the_integral(counts, tolerance):
    """On a grid over the two contrasts; Laplace's method errs more where counts are few."""
    counts = np.array(counts, dtype=float)
    mean, variance = np.array([1.0, 0.0, -1.0]), np.array([1.0, 2.0, 0.5])
    contrast = np.array([[1.0, 0.0, -1.0], [0.0, 1.0, -1.0]])
    grid = np.linspace(-15, 15, 801)
    first, second = np.meshgrid(grid, grid, indexing="ij")
    density = multivariate_normal(contrast @ mean, contrast @ np.diag(variance) @ contrast.T)
    x = np.stack([first, second, np.zeros_like(first)], axis=-1)
    likelihood = (counts * log_softmax(x / 3.0, axis=-1)).sum(axis=-1)
    likelihood += gammaln(counts.sum() + 1) - gammaln(counts + 1).sum()
    values = np.exp(likelihood) * density.pdf(np.stack([first, second], axis=-1))
    exact = np.log(simpson(simpson(values, x=grid), x=grid))
    assert tiny_evidence(counts, mean, variance, 3.0) == pytest.approx(exact, abs=tolerance)


@pytest.mark.parametrize(("truth", "visits"), [(0.3, 40), (3.0, 40), (1000.0, 40), (1000.0, 0)])
def test_the_prior_of_one_stage_is_that_of_the_urn(truth, visits):
    """The probability of drawing one action after the other, each time adding one like it."""
    rng = np.random.default_rng(1)
    policies = rng.dirichlet(np.full(4, truth), size=60)
    actions = np.stack([rng.choice(4, size=visits, p=policy) for policy in policies])
    counts = np.stack([np.bincount(own, minlength=4) for own in actions.astype(int)])

    def urn(c):
        total = 0.0
        for own in actions:
            held = np.full(4, c)
            for action in own:
                total += np.log(held[int(action)] / held.sum())
                held[int(action)] += 1
        return total

    found = concentration_of(counts)
    assert found == (max(CONCENTRATIONS, key=urn))
    assert found == (truth if visits else CONCENTRATIONS[0])
