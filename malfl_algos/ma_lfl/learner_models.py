"""Models of a learner: its action values as an affine function of the reward.

For the stage in which a policy was played, a model gives coefficients Q such that
q(s, a) = Q[s, a, :-1] . r + Q[s, a, -1], where r holds the unknown reward values. It also predicts
the variance of the learner's own noise about these action values.

The unknowns are numbered by state (`state`), by state and own action (`own_action`), or by state,
own action and the others' joint action (`joint`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Protocol, runtime_checkable

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from malfl_algos.ma_lfl.matrix_free_values import (
    ExactValues,
    TdValues,
    Values,
    sweep,
    unmoved,
)
from malfl_algos.ma_lfl.reward_models import RewardModel
from malfl_algos.ma_lfl.stage_memory import digest, kept
from malfl_algos.ma_lfl.stages import StageArrays
from malfl_algos.soft import (
    averaged_transition,
    entropy,
    others_joint_policy,
    policy_transition,
    transition_under,
)
from malfl_env.markov_game import MarkovGame

__all__ = [
    "ExactEvaluation",
    "ExpectedTd",
    "LearnerModel",
    "LinearisedModel",
    "MatrixFreeModel",
    "StageModel",
    "expected_reward",
    "immediate_matrix",
    "immediate_table",
    "parts_of_stage",
    "played_frequencies",
    "split_coefficients",
    "with_constant",
]

FloatArray = NDArray[np.float64]

SWEEPS = 100
"""Number of parts into which a stage is cut when its updates are spread evenly over time. Part k
ends at (k / SWEEPS)^2 of the stage, because values rise fast from 0 at first and hardly change
later.
"""

_Frequencies = tuple[FloatArray, sp.csr_array]


class LearnerModel(Protocol):
    """The action values of an agent under an assumption about how it learns.

    A model sees all stages that were played so far, because a learner may carry its action values
    over from stage to stage.
    """

    @property
    def name(self) -> str:
        """Name of the model in the diagnostics."""
        ...

    def coefficients(
        self,
        stages: Sequence[StageArrays],
        joint_policies: Sequence[Sequence[FloatArray]],
        agent_index: int,
    ) -> FloatArray:
        """Coefficients of every stage's final action values.

        Args:
            stages: the stages in order, from the first one that was played.
            joint_policies: by stage and agent, `(n_states, n_actions)`.
            agent_index: the agent.

        Returns:
            `(n_stages, n_states, n_actions, n_unknowns + 1)`.
        """
        ...

    def variance(
        self,
        stages: Sequence[StageArrays],
        joint_policies: Sequence[Sequence[FloatArray]],
        agent_index: int,
        reward: FloatArray,
        q: FloatArray,
    ) -> FloatArray:
        """Variance of the learner's noise, `(n_stages, n_states, n_actions)`, if `reward` is the
        ground-truth reward and `q` are the action values that follow from it, of the same shape.
        """
        ...


@runtime_checkable
class LinearisedModel(LearnerModel, Protocol):
    """A learner model that is affine in the reward only near an estimate of it."""

    @property
    def moving(self) -> bool:
        """Whether the policy follows the action values at every step.

        The model then sees all stages, also the last, and its coefficients are of alpha times the
        log of each stage's average policy, without the first stage.
        """
        ...

    def linearised(self, reward: FloatArray) -> LinearisedModel:
        """The same model, linearised at an estimate of the reward unknowns."""
        ...


class StageModel(ABC):
    """A learner whose action values start anew in every stage: stages are modelled one by one."""

    def coefficients(
        self,
        stages: Sequence[StageArrays],
        joint_policies: Sequence[Sequence[FloatArray]],
        agent_index: int,
    ) -> FloatArray:
        """See `LearnerModel`."""
        return np.stack(list(self.stage_tables(stages, joint_policies, agent_index)))

    def stage_tables(
        self,
        stages: Sequence[StageArrays],
        joint_policies: Sequence[Sequence[FloatArray]],
        agent_index: int,
    ) -> Iterator[FloatArray]:
        """The coefficients of one stage after the other; they may not be modified."""
        for at in zip(stages, joint_policies, strict=True):
            yield self._kept_coefficients(*at, agent_index)

    def _kept_coefficients(
        self, stage: StageArrays, joint_policy: Sequence[FloatArray], agent_index: int
    ) -> FloatArray:
        """`stage_coefficients`, computed once as long as they are remembered."""

        def made() -> FloatArray:
            return self.stage_coefficients(stage, joint_policy, agent_index)

        if self.key is None:
            return made()
        return kept(stage, (self.key, agent_index, digest(joint_policy)), made, np.size)

    @property
    def key(self) -> Hashable | None:
        """All that coefficients depend on but for stage, policies and agent; None: they are not
        remembered.
        """
        return None

    def variance(
        self,
        stages: Sequence[StageArrays],
        joint_policies: Sequence[Sequence[FloatArray]],
        agent_index: int,
        reward: FloatArray,
        q: FloatArray,
    ) -> FloatArray:
        """See `LearnerModel`."""
        return np.stack(
            [
                self.stage_variance(stage, policies, agent_index, reward, own_q)
                for stage, policies, own_q in zip(stages, joint_policies, q, strict=True)
            ]
        )

    @abstractmethod
    def stage_coefficients(
        self, stage: StageArrays, joint_policy: Sequence[FloatArray], agent_index: int
    ) -> FloatArray:
        """Coefficients `(n_states, n_actions, n_unknowns + 1)` of a stage's final action values."""

    @abstractmethod
    def stage_variance(
        self,
        stage: StageArrays,
        joint_policy: Sequence[FloatArray],
        agent_index: int,
        reward: FloatArray,
        q: FloatArray,
    ) -> FloatArray:
        """Variance of the learner's noise in one stage, `(n_states, n_actions)`."""


