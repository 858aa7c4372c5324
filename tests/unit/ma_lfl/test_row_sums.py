"""Sums over rows with a constant by state, against the density with that constant left in."""

from __future__ import annotations

import numpy as np
import pytest

from malfl_algos.ma_lfl import row_sums as module
from malfl_algos.ma_lfl.row_sums import row_sums


@pytest.mark.parametrize("block", [1, 60, 2**18])
def test_the_sums_are_those_of_rows_with_a_nearly_flat_constant(monkeypatch, block):
    monkeypatch.setattr(module, "BLOCK", block)
    rng = np.random.default_rng(3)
    shape = (2, 4, 3)
    k, y = rng.normal(size=(*shape, 5)), rng.normal(size=shape)
    variance = rng.uniform(0.1, 2.0, shape)
    variance[1, 2], variance[0, 3, 0] = np.inf, np.inf
    found = row_sums(k, y, variance)
    information, moment, squares = np.zeros((5, 5)), np.zeros(5), 0.0
    log_norm, degrees = 0.0, 0
    flat = 1e9
    for own_k, own_y, own in zip(
        k.reshape(-1, 3, 5), y.reshape(-1, 3), variance.reshape(-1, 3), strict=True
    ):
        seen = np.isfinite(own)
        if not seen.any():
            continue
        n = int(seen.sum())
        spread = np.diag(own[seen]) + flat
        inverse = np.linalg.inv(spread)
        information += own_k[seen].T @ inverse @ own_k[seen]
        moment += own_k[seen].T @ inverse @ own_y[seen]
        squares += own_y[seen] @ inverse @ own_y[seen]
        # the density of the constant itself is left out
        log_norm -= (np.linalg.slogdet(spread)[1] - np.log(flat) + (n - 1) * np.log(2 * np.pi)) / 2
        degrees += n - 1
    assert found.degrees == degrees
    np.testing.assert_allclose(found.information, information, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found.moment, moment, rtol=1e-5, atol=1e-6)
    assert found.squares == pytest.approx(squares, rel=1e-5)
    assert found.log_norm == pytest.approx(log_norm, abs=1e-5)


def test_the_sums_are_those_of_centred_rows():
    """A second route: the weighted mean over the actions of a state is taken out."""
    rng = np.random.default_rng(4)
    shape = (3, 5, 4)
    k, y = rng.normal(size=(*shape, 6)), rng.normal(loc=3.0, size=shape)
    variance = 10.0 ** rng.uniform(-6, 1, shape)
    variance[1, 2], variance[0, 3, 1:3] = np.inf, np.inf
    found = row_sums(k, y, variance)
    weight = 1 / variance
    total = weight.sum(axis=-1, keepdims=True)
    share = weight / np.where(total > 0, total, 1.0)
    rows = np.concatenate([k, y[..., None]], axis=-1)
    rows = rows - (share[..., None] * rows).sum(axis=-2, keepdims=True)
    rows = (np.sqrt(weight)[..., None] * rows).reshape(-1, 7)
    sums = rows.T @ rows
    size = np.abs(sums).max()
    np.testing.assert_allclose(found.information, sums[:-1, :-1], rtol=1e-12, atol=1e-13 * size)
    np.testing.assert_allclose(found.moment, sums[:-1, -1], rtol=1e-12, atol=1e-13 * size)
    assert found.squares == pytest.approx(sums[-1, -1], rel=1e-12)
    assert found.degrees == (weight > 0).sum() - (total > 0).sum()
    log_norm = np.log(weight[weight > 0]).sum() - np.log(total[total > 0]).sum()
    log_norm -= found.degrees * np.log(2 * np.pi)
    assert found.log_norm == pytest.approx(log_norm / 2, rel=1e-12)
    theta = rng.normal(size=6)
    left = rows[:, -1] - rows[:, :-1] @ theta
    assert found.residual(theta) == pytest.approx(left @ left, rel=1e-10)
