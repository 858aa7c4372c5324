"""Action values that are affine in the last layer of a reward network.

The reward is r = w . phi. The soft value of a stage's joint policy, (5), is then affine in w: its
coefficients are the successor features of phi, and its constant the discounted entropy bonus. Both
come from one least-squares fixed point (LSTD) over the stage's own steps, which has no squared
residual of next-step values in it: a sampled one would pay for the randomness of the others' moves
and flatten the values.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from malfl_algos.networks.dynamics import RIDGE, Chances, Dynamics, moments
from malfl_algos.networks.feature_maps import FeatureMap, with_actions
from malfl_algos.networks.gathering import Gathered, IntArray

__all__ = [
    "RewardFeatures",
    "RewardModel",
    "StageRows",
    "acting_agents",
    "action_values",
    "played_rows",
    "stage_rows",
    "value_map",
]

FloatArray = NDArray[np.float64]
RewardModel = Literal["state", "own_action", "joint"]


def acting_agents(model: RewardModel, agent_index: int, n_agents: int) -> tuple[int, ...]:
    """Agents whose actions a reward depends on."""
    if model == "state":
        return ()
    return (agent_index,) if model == "own_action" else tuple(range(n_agents))


@dataclass(frozen=True, eq=False)
class RewardFeatures:
    """phi of one agent.

    Args:
        model: `state` phi(o), `own_action` phi(o, a^i), `joint` phi(o, a^1..a^n).
        map: from inputs, with one-hot actions behind them where the model has actions.
        n_actions: of every agent.
        agent_index: i.
    """

    model: RewardModel
    map: FeatureMap
    n_actions: tuple[int, ...]
    agent_index: int

    @property
    def acting(self) -> tuple[int, ...]:
        """Agents whose actions the reward depends on."""
        return acting_agents(self.model, self.agent_index, len(self.n_actions))

    def __call__(self, inputs: NDArray[np.float32], joint_actions: IntArray) -> FloatArray:
        """phi `(n, k)` at inputs `(n, width)` and joint actions `(n, n_agents)`."""
        acting = list(self.acting)
        sizes = [self.n_actions[agent] for agent in acting]
        return self.map(with_actions(inputs, joint_actions[:, acting], sizes))

    def expected(self, inputs: NDArray[np.float32], chances: Sequence[FloatArray]) -> FloatArray:
        """phi averaged over the others' actions, `(n, n_own, k)`."""
        n_own = self.n_actions[self.agent_index]
        acting = self.acting
        sizes = tuple(self.n_actions[agent] for agent in acting)
        found = np.zeros((len(inputs), n_own, self.map.n_features))
        for number in range(prod(sizes)):
            actions = np.array(np.unravel_index(number, sizes), dtype=np.int64).reshape(1, -1)
            columns = np.broadcast_to(actions, (len(inputs), len(acting)))
            chance = np.ones(len(inputs))
            own = slice(None)
            for agent, action in zip(acting, actions[0], strict=True):
                if agent == self.agent_index:
                    own = slice(action, action + 1)
                else:
                    chance = chance * chances[agent][:, action]
            phi = self.map(with_actions(inputs, columns, sizes))
            found[:, own] += (chance[:, None] * phi)[:, None]
        return found


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