@runtime_checkable
class MatrixFreeModel(LearnerModel, Protocol):
    """A learner model that can be applied without a matrix of coefficients, for large games."""

    def values(
        self,
        stage: StageArrays,
        joint_policy: Sequence[FloatArray],
        agent_index: int,
        *,
        n_stages: int,
    ) -> Values:
        """The stage's final action values as an operator, one of `n_stages` held at a time."""
        ...


@dataclass(frozen=True, eq=False)
class ExactEvaluation(StageModel):
    """A learner that solves (5) exactly: q = r + gamma P (I - gamma P_pi)^-1 (r_pi + alpha H)."""

    game: MarkovGame
    model: RewardModel
    discount: float
    temperature: float
    name: str = "exact"

    @property
    def key(self) -> Hashable:
        return self.name, self.game.factors, self.model, self.discount, self.temperature

    def stage_coefficients(
        self, stage: StageArrays, joint_policy: Sequence[FloatArray], agent_index: int
    ) -> FloatArray:
        own = joint_policy[agent_index]
        transition = averaged_transition(self.game, joint_policy, agent_index)
        immediate = with_constant(self._immediate(joint_policy, agent_index), own)
        gain = np.einsum("sa,sak->sk", own, immediate)
        gain[:, -1] = self.temperature * entropy(own)
        onward = policy_transition(transition, own)
        stay = np.eye(len(own)) - self.discount * onward.toarray()
        value = np.linalg.solve(stay, gain)
        ahead = (transition @ value).reshape(immediate.shape)
        return np.asarray(immediate + self.discount * ahead)

    def values(
        self,
        stage: StageArrays,
        joint_policy: Sequence[FloatArray],
        agent_index: int,
        *,
        n_stages: int,
    ) -> Values:
        own = joint_policy[agent_index]
        transition = transition_under(self.game, joint_policy, agent_index, copies=n_stages)
        return ExactValues(
            transition,
            policy_transition(transition, own),
            own,
            self._immediate(joint_policy, agent_index),
            self.discount,
            self.temperature,
            unmoved(self.game, agent_index),
        )

    def _immediate(self, joint_policy: Sequence[FloatArray], agent_index: int) -> sp.csr_array:
        return expected_reward(self.game, self.model, joint_policy, agent_index)

    def stage_variance(
        self,
        stage: StageArrays,
        joint_policy: Sequence[FloatArray],
        agent_index: int,
        reward: FloatArray,
        q: FloatArray,
    ) -> FloatArray:
        return np.zeros(joint_policy[agent_index].shape)


