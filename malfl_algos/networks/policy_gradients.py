"""Policy gradients of reward features, for `malfl_algos.networks.moves`.

The learner's network is not known. A softmax policy that is linear in psi(o) stands for it, with
psi the learner's inputs, random hidden units and a constant. In its parameters theta, one vector
per action,

- the gradient of the discounted sum of feature phi_k is E[psi(o) (1{a} - pi(.|o)) A_k(o, a)], with
  generalised advantages A_k (Schulman et al. 2016), as an actor-critic learner estimates it itself;
- the gradient of the entropy of the policy is E[-psi(o) sum_a (1{a} - pi) pi(a|o) log pi(a|o)];
- a change of the policy shows as E[psi(o) (1{a} - pi_h(.|o))] over the steps of stage h + 1, less
  the same over those of stage h, which is 0 but for the error of the estimated policy pi_h.

No action values are fitted action by action. Those of a feature such as the distance to the nearest
of several things bend too sharply for a linear fit, but all that moves a network is the smooth part
that psi can express.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from malfl_algos.networks.dynamics import RIDGE, parts_of
from malfl_algos.networks.gathering import Gathered, Steps

__all__ = ["StageGradient", "advantages", "stage_gradient", "successor_map"]

FloatArray = NDArray[np.float64]

TRACE = 0.8
"""Lambda of the generalised advantages: of 0.5, 0.8 and 0.9 the nearest to exact gradients."""


@dataclass(frozen=True, eq=False)
class StageGradient:
    """What a stage says in the parameters of the policy that stands for the learner's.

    Args:
        fisher: E[(d log pi / d theta)(d log pi / d theta)'] `(p, p)`.
        gradient: of the discounted sums of the reward features, `(p, k)`.
        noise: half the difference of the gradients of even and of odd episodes `(p, k)`: as large
            as the error of `gradient`.
        entropy: the gradient of the entropy of the policy `(p,)`.
        change: of the policy from this stage to the next `(p,)`.
        floor: variance of `change` by sampled actions, in units of `fisher`.
    """

    fisher: FloatArray
    gradient: FloatArray
    noise: FloatArray
    entropy: FloatArray
    change: FloatArray
    floor: float


def successor_map(
    steps: Steps,
    counts: FloatArray,
    values: FloatArray,
    paid: FloatArray,
    *,
    discount: float,
    after: bool,
) -> FloatArray:
    """Return the map in V_h = Z(o) . map of the features phi, by LSTD on the steps of a stage.

    Args:
        steps: of the stage.
        counts: of the distinct steps.
        values: Z of all observations, `(n_observations, k)`.
        paid: phi of all observations, `(n_observations, m)`.
        discount: gamma.
        after: whether phi of the next observation is paid.
    """
    k = values.shape[1]
    first, second, gain = np.zeros((k, k)), np.zeros((k, k)), np.zeros((k, paid.shape[1]))
    for part in parts_of(len(counts)):
        here, there = steps.here[part], steps.after[part]
        own = values[here]
        weighted = (own * (counts[part, None] / counts.sum())).T
        first += weighted @ own
        second += weighted @ (values[there] * steps.goes_on[part, None])
        gain += weighted @ paid[there if after else here]
    ridge = 10 * RIDGE * max(float(np.trace(first)), 1e-300) / k
    return np.asarray(np.linalg.solve(first + ridge * np.eye(k) - discount * second, gain))


def advantages(
    steps: Steps,
    values: FloatArray,
    paid: FloatArray,
    successor: FloatArray,
    *,
    discount: float,
    after: bool,
    trace: float = TRACE,
) -> FloatArray:
    """Return the generalised advantages of phi at every step, in order, `(n_steps, m)`.

    Args:
        steps, values, paid, discount, after: as in `successor_map`.
        successor: of `successor_map`.
        trace: lambda in [0, 1].
    """
    here, there = steps.here, steps.after
    error = paid[there if after else here] - values[here] @ successor
    error += discount * steps.goes_on[:, None] * (values[there] @ successor)
    total, number = error[steps.which], steps.which
    linked = (steps.block[1:] == steps.block[:-1]) & (there[number[:-1]] == here[number[1:]])
    linked = np.append(linked & (steps.goes_on[number[:-1]] > 0), False)
    span, decay = 1, discount * trace
    while linked.any() and decay > 0:  # sums over spans of 1, 2, 4, ... steps
        total[:-span] += (decay * linked[:-span])[:, None] * total[span:]
        linked[:-span] &= linked[span:]
        linked[-span:] = False
        span, decay = 2 * span, decay**2
    return total


def stage_gradient(
    gathered: Gathered,
    stage: int,
    counts: tuple[FloatArray, FloatArray],
    gains: FloatArray,
    tangent: Callable[[NDArray[np.int64]], FloatArray],
    policy: Callable[[NDArray[np.int64]], FloatArray],
) -> StageGradient:
    """Return what stage h and the change to the next one say.

    Args:
        gathered: the steps.
        stage: h.
        counts: of the distinct steps of stage h and of the next one.
        gains: advantages of stage h, of `advantages`.
        tangent: psi of rows of observations, `(n, q)`; p = q * n_actions.
        policy: the probabilities of stage h at rows of observations, `(n, n_actions)`.
    """
    steps, following = gathered.stages[stage : stage + 2]
    own, n_own = gathered.agent_index, gathered.n_own
    psi, probabilities = tangent(steps.here), policy(steps.here)
    score = np.eye(n_own)[steps.joint_actions[:, own]] - probabilities
    weight = counts[0] / np.maximum(steps.counts(), 1.0)
    even = steps.block % 2 == 0
    halves = [_summed(steps, weight, gains, chosen) for chosen in (even, ~even)]
    sizes = [float(weight[steps.which[chosen]].sum()) for chosen in (even, ~even)]
    one, other = (_projected(psi, score, half) for half in halves)
    next_psi = tangent(following.here)
    next_score = np.eye(n_own)[following.joint_actions[:, own]] - policy(following.here)
    surprise = -np.log(np.maximum(probabilities, 1e-300))
    surprise -= (probabilities * surprise).sum(axis=1, keepdims=True)
    totals = [float(count.sum()) for count in counts]
    before = _projected(psi, score, counts[0][:, None])[:, 0] / totals[0]
    later = _projected(next_psi, next_score, counts[1][:, None])[:, 0] / totals[1]
    return StageGradient(
        _fisher(psi, probabilities, counts[0] / totals[0]),
        (one + other) / sum(sizes),
        (one / sizes[0] - other / sizes[1]) / 2,
        _projected(psi, probabilities * surprise, counts[0][:, None])[:, 0] / totals[0],
        later - before,
        1 / totals[0] + 1 / totals[1],
    )


def _summed(
    steps: Steps, weight: FloatArray, gains: FloatArray, chosen: NDArray[np.bool_]
) -> FloatArray:
    """Return the gains of the chosen steps, summed over the visits of every distinct step."""
    number = steps.which[chosen]
    found = [np.bincount(number, gain, minlength=len(weight)) for gain in gains[chosen].T]
    return np.asarray(weight[:, None] * np.stack(found, axis=1))


def _projected(psi: FloatArray, score: FloatArray, gains: FloatArray) -> FloatArray:
    """Return the sum of psi(o) (1{a} - pi) times gains, `(p, k)`, action by action."""
    return np.concatenate([psi.T @ (own[:, None] * gains) for own in score.T])


def _fisher(psi: FloatArray, policy: FloatArray, share: FloatArray) -> FloatArray:
    """Return the expected outer product of the scores of all actions under the policy."""
    n_own, q = policy.shape[1], psi.shape[1]
    found = np.zeros((n_own, q, n_own, q))
    for one in range(n_own):
        for other in range(one, n_own):
            weight = share * policy[:, one] * (float(one == other) - policy[:, other])
            found[one, :, other] = found[other, :, one] = (psi * weight[:, None]).T @ psi
    return found.reshape(n_own * q, n_own * q)
