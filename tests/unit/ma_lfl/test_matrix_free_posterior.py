"""The posterior by conjugate gradients against the one from formed coefficients."""

from __future__ import annotations

from dataclasses import replace

import numba
import numpy as np
import pytest
from exact import exact_policies
from factored_cases import GAMES, grid
from scipy.linalg import eigvalsh

from malfl_algos.ma_lfl import conjugate_gradients as solving
from malfl_algos.ma_lfl import matrix_free_evidence, shared_values, value_diagonal
from malfl_algos.ma_lfl import matrix_free_posterior as posteriors
from malfl_algos.ma_lfl.conjugate_gradients import TOLERANCE, conjugate_gradients
from malfl_algos.ma_lfl.learner_models import ExactEvaluation, ExpectedTd
from malfl_algos.ma_lfl.matrix_free_evidence import log_det_of_stay
from malfl_algos.ma_lfl.matrix_free_posterior import matrix_free_posterior, preconditioner
from malfl_algos.ma_lfl.posterior import Evidence, Given, posterior
from malfl_algos.ma_lfl.posterior import evidence_of as evidence_as_function
from malfl_algos.ma_lfl.precision import (
    MatrixFreeRows,
    Precision,
)
from malfl_algos.ma_lfl.rows import Rows, normal_equations
from malfl_algos.ma_lfl.stages import StageArrays
from malfl_algos.ma_lfl.value_diagonal import diagonal_preconditioner
from malfl_algos.soft import evaluation as soft

GAMMA, ALPHA = 0.9, 3.0
CERTAIN = 1e-10 * ALPHA**2
EXACT_NOISE = 1e-7 * ALPHA**2
"""The noise that the search finds for exact learners: its lower bound."""


def both_rows(game, agent, *, model="state", td=False, n_stages=4, seed=0):
    """Known policies of exact learners as rows, once without and once with their coefficients."""
    rng = np.random.default_rng(seed)
    policies = exact_policies(game, n_stages + 1, discount=GAMMA, temperature=ALPHA)
    stage = StageArrays(rng.poisson(5, size=(game.n_states, *game.n_actions)))
    learner = (
        ExpectedTd(game, model, GAMMA, ALPHA, 0.1)
        if td
        else ExactEvaluation(game, model, GAMMA, ALPHA)
    )
    before = policies[:-1]
    response = np.stack([ALPHA * np.log(joint[agent]) for joint in policies[1:]])
    values = [learner.values(stage, joint, agent, n_stages=n_stages) for joint in before]
    q = np.stack([learner.stage_coefficients(stage, joint, agent) for joint in before])
    known, none = np.full(response.shape, CERTAIN), np.zeros(response.shape)
    n = q.shape[-1] - 1
    return (
        MatrixFreeRows(values, response, known, none, ALPHA),
        Rows(q[..., :-1], response - q[..., -1], known, none, np.eye(n) - 1 / n, 0.0, ALPHA),
    )


def evidence_of(given):
    return Evidence(None, given.noise_variance, given.noise_scale, given.prior_variance, ())


def precision_of(rows, given):
    variance = given.noise_variance + given.noise_scale * rows.model_variance
    return Precision(rows, 1 / (variance + rows.response_variance), given.prior_variance)


def compare(rows, given):
    """The posterior, the distance of its mean from the exact one, and the ratios of standard
    deviations.
    """
    matrix_free, dense = rows
    ours, exact = matrix_free_posterior(matrix_free, given), posterior(dense, evidence_of(given))
    covariance = exact.covariance()
    covariance = covariance - covariance.mean(axis=0)
    covariance = covariance - covariance.mean(axis=1, keepdims=True)
    ratio = ours.sd / np.sqrt(np.diag(covariance))
    return ours, exact, exact.distance(ours.mean - exact.mean), ratio


def within(ratio, factor):
    """Whether nine standard deviations of ten are within a factor of two of the exact ones."""
    return np.mean((ratio > 1 / factor) & (ratio < factor)) >= 0.9


