"""Soft policy evaluation and improvement for agents that act independently given the joint state.

A joint policy is a sequence of arrays `(n_states, n_actions of that agent)` in agent order, each
row a distribution. For agent i the other agents are averaged out: its action value is q^i(s, a^i),
not a function of the joint action.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import overload

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.sparse.linalg import LinearOperator
from scipy.special import log_softmax, xlogy

from malfl_algos.soft.averaging import (
    AveragedDynamics,
    average_out,
    averaged_dynamics,
    sparse_bytes,
)
from malfl_algos.soft.iteration import iterated_sum
from malfl_env.arguments import Count, Discount, Index, Temperature, typed
from malfl_env.errors import InputError
from malfl_env.markov_game import MarkovGame

__all__ = [
    "averaged_reward",
    "averaged_transition",
    "discounted_sum",
    "entropy",
    "expected_next",
    "log_soft_improvement",
    "others_joint_policy",
    "policy_transition",
    "soft_evaluation",
    "transition_under",
]

FloatArray = NDArray[np.float64]
JointPolicy = Sequence[FloatArray]
Transition = sp.csr_array | AveragedDynamics
"""Probabilities of next states, one row per state (and action); only `@` and `.T @` are used."""

DENSE_STATES = 300
"""Up to this number of joint states a linear solve is dense; above it is iterative."""
RESIDUAL = 1e-12
"""Relative residual that an iterative solve must reach."""
SPARSE_BYTES = 2**30
"""A sparse transition larger than this is replaced by an operator without a matrix."""


@typed
def entropy(policy: FloatArray) -> FloatArray:
    """Entropy in nats of every row of a policy; 0 log 0 is 0.

    Args:
        policy: probabilities `(..., n_actions)`.

    Returns:
        `(...)`, from 0 to log n_actions.
    """
    return np.asarray(-xlogy(policy, policy).sum(axis=-1))


@typed
def averaged_transition(
    game: MarkovGame, joint_policy: JointPolicy, agent_index: Index
) -> sp.csr_array:
    """Transition probabilities of one agent's actions with the others averaged out.

    P^i(s' | s, a^i) = E over a^-i ~ pi^-i(s) of P(s' | s, a).

    Args:
        game: the dynamics.
        joint_policy: `(n_states, n_actions)` per agent; the agent's own entry is not read.
        agent_index: i.

    Returns:
        Sparse `(n_states * n_actions[i], n_states)`; row `s * n_actions[i] + a`; rows sum to 1.
    """
    _check_policies(game, joint_policy, agent_index)
    return averaged_dynamics(game, joint_policy, agent_index).sparse()


@typed
def transition_under(
    game: MarkovGame, joint_policy: JointPolicy, agent_index: Index, *, copies: Count = 1
) -> Transition:
    """The averaged transition, as a sparse matrix or, if that is too large, as an operator.

    Args:
        game, joint_policy, agent_index: as for `averaged_transition`.
        copies: number of such transitions that are held at a time.
    """
    _check_policies(game, joint_policy, agent_index)
    dynamics = averaged_dynamics(game, joint_policy, agent_index)
    small = copies * sparse_bytes(game, agent_index) <= SPARSE_BYTES
    return dynamics.sparse() if small else dynamics


@typed
def averaged_reward(game: MarkovGame, joint_policy: JointPolicy, agent_index: Index) -> FloatArray:
    """Expected reward of one agent's own actions with the others averaged out.

    Args:
        game: with rewards.
        joint_policy: `(n_states, n_actions)` per agent; the agent's own entry is not read.
        agent_index: i.

    Returns:
        `(n_states, n_actions[i])`.

    Raises:
        InputError: for policies of another shape, or an agent that the game does not have.
    """
    _check_policies(game, joint_policy, agent_index)
    table = game.reward(agent_index)
    own = (game.n_states, game.n_actions[agent_index])
    if table.ndim == 1:
        return np.broadcast_to(table[:, None], own).copy()
    agents = tuple(range(game.n_agents))
    averaged = average_out(table[..., None], agents, joint_policy, keep=agent_index)
    return np.asarray(averaged[..., 0])


@typed
def others_joint_policy(joint_policy: JointPolicy, agent_index: Index) -> FloatArray:
    """Probabilities of the other agents' joint actions.

    Args:
        joint_policy: `(..., n_actions)` per agent, with the same leading axes.
        agent_index: the agent whose policy is left out.

    Returns:
        `(..., n_others)`: the others' actions in mixed radix, in agent order; n_others is 1 for a
        single agent.
    """
    shapes = [policy.shape for policy in joint_policy]
    if len({shape[:-1] for shape in shapes}) != 1:
        raise InputError(
            f"joint_policy must be arrays (..., n_actions) with the same leading axes, got {shapes}"
        )
    leading = shapes[0][:-1]
    others = np.ones((*leading, 1))
    for index, policy in enumerate(joint_policy):
        if index != agent_index:
            others = (others[..., :, None] * policy[..., None, :]).reshape(*leading, -1)
    return others


@typed
def expected_next(transition: Transition, values: FloatArray) -> FloatArray:
    """Expectation of values at the next state, for every state and action.

    Args:
        transition: rows `s * n_actions + a`, columns next states; from `averaged_transition`.
        values: `(n_states,)`.

    Returns:
        `(n_states, n_actions)`.

    Raises:
        InputError: for values of another shape.
    """
    _check_rows("values", values, transition.shape[1])
    return np.asarray(transition @ values).reshape(len(values), -1)


@overload
def policy_transition(transition: sp.csr_array, policy: FloatArray) -> sp.csr_array: ...
@overload
def policy_transition(transition: Transition, policy: FloatArray) -> Transition: ...
@typed
def policy_transition(transition: Transition, policy: FloatArray) -> Transition:
    """State-to-state transition under the agent's own policy.

    Args:
        transition: rows `s * n_actions + a`, columns next states; from `averaged_transition`.
        policy: probabilities `(n_states, n_actions)`.

    Returns:
        `(n_states, n_states)`, in the form of `transition`: a sparse matrix or an operator.

    Raises:
        InputError: for a policy of another shape.
    """
    rows, n_states = transition.shape
    if policy.shape != (n_states, rows // n_states):
        expected = (n_states, rows // n_states)
        raise InputError(f"policy must have shape {expected}, got {policy.shape}")
    if isinstance(transition, AveragedDynamics):
        return transition.under(policy)
    n_states, n_actions = policy.shape
    index = transition.indices.dtype  # the product has the same one
    pointers = np.arange(n_states + 1, dtype=index) * n_actions
    choice = sp.csr_array(
        (policy.ravel(), np.arange(policy.size, dtype=index), pointers),
        shape=(n_states, policy.size),
    )
    return sp.csr_array(choice @ transition)


@typed
def soft_evaluation(
    game: MarkovGame,
    joint_policy: JointPolicy,
    agent_index: Index,
    *,
    discount: Discount,
    temperature: Temperature,
) -> tuple[FloatArray, FloatArray]:
    """Soft value of a joint policy for one agent, equation (5).

    V = (I - gamma P_pi)^-1 (r_pi + alpha H(pi)) and q(s, a) = E[r(s, a) + gamma V(s')], the other
    agents averaged out.

    Args:
        game: dynamics and rewards.
        joint_policy: `(n_states, n_actions)` per agent.
        agent_index: i.
        discount: gamma in [0, 1).
        temperature: alpha >= 0; 0 gives the plain discounted value.

    Returns:
        q `(n_states, n_actions[i])` and V `(n_states,)`, to a relative residual of 1e-12.

    Raises:
        InputError: for a discount outside [0, 1) or a negative temperature.
        ArithmeticError: if an iterative solve misses its residual; the message has the residual.
    """
    if not 0 <= discount < 1:
        raise InputError(f"discount must be in [0, 1), got {discount}")
    if not temperature >= 0:
        raise InputError(f"temperature must be >= 0, got {temperature}")
    _check_policies(game, joint_policy, agent_index)
    policy = joint_policy[agent_index]
    transition = transition_under(game, joint_policy, agent_index)
    reward = averaged_reward(game, joint_policy, agent_index)
    gain = (policy * reward).sum(axis=1) + temperature * entropy(policy)
    value = discounted_sum(policy_transition(transition, policy), gain, discount=discount)
    return reward + discount * expected_next(transition, value), value


@typed
def discounted_sum(transition: Transition, gain: FloatArray, *, discount: Discount) -> FloatArray:
    """Solve V = gain + gamma P V for V.

    Args:
        transition: P, `(n_states, n_states)`, a sparse matrix or an operator.
        gain: `(n_states,)`.
        discount: gamma in [0, 1).

    Returns:
        V `(n_states,)`: by a dense solve of a sparse transition up to 300 states, otherwise
        iteratively to a relative residual of 1e-12.

    Raises:
        ArithmeticError: if the iteration does not reach the residual.
    """
    _check_rows("gain", gain, transition.shape[0])
    n_states = len(gain)
    if n_states <= DENSE_STATES and not isinstance(transition, LinearOperator):
        system = np.eye(n_states) - discount * transition.toarray()
        return np.asarray(np.linalg.solve(system, gain), dtype=np.float64)
    return iterated_sum(transition, gain, discount=discount, residual=RESIDUAL)


@typed
def log_soft_improvement(q: FloatArray, *, temperature: Temperature) -> FloatArray:
    """Log of the improved policy, log pi(a | s) = q(s, a) / alpha - log Z(s); equation (6).

    Args:
        q: `(n_states, n_actions)`, finite.
        temperature: alpha > 0.

    Returns:
        `(n_states, n_actions)`; no q overflows.
    """
    if not temperature > 0:
        raise InputError(f"temperature must be > 0, got {temperature}")
    if not q.size:
        raise InputError(f"q must be (n_states, n_actions), got {q.shape}")
    return np.asarray(log_softmax(q / temperature, axis=-1))


def _check_policies(game: MarkovGame, joint_policy: JointPolicy, agent_index: int) -> None:
    if agent_index >= game.n_agents:
        raise InputError(f"agent_index must be 0..{game.n_agents - 1}, got {agent_index}")
    expected = [(game.n_states, n_actions) for n_actions in game.n_actions]
    found = [policy.shape for policy in joint_policy]
    if found != expected:
        raise InputError(f"joint_policy must have the shapes {expected}, got {found}")


def _check_rows(name: str, array: FloatArray, n_states: int) -> None:
    if len(array) != n_states:
        raise InputError(f"{name} must be ({n_states},), got {array.shape}")
