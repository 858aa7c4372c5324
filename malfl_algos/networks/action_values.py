"""Action values that are affine in the weights of a reward, and the next policy they imply.

The reward is r = w . phi. The soft value of a stage's joint policy, (5), is then affine in w: its
coefficients are the successor features of phi, and its constant the discounted entropy bonus. Both
come from one least-squares fixed point (LSTD) over the stage's own steps. The
fixed point involves no squared residual of next-step values. A sampled squared residual would also
penalise the randomness of the other agents' moves, and would flatten the values.

`soft_rows` is for learners whose next policy is exp(q / alpha), (6). Gradient and trust-region
learners, PPO for example, start from their last policy instead. With x_h = alpha log pi_h,

    x_{h+1}(o, a) = rho x_h(o, a) + (1 - rho) q_h(o, a) + a constant per observation,

rho = 0 being (6) and rho = 1, with a step of 1, mirror descent: x_{h+1} = x_h + q_h with q_h the
unregularised action values of stage h. Applied from the first stage on, x_{h+1} is rho^{h+1} x_0
plus a weighted sum of q_0, ..., q_h. `kept_rows` uses this sum and not the single moves. A single
move is small, and would have to be estimated as the difference of two estimates.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from malfl_algos.ma_lfl.improvement import step_of
from malfl_algos.networks.dynamics import RIDGE, Dynamics, Probabilities, moments, parts_of
from malfl_algos.networks.features import RewardFeatures
from malfl_algos.networks.gathering import Gathered, IntArray
from malfl_algos.networks.tables import Table, beside, like, solved, taken, zeros

__all__ = [
    "Drawn",
    "StageRows",
    "StageValues",
    "ValueModel",
    "action_values",
    "drawn_rows",
    "kept_rows",
    "model_value_map",
    "retained_rows",
    "soft_rows",
    "stage_values",
    "value_map",
]

FloatArray = NDArray[np.float64]
Drawn = tuple[IntArray, FloatArray]
"""Row numbers of observations of a stage, and the counts of the own actions there."""
ANYWHERE = 0.3
"""Weight of all observations together in `model_value_map`; a stage's visits have 1."""
StageValues = tuple[Table, FloatArray, Table]
"""The results of `action_values`."""


@dataclass(frozen=True, eq=False)
class ValueModel:
    """The inputs of the action values.

    Args:
        gathered: the steps.
        counts: per stage, how often each distinct step occurred, `(n_distinct,)`.
        features: Z of all observations, `(n_observations, k_values)`; values are linear in them.
        reward: phi.
        dynamics: the expected features after an action.
        probabilities: the policies of all agents.
        discount: gamma.
        everywhere: whether the values of a stage come from the learned dynamics at all
            observations, instead of the steps of that stage.
        moves: number of improvements to use, from the first; None: all.
    """

    gathered: Gathered
    counts: Sequence[FloatArray]
    features: Table
    reward: RewardFeatures
    dynamics: Dynamics
    probabilities: Probabilities
    discount: float
    everywhere: bool = False
    moves: int | None = None

    @property
    def n_moves(self) -> int:
        """Number of stages whose next stage is used."""
        there = len(self.gathered.stages) - 1
        return there if self.moves is None else min(self.moves, there)


@dataclass(frozen=True, eq=False)
class StageRows:
    """The evidence about the reward in the actions of the next stage.

    Args:
        stage: h, the stage of the action values; the actions of stage h + 1 follow from them.
        rows: int `(n,)`: row numbers of observations of the next stage.
        coefficients: K `(n, n_own, k)`: q = K w + offset.
        offset: `(n, n_own)`.
        counts: counts of the own actions in the next stage, `(n, n_own)`.
        visits: counts of the own actions in stage h at the same observations, `(n, n_own)`.
        leverage: per stage, the leverage of the regressions behind K, `(n, n_own)`; see `Dynamics`.
        values: `(k_values, k + 1)`: maps (w, 1) to the weights of the value on its features.
    """

    stage: int
    rows: IntArray
    coefficients: Table
    offset: Table
    counts: FloatArray
    visits: FloatArray
    leverage: Mapping[int, FloatArray]
    values: Table


