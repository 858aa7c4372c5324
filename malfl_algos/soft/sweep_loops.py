"""The compiled loops of `sweeps`, over the entries of a sparse matrix."""

from __future__ import annotations

from typing import Any

import numpy as np

from malfl_algos.work.compilation import compiled

__all__ = ["downstream_first", "expected", "sweep"]


@compiled(fused=True)
def sweep(
    pointers: Any, columns: Any, entries: Any, gain: Any, order: Any, value: Any, sums: Any
) -> None:  # pragma: no cover
    """Solve the equation of every row for its own value, in place; `sums` receives the sums of
    squares of the changes and of the values.
    """
    n_gains = gain.shape[1]
    total = np.empty(n_gains, gain.dtype)
    sums[:] = 0
    for s in order:
        total[:] = gain[s]
        rest = gain.dtype.type(1)
        for place in range(pointers[s], pointers[s + 1]):
            t, p = columns[place], entries[place]
            if t == s:
                rest -= p
            else:
                for k in range(n_gains):
                    total[k] += p * value[t, k]
        for k in range(n_gains):
            found = total[k] / rest
            sums[0, k] += (found - value[s, k]) ** 2
            sums[1, k] += found * found
            value[s, k] = found


@compiled(fused=True)
def expected(
    pointers: Any, columns: Any, entries: Any, value: Any, states: Any, out: Any
) -> None:  # pragma: no cover
    """Rows of some states of the product with a matrix of `out.shape[1]` rows per state."""
    n_rows, n_columns = out.shape[1], out.shape[2]
    for i in range(len(states)):
        for row in range(n_rows):
            out[i, row] = 0
            at = states[i] * n_rows + row
            for place in range(pointers[at], pointers[at + 1]):
                t, p = columns[place], entries[place]
                for k in range(n_columns):
                    out[i, row, k] += p * value[t, k]


@compiled()
def downstream_first(
    pointers: Any, columns: Any, entries: Any, order: Any
) -> None:  # pragma: no cover
    """All states, each after its most probable next state unless they form a cycle."""
    n_states = len(order)
    following, arrivals = np.zeros(n_states, np.int64), np.zeros(n_states, np.int64)
    for s in range(n_states):
        best = -1.0
        for place in range(pointers[s], pointers[s + 1]):
            if entries[place] > best:
                best, following[s] = entries[place], columns[place]
        arrivals[following[s]] += 1
    end = n_states
    free = np.empty(n_states, np.int64)
    n_free = 0
    for s in range(n_states):
        if arrivals[s] == 0:
            free[n_free] = s
            n_free += 1
    while n_free > 0:
        n_free -= 1
        s = free[n_free]
        end -= 1
        order[end] = s
        arrivals[s] = -1
        t = following[s]
        arrivals[t] -= 1
        if arrivals[t] == 0:
            free[n_free] = t
            n_free += 1
    place = 0
    for s in range(n_states):
        if arrivals[s] >= 0:
            order[place] = s
            place += 1
