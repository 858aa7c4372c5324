"""Smooth priors over what states are: evidence, gradients, closed forms, symmetries."""

from __future__ import annotations

import numpy as np
import pytest

from malfl_algos.ma_lfl.inference import fit
from malfl_algos.ma_lfl.posterior import MEAN_VARIANCE, Evidence, Given, Posterior, evidence_of
from malfl_algos.ma_lfl.prior_shapes import (
    best_shape,
    shape_evidence,
    shape_precision,
    shape_root,
)
from malfl_algos.ma_lfl.reward_models import level_of, without_level
from malfl_algos.ma_lfl.reward_priors import Seen, alike_states, prior_of_alike_states
from malfl_algos.ma_lfl.row_sums import row_sums
from malfl_algos.ma_lfl.rows import Rows, normal_equations
from malfl_algos.verdict.halves import determined, told_variance

CELLS = np.stack(np.unravel_index(np.arange(16), (2, 2, 2, 2)), axis=-1).astype(float)
BOARD = Seen(("first", "second"), (CELLS[:, :2], CELLS[:, 2:]), (0, 1))
COLUMNS = Seen(("a", "b", "c"), tuple(CELLS.T[:3, :, None]), None)
PRIORS = {
    "board": prior_of_alike_states(alike_states(BOARD, 1)),
    "columns": prior_of_alike_states(alike_states(COLUMNS, 0)),
    "actions": prior_of_alike_states(alike_states(BOARD, 0), per_state=2),
}


def random_data(n, seed=0):
    rng = np.random.default_rng(seed)
    table = rng.standard_normal((n - 3, n))
    return table.T @ table, table.T @ rng.standard_normal(n - 3)


@pytest.mark.parametrize("name", PRIORS)
def test_slopes_are_the_derivatives_of_evidence_and_density(name):
    prior = PRIORS[name]
    information, moment = random_data(len(prior.iid))
    settings = prior.means + 0.5 * np.random.default_rng(1).standard_normal(len(prior.means))
    _, slope = shape_evidence(prior, settings, information, moment)
    _, pull = prior.log_density(settings)
    for place in range(len(settings)):
        step = np.zeros_like(settings)
        step[place] = 1e-5
        ends = [settings + sign * step for sign in (1, -1)]
        high, low = (shape_evidence(prior, end, information, moment)[0] for end in ends)
        assert (high - low) / 2e-5 == pytest.approx(slope[place], rel=1e-5, abs=1e-6)
        high, low = (prior.log_density(end)[0] for end in ends)
        assert (high - low) / 2e-5 == pytest.approx(pull[place], rel=1e-5, abs=1e-8)


def test_density_is_that_of_variances_with_a_common_part():
    prior = PRIORS["board"]
    spread = np.diag(prior.sds**2)
    n_variances = 1 + len(prior.alike.parts)
    spread[:n_variances, :n_variances] += prior.shared_sd**2
    away = np.random.default_rng(2).standard_normal(len(prior.means))
    value, _ = prior.log_density(prior.means + away)
    assert value == pytest.approx(-away @ np.linalg.solve(spread, away) / 2)


def rows(rng, n_unknowns, prior, root=None):
    coefficients = rng.standard_normal((2, n_unknowns, 3, n_unknowns))
    return Rows(
        coefficients if root is None else coefficients @ root,
        rng.standard_normal((2, n_unknowns, 3)),
        np.full((2, n_unknowns, 3), 0.5),
        np.zeros((2, n_unknowns, 3)),
        prior,
        0.0,
        1.0,
    )


def test_without_smooth_parts_the_evidence_is_that_of_independent_unknowns():
    prior = PRIORS["board"]
    own = rows(np.random.default_rng(4), 16, np.eye(16) - np.full((16, 16), 1 / 16))
    normal = normal_equations(own, 0.1, 0.0)
    known = evidence_of(normal, own)

    def ours(log_variance):
        settings = np.array([log_variance, -60.0, -60.0, -60.0, 0.0])
        return shape_evidence(prior, settings, normal.information, normal.moment)[0]

    assert ours(1.0) - ours(-1.0) == pytest.approx(known(1.0) - known(-1.0), abs=1e-3)