def value_map(model: ValueModel, stage: int, bonus: FloatArray) -> Table:
    """Return the map in V_h = Z(o) . (map @ (w, 1)), by LSTD on the steps of a stage.

    Args:
        model: the inputs.
        stage: h.
        bonus: alpha H(pi_h) at the distinct steps' observations, `(n_distinct,)`.

    Returns:
        `(k_values, k + 1)`.
    """
    steps, reward = model.gathered.stages[stage], model.reward
    weight = model.counts[stage] / model.counts[stage].sum()
    first, second = moments(model.features, steps.here, steps.after, weight, steps.goes_on)
    k = len(first)
    gain = zeros(first, (k, reward.map.n_features + 1))
    for part in parts_of(len(weight)):
        here = steps.here[part]
        own = (taken(model.features, here) * like(first, weight[part, None])).T
        if reward.model != "state":
            phi = reward.table(model.gathered.inputs[here], steps.joint_actions[part])
            gain[:, :-1] += own @ phi
        gain[:, -1] += own @ like(first, bonus[part])
    if reward.model == "state":
        gain[:, :-1] = first
    ridge = like(first, RIDGE * float(first.trace()) / k * np.eye(k))
    return solved(first - model.discount * second + ridge, gain)


def model_value_map(model: ValueModel, stage: int, temperature: float) -> Table:
    """Return the map of `value_map`, from the learned dynamics at all observations.

    The fixed point is that of LSTD with expected next features in place of sampled ones. The
    observations are weighted by their visits in this stage and in the next one, whose rows depend
    on these values, and a little everywhere.
    """
    features, rows = model.features, np.arange(len(model.features))
    own = model.probabilities(rows, stage)[model.gathered.agent_index]
    bonus = -temperature * (own * np.log(np.maximum(own, 1e-300))).sum(axis=1)
    visits = np.zeros((len(model.counts), len(rows)))
    for number, (steps, count) in enumerate(zip(model.gathered.stages, model.counts, strict=True)):
        visits[number] = np.bincount(steps.here, count / count.sum(), minlength=len(rows))
    seen = visits.any(axis=0)
    weight = visits[stage] + visits[min(stage + 1, len(visits) - 1)] + ANYWHERE * seen / seen.sum()
    onward = model.dynamics.onward(stage, rows)
    after = (like(features, own)[:, :, None] * onward).sum(axis=1)
    weighted = (features * like(features, weight)[:, None]).T
    reward = (like(features, own)[:, :, None] * _expected_reward(model, stage, rows)).sum(axis=1)
    gain = beside(weighted @ reward, (weighted @ like(features, bonus))[:, None])
    first, k = weighted @ features, features.shape[1]
    ridge = like(features, RIDGE * float(first.trace()) / k * np.eye(k))
    return solved(first - model.discount * (weighted @ after) + ridge, gain)


def action_values(
    model: ValueModel, stage: int, rows: IntArray, *, temperature: float
) -> StageValues:
    """Return q_h = phi + gamma E[V_h(o')] at some observations, affine in w.

    Args:
        model: the inputs.
        stage: h.
        rows: row numbers of the observations, `(n,)`.
        temperature: alpha; 0 gives the values without entropy bonus.

    Returns:
        The map from (w, 1) `(n, n_own, k + 1)`, the leverage of the regression behind it `(n,
        n_own)`, and `value_map`.
    """
    gathered = model.gathered
    if model.everywhere:
        values = model_value_map(model, stage, temperature)
    else:
        steps = gathered.stages[stage]
        seen, place = np.unique(steps.here, return_inverse=True)
        own = model.probabilities(seen, stage)[gathered.agent_index]
        entropy = -(own * np.log(np.maximum(own, 1e-300))).sum(axis=1)
        values = value_map(model, stage, temperature * entropy[place])
    q = model.discount * (model.dynamics.onward(stage, rows) @ values)
    q[..., :-1] += _expected_reward(model, stage, rows)
    return q, model.discount**2 * model.dynamics.leverage(stage, rows), values


def _expected_reward(model: ValueModel, stage: int, rows: IntArray) -> Table:
    """Return phi averaged over the others' actions, `(n, n_own, k)`."""
    features, reward = model.features, model.reward
    if isinstance(features, Tensor) and reward.model == "state":  # phi is Z, which is there
        return taken(features, rows)[:, None]
    policies = model.probabilities(rows, stage)
    return like(features, reward.expected(model.gathered.inputs[rows], policies))


