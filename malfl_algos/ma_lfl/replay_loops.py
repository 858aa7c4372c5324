"""The compiled loops of the replay: one pass over the transitions of a stage.

Single precision: the running state values are recomputed from the rows every few thousand steps,
else their rounding errors would add up.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from malfl_algos.work.compilation import compiled, splitmix64

__all__ = ["EXECUTED", "EXPECTED", "SIGNS", "SOFT_Q", "follow_noise", "replay"]

EXPECTED, EXECUTED, SOFT_Q = 0, 1, 2
"""The rules that the loop tells apart."""
REFRESH = 16384
"""Steps between two recomputations of the running state values."""
TINY = np.float32(1e-15)
"""Coefficients below this are dropped: left to decay they become subnormal, which is slow."""
SIGNS = 64
"""Random-sign copies of the learner's noise: its variance is known to about 18 % each."""


@compiled(fastmath=True)
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
        states, actions, next_states, ends: the steps: joint state, own action, next joint state,
            whether an episode was cut after it, each `(n_steps,)`.
        columns: the reward unknown that each step pays, `(n_steps,)`.
        policy, log_policy: pi and alpha log pi, float32 `(n_states, n_actions)`.
        reward: float32 `(n_unknowns,)`; read by SOFT_Q alone.
        rates: discount, temperature, step size and its decay, float32.
        rule: EXPECTED, EXECUTED or SOFT_Q.
    """
    discount, temperature, step_size, decay = rates
    n_states, n_actions = policy.shape
    width = reward.shape[0] + 1
    rows = np.zeros((n_states, n_actions, width), dtype=np.float32)
    value = np.zeros((n_states, width), dtype=np.float32)
    visits = np.zeros((n_states, n_actions), dtype=np.int64)
    mean = np.zeros((n_states, n_actions), dtype=np.float32)
    chance = policy.copy()
    bonus = np.zeros(n_states, dtype=np.float32)
    for s in range(n_states):
        for b in range(n_actions):
            bonus[s] -= policy[s, b] * log_policy[s, b]
        if rule == SOFT_Q:
            _soften(mean, chance, bonus, s, temperature)
    change = np.zeros(width, dtype=np.float32)
    for n in range(states.shape[0]):
        if n % REFRESH == 0:
            _refresh(rows, value, chance)
        s, a, t = states[n], actions[n], next_states[n]
        beta = step_size
        if decay > 0:
            visits[s, a] += 1
            beta = np.float32(step_size / visits[s, a] ** decay)
        p, future = chance[s, a], bonus[t]
        # By way of a scratch row, which overlaps with nothing, else the loops are not vectorised;
        # without slices, because counting references to them costs as much as the arithmetic.
        if rule == SOFT_Q:
            for k in range(width):
                change[k] = -beta * rows[s, a, k]
            best = future
            for b in range(n_actions):
                weight = beta * discount * chance[t, b]
                for k in range(width):
                    change[k] += weight * rows[t, b, k]
                best += chance[t, b] * mean[t, b]
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
            _soften(mean, chance, bonus, s, temperature)
        else:
            for k in range(width):
                rows[s, a, k] += change[k]
                value[s, k] += p * change[k]
    return rows


@compiled(fastmath=True)
def _refresh(rows: Any, value: Any, chance: Any) -> None:  # pragma: no cover
    """Recompute the values of all states, and drop coefficients that have decayed to nothing."""
    n_states, n_actions, width = rows.shape
    for s in range(n_states):
        value[s] = np.float32(0.0)
        for b in range(n_actions):
            for k in range(width):
                if abs(rows[s, b, k]) <= TINY:
                    rows[s, b, k] = np.float32(0.0)
                value[s, k] += chance[s, b] * rows[s, b, k]


@compiled(inline="always")
def _soften(
    mean: Any, chance: Any, bonus: Any, s: Any, temperature: Any
) -> None:  # pragma: no cover
    """The soft-greedy policy of the mean action values of a state, and its entropy bonus:
    alpha log sum_b exp(q / alpha) = sum_b chance q + bonus.
    """
    top, total, average = mean[s].max(), np.float32(0.0), np.float32(0.0)
    for b in range(mean.shape[1]):
        chance[s, b] = np.exp((mean[s, b] - top) / temperature)
        total += chance[s, b]
    for b in range(mean.shape[1]):
        chance[s, b] /= total
        average += chance[s, b] * (mean[s, b] - top)
    bonus[s] = temperature * np.log(total) - average


@compiled(fastmath=True)
def follow_noise(  # noqa: PLR0917 - likewise
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

    The size of a draw's noise follows the mean action values, replayed alongside: in states that
    are hardly visited it is large while one of their actions still stands near zero.
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
    """Mean and standard deviation of q(s, b) - alpha log pi(b | s) over b drawn from pi."""
    first, second = np.float32(0.0), np.float32(0.0)
    for b in range(policy.shape[1]):
        draw = mean[s, b] - log_policy[s, b]
        first += policy[s, b] * draw
    for b in range(policy.shape[1]):
        draw = mean[s, b] - log_policy[s, b] - first
        second += policy[s, b] * draw * draw
    centre[s] = first
    size[s] = np.sqrt(second)
