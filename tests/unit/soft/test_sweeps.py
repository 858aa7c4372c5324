"""Discounted sums by sweeps, against linear algebra."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp

from malfl_algos.soft.sweeps import expected_rows, swept_sum


def transition(n_states: int, *, sharp: float) -> sp.csr_array:
    """Five successors a state, of which one is the more probable the larger `sharp` is."""
    rng = np.random.default_rng(0)
    table = np.zeros((n_states, n_states))
    for s in range(n_states):
        table[s, rng.choice(n_states, 5, replace=False)] = rng.dirichlet(np.ones(5) / sharp)
    return sp.csr_array(table)


@pytest.mark.parametrize("discount", [0.0, 0.9, 0.999])
@pytest.mark.parametrize("sharp", [0.1, 30.0])
def test_sums_solve_their_equation(discount, sharp):
    steps = transition(60, sharp=sharp)
    gain = np.random.default_rng(1).normal(size=(60, 3)) + np.array([0, 5, 0])
    found = swept_sum(steps, gain, discount=discount, error=1e-9)
    wanted = np.linalg.solve(np.eye(60) - discount * steps.toarray(), gain)
    assert found == pytest.approx(wanted, rel=1e-6, abs=1e-6)
    near = swept_sum(steps, gain, discount=discount, error=1e-9, start=wanted)
    assert near == pytest.approx(wanted, rel=1e-6, abs=1e-6)


def test_sums_keep_single_precision():
    steps = transition(60, sharp=1.0)
    gain = np.random.default_rng(1).normal(size=(60, 2))
    found = swept_sum(steps, gain.astype(np.float32), discount=0.9, error=1e-4)
    assert found.dtype == np.float32
    wanted = np.linalg.solve(np.eye(60) - 0.9 * steps.toarray(), gain)
    assert np.linalg.norm(found - wanted) < 1e-3 * np.linalg.norm(wanted)


def test_expected_rows_are_those_of_the_product():
    steps = sp.csr_array(sp.vstack([transition(20, sharp=1.0)] * 3))
    value, states = np.random.default_rng(2).normal(size=(20, 4)), np.array([3, 0, 19])
    found = expected_rows(steps, value, states, 3)
    assert found == pytest.approx((steps @ value).reshape(20, 3, 4)[states])
