"""The compiled loops of the replay: one pass over the transitions of a stage.

The loops use single precision. The running state values are therefore recomputed from the rows
every `REFRESH` steps, so that rounding errors do not accumulate.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from malfl_algos.work.compilation import compiled, splitmix64

__all__ = ["EXECUTED", "EXPECTED", "SIGNS", "SOFT_Q", "follow_noise", "replay"]

EXPECTED, EXECUTED, SOFT_Q = 0, 1, 2
"""Values of the argument `rule`."""
REFRESH = 16384
"""Number of steps between two recomputations of the running state values."""
TINY = np.float32(1e-15)
"""Coefficients below this are set to 0: otherwise they decay to subnormal numbers, which are slow.
"""
SIGNS = 64
"""Number of random-sign copies of the learner's noise. Each variance is estimated to about 18 %."""


@compiled(fused=True)
def replay(  # noqa: C901, PLR0917 - a compiled loop over plain arrays
    states: Any,
    actions: Any,
    columns: Any,
    next_states: Any,
    ends: Any,
    policy: Any,
    log_policy: Any,
    reward: Any,
    rates: Any,
    rule: Any,
) -> Any:  # pragma: no cover
    """Coefficients `(n_states, n_actions, n_unknowns + 1)` of q after the last step.

    Args:
        states, actions, next_states, ends: per step the joint state, own action, next joint state,
            and whether an episode ended after it, each `(n_steps,)`.
        columns: index of the reward unknown that the agent receives in each step, `(n_steps,)`.
        policy, log_policy: pi and alpha log pi, float32 `(n_states, n_actions)`.
        reward: float32 `(n_unknowns,)`; only SOFT_Q reads it.
        rates: discount, temperature, step size and step size decay, float32.
        rule: EXPECTED, EXECUTED or SOFT_Q.
    """
    discount, temperature, step_size, decay = rates
    n_states, n_actions = policy.shape
    width = reward.shape[0] + 1
    rows = np.zeros((n_states, n_actions, width), dtype=np.float32)
    value = np.zeros((n_states, width), dtype=np.float32)
    visits = np.zeros((n_states, n_actions), dtype=np.int64)
    mean = np.zeros((n_states, n_actions), dtype=np.float32)
    probability = policy.copy()
    bonus = np.zeros(n_states, dtype=np.float32)
    for s in range(n_states):
        for b in range(n_actions):
            bonus[s] -= policy[s, b] * log_policy[s, b]
        if rule == SOFT_Q:
            _soften(mean, probability, bonus, s, temperature)
    change = np.zeros(width, dtype=np.float32)
    for n in range(states.shape[0]):
        if n % REFRESH == 0:
            _refresh(rows, value, probability)
        s, a, t = states[n], actions[n], next_states[n]
        beta = step_size
        if decay > 0:
            visits[s, a] += 1
            beta = np.float32(step_size / visits[s, a] ** decay)
        p, future = probability[s, a], bonus[t]
        # The scratch row `change` overlaps with no other array, which lets the compiler vectorise
        # the loops. Slices are avoided: counting their references costs as much as the arithmetic.
        if rule == SOFT_Q:
            for k in range(width):
                change[k] = -beta * rows[s, a, k]
            best = future
            for b in range(n_actions):
                weight = beta * discount * probability[t, b]
                for k in range(width):
                    change[k] += weight * rows[t, b, k]
                best += probability[t, b] * mean[t, b]
            mean[s, a] += beta * (reward[columns[n]] + discount * best - mean[s, a])
        elif rule == EXECUTED and not ends[n] and n + 1 < states.shape[0]:
            b = actions[n + 1]
            future = -log_policy[t, b]
            for k in range(width):
                change[k] = beta * (discount * rows[t, b, k] - rows[s, a, k])
        else:
            for k in range(width):
                change[k] = beta * (discount * value[t, k] - rows[s, a, k])
        change[columns[n]] += beta
        change[width - 1] += beta * discount * future
        if rule == SOFT_Q:
            for k in range(width):
                rows[s, a, k] += change[k]
            _soften(mean, probability, bonus, s, temperature)
        else:
            for k in range(width):
                rows[s, a, k] += change[k]
                value[s, k] += p * change[k]
    return rows


