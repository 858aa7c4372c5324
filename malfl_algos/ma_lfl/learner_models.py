"""Models of a learner: what its action values would be, affine in the reward.

Each model gives, for the stage in which a policy was played, coefficients Q such that
q(s, a) = Q[s, a, :-1] . r + Q[s, a, -1], r being the unknown reward values, and a prediction of the
variance of the learner's own noise about that.

The unknowns are numbered by state (`state`), by state and own action (`own_action`), or by state,
own action and the others' joint action (`joint`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numba
import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from malfl_algos.ma_lfl.regression import RewardModel
from malfl_algos.soft import (
    averaged_transition,
    entropy,
    others_joint_policy,
    policy_transition,
)
from malfl_algos.trace import Stage
from malfl_env.markov_game import MarkovGame

__all__ = ["ExactEvaluation", "ExpectedTd", "LearnerModel"]

FloatArray = NDArray[np.float64]

SWEEPS = 100
"""Parts into which a stage is cut when its updates are spread evenly over time. Part k ends at
(k / SWEEPS)^2 of the stage: values rise fast from 0 at first, then hardly change.
"""


class LearnerModel(Protocol):
    """What an agent's action values would be if it learned in some way."""

    @property
    def name(self) -> str:
        """What the diagnostics call it."""
        ...

    def coefficients(
        self, stage: Stage, joint_policy: Sequence[FloatArray], agent_index: int
    ) -> FloatArray:
        """Coefficients `(n_states, n_actions, n_unknowns + 1)` of the stage's final action
        values.
        """
        ...

    def variance(
        self,
        stage: Stage,
        joint_policy: Sequence[FloatArray],
        agent_index: int,
        reward: FloatArray,
        coefficients: FloatArray,
    ) -> FloatArray:
        """Variance of the learner's noise `(n_states, n_actions)`, were `reward` the truth."""
        ...


@dataclass(frozen=True, eq=False)
class ExactEvaluation:
    """The learner solves (5) exactly: q = r + gamma P (I - gamma P_pi)^-1 (r_pi + alpha H)."""

    game: MarkovGame
    model: RewardModel
    discount: float
    temperature: float
    name: str = "exact"

    def coefficients(
        self, stage: Stage, joint_policy: Sequence[FloatArray], agent_index: int
    ) -> FloatArray:
        own = joint_policy[agent_index]
        n_states, n_actions = own.shape
        transition = averaged_transition(self.game, joint_policy, agent_index)
        others = others_joint_policy(joint_policy, agent_index)
        weights = np.broadcast_to(others[:, None], (n_states, n_actions, others.shape[1]))
        immediate = _immediate(self.model, weights)
        gain = np.einsum("sa,sak->sk", own, immediate)
        gain[:, -1] = self.temperature * entropy(own)
        stay = np.eye(n_states) - self.discount * policy_transition(transition, own).toarray()
        value = np.linalg.solve(stay, gain)
        ahead = (transition @ value).reshape(immediate.shape)
        return np.asarray(immediate + self.discount * ahead)

    def variance(
        self,
        stage: Stage,
        joint_policy: Sequence[FloatArray],
        agent_index: int,
        reward: FloatArray,
        coefficients: FloatArray,
    ) -> FloatArray:
        return np.zeros(joint_policy[agent_index].shape)


@dataclass(frozen=True, eq=False)
class ExpectedTd:
    """A td learner known by its counts alone: every update replaced by its expectation, spread
    evenly.

    The stage is cut into parts. In a part that is a share x of it, a pair (s, a) visited n times in
    the stage forgets 1 - (1 - beta)^(n x) of its value in favour of the expected target. Pairs
    hardly visited stay near 0, where td learners start; pairs visited for ever reach the soft
    value.
    """

    game: MarkovGame
    model: RewardModel
    discount: float
    temperature: float
    step_size: float
    name: str = "td"

    def coefficients(
        self, stage: Stage, joint_policy: Sequence[FloatArray], agent_index: int
    ) -> FloatArray:
        own = joint_policy[agent_index]
        weights, transition = _played(self.game, stage, agent_index)
        immediate = _immediate(self.model, weights)
        bonus = self.discount * self.temperature * (transition @ entropy(own))
        immediate[..., -1] += bonus.reshape(own.shape)
        visits = stage.action_counts(agent_index)
        return np.asarray(
            _sweep(
                transition.indptr,
                transition.indices,
                transition.data,
                visits * np.log1p(-self.step_size),
                own,
                immediate,
                self.discount,
                np.diff(np.linspace(0, 1, SWEEPS + 1) ** 2),
            )
        )

    def variance(
        self,
        stage: Stage,
        joint_policy: Sequence[FloatArray],
        agent_index: int,
        reward: FloatArray,
        coefficients: FloatArray,
    ) -> FloatArray:
        """Variance of a sampled target, averaged over the last visits, beta / (2 - beta) of it."""
        own = joint_policy[agent_index]
        _, transition = _played(self.game, stage, agent_index)
        q = coefficients[..., :-1] @ reward + coefficients[..., -1]
        bootstrap = q - self.temperature * np.log(np.maximum(own, 1e-300))
        first = (own * bootstrap).sum(axis=1)
        second = (own * bootstrap**2).sum(axis=1)
        spread = transition @ second - (transition @ first) ** 2
        target = self.discount**2 * np.maximum(spread, 0).reshape(own.shape)
        visits = stage.action_counts(agent_index)
        reached = -np.expm1(2 * visits * np.log1p(-self.step_size))
        return np.asarray(self.step_size / (2 - self.step_size) * target * reached)


