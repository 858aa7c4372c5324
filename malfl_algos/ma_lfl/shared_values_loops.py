"""The compiled loops of `shared_values`, over the entries of sparse transitions."""

from __future__ import annotations

from typing import Any

import numpy as np

from malfl_algos.work.compilation import compiled

__all__ = ["add_information", "backed_up", "centred", "gathered", "scattered"]


@compiled()
def add_information(  # noqa: C901, PLR0917
    information: Any,
    begin: Any,
    end: Any,
    pointers: Any,
    columns: Any,
    probabilities: Any,
    weights: Any,
    factor: Any,
) -> None:  # pragma: no cover
    """Add factor P' C P to the rows from `begin` to `end` of the lower triangle, where
    C = diag(w) - w w' / sum(w) in every state.
    """
    n_states, n_actions = weights.shape
    mean, touched = np.zeros(len(information)), np.empty(len(information), np.int64)
    for s in range(n_states):
        total = 0.0
        for a in range(n_actions):
            total += weights[s, a]
        if total == 0.0:
            continue
        n_touched = 0
        for a in range(n_actions):
            w = weights[s, a]
            if w == 0.0:
                continue
            first, last = pointers[s * n_actions + a], pointers[s * n_actions + a + 1]
            for i in range(first, last):
                t, p = columns[i], w * probabilities[i]
                if t >= end:
                    continue
                if mean[t] == 0.0 and p != 0.0:
                    touched[n_touched] = t
                    n_touched += 1
                mean[t] += p
                if t < begin:
                    continue
                row, p = information[t], factor * p
                for j in range(first, last):
                    if columns[j] <= t:
                        row[columns[j]] += p * probabilities[j]
        found = np.sort(touched[:n_touched])
        for i in range(n_touched):
            if found[i] >= begin:
                row, p = information[found[i]], factor * mean[found[i]] / total
                for j in range(i + 1):
                    row[found[j]] -= p * mean[found[j]]
        for i in range(n_touched):
            mean[found[i]] = 0.0


@compiled()
def centred(
    information: Any, groups: Any, beside: Any, within: Any, sizes: Any, level: Any
) -> None:  # pragma: no cover
    """Replace the lower triangle of X by that of Q X Q + level U U', in place.

    U are the indicators of the groups with length one and Q = I - U U'; `beside` is U' X,
    `within` is U' X U.
    """
    n_groups = len(sizes)
    scaled = np.empty((n_groups, n_groups))
    for g in range(n_groups):
        for h in range(n_groups):
            scaled[g, h] = within[g, h] / np.sqrt(sizes[g] * sizes[h])
    across = np.empty((n_groups, len(information)))
    for g in range(n_groups):
        across[g] = beside[g] / np.sqrt(sizes[g])
    for s in range(len(information)):
        g, row, own = groups[s], information[s], across[groups[s]]
        for t in range(s + 1):
            h = groups[t]
            row[t] += scaled[g, h] - own[t] - across[h, s]
            if g == h:
                row[t] += level / sizes[g]


@compiled(fused=True)
def backed_up(
    pointers: Any, columns: Any, probabilities: Any, moved: Any, backups: Any
) -> Any:  # pragma: no cover
    """The sum of P^k moved for k = 0 .. backups, `(n_states, width)`."""
    before, ahead = moved.copy(), np.empty_like(moved)
    n_states, width = moved.shape
    for _ in range(backups):
        for s in range(n_states):
            row = ahead[s]
            row[:] = moved[s]
            for i in range(pointers[s], pointers[s + 1]):
                p, other = probabilities[i], before[columns[i]]
                for k in range(width):
                    row[k] += p * other[k]
        before, ahead = ahead, before
    return before


@compiled(fused=True)
def gathered(
    pointers: Any, columns: Any, probabilities: Any, ahead: Any, shares: Any, roots: Any, out: Any
) -> None:  # pragma: no cover
    """Write sqrt(w) times P ahead minus its mean over actions, `(n_states * n_actions, width)`.

    `shares` are w / sum(w) and `roots` are sqrt(w), `(n_states, n_actions)`.
    """
    n_states, n_actions = shares.shape
    width = ahead.shape[1]
    mean = np.empty(width, ahead.dtype)
    for s in range(n_states):
        mean[:] = 0
        for a in range(n_actions):
            row = out[s * n_actions + a]
            row[:] = 0
            for i in range(pointers[s * n_actions + a], pointers[s * n_actions + a + 1]):
                p, other = probabilities[i], ahead[columns[i]]
                for k in range(width):
                    row[k] += p * other[k]
            for k in range(width):
                mean[k] += shares[s, a] * row[k]
        for a in range(n_actions):
            row = out[s * n_actions + a]
            for k in range(width):
                row[k] = roots[s, a] * (row[k] - mean[k])


@compiled(fused=True)
def scattered(
    pointers: Any, columns: Any, probabilities: Any, rows: Any, roots: Any, out: Any
) -> None:  # pragma: no cover
    """Add P' sqrt(w) rows to `out`, `(n_states, width)`."""
    n_states, n_actions = roots.shape
    width = out.shape[1]
    for s in range(n_states):
        for a in range(n_actions):
            row = rows[s * n_actions + a]
            for i in range(pointers[s * n_actions + a], pointers[s * n_actions + a + 1]):
                p, other = roots[s, a] * probabilities[i], out[columns[i]]
                for k in range(width):
                    other[k] += p * row[k]
