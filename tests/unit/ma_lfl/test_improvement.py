"""Learners that keep a share of their log policy, against dense algebra and integrals on grids."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.integrate import simpson
from scipy.special import gammaln, log_softmax
from scipy.stats import norm

import malfl_algos.ma_lfl.chain_sums as chain_sums_module
from malfl_algos.ma_lfl.chain_sums import chain_sums
from malfl_algos.ma_lfl.improvement import OPEN, by_state, joint_response, step_of, whitening
from malfl_algos.ma_lfl.inference import fit
from malfl_algos.ma_lfl.policy_estimation import working_response
from malfl_algos.ma_lfl.posterior import Given
from malfl_algos.ma_lfl.rows import Chain, Rows, Stagewise, normal_equations
from malfl_algos.ma_lfl.stagewise import fitted_stages, stage_gain, stage_gradient


def dense(row_variance, response_variance, retained):
    """Precision and log norm of one state's rows without their constants, by dense algebra."""
    n, _, n_actions = row_variance.shape
    seen = np.isfinite(response_variance[:, 0])
    differences = np.zeros((n, n + 1))
    differences[np.arange(n), np.arange(n) + 1] = 1
    differences[np.arange(n), np.arange(n)] = -retained
    # combinations of the rows that contain no y that was not observed
    ways = []
    for action in range(n_actions):
        hidden = differences[:, ~seen[:, action]]
        ways.append(np.linalg.svd(hidden)[0][:, hidden.shape[1] :] if hidden.size else np.eye(n))
    covariance, constants = np.zeros((n * n_actions,) * 2), np.zeros((n * n_actions, n + 1))
    for action in range(n_actions):
        at = np.arange(n) * n_actions + action
        errors = np.where(seen[:, action], response_variance[:, 0, action], 0)
        own = np.diag(row_variance[:, 0, action]) + differences * errors @ differences.T
        covariance[np.ix_(at, at)] = own
        constants[at] = differences * seen[:, action]
    select = np.zeros((n * n_actions, sum(way.shape[1] for way in ways)))
    column = 0
    for action, way in enumerate(ways):
        at = np.arange(n) * n_actions + action
        select[at, column : column + way.shape[1]] = way
        column += way.shape[1]
    inverse = np.linalg.inv(select.T @ covariance @ select)
    flat = select.T @ constants[:, 1:]
    flat = flat[:, np.abs(flat).max(axis=0) > 1e-12]
    gram = flat.T @ inverse @ flat
    inside = inverse - inverse @ flat @ np.linalg.inv(gram) @ flat.T @ inverse
    log_norm = np.linalg.slogdet(inverse)[1] - np.linalg.slogdet(gram)[1]
    degrees = len(inverse) - len(gram)
    return select @ inside @ select.T, (log_norm - degrees * np.log(2 * np.pi)) / 2, degrees


@pytest.mark.parametrize("retained", [0.0, 0.3, 0.9, 1.0])
def test_whitening_is_dense_algebra(retained):
    rng = np.random.default_rng(0)
    rows = rng.lognormal(-2, 0.5, (3, 1, 4))
    responses = rng.lognormal(-3, 1, (4, 1, 4))
    ours = whitening(rows, responses, retained)
    precision, log_norm, degrees = dense(rows, responses, retained)
    np.testing.assert_allclose(ours.root[0].T @ ours.root[0], precision, atol=1e-9)
    assert ours.log_norm == pytest.approx(log_norm)
    assert ours.degrees == degrees == 9


def test_a_stage_without_visits_joins_the_rows_around_it():
    """Then only y_3 - rho^2 y_1 is known of the two rows around it."""
    rng = np.random.default_rng(1)
    rows = rng.lognormal(-2, 0.5, (3, 1, 4))
    responses = rng.lognormal(-3, 1, (4, 1, 4))
    responses[2] = np.inf
    ours = whitening(rows, responses, 0.6)
    precision, _, degrees = dense(rows, responses, 0.6)
    found = ours.root[0].T @ ours.root[0]
    np.testing.assert_allclose(found, precision, atol=1e-9)
    assert ours.degrees == degrees == 6


@pytest.mark.parametrize("retained", [0.3, 1.0])
def test_sums_are_those_of_the_whitened_rows(monkeypatch, retained):
    monkeypatch.setattr(chain_sums_module, "BLOCK", 200)  # three states at a time
    rng = np.random.default_rng(2)
    rows = rng.lognormal(-2, 0.5, (3, 7, 4))
    responses = rng.lognormal(-3, 1, (4, 7, 4))
    responses[2, 1], responses[1, :, 3] = np.inf, np.inf
    table, response = rng.normal(size=(3, 7, 4, 5)), rng.normal(size=(3, 7, 4))
    white = whitening(rows, responses, retained)
    columns = (white.root @ by_state(table)).reshape(-1, 5)
    left = np.einsum("sij,sj->si", white.root, by_state(response)).ravel()
    found = chain_sums(table, response, rows, responses, retained)
    np.testing.assert_allclose(found.information, columns.T @ columns)
    np.testing.assert_allclose(found.moment, columns.T @ left)
    assert found.squares == pytest.approx(left @ left)
    assert found.log_norm == pytest.approx(white.log_norm)
    assert found.degrees == white.degrees


