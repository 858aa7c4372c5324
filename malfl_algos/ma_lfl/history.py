"""The whole learning history as a function of all agents' rewards, and its derivatives.

Learners that start from a known policy and improve by a known rule leave no freedom: the rewards
determine the policies of every stage, in visited and in unvisited states. With x_h the scaled
log policy alpha log pi_h,

  x_{h+1} = rho x_h + (1 - rho) q_h(r, pi_h) + noise,    q_h of equation (5),

and the counts of stage h + 1 are multinomial with policy softmax(x_{h+1} / alpha). Where a stage
was visited, x_{h+1} is the mode of counts and prediction together (an extended Kalman filter along
the stages, Anderson and Moore 1979, section 8.2); elsewhere it is the prediction. Without noise the
mode is the prediction, and the history is deterministic.

For td learners q_h is the expectation of their updates over the visits of stage h, and their own
noise about it adds to the noise of x (`malfl_algos.ma_lfl.history_td`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.special import log_softmax

from malfl_algos.ma_lfl.agent_pass import KNOWN_VARIANCE
from malfl_algos.ma_lfl.history_td import td_values
from malfl_algos.ma_lfl.learner_models import ExpectedTd
from malfl_algos.ma_lfl.policy_estimation import Response, working_response
from malfl_algos.ma_lfl.stages import StageArrays
from malfl_algos.soft import entropy
from malfl_algos.soft.averaging import averaged_dynamics
from malfl_algos.soft.sweeps import swept_sum
from malfl_env.markov_game import MarkovGame

__all__ = ["Followed", "HistoryData", "Played", "Predicted", "follow", "transitions_of"]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

VALUE_ERROR = 1e-7
"""Relative error of soft values."""


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
        td: the learners' updates; None: they solve (5) exactly.
        stages: the stages with the counts of joint actions, for td learners.
    """

    game: MarkovGame
    counts: Sequence[FloatArray]
    first: Sequence[FloatArray]
    known: Sequence[FloatArray | None]
    discount: float
    temperature: float
    retained: float = 0.0
    td: ExpectedTd | None = None
    stages: Sequence[StageArrays] = ()

    def visited(self, stage: int) -> IntArray:
        """The joint states with counts in a stage."""
        return np.flatnonzero(self.counts[0][stage].sum(axis=-1) > 0)


class Predicted(NamedTuple):
    """One agent's prediction of one stage, in the states visited there.

    Args:
        x: predicted alpha log pi up to a constant, `(n_visited, n_actions)`.
        variance: that the learner's own noise adds to the noise variance of x, same shape.
        response: working response of the counts.
        policy: mode of counts and prediction, same shape.
    """

    x: FloatArray
    variance: FloatArray
    response: Response
    policy: FloatArray


class Played(NamedTuple):
    """One stage of a history, and the policies that follow from it.

    Args:
        log_policies: per agent, `(n_states, n_actions)`.
        q: per agent, same shape.
        values: per agent, `(n_states,)`; none for td learners.
        states: joint states visited in the next stage.
        visits: their numbers of visits there.
        predicted: per agent, for the next stage.
        following: per agent the log policy of the next stage.
    """

    log_policies: list[FloatArray]
    q: list[FloatArray]
    values: list[FloatArray]
    states: IntArray
    visits: FloatArray
    predicted: list[Predicted]
    following: list[FloatArray]


class Followed(NamedTuple):
    """A history under given rewards.

    Args:
        loss: minus the log likelihood of counts and noise at their mode, up to a constant.
        stages: all stages but the last one followed.
        noise_variance: of x.
        rewards: per agent, `(n_states,)`.
    """

    loss: float
    stages: list[Played]
    noise_variance: float
    rewards: Sequence[FloatArray]


def follow(
    data: HistoryData,
    rewards: Sequence[FloatArray],
    noise_variance: float,
    *,
    horizon: int,
    near: Followed | None = None,
    held: Followed | None = None,
) -> Followed:
    """The history of the first stages under these rewards.

    Args:
        data: what is given.
        rewards: per agent, `(n_states,)`.
        noise_variance: of x, > 0.
        horizon: number of stages to follow, from 2 to all.
        near: the history under similar rewards; it saves time.
        held: the history whose variances of the learners' own noise are taken, so that losses of
            several rewards compare; None: those that follow from these rewards.
    """
    log_policies, stages, loss = list(data.first), [], 0.0
    for number in range(horizon - 1):
        start = near.stages[number].values if near and number < len(near.stages) else None
        known = None if held is None else [one.variance for one in held.stages[number].predicted]
        played, missed = _stage(data, rewards, log_policies, number, noise_variance, start, known)
        stages.append(played)
        log_policies = played.following
        loss += missed
    return Followed(loss, stages, noise_variance, rewards)