def value_map(
    gathered: Gathered,
    stage: int,
    counts: FloatArray,
    features: FloatArray,
    reward: RewardFeatures,
    bonus: FloatArray,
    *,
    discount: float,
) -> FloatArray:
    """V_h = Z(o) . (map @ (w, 1)): LSTD on the steps of stage h.

    Args:
        gathered: the steps.
        stage: h.
        counts: how often each distinct step was made.
        features: Z of all observations, `(n_observations, k_values)`.
        reward: phi.
        bonus: alpha H(pi_h) at the distinct steps' observations, `(n_distinct,)`.
        discount: gamma.

    Returns:
        `(k_values, k + 1)`.
    """
    steps = gathered.stages[stage]
    weight = counts / counts.sum()
    first, second = moments(features, steps.here, steps.after, weight, steps.goes_on)
    k = len(first)
    gain = np.zeros((k, reward.map.n_features + 1))
    for piece in np.array_split(np.arange(len(weight)), len(weight) // 65536 + 1):
        here = steps.here[piece]
        own = (features[here] * weight[piece, None]).T
        if reward.model != "state":
            gain[:, :-1] += own @ reward(gathered.inputs[here], steps.joint_actions[piece])
        gain[:, -1] += own @ bonus[piece]
    if reward.model == "state":
        gain[:, :-1] = first
    ridge = RIDGE * np.trace(first) / k * np.eye(k)
    return np.asarray(np.linalg.solve(first - discount * second + ridge, gain))


def stage_rows(
    gathered: Gathered,
    stage: int,
    counts: Sequence[FloatArray],
    features: FloatArray,
    reward: RewardFeatures,
    dynamics: Dynamics,
    chances: Chances,
    *,
    discount: float,
    temperature: float,
    max_rows: int,
    rng: np.random.Generator,
) -> StageRows:
    """q_h = phi + gamma E[V_h(o')] at the observations of stage h + 1, affine in w.

    Args:
        gathered, stage, features, reward, discount: as `value_map` takes them.
        counts: per stage, of the distinct steps.
        dynamics: what follows an action.
        chances: everyone's policies.
        temperature: alpha.
        max_rows: where more observations were seen, so many of them are drawn.
        rng: for that.
    """
    rows, played = played_rows(gathered, stage + 1, counts[stage + 1], max_rows=max_rows, rng=rng)
    q, leverage, values = action_values(
        gathered,
        stage,
        counts,
        features,
        reward,
        dynamics,
        chances,
        rows=rows,
        discount=discount,
        temperature=temperature,
    )
    there, before = gathered.action_counts(stage, counts[stage])
    place = np.minimum(np.searchsorted(there, rows), len(there) - 1)
    visits = before[place] * (there[place] == rows)[:, None]
    return StageRows(
        stage, rows, q[..., :-1], q[..., -1], played, visits, {stage: leverage}, values
    )


def played_rows(
    gathered: Gathered,
    stage: int,
    counts: FloatArray,
    *,
    max_rows: int,
    rng: np.random.Generator,
) -> tuple[IntArray, FloatArray]:
    """Observations of a stage and the own actions there, all of them or `max_rows` drawn."""
    rows, played = gathered.action_counts(stage, counts)
    if len(rows) > max_rows:
        kept = np.sort(rng.choice(len(rows), max_rows, replace=False))
        rows, played = rows[kept], played[kept]
    return rows, played


def action_values(
    gathered: Gathered,
    stage: int,
    counts: Sequence[FloatArray],
    features: FloatArray,
    reward: RewardFeatures,
    dynamics: Dynamics,
    chances: Chances,
    *,
    rows: IntArray,
    discount: float,
    temperature: float,
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """q_h at rows of observations: its map from (w, 1) `(n, n_own, k + 1)`, the leverage of the
    regression behind it `(n, n_own)`, and `value_map`. Temperature 0 gives the plain values.

    The arguments are those of `stage_rows`.
    """
    steps = gathered.stages[stage]
    seen, place = np.unique(steps.here, return_inverse=True)
    own = chances(seen, stage)[gathered.agent_index]
    entropy = -(own * np.log(np.maximum(own, 1e-300))).sum(axis=1)
    values = value_map(
        gathered,
        stage,
        counts[stage],
        features,
        reward,
        temperature * entropy[place],
        discount=discount,
    )
    q = discount * (dynamics.onward(stage, rows) @ values)
    q[..., :-1] += reward.expected(gathered.inputs[rows], chances(rows, stage))
    return q, discount**2 * dynamics.leverage(stage, rows), values