CASES = [
    ("grid", 0, EXACT_NOISE),
    ("grid", 1, 1e-2),
    ("grid", 0, 1.0),
    ("slip", 1, EXACT_NOISE),
    ("walls", 0, 1e-2),
    ("three agents", 2, EXACT_NOISE),
    ("two move one", 0, EXACT_NOISE),
    ("crossed", 1, 1e-2),
    ("lone", 0, EXACT_NOISE),
    ("table", 1, 1e-2),
    ("unmoved factor", 1, 1e-2),
]


@pytest.mark.parametrize(("name", "agent", "noise"), CASES)
def test_posterior_is_that_of_the_coefficients(name, agent, noise):
    given = Given(noise, 1.0, 1.0)
    rows = both_rows(GAMES[name](), agent)
    ours, exact, distance, ratio = compare(rows, given)
    assert distance <= TOLERANCE
    assert 0 < ours.accuracy <= TOLERANCE
    # four samples say little of a few values that share one weak direction
    assert within(ratio, 2 if len(ratio) > 50 else 4)
    assert min(ours.iterations) > 0
    q = rows[1].coefficients @ ours.mean
    q = q + ALPHA * np.log(np.exp(rows[0].response / ALPHA)) - rows[1].response
    np.testing.assert_allclose(ours.q, q, rtol=1e-8, atol=1e-8)
    determined = eigvalsh(exact.information, exact.precision).sum()
    assert abs(ours.effective_parameters - determined) < 0.1 * len(ours.mean) + 3
    moved = np.random.default_rng(0).normal(size=len(ours.mean))
    assert ours.distance(moved) == pytest.approx(exact.distance(moved), rel=1e-6)
    expected = evidence_as_function(normal_equations(rows[1], noise, 1.0), rows[1])(0.0)
    assert abs(ours.evidence.log_evidence - expected) < 4 * ours.evidence_error + 1
    assert ours.evidence.noise_variance == noise
    assert ours.evidence.bounds_hit == ()


@pytest.mark.parametrize(
    ("model", "noise"),
    [
        *(("own_action", noise) for noise in (EXACT_NOISE, 1e-2, 1.0)),
        pytest.param("joint", EXACT_NOISE, marks=pytest.mark.slow),
        *(("joint", noise) for noise in (1e-2, 1.0)),
    ],
)
def test_rewards_of_actions(model, noise):
    _, _, distance, ratio = compare(both_rows(grid(size=2), 0, model=model), Given(noise, 1.0, 1.0))
    assert distance <= TOLERANCE
    assert within(ratio, 3)


@pytest.mark.parametrize("noise", [EXACT_NOISE, 1e-2, 1.0])
def test_td_learners_known_by_counts(noise):
    _, _, distance, ratio = compare(both_rows(grid(size=2), 1, td=True), Given(noise, 1.0, 1.0))
    assert distance <= TOLERANCE
    assert within(ratio, 2)


@pytest.mark.parametrize("prior_variance", [1e-3, 1e3])
def test_weak_and_strong_priors(prior_variance):
    rows = both_rows(grid(size=2, slip=0.2), 0)
    _, _, distance, ratio = compare(rows, Given(1e-3, 1.0, prior_variance))
    assert distance <= TOLERANCE
    assert within(ratio, 2)


def test_noise_that_a_learner_model_predicts():
    rng = np.random.default_rng(3)
    rows = both_rows(grid(size=3), 1)
    predicted = rng.gamma(1.0, 0.05, size=rows[0].response.shape)
    noisy = tuple(replace(one, model_variance=predicted) for one in rows)
    _, exact, distance, ratio = compare(noisy, Given(1e-3, 2.0, 1.0))
    assert distance <= TOLERANCE
    assert within(ratio, 2)
    without = posterior(rows[1], evidence_of(Given(1e-3, 2.0, 1.0)))
    assert np.trace(exact.covariance()) > np.trace(without.covariance())


def hide(rows, seed, share):
    hidden = np.random.default_rng(seed).random(rows[0].response.shape) < share
    hidden[0, :3] = True  # whole states, too
    return hidden, tuple(
        replace(one, response_variance=np.where(hidden, np.inf, CERTAIN)) for one in rows
    )