def _immediate(model: RewardModel, weights: FloatArray) -> FloatArray:
    """Coefficients of the expected reward of (s, a), and a zero for the constant.

    Args:
        model: how the unknowns are numbered.
        weights: probabilities of the others' joint action given (s, a), `(n_states, n_actions, m)`.

    Returns:
        `(n_states, n_actions, n_unknowns + 1)`.
    """
    n_states, n_actions, n_others = weights.shape
    per_state = {"state": 1, "own_action": n_actions, "joint": n_actions * n_others}[model]
    table = np.zeros((n_states, n_actions, n_states * per_state + 1))
    s, a = np.indices((n_states, n_actions))
    if model == "state":
        table[s, a, s] = 1
    elif model == "own_action":
        table[s, a, s * n_actions + a] = 1
    else:
        for o in range(n_others):
            table[s, a, (s * n_actions + a) * n_others + o] = weights[..., o]
    return table


def _played(game: MarkovGame, stage: Stage, agent_index: int) -> tuple[FloatArray, sp.csr_array]:
    """How often the others did what beside (s, a), and where it led on average, as played.

    Returns:
        Weights `(n_states, n_actions, n_others)`, zero where (s, a) was never played, and the
        transition they make, sparse `(n_states * n_actions, n_states)`.
    """
    counts = np.moveaxis(stage.joint_counts, agent_index + 1, 1)
    counts = counts.reshape(game.n_states, game.n_actions[agent_index], -1)
    visits = counts.sum(axis=2, keepdims=True)
    weights = counts / np.maximum(visits, 1)
    successors, probabilities = game.joint_successors()
    width = successors.shape[-1]
    to = np.moveaxis(successors, agent_index + 1, 1).reshape(*counts.shape, width)
    chance = np.moveaxis(probabilities, agent_index + 1, 1).reshape(*counts.shape, width)
    chance = chance * weights[..., None]
    row = np.arange(visits.size).reshape(visits.shape)[..., None]
    kept = chance > 0
    entries = (chance[kept], (np.broadcast_to(row, chance.shape)[kept], to[kept]))
    return weights, sp.coo_array(entries, shape=(visits.size, game.n_states)).tocsr()


@numba.njit(cache=True, nogil=True)
def _sweep(  # noqa: C901, PLR0917 - a compiled loop over plain arrays
    pointers: Any,
    columns: Any,
    chances: Any,
    log_kept: Any,
    policy: Any,
    immediate: Any,
    discount: Any,
    parts: Any,
) -> Any:  # pragma: no cover
    n_states, n_actions, width = immediate.shape
    q = np.zeros((n_states, n_actions, width))
    value = np.zeros((n_states, width))
    for part in parts:
        for s in range(n_states):
            value[s] = 0.0
            for a in range(n_actions):
                for k in range(width):
                    value[s, k] += policy[s, a] * q[s, a, k]
        for s in range(n_states):
            for a in range(n_actions):
                share = -np.expm1(log_kept[s, a] * part)
                if share == 0.0:
                    continue
                for k in range(width):
                    q[s, a, k] += share * (immediate[s, a, k] - q[s, a, k])
                for entry in range(pointers[s * n_actions + a], pointers[s * n_actions + a + 1]):
                    w = share * discount * chances[entry]
                    t = columns[entry]
                    for k in range(width):
                        q[s, a, k] += w * value[t, k]
    return q
