"""The compiled loops of expected updates: one stage of a learner that carries q over."""

from __future__ import annotations

from typing import Any

import numpy as np

from malfl_algos.work.compilation import compiled

__all__ = ["advance", "update"]

Q_LEARNING, SARSA = 0, 1
"""Numbers of rules whose values or noise differ from those of expected SARSA."""


@compiled()
def advance(  # noqa: C901, PLR0917 - a compiled loop over plain arrays
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
    """Move q to the stage's end, in place.

    Args:
        q: coefficients, `(n_states, n_actions, width)`.
        transition: pointers, columns and probabilities of a sparse matrix `(n_states * n_actions,
            n_states)`.
        shares: share of q(s, a) that each part of the stage replaces, `(n_parts, n_states,
            n_actions)`.
        policy: `(n_states, n_actions)`.
        immediate: coefficients of the reward, as `q`.
        estimate: values of the unknowns, `(width,)`, or empty: values are averaged over `policy`,
            and there is no noise.
        parts: length of each part.
        draws: standard normal draws, `(n_draws, n_actions)`.
        averaging: factor from the variance of a target to that of q, `(n_states, n_actions)`.
        rates: discount and temperature.
        flags: number of the rule; whether the average policy of the stage is wanted.

    Returns:
        Coefficients of temperature times the log of the average policy, up to a constant per state,
        and the variance of q, `(n_states, n_actions)`.
    """
    n_states, n_actions, width = immediate.shape
    rule, wanted = flags
    known = estimate.shape[0] > 0
    mean = np.zeros((n_states, n_actions))
    variance = np.zeros((n_states, n_actions))
    weights = policy.copy()
    value = np.zeros((n_states, width))
    average = np.zeros((n_states, n_actions))
    slope = np.zeros((n_states, n_actions, width))
    if known:
        _estimates(q, estimate, mean)
    for number in range(shares.shape[0]):
        value[:] = 0.0
        for s in range(n_states):
            if known and rule == Q_LEARNING:
                value[s, width - 1] = _maximum(mean[s], variance[s], draws, weights[s])
            for a in range(n_actions):
                if weights[s, a] != 0.0:
                    for k in range(width):
                        value[s, k] += weights[s, a] * q[s, a, k]
        update(q, transition, shares[number], immediate, value, rates[0])
        if known:
            _estimates(q, estimate, mean)
            _noise(mean, weights, transition, averaging, rates[0], rule == SARSA, variance)
        if wanted:
            _accumulate(q, mean, rates[1], parts[number], average, slope)
    if wanted:
        _log_average(average, slope, estimate, rates[1])
    return slope, variance


@compiled()
def _estimates(q: Any, estimate: Any, mean: Any) -> None:  # pragma: no cover
    """Write the action values of the estimated reward into `mean`."""
    for s in range(mean.shape[0]):
        for a in range(mean.shape[1]):
            mean[s, a] = 0.0
            for k in range(estimate.shape[0]):
                mean[s, a] += q[s, a, k] * estimate[k]


@compiled()
def _maximum(mean: Any, variance: Any, draws: Any, weights: Any) -> Any:  # pragma: no cover
    """Write each action's probability of being the greatest into `weights`.

    Returns:
        The mean of the maximum minus that of the means of the greatest actions.
    """
    weights[:] = 0.0
    excess = 0.0
    spread = np.sqrt(variance)
    for d in range(draws.shape[0]):
        best, which = -np.inf, 0
        for a in range(mean.shape[0]):
            x = mean[a] + spread[a] * draws[d, a]
            if x > best:
                best, which = x, a
        weights[which] += 1.0 / draws.shape[0]
        excess += (best - mean[which]) / draws.shape[0]
    return excess


@compiled()
def update(  # noqa: C901 - a compiled loop over plain arrays
    q: Any, transition: Any, share: Any, immediate: Any, value: Any, discount: Any
) -> None:  # pragma: no cover
    """Replace a share of q by the expected target.

    Three next states at a time spare loads and stores.

    Args:
        q, transition, immediate: as in `advance`.
        share: `(n_states, n_actions)`.
        value: of the next states, `(n_states, width)`.
        discount: gamma.
    """
    pointers, columns, probabilities = transition
    n_states, n_actions, width = q.shape
    for s in range(n_states):
        for a in range(n_actions):
            part = share[s, a]
            if part == 0.0:
                continue
            w = part * discount
            entry, end = pointers[s * n_actions + a], pointers[s * n_actions + a + 1]
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
            else:
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