def test_rows_of_infinite_variance_do_not_count():
    hidden, rows = hide(both_rows(grid(size=2), 0), 1, 0.3)
    given = Given(1e-3, 1.0, 1.0)
    ours, _, distance, ratio = compare(rows, given)
    assert distance <= TOLERANCE
    assert within(ratio, 2)
    spoilt = replace(rows[0], response=np.where(hidden, -2e3, rows[0].response))
    again = matrix_free_posterior(spoilt, given)
    np.testing.assert_array_equal(again.mean, ours.mean)
    np.testing.assert_array_equal(again.sd, ours.sd)


def test_nothing_seen_leaves_the_prior():
    """A right side of zero, which no step brings nearer, is solved by zero."""
    matrix_free, _ = both_rows(grid(size=2), 0, n_stages=2)
    blind = replace(matrix_free, response_variance=np.full(matrix_free.response.shape, np.inf))
    ours = matrix_free_posterior(blind, Given(1e-3, 1.0, 4.0))
    np.testing.assert_array_equal(ours.mean, np.zeros(16))
    assert within(ours.sd / np.sqrt(4.0 * 15 / 16), 2)


@pytest.mark.parametrize(("name", "model"), [("grid", "state"), ("unequal", "joint")])
@pytest.mark.parametrize("td", [False, True])
def test_the_precision_applied_is_the_one_formed(name, model, td):
    rng = np.random.default_rng(5)
    _, rows = hide(both_rows(GAMES[name](), 0, model=model, td=td, n_stages=3), 2, 0.2)
    predicted = rng.gamma(1.0, 0.05, size=rows[0].response.shape)
    matrix_free, dense = (replace(one, model_variance=predicted) for one in rows)
    given = Given(1e-3, 0.7, 2.0)
    formed = posterior(dense, evidence_of(given)).precision
    applied = precision_of(matrix_free, given)
    for x in (np.ones(len(formed)), *rng.normal(size=(4, len(formed)))):
        expected = formed @ x
        size = np.abs(formed).max() * np.abs(x).max()
        np.testing.assert_allclose(applied(x), expected, rtol=1e-8, atol=1e-12 * size)


class UnitVectors:
    """In place of a generator: the numbers drawn, taken together, are one unit vector."""

    def __init__(self, place):
        self.place, self.drawn = place, 0

    def standard_normal(self, shape):
        out = np.zeros(shape)
        if 0 <= self.place - self.drawn < out.size:
            out.flat[self.place - self.drawn] = 1.0
        self.drawn += out.size
        return out


def test_samples_have_the_covariance_of_the_posterior():
    """Right sides are linear in what is drawn, N z, and N N' is the precision."""
    _, rows = hide(both_rows(grid(size=2), 0, n_stages=2), 4, 0.2)
    given = Given(1e-2, 1.0, 2.0)
    applied = precision_of(rows[0], given)
    n_draws = rows[0].response.size + 16
    columns = np.stack([applied.noise(UnitVectors(place))[0] for place in range(n_draws)])
    formed = posterior(rows[1], evidence_of(given)).precision
    np.testing.assert_allclose(
        columns.T @ columns, formed, rtol=1e-8, atol=1e-10 * np.abs(formed).max()
    )


@pytest.mark.parametrize("name", ["slip", "crossed", "lone", "unmoved factor"])
@pytest.mark.parametrize("model", ["state", "own_action"])
def test_the_preconditioner_is_symmetric_and_positive(name, model):
    _, rows = hide(both_rows(GAMES[name](), 0, model=model, n_stages=2), 6, 0.3)
    n = rows[0].n_unknowns
    of = precision_of(rows[0], Given(EXACT_NOISE, 1.0, 1.0))
    for way in (preconditioner, diagonal_preconditioner):
        nearby = way(of)
        matrix = np.asarray(nearby.apply(np.eye(n)))
        np.testing.assert_allclose(matrix, matrix.T, atol=1e-10 * np.abs(matrix).max())
        assert eigvalsh((matrix + matrix.T) / 2).min() > 0
        for part in nearby.parts:
            assert part.shape == (n,)
            assert np.all(part > 0)


def test_the_error_of_the_log_evidence_holds(monkeypatch):
    matrix_free, dense = both_rows(grid(size=2), 0)
    expected = evidence_as_function(normal_equations(dense, 1e-2, 1.0), dense)(np.log(1.5))
    off = []
    for seed in range(20):
        monkeypatch.setattr(posteriors, "SAMPLE_SEED", seed)
        found = matrix_free_posterior(matrix_free, Given(1e-2, 1.0, 1.5))
        off.append((found.evidence.log_evidence - expected) / found.evidence_error)
    assert abs(np.median(off)) < 1
    assert np.mean(np.abs(off) < 3) > 0.8