@dataclass(frozen=True, eq=False)
class ExpectedTd(StageModel):
    """A td learner of which only the counts are known: each update is replaced by its expectation,
    and updates are spread evenly over the stage.

    The stage is cut into parts. In a part that is a share x of the stage, a pair (s, a) that was
    visited n times in the stage replaces 1 - (1 - beta)^(n x) of its value by the expected target.
    Rarely visited pairs stay near 0, where td learners start. Often visited pairs reach the soft
    value.
    """

    game: MarkovGame
    model: RewardModel
    discount: float
    temperature: float
    step_size: float
    name: str = "td"

    @property
    def key(self) -> Hashable:
        settings = self.model, self.discount, self.temperature, self.step_size
        return self.name, self.game.factors, settings

    def stage_coefficients(
        self, stage: StageArrays, joint_policy: Sequence[FloatArray], agent_index: int
    ) -> FloatArray:
        own = joint_policy[agent_index]
        weights, transition = played_frequencies(self.game, stage, agent_index)
        immediate = immediate_table(self.model, weights, transition, own)
        bonus = self.discount * self.temperature * (transition @ entropy(own))
        immediate[..., -1] += bonus.reshape(own.shape)
        return np.asarray(
            sweep(
                transition.indptr,
                transition.indices,
                transition.data,
                self.log_kept(stage, agent_index),
                own,
                immediate,
                self.discount,
                parts_of_stage(),
            )
        )

    def values(
        self,
        stage: StageArrays,
        joint_policy: Sequence[FloatArray],
        agent_index: int,
        *,
        n_stages: int,
    ) -> Values:
        own = joint_policy[agent_index]
        weights, transition = played_frequencies(self.game, stage, agent_index)
        return TdValues(
            transition,
            policy_transition(transition, own),
            own,
            immediate_matrix(self.model, weights, transition),
            self.discount,
            self.temperature,
            unmoved(self.game, agent_index),
            self.log_kept(stage, agent_index),
            parts_of_stage(),
        )

    def log_kept(self, stage: StageArrays, agent_index: int) -> FloatArray:
        """Log of the share of q = 0 that a pair keeps over the stage, `(n_states, n_actions)`."""
        return np.asarray(stage.action_counts(agent_index) * np.log1p(-self.step_size))

    def stage_variance(
        self,
        stage: StageArrays,
        joint_policy: Sequence[FloatArray],
        agent_index: int,
        reward: FloatArray,
        q: FloatArray,
    ) -> FloatArray:
        """Variance of a sampled target, times beta / (2 - beta) for averaging over visits."""
        own = joint_policy[agent_index]
        _, transition = played_frequencies(self.game, stage, agent_index)
        bootstrap = q - self.temperature * np.log(np.maximum(own, 1e-300))
        weighted = own * bootstrap
        moments = np.stack([weighted.sum(axis=1), (weighted * bootstrap).sum(axis=1)], axis=1)
        first, second = (transition @ moments).T
        spread = second - first**2
        target = self.discount**2 * np.maximum(spread, 0).reshape(own.shape)
        visits = stage.action_counts(agent_index)
        reached = -np.expm1(2 * visits * np.log1p(-self.step_size))
        return np.asarray(self.step_size / (2 - self.step_size) * target * reached)


def split_coefficients(
    model: LearnerModel,
    stages: Sequence[StageArrays],
    joint_policies: Sequence[Sequence[FloatArray]],
    agent_index: int,
) -> tuple[FloatArray, FloatArray]:
    """The coefficients of the unknowns, `(n_stages, n_states, n_actions, n_unknowns)`, and the part
    of the action values that does not depend on them, `(n_stages, n_states, n_actions)`.
    """
    tables: Iterable[FloatArray]
    if isinstance(model, StageModel):
        tables, n_stages = model.stage_tables(stages, joint_policies, agent_index), len(stages)
    else:
        tables = model.coefficients(stages, joint_policies, agent_index)
        n_stages = len(tables)
    found: FloatArray | None = None
    for number, table in enumerate(tables):
        if found is None:
            found = np.empty((n_stages, *table.shape[:-1], table.shape[-1] - 1))
            offset = np.empty(found.shape[:-1])
        found[number], offset[number] = table[..., :-1], table[..., -1]
    assert found is not None
    return found, offset


def expected_reward(
    game: MarkovGame, model: RewardModel, joint_policy: Sequence[FloatArray], agent_index: int
) -> sp.csr_array:
    """Coefficients of an agent's expected reward of every state and own action, if the others
    follow their policies: sparse `(n_states * n_actions, n_unknowns)`.
    """
    if model == "next_state":
        return averaged_transition(game, joint_policy, agent_index)
    others = others_joint_policy(joint_policy, agent_index)
    n_actions = joint_policy[agent_index].shape[1]
    return immediate_matrix(model, np.repeat(others[:, None], n_actions, axis=1))


