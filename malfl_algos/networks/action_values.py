"""Action values that are affine in the weights of a reward, and what they say of the next policy.

The reward is r = w . phi. The soft value of a stage's joint policy, (5), is then affine in w: its
coefficients are the successor features of phi, and its constant the discounted entropy bonus. Both
come from one least-squares fixed point (LSTD) over the stage's own steps. It has no squared
residual of next-step values in it: a sampled one would pay for the randomness of the others' moves
and flatten the values.

`soft_rows` is for learners that jump to exp(q / alpha), (6). Gradient and trust-region learners
(PPO is one) move on from where they are instead. Mirror descent is their plain form,

    pi_{h+1}(a | o) proportional to pi_h(a | o) exp(q_h(o, a) / alpha),

with q_h the unregularised action values of stage h. From the first stage on that adds up: alpha
log pi_{h+1} = alpha log pi_0 + q_0 + ... + q_h up to a constant per observation. `proximal_rows`
uses the sum, not the single moves: those are small, and would be read off the difference of two
estimates.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from malfl_algos.networks.dynamics import RIDGE, Dynamics, Probabilities, moments, parts_of
from malfl_algos.networks.features import RewardFeatures
from malfl_algos.networks.gathering import Gathered, IntArray

__all__ = ["StageRows", "ValueModel", "action_values", "proximal_rows", "soft_rows", "value_map"]

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class ValueModel:
    """What action values are made of.

    Args:
        gathered: the steps.
        counts: per stage, how often each distinct step was made.
        features: Z of all observations, `(n_observations, k_values)`; values are linear in them.
        reward: phi.
        dynamics: what follows an action.
        probabilities: everyone's policies.
        discount: gamma.
    """

    gathered: Gathered
    counts: Sequence[FloatArray]
    features: FloatArray
    reward: RewardFeatures
    dynamics: Dynamics
    probabilities: Probabilities
    discount: float

    @property
    def n_moves(self) -> int:
        """How many stages are followed by another."""
        return len(self.gathered.stages) - 1


@dataclass(frozen=True, eq=False)
class StageRows:
    """What the actions of the next stage say about the reward.

    Args:
        stage: h, whose action values these are; the next one's actions follow from them.
        rows: `(n,)`: observations of the next stage.
        coefficients: K `(n, n_own, k)`: q = K w + offset.
        offset: `(n, n_own)`.
        counts: of the own actions played there in the next stage, `(n, n_own)`.
        visits: in stage h itself, `(n, n_own)`, as far as the very same observation was seen.
        leverage: of the regressions behind K, see `Dynamics`, `(n, n_own)` by their stage.
        values: `(k_values, k + 1)`: from w, and 1, to the value's weights on its features.
    """

    stage: int
    rows: IntArray
    coefficients: FloatArray
    offset: FloatArray
    counts: FloatArray
    visits: FloatArray
    leverage: Mapping[int, FloatArray]
    values: FloatArray


def value_map(model: ValueModel, stage: int, bonus: FloatArray) -> FloatArray:
    """V_h = Z(o) . (map @ (w, 1)): LSTD on the steps of a stage.

    Args:
        model: see there.
        stage: h.
        bonus: alpha H(pi_h) at the distinct steps' observations, `(n_distinct,)`.

    Returns:
        `(k_values, k + 1)`.
    """
    steps, reward = model.gathered.stages[stage], model.reward
    weight = model.counts[stage] / model.counts[stage].sum()
    first, second = moments(model.features, steps.here, steps.after, weight, steps.goes_on)
    k = len(first)
    gain = np.zeros((k, reward.map.n_features + 1))
    for part in parts_of(len(weight)):
        here = steps.here[part]
        own = (model.features[here] * weight[part, None]).T
        if reward.model != "state":
            gain[:, :-1] += own @ reward(model.gathered.inputs[here], steps.joint_actions[part])
        gain[:, -1] += own @ bonus[part]
    if reward.model == "state":
        gain[:, :-1] = first
    ridge = RIDGE * np.trace(first) / k * np.eye(k)
    return np.asarray(np.linalg.solve(first - model.discount * second + ridge, gain))


def action_values(
    model: ValueModel, stage: int, rows: IntArray, *, temperature: float
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """q_h = phi + gamma E[V_h(o')] at rows of observations, affine in w.

    Args:
        model: see there.
        stage: h.
        rows: `(n,)`.
        temperature: alpha; 0 gives the values without entropy bonus.

    Returns:
        The map from (w, 1) `(n, n_own, k + 1)`, the leverage of the regression behind it `(n,
        n_own)`, and `value_map`.
    """
    steps, gathered = model.gathered.stages[stage], model.gathered
    seen, place = np.unique(steps.here, return_inverse=True)
    own = model.probabilities(seen, stage)[gathered.agent_index]
    entropy = -(own * np.log(np.maximum(own, 1e-300))).sum(axis=1)
    values = value_map(model, stage, temperature * entropy[place])
    q = model.discount * (model.dynamics.onward(stage, rows) @ values)
    q[..., :-1] += model.reward.expected(gathered.inputs[rows], model.probabilities(rows, stage))
    return q, model.discount**2 * model.dynamics.leverage(stage, rows), values


def soft_rows(
    model: ValueModel, *, temperature: float, max_rows: int, rng: np.random.Generator
) -> list[StageRows]:
    """What each stage but the first says where learners improve by (6).

    Args:
        model: see there.
        temperature: alpha.
        max_rows: where more observations were seen in a stage, so many of them are drawn.
        rng: for that.
    """
    found = []
    for stage in range(model.n_moves):
        rows, played = _played_rows(model, stage + 1, max_rows, rng)
        q, leverage, values = action_values(model, stage, rows, temperature=temperature)
        there, before = model.gathered.action_counts(stage, model.counts[stage])
        place = np.minimum(np.searchsorted(there, rows), len(there) - 1)
        visits = before[place] * (there[place] == rows)[:, None]
        found.append(
            StageRows(
                stage, rows, q[..., :-1], q[..., -1], played, visits, {stage: leverage}, values
            )
        )
    return found


def proximal_rows(
    model: ValueModel, *, temperature: float, max_rows: int, rng: np.random.Generator
) -> list[StageRows]:
    """What each stage but the first says, given the policies of the first.

    Args:
        model, max_rows, rng: as in `soft_rows`.
        temperature: alpha, the inverse of the learners' step.

    Returns:
        Per stage h, at observations of stage h + 1: coefficients are the sum of those of
        q_0 .. q_h, the offset is alpha log pi_0. Errors of the stages' regressions count as
        independent.
    """
    gathered = model.gathered
    drawn = [_played_rows(model, stage + 1, max_rows, rng) for stage in range(model.n_moves)]
    starts = np.cumsum([0, *(len(rows) for rows, _ in drawn)])
    everywhere = np.concatenate([rows for rows, _ in drawn])
    total = np.zeros((len(everywhere), gathered.n_own, model.reward.map.n_features))
    leverages: list[FloatArray] = []
    found = []
    for stage, (rows, played) in enumerate(drawn):
        later, own = slice(starts[stage], None), slice(starts[stage], starts[stage + 1])
        q, leverage, values = action_values(model, stage, everywhere[later], temperature=0.0)
        total[later] += q[..., :-1]
        leverages.append(leverage)
        first = model.probabilities(rows, 0)[gathered.agent_index]
        found.append(
            StageRows(
                stage,
                rows,
                total[own],
                temperature * np.log(np.maximum(first, 1e-300)),
                played,
                np.zeros(played.shape),
                {
                    past: of_past[starts[stage] - starts[past] :][: len(rows)]
                    for past, of_past in enumerate(leverages)
                },
                values,
            )
        )
    return found


def _played_rows(
    model: ValueModel, stage: int, max_rows: int, rng: np.random.Generator
) -> tuple[IntArray, FloatArray]:
    """Observations of a stage and the own actions there, all of them or `max_rows` drawn."""
    rows, played = model.gathered.action_counts(stage, model.counts[stage])
    if len(rows) > max_rows:
        kept = np.sort(rng.choice(len(rows), max_rows, replace=False))
        rows, played = rows[kept], played[kept]
    return rows, played