@pytest.mark.parametrize("td", [True, False])
def test_large_games_have_an_evidence_too(td, monkeypatch):
    """That of td learners, and of exact ones whose precision is too large to factorise."""
    monkeypatch.setattr(shared_values, "MOST_BYTES", 0)
    matrix_free, dense = hide(both_rows(grid(size=2), 0, td=td), 3, 0.2)[1]
    given = Given(1e-2, 1.0, 1.5, searched=True)
    expected = evidence_as_function(normal_equations(dense, 1e-2, 1.0), dense)(np.log(1.5))
    off = []
    for seed in range(6):
        monkeypatch.setattr(posteriors, "SAMPLE_SEED", seed)
        found = matrix_free_posterior(replace(matrix_free, log_constant=7.0), given)
        off.append((found.evidence.log_evidence - 7 - expected) / found.evidence_error)
    assert abs(np.median(off)) < 1
    assert np.abs(off).max() < 4


def test_few_steps_do_not_bias_the_log_determinant():
    """With little data the mean is found at once, the log determinant is not."""
    matrix_free, dense = both_rows(grid(size=3), 0, td=True)
    given = Given(3.0, 1.0, 3.0, searched=True)
    found = matrix_free_posterior(matrix_free, given)
    expected = evidence_as_function(normal_equations(dense, 3.0, 1.0), dense)(np.log(3.0))
    assert found.iterations[1] >= solving.QUADRATURE
    assert abs(found.evidence.log_evidence - expected) < 3 * found.evidence_error


def test_little_data_determine_few_parameters_and_four_samples_tell_how_many():
    matrix_free, dense = both_rows(grid(size=3), 0, td=True)
    given = Given(300.0, 1.0, 3.0)
    covariance = posterior(dense, evidence_of(given)).covariance()
    determined = 80 - np.trace(covariance - covariance.mean(axis=0)) / 3.0
    found = matrix_free_posterior(matrix_free, given).effective_parameters
    assert 1 < determined < 8
    assert found == pytest.approx(determined, rel=0.5)


def test_log_determinant_by_traces(monkeypatch):
    """Estimated from random signs, it agrees with the exact one within its error."""
    onward = both_rows(grid(size=3), 0)[0].values[-1].onward
    exact = np.linalg.slogdet(np.eye(81) - GAMMA * onward.toarray())[1]
    rng = np.random.default_rng(0)
    assert log_det_of_stay(onward, GAMMA, rng) == (pytest.approx(exact), 0.0)
    monkeypatch.setattr(matrix_free_evidence, "FORMED", 0)
    found = log_det_of_stay(onward, GAMMA, rng)
    assert 0 < found.error < 1
    assert abs(found.value - exact) < 4 * found.error


@pytest.mark.parametrize("name", ["grid", "three agents", "walls"])
def test_shared_values_leave_little_to_iterate(name):
    """The preconditioned precision has eigenvalues near one; samples have its covariance."""
    matrix_free, dense = both_rows(GAMES[name](), 0)
    given = Given(EXACT_NOISE, 1.0, 1.0)
    formed = posterior(dense, evidence_of(given)).precision
    shared = shared_values.shared_values(precision_of(matrix_free, given))
    n = len(formed)
    varied = np.linalg.qr(np.column_stack([np.ones(n), np.eye(n)[:, 1:]]))[0][:, 1:]
    inverse = varied.T @ shared(varied)
    sizes = eigvalsh((inverse + inverse.T) / 2, np.linalg.inv(varied.T @ formed @ varied))
    assert sizes.min() > 1 / 10
    assert sizes.max() < 30
    assert 0.8 < np.median(sizes) < 1.25
    draws = varied.T @ shared.draws(np.random.default_rng(0), 20000)
    spread = np.linalg.eigvals(np.linalg.solve(inverse, np.cov(draws))).real
    assert 0.8 < spread.min() < spread.max() < 1.2


