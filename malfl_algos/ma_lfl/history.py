"""The whole learning history as a function of all agents' rewards, and its derivatives.

Learners that start from a known policy and improve by a known rule leave no freedom: the rewards
determine the policies of every stage, in visited and in unvisited states. With x_h the scaled
log policy alpha log pi_h,

  x_{h+1} = rho x_h + (1 - rho) q_h(r, pi_h) + noise,    q_h of equation (5),

and the counts of stage h + 1 are multinomial with policy softmax(x_{h+1} / alpha). Where a stage
was visited, x_{h+1} is the mode of counts and prediction together (an extended Kalman filter along
the stages, Anderson and Moore 1979, section 8.2); elsewhere it is the prediction. Without noise the
mode is the prediction, and the history is deterministic.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import scipy.linalg
from numpy.typing import NDArray
from scipy.special import log_softmax

from malfl_algos.ma_lfl.agent_pass import KNOWN_VARIANCE
from malfl_algos.ma_lfl.policy_estimation import Response, working_response
from malfl_algos.soft import entropy
from malfl_algos.soft.averaging import AveragedDynamics, averaged_dynamics
from malfl_algos.soft.iteration import iterated_sum
from malfl_env.markov_game import MarkovGame

__all__ = ["Followed", "HistoryData", "follow", "sensitivities"]

FloatArray = NDArray[np.float64]
Single = NDArray[np.float32]
IntArray = NDArray[np.int64]

VALUE_RESIDUAL = 1e-10
"""Relative residual of soft values."""
SLOPE_RESIDUAL = 1e-4
"""Relative residual of the derivatives of soft values where they are computed iteratively."""
DENSE_STATES = 6000
"""Derivatives use a dense factorisation in single precision up to this many joint states."""


@dataclass(frozen=True, eq=False)
class HistoryData:
    """What is given about a learning history.

    Args:
        game: the dynamics.
        counts: per agent, `(n_stages, n_states, n_actions)`.
        first: per agent the log policy of the first stage, `(n_states, n_actions)`.
        known: per agent its policies, `(n_stages, n_states, n_actions)`; None: unknown.
        discount: gamma in [0, 1).
        temperature: alpha > 0.
        retained: share rho in [0, 1) of its log policy that every learner keeps.
        factors: factorisations of the first stage, by discount; its policies never change.
    """

    game: MarkovGame
    counts: Sequence[FloatArray]
    first: Sequence[FloatArray]
    known: Sequence[FloatArray | None]
    discount: float
    temperature: float
    retained: float = 0.0
    factors: dict[float, tuple[Single, IntArray]] = field(default_factory=dict)

    def visited(self, stage: int) -> IntArray:
        """The joint states with counts in a stage."""
        return np.flatnonzero(self.counts[0][stage].sum(axis=-1) > 0)


class Predicted(NamedTuple):
    """One agent's prediction of one stage, in the states visited there.

    Args:
        x: predicted alpha log pi up to a constant, `(n_visited, n_actions)`.
        response: working response of the counts.
        policy: mode of counts and prediction, same shape as `x`.
    """

    x: FloatArray
    response: Response
    policy: FloatArray


class Played(NamedTuple):
    """One stage of a history, and the policies that follow from it.

    Args:
        log_policies: per agent, `(n_states, n_actions)`.
        q: per agent, same shape.
        values: per agent, `(n_states,)`.
        transitions: per agent P with the others averaged out.
        onward: P under the joint policy.
        states: joint states visited in the next stage.
        visits: their numbers of visits there.
        predicted: per agent, for the next stage.
        following: per agent the log policy of the next stage.
    """

    log_policies: list[FloatArray]
    q: list[FloatArray]
    values: list[FloatArray]
    transitions: list[AveragedDynamics]
    onward: AveragedDynamics
    states: IntArray
    visits: FloatArray
    predicted: list[Predicted]
    following: list[FloatArray]


class Followed(NamedTuple):
    """A history under given rewards.

    Args:
        loss: minus the log likelihood of counts and noise at their mode, up to a constant.
        stages: all stages but the last one followed.
    """

    loss: float
    stages: list[Played]


def follow(
    data: HistoryData, rewards: Sequence[FloatArray], noise_variance: float, *, horizon: int
) -> Followed:
    """The history of the first stages under these rewards.

    Args:
        data: what is given.
        rewards: per agent, `(n_states,)`.
        noise_variance: of x, > 0.
        horizon: number of stages to follow, from 2 to all.
    """
    log_policies, stages, loss = list(data.first), [], 0.0
    for number in range(horizon - 1):
        played, missed = _stage(data, rewards, log_policies, number, noise_variance)
        stages.append(played)
        log_policies = played.following
        loss += missed
    return Followed(loss, stages)


def _stage(
    data: HistoryData,
    rewards: Sequence[FloatArray],
    log_policies: list[FloatArray],
    number: int,
    noise_variance: float,
) -> tuple[Played, float]:
    game, alpha, rho = data.game, data.temperature, data.retained
    policies = [np.exp(own) for own in log_policies]
    agents = range(game.n_agents)
    transitions = [averaged_dynamics(game, policies, index) for index in agents]
    onward = transitions[0].under(policies[0])
    gains = [own + alpha * entropy(pi) for own, pi in zip(rewards, policies, strict=True)]
    found = iterated_sum(
        onward, np.stack(gains, axis=1), discount=data.discount, residual=VALUE_RESIDUAL
    )
    values = [np.ascontiguousarray(found[:, index]) for index in agents]
    q, predicted, following, loss = [], [], [], 0.0
    states = data.visited(number + 1)
    for index in agents:
        ahead = (transitions[index] @ values[index]).reshape(policies[index].shape)
        q.append(rewards[index][:, None] + data.discount * ahead)
        x = rho * alpha * log_policies[index] + (1 - rho) * q[index]
        one, missed = _predicted(data, index, number + 1, x[states], noise_variance)
        known = data.known[index]
        if known is None:
            after = log_softmax(x / alpha, axis=-1)
            after[states] = np.log(np.maximum(one.policy, 1e-300))
        else:
            after = np.log(np.maximum(known[number + 1], 1e-300))
        predicted.append(one)
        following.append(after)
        loss += missed
    visits = data.counts[0][number + 1][states].sum(axis=-1)
    return (
        Played(log_policies, q, values, transitions, onward, states, visits, predicted, following),
        loss,
    )


def _predicted(
    data: HistoryData, index: int, stage: int, x: FloatArray, noise_variance: float
) -> tuple[Predicted, float]:
    """The prediction of a stage in its visited states, and how far it is off."""
    alpha, states = data.temperature, data.visited(stage)
    own, counts = data.known[index], data.counts[index][stage][states]
    if own is None:
        spread = np.full(x.shape, noise_variance)
        response, policy = working_response(x, spread, counts, temperature=alpha)
        loss = -float((counts * np.log(np.maximum(policy, 1e-300))).sum())
    else:
        policy, loss = own[stage][states], 0.0
        variance = np.where(policy > 1e-300, KNOWN_VARIANCE * alpha**2, np.inf)
        response = Response(alpha * np.log(np.maximum(policy, 1e-300)), variance, 0.0)
    gap = np.where(policy > 1e-300, alpha * np.log(np.maximum(policy, 1e-300)) - x, 0.0)
    gap -= gap.mean(axis=-1, keepdims=True)
    return Predicted(x, response, policy), loss + float((gap**2).sum()) / (2 * noise_variance)


def sensitivities(
    data: HistoryData,
    followed: Followed,
    features: Sequence[FloatArray],
    noise_variance: float,
) -> FloatArray:
    """Derivatives of all predictions by the weights of all agents' rewards.

    Rewards are `features @ weights`. The rows run over stages, agents and visited states, in the
    order of `followed.stages`, of their `predicted` and of their `states`; games whose agents have
    different numbers of actions have columns of zeros.

    Args:
        data, followed, noise_variance: of `follow`.
        features: per agent, `(n_states, n_weights)`.

    Returns:
        `(n_rows, largest n_actions, all weights)`; weights are in the order of agents.
    """
    sizes = [own.shape[1] for own in features]
    ends = np.cumsum([0, *sizes])
    direct = []
    for index, own in enumerate(features):
        table = np.zeros((len(own), ends[-1]), np.float32)
        table[:, ends[index] : ends[index + 1]] = own
        direct.append(table)
    moved: list[Single | None] = [None] * len(features)
    width, rows = max(data.game.n_actions), []
    for number, stage in enumerate(followed.stages):
        gains, others = _gains(data, stage, direct, moved)
        slopes = _discounted(data, stage, np.hstack(gains), first=number == 0)
        ahead: list[Single | None] = []
        for index in range(len(features)):
            part = slopes[:, index * ends[-1] : (index + 1) * ends[-1]]
            changed = _changed(data, stage, index, direct[index], part, moved[index], others[index])
            own = np.zeros((len(stage.states), width, ends[-1]))
            own[:, : changed.shape[1]] = changed[stage.states]
            rows.append(own)
            ahead.append(_following(data, stage, index, changed, noise_variance))
        moved = ahead
    return np.concatenate(rows)


def _gains(
    data: HistoryData, stage: Played, direct: Sequence[Single], moved: Sequence[Single | None]
) -> tuple[list[Single], list[Single | None]]:
    """Per agent what enters the derivative of its value in each state, `(n_states, n_weights)`, and
    the part of the derivative of q that comes from the others' policies.
    """
    gains: list[Single] = []
    others: list[Single | None] = []
    for index, paid in enumerate(direct):
        gain = paid
        policy = np.exp(stage.log_policies[index])
        through = _through_others(data, stage, index, moved)
        if through is not None:
            gain = gain + np.matmul(policy[:, None].astype(np.float32), through)[:, 0]
        own = moved[index]
        if own is not None:
            worth = stage.q[index] - data.temperature * stage.log_policies[index]
            gain = gain + np.matmul((policy * worth)[:, None].astype(np.float32), own)[:, 0]
        gains.append(gain)
        others.append(through)
    return gains, others


def _through_others(
    data: HistoryData, stage: Played, index: int, moved: Sequence[Single | None]
) -> Single | None:
    """The part of the derivative of q that comes from the others' policies at fixed values."""
    found: Single | None = None
    policies = [np.exp(own) for own in stage.log_policies]
    for other, slope in enumerate(moved):
        if other == index or slope is None:
            continue
        table = _by_pair(data.game, stage.values[index], policies, index, other)
        weight = (data.discount * table * policies[other][:, None]).astype(np.float32)
        part = np.matmul(weight, slope)
        found = part if found is None else found + part
    return found


