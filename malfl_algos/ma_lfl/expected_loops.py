"""The compiled loops of expected updates: one stage of a learner that carries q over."""

from __future__ import annotations

from typing import Any

import numpy as np

from malfl_algos.work.compilation import compiled

__all__ = ["advance", "aligned", "copy_columns", "update"]

Q_LEARNING, SARSA = 0, 1
"""Numbers of rules whose values or noise differ from those of expected SARSA."""


@compiled()
def advance(  # noqa: PLR0917 - a compiled loop over plain arrays
    q: Any,
    transition: Any,
    shares: Any,
    policy: Any,
    immediate: Any,
    estimate: Any,
    parts: Any,
    draws: Any,
    averaging: Any,
    rates: Any,
    flags: Any,
) -> Any:  # pragma: no cover
    """The learner at the stage's end.

    Args:
        q: coefficients at its beginning, `(n_states, n_actions, width)`.
        transition: pointers, columns and probabilities of a sparse matrix `(n_states * n_actions,
            n_states)`.
        shares: share of q(s, a) that each part of the stage replaces, `(n_parts, n_states,
            n_actions)`.
        policy: `(n_states, n_actions)`.
        immediate: coefficients of the reward, as `q`.
        estimate: values of the unknowns, `(width,)`, or empty: values are averaged over `policy`,
            and there is no noise.
        parts: length of each part.
        draws: standard normal draws, `(n_actions, n_draws)`.
        averaging: factor from the variance of a target to that of q, `(n_states, n_actions)`.
        rates: discount and temperature.
        flags: number of the rule; whether the average policy of the stage is wanted.

    Returns:
        Coefficients of q; those of temperature times the log of the average policy, up to a
        constant per state; and the variance of q, `(n_states, n_actions)`.
    """
    n_states, n_actions, width = immediate.shape
    rule, wanted = flags
    known = estimate.shape[0] > 0
    n_columns = width + 1 if known else width  # the last: values of the estimated reward
    moved = aligned(n_states, n_actions, n_columns)
    direct = aligned(n_states, n_actions, n_columns)
    copy_columns(q, moved)
    copy_columns(immediate, direct)
    value, after = aligned(1, n_states, n_columns)[0], aligned(1, n_states, n_columns)[0]
    mean = np.zeros((n_states, n_actions))
    variance = np.zeros((n_states, n_actions))
    weights = policy.copy()
    played = np.zeros((n_states, n_actions))
    excess = np.zeros(n_states)
    slope = aligned(n_states, n_actions, width)
    if known:
        _estimate(moved, estimate)
        _estimate(direct, estimate)
        _read_column(moved, width, mean)
    average(moved, weights, value)
    for number in range(shares.shape[0]):
        if known and rule == Q_LEARNING:
            _maxima(mean, variance, draws, weights, excess)
            average(moved, weights, value)
            for s in range(n_states):
                value[s, width - 1] += excess[s]
                value[s, width] += excess[s]
        update(moved, transition, shares[number], direct, value, rates[0], weights, after)
        value, after = after, value
        if known:
            _read_column(moved, width, mean)
            _noise(mean, weights, transition, averaging, rates[0], rule == SARSA, variance)
        if wanted:
            _accumulate(moved, mean, rates[1], parts[number], played, slope)
    final, log_average = np.empty(immediate.shape), np.empty(immediate.shape)
    copy_columns(moved, final)
    copy_columns(slope, log_average)
    if wanted:
        _log_average(played, log_average, estimate, rates[1])
    return final, log_average, variance


@compiled()
def _estimate(q: Any, estimate: Any) -> None:  # pragma: no cover
    """Write the action values of the estimated reward beside the coefficients of the unknowns."""
    width = estimate.shape[0]
    for s in range(q.shape[0]):
        for a in range(q.shape[1]):
            for k in range(width):
                q[s, a, width] += q[s, a, k] * estimate[k]


