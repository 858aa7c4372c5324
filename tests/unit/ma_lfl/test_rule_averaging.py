"""The most probable of a few rules is taken, and the others widen its deviations."""

import numpy as np
import pytest

from malfl_algos.ma_lfl.alternation import AgentFit
from malfl_algos.ma_lfl.posterior import Evidence, Posterior
from malfl_algos.ma_lfl.rule_averaging import close_rivals, decided

TD = {
    "rule": "td",
    "improvement": 0.0,
    "discount": 0.9,
    "step_size": 0.1,
    "step_size_decay": 0.0,
}
EXACT = {**TD, "rule": "exact"}
KEEPING = {**TD, "improvement": None}


def fit_of(mean, evidence):
    precision = np.diag([4.0, 1.0])
    found = Posterior(
        np.array(mean, dtype=float), precision, precision, Evidence(evidence, 0.1, 1.0, 1.0, ())
    )
    return [AgentFit(found, np.zeros((2, 1, 2)), None, 1, True)]


def test_the_second_moment_about_the_chosen_mean():
    table = {"td": fit_of([1.0, 0.0], -50.0), "exact": fit_of([0.0, 2.0], -50.0 + np.log(3))}
    settings, fits, said = decided([TD, EXACT], lambda own: table[own["rule"]])
    assert settings == EXACT
    assert [one["weight"] for one in said] == pytest.approx([0.75, 0.25])
    moved = np.array([1.0, -2.0])
    expected = np.diag([0.25, 1.0]) + 0.25 * np.outer(moved, moved)
    np.testing.assert_allclose(fits[0].posterior.covariance(), expected)
    np.testing.assert_array_equal(fits[0].posterior.mean, [0.0, 2.0])


def test_a_settled_rule_keeps_its_deviations():
    table = {"td": fit_of([1.0, 0.0], -50.0), "exact": fit_of([0.0, 2.0], -90.0)}
    settings, fits, said = decided([TD, EXACT], lambda own: table[own["rule"]])
    assert (settings, said) == (TD, [])
    assert fits == table["td"]


def test_rivals_are_close_after_what_was_likely_beforehand():
    tried = [(TD, -100.0), (EXACT, -105.0), (KEEPING, -95.0), ({**EXACT, "discount": 0.8}, -500.0)]
    assert close_rivals(tried, TD) == [EXACT]
    assert close_rivals([(TD, -100.0), (KEEPING, -72.0)], KEEPING) == [TD]
    assert close_rivals([*tried, (replace_step(EXACT), -100.0)], TD) == [EXACT]


def replace_step(settings):
    return {**settings, "step_size": 0.2}
