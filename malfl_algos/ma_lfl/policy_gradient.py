"""Learners that follow the gradient of their return: a model of how far a stage moves log pi.

A step along the gradient of the return changes the logits theta of a softmax policy by (Sutton,
McAllester, Singh, Mansour 2000)

  g(s, a) = d(s) pi(a | s) A(s, a; r),

d the share of visits and A the advantage, affine in the reward. A policy that is a network shares
what it learns in one state with the states that look alike. Its change is, to first order,

  log pi_{h+1} - log pi_h = K (g + noise) + c_h(s),

with K the network's tangent kernel (Jacot, Gabriel, Hongler 2018). The noise of the sampled
gradient is smeared by the same K. States that agree in more coordinates look more alike, so K is
taken to be sum_o w_o E_o: E_o projects onto the functions of exactly o coordinates, and the weights
w_o, one set per stage, are chosen by the evidence (`gradient_inference`). Equal weights are a table
with one logit per state and action (REINFORCE, G(PO)MDP). Networks have small weights for high o.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from malfl_algos.ma_lfl.gpomdp import episodes_of, gpomdp_gradient
from malfl_algos.ma_lfl.learner_models import ExactEvaluation
from malfl_algos.ma_lfl.replay import steps_of
from malfl_algos.ma_lfl.stages import StageArrays

__all__ = ["GradientRows", "Logits", "Orders", "contrasts", "coordinate_orders", "gradient_rows"]

FloatArray = NDArray[np.float64]
Logits = Literal[
    "network", "table", "table, last fixed", "table, replayed", "table, last fixed, replayed"
]

WAY = (0.0, 0.5, 1.0)
"""Shares of the way from one policy to the next at which the gradient is taken."""
UNSEEN = 1e4
"""Variance of log pi in a state that was not visited."""


@dataclass(frozen=True, eq=False)
class Orders:
    """An orthonormal basis of functions of the state, sorted by the number of coordinates.

    Args:
        basis: `(n_states, n_states)`, columns orthonormal.
        order: of every column, how many coordinates its functions depend on, `(n_states,)`.
    """

    basis: FloatArray
    order: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class GradientRows:
    """One stage: the change of log pi as a function of the reward, in a rotated frame.

    Rows are numbered by basis function of the state, then by contrast of the actions, so a constant
    per state drops out.

    Args:
        gradient: g as a linear function of the unknowns, `(n_rows, n_unknowns)`.
        change: log pi_{h+1} - log pi_h, `(n_rows,)`.
        estimation: covariance of the errors of the change, `(n_rows, n_rows)`.
        sampling: covariance of the sampled gradient, up to a factor, `(n_rows, n_rows)`.
        shared: covariance of the errors of log pi_h, which enter the change of the stage before
            with the opposite sign, `(n_rows, n_rows)`; None: the stages' errors are independent.
    """

    gradient: FloatArray
    change: FloatArray
    estimation: FloatArray
    sampling: FloatArray
    shared: FloatArray | None = None


def contrasts(n: int) -> FloatArray:
    """Orthonormal rows that are orthogonal to the constant vector (Helmert), `(n - 1, n)`."""
    rows = np.tril(np.ones((n - 1, n)))
    rows[np.arange(n - 1), np.arange(1, n)] = -np.arange(1, n)
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True))


def coordinate_orders(shape: Sequence[int]) -> Orders:
    """The basis for states that are numbered by coordinates in mixed radix.

    Args:
        shape: number of values of every coordinate, `MarkovGame.observation_shape`.
    """
    basis, order = np.ones((1, 1)), np.zeros(1, dtype=np.int64)
    for n in shape:
        own = np.vstack([np.full((1, n), n**-0.5), contrasts(n)]).T
        basis = np.kron(basis, own)
        order = np.add.outer(order, (np.arange(n) > 0).astype(np.int64)).ravel()
    place = np.argsort(order, kind="stable")
    return Orders(basis[:, place], order[place])


def gradient_rows(
    evaluation: ExactEvaluation,
    stages: tuple[StageArrays, StageArrays],
    joint_policies: tuple[Sequence[FloatArray], Sequence[FloatArray]],
    agent_index: int,
    orders: Orders,
    *,
    change: FloatArray,
    variances: tuple[FloatArray, FloatArray],
    linked: bool,
    features: FloatArray | None,
    logits: Logits = "network",
) -> GradientRows:
    """The rows of one stage: the gradient is averaged along the way from its policy to the next.

    Args:
        evaluation: gives the action values as a function of the reward; their entropy part is not
            used.
        stages: the counts of the stage and of the next one.
        joint_policies: the policies of all agents in both stages, each `(n_states, n_actions)`.
        agent_index: the agent.
        orders: the basis of functions of the state.
        change: estimated log pi_{h+1} - log pi_h, `(n_states, n_actions)`.
        variances: of the errors of log pi_h and log pi_{h+1}, each of the same shape; infinite
            where a state was not visited.
        linked: whether the stage before has the same error of log pi_h, with the opposite sign.
        features: `(n_unknowns, n_features)`, reward = features @ weights; None: every unknown is
            free.
        logits: the parameters of the policy. In a table, `last fixed`, the logit of the last
            action is 0; otherwise there is one logit per action. `replayed`: the gradient is the
            G(PO)MDP estimate from the stage's own episodes, which needs the steps and rewards of
            states. Otherwise it is the expected gradient.
    """
    frame = contrasts(change.shape[1])
    visits = [stage.action_counts(agent_index).sum(axis=1) for stage in stages]
    moving = frame.copy()
    if "last fixed" in logits:
        moving[:, -1] = 0.0
    gradient: Any = 0.0
    sampling: Any = 0.0
    for way in WAY:
        joint = [_between(*own, way) for own in zip(*joint_policies, strict=True)]
        own = joint[agent_index]
        share = (1 - way) * visits[0] / visits[0].sum() + way * visits[1] / visits[1].sum()
        q = evaluation.stage_coefficients(stages[0], joint, agent_index)[..., :-1]
        q = q if features is None else q @ features
        advantage = q - np.einsum("sa,sak->sk", own, q)[:, None]
        step = (share[:, None] * own)[..., None] * advantage
        gradient = gradient + np.einsum("ca,sak->sck", moving, step) / len(WAY)
        mean = own @ moving.T
        spread = np.einsum("ca,sa,ea->sce", moving, own, moving) - mean[:, :, None] * mean[:, None]
        sampling = sampling + share[:, None, None] * spread / len(WAY)
    if "replayed" in logits:
        discount = evaluation.discount
        own = joint_policies[0][agent_index]
        step = _replayed_gradient(stages[0], own, agent_index, features, discount)
        gradient = np.einsum("ca,sak->sck", moving, step)
    first, last = (
        _rotated(orders.basis, np.einsum("ca,sa,ea->sce", frame, np.minimum(own, UNSEEN), frame))
        for own in variances
    )
    return GradientRows(
        np.tensordot(orders.basis.T, gradient, 1).reshape(-1, gradient.shape[-1]),
        (orders.basis.T @ (change @ frame.T)).ravel(),
        first + last,
        _rotated(orders.basis, sampling),
        first if linked else None,
    )


def _replayed_gradient(
    stage: StageArrays,
    policy: FloatArray,
    agent_index: int,
    features: FloatArray | None,
    discount: float,
) -> FloatArray:
    """The gradient per step that the episodes of a stage gave the learner, as a function of the
    unknowns, `(n_states, n_actions, n_unknowns)`.
    """
    steps = steps_of(stage)
    episodes = episodes_of(steps.states, steps.joint_actions, steps.episode_ends)
    gains = np.eye(len(policy)) if features is None else features
    gradient = gpomdp_gradient(policy, episodes, agent_index, gains, discount=discount)
    return np.asarray(gradient / episodes.played.sum(axis=1).mean())


def _between(first: FloatArray, last: FloatArray, way: float) -> FloatArray:
    """The policy a share of the way from one policy to another, in log pi."""
    logs = (1 - way) * np.log(np.maximum(first, 1e-300)) + way * np.log(np.maximum(last, 1e-300))
    return np.asarray(softmax(logs, axis=-1))


def _rotated(basis: FloatArray, blocks: FloatArray) -> FloatArray:
    """A covariance with one block per state, `(n_states, c, c)`, as one of the rows."""
    n_states, width = blocks.shape[:2]
    table = np.empty((n_states, width, n_states, width))
    for i in range(width):
        for j in range(i, width):
            part = (basis.T * blocks[:, i, j]) @ basis
            table[:, i, :, j], table[:, j, :, i] = part, part.T
    return table.reshape(n_states * width, -1)