@compiled()
def _maxima(  # noqa: C901 - a compiled loop over plain arrays
    mean: Any, variance: Any, draws: Any, weights: Any, excess: Any
) -> None:  # pragma: no cover
    """Write each action's probability of being the greatest into `weights`, and the mean of the
    maximum minus that of the means of the greatest actions into `excess`.
    """
    n_states, n_actions = mean.shape
    n_draws = draws.shape[1]
    reach = 0.0
    for a in range(n_actions):
        for d in range(n_draws):
            reach = max(reach, abs(draws[a, d]))
    best = np.zeros(n_draws)
    which = np.zeros(n_draws, dtype=np.int64)
    for s in range(n_states):
        floor = -np.inf
        for a in range(n_actions):
            floor = max(floor, mean[s, a] - reach * np.sqrt(variance[s, a]))
        excess[s] = 0.0
        best[:] = -np.inf
        for a in range(n_actions):
            spread = np.sqrt(variance[s, a])
            if mean[s, a] + reach * spread >= floor:
                for d in range(n_draws):
                    x = mean[s, a] + spread * draws[a, d]
                    if x > best[d]:
                        best[d], which[d] = x, a
        for a in range(n_actions):
            n_times = 0
            for d in range(n_draws):
                n_times += 1 if which[d] == a else 0
            weights[s, a] = n_times / n_draws
            excess[s] -= weights[s, a] * mean[s, a]
        left = n_draws
        while left > 1:  # the sum of all, by halves
            half = (left + 1) // 2
            for d in range(left - half):
                best[d] += best[d + half]
            left = half
        excess[s] += best[0] / n_draws