@pytest.mark.parametrize(
    ("module", "name"),
    [(soft, "SPARSE_BYTES"), (value_diagonal, "COARSE_BYTES"), (shared_values, "MOST_BYTES")],
)
def test_less_memory_gives_the_same_result(module, name, monkeypatch):
    monkeypatch.setattr(shared_values, "MOST_BYTES", 0)
    monkeypatch.setattr(module, name, 0)
    _, _, distance, ratio = compare(both_rows(grid(size=2, slip=0.1), 1), Given(1e-2, 1.0, 1.0))
    assert distance <= TOLERANCE
    assert within(ratio, 3)


def test_same_bytes_whatever_the_threads(monkeypatch):
    matrix_free, _ = both_rows(grid(size=2, slip=0.2), 0, n_stages=3)
    found = []
    for n_threads in (1, 2, 3):
        monkeypatch.setattr(numba.config, "NUMBA_NUM_THREADS", n_threads)
        found.append(matrix_free_posterior(matrix_free, Given(1e-3, 1.0, 1.0)))
    for other in found[1:]:
        np.testing.assert_array_equal(other.mean, found[0].mean)
        np.testing.assert_array_equal(other.sd, found[0].sd)
        np.testing.assert_array_equal(other.q, found[0].q)
        assert other.iterations == found[0].iterations
        assert other.accuracy == found[0].accuracy


def test_the_unit_is_the_temperature():
    """Doubled rewards and temperature give a doubled result in the same number of steps."""
    matrix_free, _ = both_rows(grid(size=2), 0)
    doubled = replace(
        matrix_free,
        values=[replace(one, temperature=2 * ALPHA) for one in matrix_free.values],
        response=2 * matrix_free.response,
        response_variance=4 * matrix_free.response_variance,
        temperature=2 * ALPHA,
    )
    one = matrix_free_posterior(matrix_free, Given(1e-3, 1.0, 1.0))
    two = matrix_free_posterior(doubled, Given(4e-3, 1.0, 4.0))
    np.testing.assert_allclose(two.mean, 2 * one.mean, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(two.sd, 2 * one.sd, rtol=1e-3)


@pytest.mark.parametrize("most", [2, 9])
def test_what_does_not_converge_is_an_error_that_says_how_far(most, monkeypatch):
    matrix_free, _ = both_rows(grid(size=3), 0, n_stages=2)
    given = Given(EXACT_NOISE, 1.0, 1.0)
    precision = precision_of(matrix_free, given)
    right = np.random.default_rng(0).normal(size=(81, 2)) * 1e4
    monkeypatch.setattr(solving, "MAX_ITERATIONS", most)
    distance = r"\d\.\de[+-]\d\d posterior standard deviations away \(allowed: 0\.05\)"
    with pytest.raises(ArithmeticError, match=rf"after {most} iterations .* {distance}"):
        conjugate_gradients(precision, right, preconditioner(precision))
    with pytest.raises(ArithmeticError, match="noise_variance"):
        matrix_free_posterior(matrix_free, given)


@pytest.mark.parametrize("most", range(2, 40, 3))
def test_a_result_is_accurate_for_any_limit_of_iterations(most, monkeypatch):
    """Whatever they are cut to: either an error, or within the tolerance."""
    matrix_free, dense = both_rows(grid(size=2), 0, n_stages=2)
    given = Given(1e-2, 1.0, 1.0)
    precision, exact = precision_of(matrix_free, given), posterior(dense, evidence_of(given))
    right = np.random.default_rng(0).normal(size=(16, 3)) * 100
    right -= right.mean(axis=0)  # as in right sides of rewards whose mean is removed
    monkeypatch.setattr(solving, "MAX_ITERATIONS", most)
    try:
        found, steps, distance = conjugate_gradients(precision, right, preconditioner(precision))
    except ArithmeticError:
        return
    assert steps.max() <= most
    assert distance.max() <= TOLERANCE
    for column in (found - np.linalg.solve(exact.precision, right)).T:
        assert exact.distance(column) <= TOLERANCE


def test_inputs_are_not_written_to():
    matrix_free, _ = both_rows(grid(size=2), 0, n_stages=2)
    for array in (matrix_free.response, matrix_free.response_variance, matrix_free.model_variance):
        array.flags.writeable = False
    matrix_free_posterior(matrix_free, Given(1e-2, 1.0, 1.0))