def _by_pair(
    game: MarkovGame, values: FloatArray, policies: Sequence[FloatArray], index: int, other: int
) -> FloatArray:
    """E[V(s') | s, a^index, a^other], `(n_states, n_actions[index], n_actions[other])`."""
    successors, probabilities = game.joint_successors()
    table = (values[successors] * probabilities).sum(axis=-1)
    table = np.moveaxis(table, (index + 1, other + 1), (1, 2))
    rest = [agent for agent in range(game.n_agents) if agent not in {index, other}]
    for agent in reversed(rest):
        own = policies[agent].reshape(len(table), *[1] * (table.ndim - 2), -1)
        table = (table * own).sum(axis=-1)
    return np.asarray(table)


def _discounted(data: HistoryData, stage: Played, gains: Single, *, first: bool) -> Single:
    """(I - gamma P_pi)^-1 gains."""
    if len(gains) > DENSE_STATES:
        found = iterated_sum(
            stage.onward,
            gains.astype(np.float64),
            discount=data.discount,
            residual=SLOPE_RESIDUAL,
        )
        return np.asarray(found, dtype=np.float32)
    if first and data.discount in data.factors:
        factor = data.factors[data.discount]
    else:
        system = stage.onward.sparse().astype(np.float32).toarray()
        system *= np.float32(-data.discount)
        system[np.diag_indices_from(system)] += 1
        factor = scipy.linalg.lu_factor(system, overwrite_a=True, check_finite=False)
    if first:
        data.factors[data.discount] = factor
    return np.asarray(scipy.linalg.lu_solve(factor, gains, check_finite=False))