@compiled()
def aligned(n_states: Any, n_actions: Any, width: Any) -> Any:  # pragma: no cover
    """Zeros, `(n_states, n_actions, at least width)`: every row of eight columns or more begins
    where a cache line does, so that no vector of the processor lies across two lines.
    """
    if width > 4:
        width += -width % 8
    n_numbers = n_states * n_actions * width
    room = np.zeros(n_numbers + 8)
    first = -(room.ctypes.data // 8) % 8
    return room[first : first + n_numbers].reshape((n_states, n_actions, width))


@compiled()
def copy_columns(table: Any, target: Any) -> None:  # pragma: no cover
    """Copy as many columns, along the last axis, as both have; loops compile in a fraction of the
    time of slices.
    """
    n_states, n_actions, width = table.shape
    width = min(width, target.shape[2])
    for s in range(n_states):
        for a in range(n_actions):
            for k in range(width):
                target[s, a, k] = table[s, a, k]


@compiled()
def _read_column(table: Any, column: Any, target: Any) -> None:  # pragma: no cover
    for s in range(table.shape[0]):
        for a in range(table.shape[1]):
            target[s, a] = table[s, a, column]


@compiled()
def average(q: Any, weights: Any, value: Any) -> None:  # pragma: no cover
    """Write the weighted sums of q over the actions into `value`."""
    n_states, n_actions, width = q.shape
    value[:] = 0.0
    for s in range(n_states):
        for a in range(n_actions):
            if weights[s, a] != 0.0:
                for k in range(width):
                    value[s, k] += weights[s, a] * q[s, a, k]


@compiled()
def update(  # noqa: C901, PLR0917 - a compiled loop over plain arrays
    q: Any,
    transition: Any,
    share: Any,
    immediate: Any,
    value: Any,
    discount: Any,
    weights: Any,
    after: Any,
) -> None:  # pragma: no cover
    """Replace a share of q by the expected target, and average the new q over the actions.

    Three or four next states at a time spare loads and stores.

    Args:
        q, transition, immediate: as in `advance`, but q and immediate may have more columns.
        share: `(n_states, n_actions)`.
        value: of the next states, `(n_states, width)`.
        discount: gamma.
        weights: of the actions, `(n_states, n_actions)`.
        after: receives the averages, as `average` makes them.
    """
    pointers, columns, probabilities = transition
    n_states, n_actions, width = q.shape
    after[:] = 0.0
    for s in range(n_states):
        for a in range(n_actions):
            part, weight = share[s, a], weights[s, a]
            w = part * discount
            entry, end = pointers[s * n_actions + a], pointers[s * n_actions + a + 1]
            if end - entry == 4:
                t, u, v = columns[entry], columns[entry + 1], columns[entry + 2]
                x, y = w * probabilities[entry], w * probabilities[entry + 1]
                z = w * probabilities[entry + 2]
                last, p = columns[entry + 3], w * probabilities[entry + 3]
                for k in range(width):
                    new = q[s, a, k] + (
                        part * (immediate[s, a, k] - q[s, a, k])
                        + x * value[t, k]
                        + y * value[u, k]
                        + z * value[v, k]
                    )
                    new += p * value[last, k]
                    q[s, a, k] = new
                    after[s, k] += weight * new
                continue
            if end - entry >= 3:
                t, u, v = columns[entry], columns[entry + 1], columns[entry + 2]
                x, y = w * probabilities[entry], w * probabilities[entry + 1]
                z = w * probabilities[entry + 2]
                for k in range(width):
                    q[s, a, k] += (
                        part * (immediate[s, a, k] - q[s, a, k])
                        + x * value[t, k]
                        + y * value[u, k]
                        + z * value[v, k]
                    )
                entry += 3
            elif part != 0.0:
                for k in range(width):
                    q[s, a, k] += part * (immediate[s, a, k] - q[s, a, k])
            if end - entry >= 2:
                t, u = columns[entry], columns[entry + 1]
                x, y = w * probabilities[entry], w * probabilities[entry + 1]
                for k in range(width):
                    q[s, a, k] += x * value[t, k] + y * value[u, k]
                entry += 2
            while entry < end:
                t, x = columns[entry], w * probabilities[entry]
                for k in range(width):
                    q[s, a, k] += x * value[t, k]
                entry += 1
            for k in range(width):
                after[s, k] += weight * q[s, a, k]


@compiled()
def _noise(
    mean: Any,
    weights: Any,
    transition: Any,
    averaging: Any,
    discount: Any,
    sampled: Any,
    variance: Any,
) -> None:  # pragma: no cover
    """Write the variance of q into `variance`: that of one target times `averaging`."""
    pointers, columns, probabilities = transition
    n_states, n_actions = mean.shape
    first = np.zeros(n_states)
    second = np.zeros(n_states)
    for s in range(n_states):
        for a in range(n_actions):
            first[s] += weights[s, a] * mean[s, a]
            second[s] += weights[s, a] * mean[s, a] ** 2
        if not sampled:
            second[s] = first[s] ** 2
    for s in range(n_states):
        for a in range(n_actions):
            m, v = 0.0, 0.0
            for entry in range(pointers[s * n_actions + a], pointers[s * n_actions + a + 1]):
                m += probabilities[entry] * first[columns[entry]]
                v += probabilities[entry] * second[columns[entry]]
            variance[s, a] = averaging[s, a] * discount**2 * max(v - m * m, 0.0)


@compiled()
def _accumulate(
    q: Any, mean: Any, temperature: Any, part: Any, average: Any, slope: Any
) -> None:  # pragma: no cover
    """Add a part's softmax policy to `average`, and temperature times its derivative to `slope`."""
    n_states, n_actions, width = q.shape
    centre = np.zeros(width)
    weight = np.zeros(n_actions)
    for s in range(n_states):
        total = 0.0
        greatest = mean[s].max()
        for a in range(n_actions):
            weight[a] = np.exp((mean[s, a] - greatest) / temperature)
            total += weight[a]
        centre[:] = 0.0
        for a in range(n_actions):
            weight[a] /= total
            average[s, a] += part * weight[a]
            for k in range(width):
                centre[k] += weight[a] * q[s, a, k]
        for a in range(n_actions):
            for k in range(width):
                slope[s, a, k] += part * weight[a] * (q[s, a, k] - centre[k])


@compiled()
def _log_average(
    average: Any, slope: Any, estimate: Any, temperature: Any
) -> None:  # pragma: no cover
    """Turn the derivative of the average policy into coefficients of temperature times its log."""
    n_states, n_actions, width = slope.shape
    for s in range(n_states):
        for a in range(n_actions):
            at, seen = 0.0, max(average[s, a], 1e-300)
            for k in range(width):
                slope[s, a, k] /= seen
                at += slope[s, a, k] * estimate[k]
            slope[s, a, width - 1] += temperature * np.log(seen) - at