def small_rows(seed, *, chain, n=3, n_unknowns=5):
    rng = np.random.default_rng(seed)
    shape = (n, 4, 3)
    rows = Rows(
        coefficients=rng.normal(size=(*shape, n_unknowns)),
        response=rng.normal(size=shape),
        response_variance=rng.lognormal(-2, 0.5, shape),
        model_variance=rng.lognormal(-3, 0.5, shape),
        prior=np.eye(n_unknowns) - 1 / n_unknowns,
        log_constant=0.0,
        temperature=1.0,
    )
    if chain is not None:
        previous, first = rng.normal(size=shape), rng.lognormal(-2, 0.5, shape[1:])
        rows = replace(rows, chain=Chain(chain, previous, first))
    return rows


def test_nothing_kept_is_soft_policy_iteration():
    plain = normal_equations(small_rows(2, chain=None), 0.1, 0.5)
    chained = normal_equations(small_rows(2, chain=0.0), 0.1, 0.5)
    np.testing.assert_allclose(chained.information, plain.information, rtol=1e-9)
    np.testing.assert_allclose(chained.moment, plain.moment, rtol=1e-9)
    assert chained.squares == pytest.approx(plain.squares)
    assert chained.log_norm == pytest.approx(plain.log_norm)
    assert chained.degrees == plain.degrees


def random_chain(seed, retained, *, n_states=2, n_actions=3):
    rng = np.random.default_rng(seed)
    counts = rng.integers(0, 60, (4, n_states, n_actions)).astype(float)
    return {
        "drift": rng.normal(0, 1, (3, n_states, n_actions)),
        "row_variance": rng.lognormal(-1, 0.5, (3, n_states, n_actions)),
        "counts": counts[1:],
        "first_counts": counts[0] + 0.3,
        "start": np.zeros(counts.shape),
        "retained": retained,
        "temperature": 2.0,
    }


def test_the_joint_mode_keeping_nothing_is_the_mode_of_every_stage():
    case = random_chain(3, 0.0)
    response, policies = joint_response(**case)
    expected, later = working_response(
        case["drift"], case["row_variance"], case["counts"], temperature=2.0
    )
    np.testing.assert_allclose(response.mean[1:], expected.mean, atol=1e-6)
    np.testing.assert_allclose(response.variance[1:], expected.variance, rtol=1e-6)
    np.testing.assert_allclose(policies[1:], later, atol=1e-8)
    first = case["first_counts"]
    np.testing.assert_allclose(policies[0], first / first.sum(-1, keepdims=True), atol=1e-8)
    assert response.log_constant == pytest.approx(expected.log_constant)


@pytest.mark.parametrize("retained", [0.4, 1.0])
def test_the_joint_mode_is_a_mode(retained):
    """The Gaussian that is expanded there has its own mode at the same place."""
    case = random_chain(4, retained)
    response, policies = joint_response(**case)
    for state in range(2):
        precision, right = np.zeros((12, 12)), np.zeros(12)
        for h in range(4):
            for a in range(3):
                at = 3 * h + a
                precision[at, at] += 1 / response.variance[h, state, a]
                right[at] += response.mean[h, state, a] / response.variance[h, state, a]
                if h < 3:
                    row = np.zeros(12)
                    row[[at + 3, at]] = 1, -retained
                    weight = 1 / case["row_variance"][h, state, a]
                    precision += weight * np.outer(row, row)
                    right += weight * case["drift"][h, state, a] * row
        x = np.linalg.solve(precision, right).reshape(4, 3)
        found = np.exp(log_softmax(x / 2.0, axis=-1))
        np.testing.assert_allclose(found, policies[:, state], atol=1e-6)