def soft_rows(
    model: ValueModel, *, temperature: float, max_rows: int, rng: np.random.Generator
) -> list[StageRows]:
    """Return the evidence of each stage but the first, for learners that improve by (6).

    Args:
        model: the inputs.
        temperature: alpha.
        max_rows: the largest number of observations per stage; of more, this many are drawn.
        rng: draws them.
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


def drawn_rows(
    model: ValueModel, n_moves: int, *, max_rows: int, rng: np.random.Generator
) -> list[Drawn]:
    """Draw the observations of the stages 1 to n_moves; arguments as in `soft_rows`."""
    return [_played_rows(model, stage + 1, max_rows, rng) for stage in range(n_moves)]


def stage_values(
    model: ValueModel, drawn: Sequence[Drawn], *, temperature: float
) -> Iterator[StageValues]:
    """Yield for every stage h its action values at the observations drawn from later stages."""
    for stage in range(len(drawn)):
        later = np.concatenate([rows for rows, _ in drawn[stage:]])
        yield action_values(model, stage, later, temperature=temperature)


def kept_rows(
    model: ValueModel,
    drawn: Sequence[Drawn],
    values: Iterable[StageValues],
    *,
    retained: float,
    temperature: float,
) -> list[StageRows]:
    """Return the evidence of each stage but the first, given the policies of the first.

    Args:
        model: as in `soft_rows`.
        drawn: observations of every stage but the first.
        values: `stage_values` there; for rho = 1 those without entropy bonus, at temperature 0.
        retained: rho, the share of its log policy that the learner keeps.
        temperature: alpha; for rho = 1 the inverse of the learners' step size.

    Returns:
        Per stage h, at observations of stage h + 1. The errors of the regressions of different
        stages are taken to be independent.
    """
    gathered, step = model.gathered, step_of(retained)
    starts = np.cumsum([0, *(len(rows) for rows, _ in drawn)])
    everywhere = np.concatenate([rows for rows, _ in drawn])
    shape = (len(everywhere), gathered.n_own, model.reward.map.n_features)
    total = zeros(model.features, shape)
    first = model.probabilities(everywhere, 0)[gathered.agent_index]
    offset = like(total, temperature * np.log(np.maximum(first, 1e-300)))
    leverages: list[FloatArray] = []
    found = []
    for stage, ((rows, played), (q, leverage, weights)) in enumerate(
        zip(drawn, values, strict=True)
    ):
        later, own = slice(starts[stage], None), slice(starts[stage], starts[stage + 1])
        total[later] = retained * total[later] + step * q[..., :-1]
        offset[later] = retained * offset[later] + (1 - retained) * q[..., -1]
        leverages = [retained**2 * past for past in leverages]
        leverages.append(step**2 * leverage)
        found.append(
            StageRows(
                stage,
                rows,
                total[own],
                offset[own],
                played,
                np.zeros(played.shape),
                {
                    past: of_past[starts[stage] - starts[past] :][: len(rows)]
                    for past, of_past in enumerate(leverages)
                },
                weights,
            )
        )
    return found


def retained_rows(
    model: ValueModel,
    *,
    retained: float,
    temperature: float,
    max_rows: int,
    rng: np.random.Generator,
) -> list[StageRows]:
    """Return the evidence of all stages but the first for one rho > 0; see `kept_rows`."""
    drawn = drawn_rows(model, model.n_moves, max_rows=max_rows, rng=rng)
    values = stage_values(model, drawn, temperature=temperature if retained < 1 else 0.0)
    return kept_rows(model, drawn, values, retained=retained, temperature=temperature)


def _played_rows(
    model: ValueModel, stage: int, max_rows: int, rng: np.random.Generator
) -> tuple[IntArray, FloatArray]:
    """Return observations of a stage and the own actions there: all, or `max_rows` drawn ones."""
    rows, played = model.gathered.action_counts(stage, model.counts[stage])
    if len(rows) > max_rows:
        kept = np.sort(rng.choice(len(rows), max_rows, replace=False))
        rows, played = rows[kept], played[kept]
    return rows, played