def test_posterior_is_that_of_gaussian_process_regression():
    prior, variance = PRIORS["board"], 1.7
    settings = np.array([-2.0, 0.5, -0.3, 0.2, 0.4])
    root, about = shape_root(prior, settings)
    assert about > 0
    free = np.asarray(without_level(level_of(root)))
    of_weights = rows(np.random.default_rng(5), 16, free, root)
    found = fit(
        of_weights, start=None, evaluations=1, scaled=False, given=Given(0.2, 0.0, variance)
    ).mapped(root)
    plain = rows(np.random.default_rng(5), 16, np.eye(16))
    mean_out = np.eye(3) - 1 / 3  # the constant of every state
    table = (mean_out @ plain.coefficients).reshape(-1, 16)
    answers = (plain.response @ mean_out).ravel()
    covariance = np.linalg.inv(shape_precision(prior, settings, variance))
    np.testing.assert_allclose(  # V L L' but for the mean, which is nearly flat
        _centred(covariance), _centred(variance * root @ root.T), atol=1e-5
    )
    gain = covariance @ table.T @ np.linalg.inv(table @ covariance @ table.T + 0.7 * np.eye(96))
    np.testing.assert_allclose(found.mean, gain @ answers, atol=1e-5)
    known = covariance - gain @ table @ covariance
    np.testing.assert_allclose(_centred(found.covariance()), _centred(known), atol=1e-7)


def _centred(matrix):
    matrix = matrix - matrix.mean(axis=0)
    return matrix - matrix.mean(axis=1, keepdims=True)


def posterior_of_data(information, moment):
    precision = information + np.eye(len(moment))
    mean = np.linalg.solve(precision, moment)
    return Posterior(mean, precision, information, Evidence(0.0, 0.1, 0.0, 1.0, ()))


def test_numbers_of_states_do_not_matter():
    order = np.random.default_rng(6).permutation(16)
    information, moment = random_data(16)
    moved = Seen(BOARD.names, tuple(own[order] for own in BOARD.coordinates), BOARD.owners)
    here = best_shape(PRIORS["board"], posterior_of_data(information, moment), 2.0, start=None)
    there = best_shape(
        prior_of_alike_states(alike_states(moved, 1)),
        posterior_of_data(information[np.ix_(order, order)], moment[order]),
        2.0,
        start=None,
    )
    np.testing.assert_allclose(there.settings, here.settings, atol=1e-3)
    assert there.gain == pytest.approx(here.gain, abs=1e-6)


def test_agents_see_the_board_each_from_itself():
    swapped = Seen(BOARD.names, BOARD.coordinates[::-1], BOARD.owners)
    settings = np.array([-1.0, 0.3, -0.2, 0.6, 0.1])
    first, _ = prior_of_alike_states(alike_states(BOARD, 0)).covariance(settings)
    second, _ = prior_of_alike_states(alike_states(swapped, 1)).covariance(settings)
    np.testing.assert_allclose(first, second)
    other, _ = prior_of_alike_states(alike_states(BOARD, 1)).covariance(settings)
    assert np.abs(first - other).max() > 0.1


def test_told_variance_of_independent_unknowns_counts_directions():
    rng = np.random.default_rng(7)
    table = 0.6 * rng.standard_normal((4, 6, 16))
    sums = row_sums(table[None], np.ones((1, 4, 6)), np.full((1, 4, 6), 2.0))
    prior = np.eye(16) - 1 / 16 + np.full((16, 16), 1 / 16) / MEAN_VARIANCE
    told = told_variance(sums.information, prior, np.ones(16, dtype=bool))
    assert 0 < told < 1
    assert told * 15 == pytest.approx(determined(sums, prior) - 1, abs=0.5)
