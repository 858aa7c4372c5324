"""Discounted sums of many gains at once: Gauss-Seidel sweeps against the flow of a policy.

Policies that are nearly deterministic lead from state to state along paths. A sweep that comes to
every state after its most probable next state carries values back along whole paths, so that a few
sweeps are enough, and a sweep costs less than a product (Bertsekas and Tsitsiklis 1989, section
2.6).
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from malfl_algos.soft.iteration import iterated_sum

__all__ = ["expected_rows", "swept_sum"]

MOST_SWEEPS = 300


def _loops() -> ModuleType:
    """The compiled loops; importing them on first use delays the import of numba."""
    from malfl_algos.soft import sweep_loops

    return sweep_loops


def swept_sum(
    transition: sp.csr_array,
    gain: NDArray[Any],
    *,
    discount: float,
    error: float,
    start: NDArray[Any] | None = None,
) -> NDArray[Any]:
    """Solve V = gain + gamma P V for V, for several gains side by side.

    Every sweep reduces the error at least by the factor gamma. Where `MOST_SWEEPS` are not enough,
    which takes a discount near 1, `iterated_sum` solves the equation.

    Args:
        transition: P, `(n_states, n_states)`.
        gain: `(n_states, n_gains)`, float32 or float64, which is the precision of the sums.
        discount: gamma in [0, 1).
        error: allowed error of V relative to V, both as norms over the states, estimated from the
            last two sweeps.
        start: V to start from, in the shape of the gain.

    Returns:
        V in the shape and precision of the gain.

    Raises:
        ArithmeticError: if the iteration does not converge.
    """
    kind = gain.dtype
    entries = (discount * transition.data).astype(kind)
    sparse = transition.indptr, transition.indices, entries
    order = np.empty(len(gain), dtype=np.int64)
    _loops().downstream_first(transition.indptr, transition.indices, transition.data, order)
    if start is None:
        mean = gain.mean(axis=0)
        start = gain - mean + mean / kind.type(1 - discount)
    value = np.array(start, dtype=kind, order="C")
    gain = np.ascontiguousarray(gain)
    sums, before = np.empty((2, gain.shape[1]), dtype=kind), None
    for _ in range(MOST_SWEEPS):
        _loops().sweep(*sparse, gain, order, value, sums)
        step, size = np.sqrt(sums)
        if before is not None:
            rate = np.minimum(step / np.maximum(before, np.finfo(kind).tiny), discount)
            if np.all(step * rate <= error * (1 - rate) * size):
                return value
        before = step
    found = iterated_sum(
        transition, gain.astype(np.float64), discount=discount, residual=(1 - discount) * error
    )
    return np.asarray(found, dtype=kind)


def expected_rows(
    transition: sp.csr_array, value: NDArray[Any], states: NDArray[np.int64], n_rows: int
) -> NDArray[Any]:
    """Expected next values in some states, for every row of a state.

    Args:
        transition: P, row `s * n_rows + r` holds P(s' | s, r).
        value: `(n_states, k)`.
        states: the states, `(n,)`.
        n_rows: number of rows of a state, such as its actions.

    Returns:
        `(n, n_rows, k)` in the precision of the value.
    """
    out = np.empty((len(states), n_rows, value.shape[1]), dtype=value.dtype)
    entries = transition.data.astype(value.dtype, copy=False)
    _loops().expected(transition.indptr, transition.indices, entries, value, states, out)
    return out
