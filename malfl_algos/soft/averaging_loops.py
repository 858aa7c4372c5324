"""The compiled loops of `averaging`, over joint states and combinations of successors."""

from __future__ import annotations

from typing import Any

import numpy as np

from malfl_algos.work.compilation import compiled

__all__ = ["expect", "list_entries", "spread"]


@compiled()
def _combine(
    s: Any, local: Any, targets: Any, widths: Any, others: Any, where: Any, probability: Any
) -> Any:  # pragma: no cover
    """Write the combinations of the other factors' successors from state s; return their number."""
    n = 1
    where[0], probability[0] = 0, 1.0
    for f in range(len(others)):
        x = local[s, f + 1]
        width = widths[f + 1, x]
        # backwards, so that no entry is overwritten before it is read
        for place in range(n - 1, -1, -1):
            base, p = where[place], probability[place]
            for j in range(width):
                where[place * width + j] = base + targets[f + 1, x, j]
                probability[place * width + j] = p * others[f, s, j]
        n *= width
    return n


@compiled()
def _most(widths: Any) -> Any:  # pragma: no cover
    n = 1
    for f in range(1, len(widths)):
        n *= widths[f].max()
    return n


@compiled()
def expect(  # noqa: C901
    values: Any, local: Any, targets: Any, widths: Any, own: Any, others: Any, out: Any
) -> None:  # pragma: no cover
    n_states, n_rows, _ = own.shape
    n_columns = values.shape[1]
    where = np.empty(_most(widths), np.int64)
    probability = np.empty(len(where))
    met = np.empty(n_columns)
    for s in range(n_states):
        n = _combine(s, local, targets, widths, others, where, probability)
        x = local[s, 0]
        for j in range(widths[0, x]):
            base = targets[0, x, j]
            if n_columns == 1:
                total = 0.0
                for place in range(n):
                    total += probability[place] * values[base + where[place], 0]
                for row in range(n_rows):
                    out[s * n_rows + row, 0] += own[s, row, j] * total
            else:
                met[:] = 0.0
                for place in range(n):
                    p, t = probability[place], base + where[place]
                    for column in range(n_columns):
                        met[column] += p * values[t, column]
                for row in range(n_rows):
                    p = own[s, row, j]
                    if p != 0.0:
                        for column in range(n_columns):
                            out[s * n_rows + row, column] += p * met[column]


@compiled()
def spread(
    weights: Any, local: Any, targets: Any, widths: Any, own: Any, others: Any, out: Any
) -> None:  # pragma: no cover
    n_states, n_rows, _ = own.shape
    n_columns = weights.shape[1]
    where = np.empty(_most(widths), np.int64)
    probability = np.empty(len(where))
    for s in range(n_states):
        n = _combine(s, local, targets, widths, others, where, probability)
        x = local[s, 0]
        for j in range(widths[0, x]):
            base = targets[0, x, j]
            for column in range(n_columns):
                total = 0.0
                for row in range(n_rows):
                    total += own[s, row, j] * weights[s * n_rows + row, column]
                for place in range(n):
                    out[base + where[place], column] += probability[place] * total


@compiled()
def list_entries(  # noqa: PLR0917
    local: Any,
    targets: Any,
    widths: Any,
    own: Any,
    others: Any,
    pointers: Any,
    columns: Any,
    probabilities: Any,
) -> None:  # pragma: no cover
    """Entries by row. With empty `columns`, count them into `pointers`; otherwise write the entries
    of each row, starting at its pointer.
    """
    n_states, n_rows, _ = own.shape
    where = np.empty(_most(widths), np.int64)
    probability = np.empty(len(where))
    for s in range(n_states):
        n = _combine(s, local, targets, widths, others, where, probability)
        x = local[s, 0]
        for row in range(s * n_rows, (s + 1) * n_rows):
            for j in range(widths[0, x]):
                p = own[s, row - s * n_rows, j]
                if p == 0.0:
                    continue
                for place in range(n):
                    if probability[place] == 0.0:
                        continue
                    if len(columns) > 0:
                        columns[pointers[row]] = targets[0, x, j] + where[place]
                        probabilities[pointers[row]] = p * probability[place]
                    pointers[row] += 1