def _changed(
    data: HistoryData,
    stage: Played,
    index: int,
    direct: Single,
    slopes: Single,
    moved: Single | None,
    others: Single | None,
) -> Single:
    """Derivative of an agent's prediction x, `(n_states, n_actions, n_weights)`."""
    shape = (*stage.q[index].shape, direct.shape[1])
    ahead = stage.transitions[index] @ np.ascontiguousarray(slopes, dtype=np.float64)
    changed = np.asarray(ahead, dtype=np.float32).reshape(shape)
    changed *= np.float32(data.discount)
    changed += direct[:, None]
    if others is not None:
        changed += others
    changed *= np.float32(1 - data.retained)
    if moved is not None and data.retained:
        changed += np.float32(data.retained * data.temperature) * moved
    return changed


def _following(
    data: HistoryData, stage: Played, index: int, changed: Single, noise_variance: float
) -> Single | None:
    """Derivative of the log policy of the next stage; None if that policy is known."""
    if data.known[index] is not None:
        return None
    alpha = data.temperature
    states, one = stage.states, stage.predicted[index]
    moved = changed.copy()
    n_actions = one.policy.shape[1]
    fisher = one.policy[:, :, None] * (np.eye(n_actions) - one.policy[:, None, :])
    weight = noise_variance * stage.visits[:, None, None] / alpha**2
    held = np.linalg.inv(np.eye(n_actions) + weight * fisher)
    moved[states] = np.matmul(held.astype(np.float32), changed[states])
    policy = np.exp(stage.following[index]).astype(np.float32)
    moved -= np.matmul(policy[:, None], moved)
    moved /= np.float32(alpha)
    return moved