@pytest.mark.parametrize(
    ("retained", "counts", "tolerance"),
    [
        (0.7, [[30, 50], [60, 25], [55, 12]], 0.02),
        (0.3, [[300, 500], [600, 250], [550, 120]], 0.01),
        (1.0, [[30, 50], [60, 25], [55, 12]], 0.02),
        (0.7, [[1, 0], [6, 2], [9, 1]], 0.25),
    ],
)
def test_evidence_of_three_stages_is_the_integral(retained, counts, tolerance):
    """One state, two actions, one reward: the gap of log policies of every stage and the reward are
    integrated on a grid.
    """
    counts = np.array(counts, dtype=float)
    alpha, noise, prior = 1.5, 0.04, 0.8
    k = np.array([[0.7, -0.4], [0.5, 0.2]])
    offset = np.array([[0.1, 0.0], [-0.2, 0.1]])
    step, keep = step_of(retained), 1 - retained
    given = Given(noise, 0.0, prior)
    reward = 0.0
    for _ in range(8):
        drift = (step * k * reward + keep * offset)[:, None]
        response, _ = joint_response(
            drift,
            np.full((2, 1, 2), noise),
            counts[1:, None],
            first_counts=counts[:1] + 0.3,
            start=np.zeros((3, 1, 2)),
            retained=retained,
            temperature=alpha,
        )
        rows = Rows(
            coefficients=k[:, None, :, None],
            response=response.mean[1:] - offset[:, None],
            response_variance=response.variance[1:],
            model_variance=np.zeros((2, 1, 2)),
            prior=np.eye(1),
            log_constant=response.log_constant,
            temperature=alpha,
            chain=Chain(retained, response.mean[:-1] - offset[:, None], response.variance[0]),
        )
        found = fit(rows, start=None, evaluations=1, scaled=False, given=given)
        reward = float(found.mean[0])
    ours = found.evidence.log_evidence

    grid = np.linspace(-14, 14, 421)
    rewards = np.linspace(-5, 5, 41) * np.sqrt(prior)

    def log_likelihood(n):
        x = np.stack([grid, np.zeros_like(grid)], axis=-1)
        shown = (n * log_softmax(x / alpha, axis=-1)).sum(axis=-1)
        return shown + gammaln(n.sum() + 1) - gammaln(n + 1).sum()

    first = counts[0] + 0.3
    log_first = (first * log_softmax(np.stack([grid, 0 * grid], -1) / alpha, axis=-1)).sum(axis=-1)
    start = np.exp(log_first - log_first.max())
    start /= simpson(start, x=grid)
    spread = np.sqrt(2 * noise)
    total = np.zeros(len(rewards))
    for number, r in enumerate(rewards):
        density = start
        for h in range(2):
            gap = step * r * (k[h, 0] - k[h, 1]) + keep * (offset[h, 0] - offset[h, 1])
            moves = norm.pdf(grid[:, None], retained * grid[None] + gap, spread)
            density = simpson(moves * density, x=grid, axis=-1)
            density = density * np.exp(log_likelihood(counts[h + 1]))
        total[number] = simpson(density, x=grid)
    exact = np.log(simpson(total * norm.pdf(rewards, 0, np.sqrt(prior)), x=rewards))
    assert ours == pytest.approx(exact, abs=tolerance)


def test_the_scale_is_open_near_one():
    assert step_of(0.0) == 1
    assert step_of(0.75) == 0.25
    assert step_of(1.0) == step_of(OPEN + 1e-6) == 1


@pytest.mark.parametrize("chain", [None, 0.4])
def test_gradients_by_stage_are_differences(chain):
    rng = np.random.default_rng(5)
    rows = small_rows(5, chain=chain)
    factors = Stagewise(
        rng.lognormal(0, 0.3, 3), rng.lognormal(0, 0.3, 3), rng.normal(size=(3, 4, 3))
    )
    prior = np.eye(5) / 2

    def value(name, h, size):
        moved = getattr(factors, name).copy()
        moved[h] *= np.exp(size)
        there = replace(rows, stagewise=replace(factors, **{name: moved}))
        return stage_gradient(there, 0.1, 0.7, prior).value

    found = stage_gradient(replace(rows, stagewise=factors), 0.1, 0.7, prior)
    for name in ("scales", "noises"):
        numeric = [(value(name, h, 1e-5) - value(name, h, -1e-5)) / 2e-5 for h in range(3)]
        np.testing.assert_allclose(getattr(found, name), numeric, rtol=1e-6, atol=1e-7)


def test_steps_and_noises_of_stages_are_found():
    rng = np.random.default_rng(6)
    shape = (4, 60, 5)
    scales, spreads = np.array([2.0, 1.0, 0.7, 0.7]), np.array([0.05, 0.1, 0.4, 0.8])
    k = rng.normal(size=(*shape, 6))
    noise = rng.normal(size=shape) * spreads[:, None, None]
    rows = Rows(
        coefficients=k,
        response=scales[:, None, None] * (k @ rng.normal(size=6)) + noise,
        response_variance=np.full(shape, 1e-6),
        model_variance=np.zeros(shape),
        prior=np.eye(6) - 1 / 6,
        log_constant=0.0,
        temperature=1.0,
    )
    prior = np.eye(6)
    assert stage_gain(rows, 0.1, 0.0, prior) > 100
    ones = np.ones(4)
    start = replace(rows, stagewise=Stagewise(ones, ones, np.zeros(shape)))
    found = fitted_stages(start, 0.1, 0.0, prior, "both").stagewise
    ratio = found.scales / scales
    np.testing.assert_allclose(ratio / ratio.mean(), 1, atol=0.1)
    np.testing.assert_allclose(np.sqrt(0.1 * found.noises), spreads, rtol=0.15)
    alike = replace(rows, response=k @ rng.normal(size=6) + rng.normal(size=shape) * 0.3)
    assert stage_gain(alike, 0.09, 0.0, prior) < 0