def _stage(
    data: HistoryData,
    rewards: Sequence[FloatArray],
    log_policies: list[FloatArray],
    number: int,
    noise_variance: float,
    start: list[FloatArray] | None,
    held: list[FloatArray] | None,
) -> tuple[Played, float]:
    alpha, rho = data.temperature, data.retained
    if data.td is None:
        q, values = _exact_values(data, rewards, log_policies, start)
        variances = [np.zeros_like(own) for own in q]
    else:
        q, variances = _td_values(data, data.td, rewards, log_policies, number)
        values = []
    predicted, following, loss = [], [], 0.0
    states = data.visited(number + 1)
    for index in range(data.game.n_agents):
        x = rho * alpha * log_policies[index] + (1 - rho) * q[index]
        own = (1 - rho) ** 2 * variances[index][states] if held is None else held[index]
        one, missed = _predicted(data, index, number + 1, x[states], own, noise_variance)
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
        Played(log_policies, q, values, states, visits, predicted, following),
        loss,
    )


def _exact_values(
    data: HistoryData,
    rewards: Sequence[FloatArray],
    log_policies: list[FloatArray],
    start: list[FloatArray] | None,
) -> tuple[list[FloatArray], list[FloatArray]]:
    """Action values and values of equation (5), per agent."""
    game, alpha = data.game, data.temperature
    policies = [np.exp(own) for own in log_policies]
    transitions, onward = transitions_of(game, policies)
    gains = [own + alpha * entropy(pi) for own, pi in zip(rewards, policies, strict=True)]
    found = swept_sum(
        onward,
        np.stack(gains, axis=1),
        discount=data.discount,
        error=VALUE_ERROR,
        start=None if start is None else np.stack(start, axis=1),
    )
    values = [np.ascontiguousarray(found[:, index]) for index in range(game.n_agents)]
    q = []
    for own, value, pi, reward in zip(transitions, values, policies, rewards, strict=True):
        q.append(reward[:, None] + data.discount * (own @ value).reshape(pi.shape))
    return q, values


def _td_values(
    data: HistoryData,
    learner: ExpectedTd,
    rewards: Sequence[FloatArray],
    log_policies: list[FloatArray],
    number: int,
) -> tuple[list[FloatArray], list[FloatArray]]:
    """Expected action values of td learners and their variances, per agent."""
    policies = [np.exp(own) for own in log_policies]
    found = [
        td_values(learner, data.stages[number], policies, index, reward)
        for index, reward in enumerate(rewards)
    ]
    return [q for q, _ in found], [variance for _, variance in found]


def transitions_of(
    game: MarkovGame, policies: Sequence[FloatArray]
) -> tuple[list[sp.csr_array], sp.csr_array]:
    """Per agent P with the others averaged out, and P under the joint policy."""
    averaged = [averaged_dynamics(game, policies, index) for index in range(game.n_agents)]
    return [own.sparse() for own in averaged], averaged[0].under(policies[0]).sparse()


def _predicted(
    data: HistoryData,
    index: int,
    stage: int,
    x: FloatArray,
    variance: FloatArray,
    noise_variance: float,
) -> tuple[Predicted, float]:
    """The prediction of a stage in its visited states, and how far it is off."""
    alpha, states = data.temperature, data.visited(stage)
    own, counts = data.known[index], data.counts[index][stage][states]
    spread = noise_variance + variance
    if own is None:
        response, policy = working_response(x, spread, counts, temperature=alpha)
        loss = -float((counts * np.log(np.maximum(policy, 1e-300))).sum())
    else:
        policy, loss = own[stage][states], 0.0
        exact = np.where(policy > 1e-300, KNOWN_VARIANCE * alpha**2, np.inf)
        response = Response(alpha * np.log(np.maximum(policy, 1e-300)), exact, 0.0)
    gap = np.where(policy > 1e-300, alpha * np.log(np.maximum(policy, 1e-300)) - x, 0.0)
    gap -= (gap / spread).sum(axis=-1, keepdims=True) / (1 / spread).sum(axis=-1, keepdims=True)
    return Predicted(x, variance, response, policy), loss + float((gap**2 / spread).sum()) / 2
