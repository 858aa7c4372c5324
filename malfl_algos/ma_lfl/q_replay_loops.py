"""The compiled loop that replays Q-learners, which carry their action values over.

Coefficients are in single precision, as in `malfl_algos.ma_lfl.replay_loops`. The action values at
the present estimate of the reward, at which the learner's rule is linearised, are in double
precision.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from malfl_algos.ma_lfl.replay_loops import REFRESH, TINY
from malfl_algos.work.compilation import compiled

__all__ = ["EXPECTED_SARSA", "GIVEN", "Q_LEARNING", "SARSA", "follow", "follow_choices"]

Q_LEARNING, SARSA, EXPECTED_SARSA = 0, 1, 2
"""Values of the first entry of `kinds`."""
GIVEN = -1.0
"""Stands for epsilon where the policy is given."""
THINNED = 4
"""In spans longer than `REFRESH` steps, one of this many visits of a state enters the derivatives.
"""


@compiled(fused=True)
def follow(  # noqa: C901, PLR0917 - a compiled loop over plain arrays
    states: Any,
    actions: Any,
    columns: Any,
    next_states: Any,
    ends: Any,
    span: Any,
    policy: Any,
    reward: Any,
    rates: Any,
    kinds: Any,
    rows: Any,
    q: Any,
    visits: Any,
    average: Any,
    played: Any,
) -> None:  # pragma: no cover
    """Follow some steps of a stage; changes the learner's state in place.

    Args:
        states, actions, next_states, ends: per step the joint state, own action, next joint state,
            and whether an episode ended after it, each `(n_steps,)`.
        columns: index of the reward unknown that the agent receives in each step, `(n_steps,)`.
        span: first step, and the step after the last.
        policy: `(n_states, n_actions)`: the frozen policy, or weights that stand for the greatest
            action while no reward is known.
        reward: `(n_unknowns,)`, at which the rule is linearised.
        rates: discount, temperature, step size, step size decay, and epsilon of a greedy policy
            that moves; `GIVEN`: `policy` is used in its place.
        kinds: the rule; whether a reward is known; whether the policy moves with q; whether it is
            greedy.
        rows: float32 `(n_states, n_actions, n_unknowns + 1)`, coefficients of q.
        q: `(n_states, n_actions)`, the action values at `reward`.
        visits: int64 `(n_states, n_actions)`, numbers of updates so far.
        average: float32, shape of `rows`; receives the derivative of T log of the policy `played`
            with respect to the reward; if none is known, or for a greedy policy, the averaged
            coefficients. Only if the policy moves.
        played: `(n_states, n_actions)`; receives the policy at `reward`, averaged over the visits
            of each state in the span; 0 in states without visits.
    """
    discount, temperature, step_size, decay, epsilon = rates
    rule, linear, moving, greedy = kinds
    soft = linear and not greedy
    n_states, n_actions, width = rows.shape
    seen = np.zeros(n_states, dtype=np.int64)
    part = np.zeros((n_states, n_actions), dtype=np.float32)
    change = np.zeros(width, dtype=np.float32)
    weights = np.zeros(n_actions)
    probability = np.zeros(n_actions)
    scratch = change, probability
    fixed = np.float32(discount)
    thinned = THINNED if span[1] - span[0] > REFRESH else 1
    for n in range(span[0], span[1]):
        if n % REFRESH == 0:
            _flush(rows)
        s, a, t = states[n], actions[n], next_states[n]
        # A SARSA agent chooses its next action before the update, the others after it.
        early = rule == SARSA and n > span[0] and not ends[n - 1]
        if moving and not early:
            _add_visit(rows, q, s, rates, soft, thinned, average, played, part, seen, *scratch)
        if moving and rule == SARSA and not ends[n] and n + 1 < span[1]:
            _add_visit(rows, q, t, rates, soft, thinned, average, played, part, seen, *scratch)
        visits[s, a] += 1
        beta = step_size if decay == 0.0 else step_size / visits[s, a] ** decay
        rate = np.float32(beta)
        ahead, single = 0.0, -1
        if rule == SARSA and not ends[n] and n + 1 < states.shape[0]:
            single = actions[n + 1]
        elif rule == Q_LEARNING and linear:
            single = 0
            for b in range(1, n_actions):
                if q[t, b] > q[t, single]:
                    single = b
        elif moving and soft:
            _softmax(q, t, temperature, probability)
            for b in range(n_actions):
                ahead += probability[b] * q[t, b]
            for b in range(n_actions):
                weights[b] = probability[b] * (1.0 + (q[t, b] - ahead) / temperature)
        elif linear and epsilon >= 0.0:
            top = 0
            for b in range(1, n_actions):
                if q[t, b] > q[t, top]:
                    top = b
            for b in range(n_actions):
                weights[b] = epsilon / n_actions + (1.0 - epsilon if b == top else 0.0)
                ahead += weights[b] * q[t, b]
        else:
            for b in range(n_actions):
                weights[b] = policy[t, b]
                ahead += weights[b] * q[t, b]
        # The scratch row `change` overlaps with no other array, which lets the compiler vectorise
        # the loops.
        if single >= 0:
            ahead = q[t, single]
            for k in range(width):
                change[k] = rate * (fixed * rows[t, single, k] - rows[s, a, k])
        else:
            rest = ahead
            for k in range(width):
                change[k] = -rate * rows[s, a, k]
            for b in range(n_actions):
                weight = np.float32(beta * discount * weights[b])
                rest -= weights[b] * q[t, b]
                for k in range(width):
                    change[k] += weight * rows[t, b, k]
            change[width - 1] += np.float32(beta * discount * rest)
        change[columns[n]] += rate
        for k in range(width):
            rows[s, a, k] += change[k]
        if linear:
            q[s, a] += beta * (reward[columns[n]] + discount * ahead - q[s, a])
    if moving:
        for s in range(n_states):
            for b in range(n_actions):
                played[s, b] /= max(seen[s], 1)
                weight = np.float32(max(part[s, b], 1e-30))
                for k in range(width):
                    average[s, b, k] /= weight


@compiled()
def follow_choices(  # noqa: PLR0917 - a compiled loop over plain arrays
    chosen: Any,
    states: Any,
    actions: Any,
    columns: Any,
    next_states: Any,
    ends: Any,
    start: Any,
    policy: Any,
    reward: Any,
    rates: Any,
    kinds: Any,
    rows: Any,
    q: Any,
    visits: Any,
    found: Any,
) -> None:  # pragma: no cover
    """Follow the steps from `start` to the last chosen one; see `follow`.

    Args:
        chosen: numbers of steps, increasing, `(m,)`.
        found: float32 `(m, n_actions, n_unknowns + 1)`; receives the coefficients of q in the state
            of each chosen step before its update.
    """
    average, played = np.zeros((1, 1, 1), dtype=np.float32), np.zeros((1, 1))
    for number in range(chosen.shape[0]):
        follow(
            states,
            actions,
            columns,
            next_states,
            ends,
            (start, chosen[number]),
            policy,
            reward,
            rates,
            kinds,
            rows,
            q,
            visits,
            average,
            played,
        )
        found[number] = rows[states[chosen[number]]]
        start = chosen[number]


@compiled(fused=True)
def _add_visit(  # noqa: PLR0917 - a compiled loop over plain arrays
    rows: Any,
    q: Any,
    s: Any,
    rates: Any,
    soft: Any,
    thinned: Any,
    average: Any,
    played: Any,
    part: Any,
    seen: Any,
    change: Any,
    probability: Any,
) -> None:  # pragma: no cover
    """Add a visit of a state to its averages: the policy, and pi(b) times d(T log pi(b)) / dr."""
    n_actions, width = rows.shape[1], rows.shape[2]
    if soft:
        _softmax(q, s, rates[1], probability)
    else:
        probability[:] = np.float64(1.0) / n_actions
    for b in range(n_actions):
        played[s, b] += probability[b]
    if seen[s] % thinned == 0:
        for k in range(width):
            change[k] = 0
        if soft:
            for b in range(n_actions):
                weight = np.float32(probability[b])
                for k in range(width):
                    change[k] += weight * rows[s, b, k]
        for b in range(n_actions):
            weight = np.float32(probability[b])
            part[s, b] += weight
            for k in range(width):
                average[s, b, k] += weight * (rows[s, b, k] - change[k])
    seen[s] += 1


@compiled(inline="always")
def _flush(rows: Any) -> None:  # pragma: no cover
    """Set coefficients below `TINY` to 0."""
    for s in range(rows.shape[0]):
        for b in range(rows.shape[1]):
            for k in range(rows.shape[2]):
                if abs(rows[s, b, k]) <= TINY:
                    rows[s, b, k] = np.float32(0.0)


@compiled(inline="always")
def _softmax(q: Any, s: Any, temperature: Any, probability: Any) -> None:  # pragma: no cover
    """Write the softmax policy of a state."""
    top = q[s, 0]
    for b in range(1, q.shape[1]):
        top = max(top, q[s, b])
    total = 0.0
    for b in range(q.shape[1]):
        probability[b] = np.exp((q[s, b] - top) / temperature)
        total += probability[b]
    for b in range(q.shape[1]):
        probability[b] /= total