def immediate_matrix(
    model: RewardModel, weights: FloatArray, transition: sp.csr_array | None = None
) -> sp.csr_array:
    """Coefficients of the expected reward of every state and action.

    Args:
        model: the reward model, which numbers the unknowns.
        weights: probabilities of the others' joint action given (s, a), `(n_states, n_actions, m)`.
        transition: probabilities of the next state with these weights, sparse
            `(n_states * n_actions, n_states)`; only `next_state` needs them.

    Returns:
        Sparse `(n_states * n_actions, n_unknowns)`.
    """
    n_states, n_actions, n_others = weights.shape
    if model == "next_state":
        assert transition is not None
        return transition
    if model == "state":
        n_rows = n_states * n_actions  # one entry a row
        columns = np.repeat(np.arange(n_states, dtype=np.int32), n_actions)
        pointers = np.arange(n_rows + 1, dtype=np.int32)
        return sp.csr_array((np.ones(n_rows), columns, pointers), shape=(n_rows, n_states))
    if model == "own_action":
        return sp.csr_array(sp.eye_array(n_states * n_actions))
    pointers = np.arange(n_states * n_actions + 1) * n_others
    return sp.csr_array((weights.ravel(), np.arange(weights.size), pointers))


def with_constant(immediate: sp.csr_array, own: FloatArray) -> FloatArray:
    """Coefficients of the reward, `(n_states, n_actions, n_unknowns + 1)`; the last one is 0."""
    table = np.zeros((*own.shape, immediate.shape[1] + 1))
    table[..., :-1] = immediate.toarray().reshape(*own.shape, -1)
    return table


def immediate_table(
    model: RewardModel, weights: FloatArray, transition: sp.csr_array, own: FloatArray
) -> FloatArray:
    """`with_constant` of `immediate_matrix`."""
    n_states, n_actions = own.shape
    if model == "state":
        table = np.zeros((n_states, n_actions, n_states + 1))
        table[np.arange(n_states), :, np.arange(n_states)] = 1
        return table
    return with_constant(immediate_matrix(model, weights, transition), own)


def parts_of_stage() -> FloatArray:
    """Shares of a stage in time order; they sum to 1, and may not be modified."""
    return _parts(SWEEPS)


@cache
def _parts(number: int) -> FloatArray:
    return np.asarray(np.diff(np.linspace(0, 1, number + 1) ** 2))


def played_frequencies(game: MarkovGame, stage: StageArrays, agent_index: int) -> _Frequencies:
    """Frequencies of the others' joint actions given (s, a), as played, and the averaged
    transition. Those of small games are remembered, because every iteration of every candidate
    needs them.

    Returns:
        Weights `(n_states, n_actions, n_others)`, 0 where (s, a) was never played, and the
        transition averaged with these weights, sparse `(n_states * n_actions, n_states)`. Neither
        may be modified.
    """
    return kept(
        stage,
        ("frequencies", game.factors, agent_index),
        lambda: _played_frequencies(game, stage, agent_index),
        lambda found: found[0].size + found[1].nnz,
    )


def _played_frequencies(game: MarkovGame, stage: StageArrays, agent_index: int) -> _Frequencies:
    """See `played_frequencies`."""
    n_own = game.n_actions[agent_index]
    visits = stage.action_counts(agent_index)
    played = np.nonzero(stage.joint_counts)
    states, actions = played[0], played[1:]
    row = states * n_own + actions[agent_index]
    share = stage.joint_counts[played] / visits.ravel()[row]
    columns, probabilities = np.zeros((len(row), 1), dtype=np.int64), share[:, None]
    local = game.local_states(states)
    for position, factor in enumerate(game.factors):
        at = (local[:, position], *(actions[agent] for agent in factor.agents))
        columns = columns[..., None] * factor.n_local + factor.successors[at][:, None]
        probabilities = probabilities[..., None] * factor.probabilities[at][:, None]
        columns, probabilities = columns.reshape(len(row), -1), probabilities.reshape(len(row), -1)
    rows = np.repeat(row, columns.shape[1])
    kept = probabilities.ravel() > 0
    entries = (probabilities.ravel()[kept], (rows[kept], columns.ravel()[kept]))
    transition = sp.coo_array(entries, shape=(visits.size, game.n_states)).tocsr()
    weights = np.zeros((game.n_states, n_own, stage.joint_counts[0].size // n_own))
    others = [agent for agent in range(game.n_agents) if agent != agent_index]
    column = np.zeros(len(row), dtype=np.int64)
    for agent in others:
        column = column * game.n_actions[agent] + actions[agent]
    weights[states, actions[agent_index], column] = share
    return weights, transition