@compiled(fused=True)
def _refresh(rows: Any, value: Any, probability: Any) -> None:  # pragma: no cover
    """Recompute the values of all states, and set coefficients below `TINY` to 0."""
    n_states, n_actions, width = rows.shape
    for s in range(n_states):
        value[s] = np.float32(0.0)
        for b in range(n_actions):
            for k in range(width):
                if abs(rows[s, b, k]) <= TINY:
                    rows[s, b, k] = np.float32(0.0)
                value[s, k] += probability[s, b] * rows[s, b, k]


@compiled(inline="always")
def _soften(
    mean: Any, probability: Any, bonus: Any, s: Any, temperature: Any
) -> None:  # pragma: no cover
    """Write the soft-greedy policy of a state's mean action values and its entropy bonus.

    alpha log sum_b exp(q / alpha) = sum_b probability q + bonus.
    """
    top, total, average = mean[s].max(), np.float32(0.0), np.float32(0.0)
    for b in range(mean.shape[1]):
        probability[s, b] = np.exp((mean[s, b] - top) / temperature)
        total += probability[s, b]
    for b in range(mean.shape[1]):
        probability[s, b] /= total
        average += probability[s, b] * (mean[s, b] - top)
    bonus[s] = temperature * np.log(total) - average


@compiled(fused=True)
def follow_noise(  # noqa: PLR0917 - a compiled loop over plain arrays
    states: Any,
    actions: Any,
    columns: Any,
    next_states: Any,
    policy: Any,
    log_policy: Any,
    reward: Any,
    rates: Any,
    seed: Any,
) -> Any:  # pragma: no cover
    """Random-sign copies `(n_states, n_actions, SIGNS)` of the noise of fresh bootstrap draws.

    The standard deviation of a draw depends on the mean action values, which are replayed
    alongside. It is large in rarely visited states as long as the value of one of their actions is
    near 0.
    """
    discount, _, step_size, decay = rates
    n_states, n_actions = policy.shape
    noise = np.zeros((n_states, n_actions, SIGNS), dtype=np.float32)
    value = np.zeros((n_states, SIGNS), dtype=np.float32)
    visits = np.zeros((n_states, n_actions), dtype=np.int64)
    mean = np.zeros((n_states, n_actions), dtype=np.float32)
    centre = np.zeros(n_states, dtype=np.float32)
    size = np.zeros(n_states, dtype=np.float32)
    for s in range(n_states):
        _spread(mean, policy, log_policy, centre, size, s)
    change = np.zeros(SIGNS, dtype=np.float32)
    state = seed
    for n in range(states.shape[0]):
        s, a, t = states[n], actions[n], next_states[n]
        beta = step_size
        if decay > 0:
            visits[s, a] += 1
            beta = np.float32(step_size / visits[s, a] ** decay)
        for k in range(SIGNS):
            change[k] = beta * (discount * value[t, k] - noise[s, a, k])
        state += np.uint64(0x9E3779B97F4A7C15)
        signs = splitmix64(state)
        low, high = np.uint32(signs), np.uint32(signs >> np.uint64(32))
        draw = beta * discount * size[t]
        for k in range(SIGNS // 2):  # in 32-bit lanes
            bit = np.uint32(1) << np.uint32(k)
            change[k] += draw if low & bit else -draw
            change[k + SIGNS // 2] += draw if high & bit else -draw
        p = policy[s, a]
        for k in range(SIGNS):
            noise[s, a, k] += change[k]
            value[s, k] += p * change[k]
        mean[s, a] += beta * (reward[columns[n]] + discount * centre[t] - mean[s, a])
        _spread(mean, policy, log_policy, centre, size, s)
    return noise


@compiled(inline="always")
def _spread(
    mean: Any, policy: Any, log_policy: Any, centre: Any, size: Any, s: Any
) -> None:  # pragma: no cover
    """Write mean and standard deviation of q(s, b) - alpha log pi(b | s) over b drawn from pi."""
    first, second = np.float32(0.0), np.float32(0.0)
    for b in range(policy.shape[1]):
        draw = mean[s, b] - log_policy[s, b]
        first += policy[s, b] * draw
    for b in range(policy.shape[1]):
        draw = mean[s, b] - log_policy[s, b] - first
        second += policy[s, b] * draw * draw
    centre[s] = first
    size[s] = np.sqrt(second)
