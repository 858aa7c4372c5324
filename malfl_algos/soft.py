"""Soft policy evaluation and improvement for agents that act independently given the joint state.

A joint policy is a sequence of arrays `(n_states, n_actions of that agent)` in agent order, each
row a distribution. Everything about agent i is seen with the other agents averaged out: its action
value is q^i(s, a^i), not a function of everyone's action.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.sparse.linalg import LinearOperator, gmres
from scipy.special import log_softmax, xlogy

from malfl_env.markov_game import Factor, MarkovGame

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
    "soft_improvement",
]

FloatArray = NDArray[np.float64]
JointPolicy = Sequence[FloatArray]

DENSE_STATES = 2000
"""Up to this many joint states a linear solve is dense; beyond it is iterative."""
RESIDUAL = 1e-12
"""Relative residual that an iterative solve must reach."""


def entropy(policy: FloatArray) -> FloatArray:
    """Entropy in nats of every row of a policy, `(..., n_actions) -> (...)`; 0 log 0 is 0."""
    return np.asarray(-xlogy(policy, policy).sum(axis=-1))


def averaged_transition(
    game: MarkovGame, joint_policy: JointPolicy, agent_index: int
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
    n_states, n_own = game.n_states, game.n_actions[agent_index]
    local = game.local_states(np.arange(n_states))
    columns = np.zeros((n_states, n_own, 1), dtype=np.int64)
    weights = np.ones((n_states, n_own, 1))
    for position, factor in enumerate(game.factors):
        support, probabilities = _support(factor)
        chance = _average_out(
            probabilities[local[:, position]], factor.agents, joint_policy, keep=agent_index
        )
        column = columns[..., None] * factor.n_local + support[local[:, position], None, None, :]
        columns = column.reshape(n_states, n_own, -1)
        weights = (weights[..., None] * chance[:, :, None, :]).reshape(n_states, n_own, -1)
    rows = np.broadcast_to(np.arange(n_states * n_own).reshape(n_states, n_own, 1), weights.shape)
    kept = weights > 0
    shape = (n_states * n_own, n_states)
    return sp.coo_array((weights[kept], (rows[kept], columns[kept])), shape=shape).tocsr()


def averaged_reward(game: MarkovGame, joint_policy: JointPolicy, agent_index: int) -> FloatArray:
    """Reward of one agent's own actions with the others averaged out, `(n_states,
    n_actions[i])`.
    """
    table = game.reward(agent_index)
    own = (game.n_states, game.n_actions[agent_index])
    if table.ndim == 1:
        return np.broadcast_to(table[:, None], own).copy()
    agents = tuple(range(game.n_agents))
    averaged = _average_out(table[..., None], agents, joint_policy, keep=agent_index)
    return np.asarray(averaged[..., 0])


def others_joint_policy(joint_policy: JointPolicy, agent_index: int) -> FloatArray:
    """Probabilities of the other agents' joint actions.

    Args:
        joint_policy: `(..., n_actions)` per agent, leading axes alike.
        agent_index: whose own policy is left out.

    Returns:
        `(..., n_others)`: the others' actions in mixed radix, in agent order; 1 for a lone agent.
    """
    leading = joint_policy[0].shape[:-1]
    others = np.ones((*leading, 1))
    for index, policy in enumerate(joint_policy):
        if index != agent_index:
            others = (others[..., :, None] * policy[..., None, :]).reshape(*leading, -1)
    return others


def expected_next(transition: sp.csr_array, values: FloatArray) -> FloatArray:
    """Expectation of `values (n_states,)` at the next state, `(n_states, n_actions)`."""
    return np.asarray(transition @ values).reshape(len(values), -1)


def policy_transition(transition: sp.csr_array, policy: FloatArray) -> sp.csr_array:
    """State-to-state transition under a policy of the agent's own, sparse `(n_states,
    n_states)`.
    """
    n_states, n_actions = policy.shape
    pointers = np.arange(n_states + 1) * n_actions
    choice = sp.csr_array(
        (policy.ravel(), np.arange(policy.size), pointers), shape=(n_states, policy.size)
    )
    return sp.csr_array(choice @ transition)


def soft_evaluation(
    game: MarkovGame,
    joint_policy: JointPolicy,
    agent_index: int,
    *,
    discount: float,
    temperature: float,
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
        ValueError: for a discount outside [0, 1) or a negative temperature.
        ArithmeticError: if an iterative solve misses its residual; the message has the residual.
    """
    if not 0 <= discount < 1:
        raise ValueError(f"discount must be in [0, 1), got {discount}")
    if not temperature >= 0:
        raise ValueError(f"temperature must be >= 0, got {temperature}")
    policy = joint_policy[agent_index]
    transition = averaged_transition(game, joint_policy, agent_index)
    reward = averaged_reward(game, joint_policy, agent_index)
    gain = (policy * reward).sum(axis=1) + temperature * entropy(policy)
    value = discounted_sum(policy_transition(transition, policy), gain, discount=discount)
    return reward + discount * expected_next(transition, value), value


def discounted_sum(transition: sp.csr_array, gain: FloatArray, *, discount: float) -> FloatArray:
    """Solve V = gain + gamma P V for V.

    Args:
        transition: P, sparse `(n_states, n_states)`, rows sum to 1.
        gain: `(n_states,)`.
        discount: gamma in [0, 1).

    Returns:
        V `(n_states,)`; dense solve up to 2000 states, GMRES beyond.

    Raises:
        ArithmeticError: if GMRES misses a relative residual of 1e-12.
    """
    n_states = len(gain)
    if n_states <= DENSE_STATES:
        system = np.eye(n_states) - discount * transition.toarray()
        return np.asarray(np.linalg.solve(system, gain), dtype=np.float64)
    operator = LinearOperator(
        (n_states, n_states), matvec=lambda x: x - discount * (transition @ x), dtype=np.float64
    )
    value, _ = gmres(operator, gain, rtol=RESIDUAL / 10, restart=50, maxiter=100)
    scale = max(float(np.linalg.norm(gain)), 1e-300)
    residual = float(np.linalg.norm(gain - operator.matvec(value))) / scale
    if not residual <= RESIDUAL:
        raise ArithmeticError(
            f"the soft value did not converge: relative residual {residual:.1e}, wanted {RESIDUAL}"
        )
    return np.asarray(value)


def log_soft_improvement(q: FloatArray, *, temperature: float) -> FloatArray:
    """Log of the improved policy, log pi(a | s) = q(s, a) / alpha - log Z(s); equation (6)."""
    if not temperature > 0:
        raise ValueError(f"temperature must be > 0, got {temperature}")
    return np.asarray(log_softmax(q / temperature, axis=-1))


def soft_improvement(q: FloatArray, *, temperature: float) -> FloatArray:
    """Improved policy pi(a | s) proportional to exp(q(s, a) / alpha), equation (6).

    Args:
        q: `(n_states, n_actions)`, finite.
        temperature: alpha > 0.

    Returns:
        `(n_states, n_actions)`, rows sum to 1; computed in log space, so no q overflows.
    """
    return np.exp(log_soft_improvement(q, temperature=temperature))


def _average_out(
    table: FloatArray, agents: tuple[int, ...], joint_policy: JointPolicy, *, keep: int
) -> FloatArray:
    """Average `(n_states, *actions of agents, m)` over all agents' policies but one.

    Returns `(n_states, n_actions[keep], m)`, or `(n_states, 1, m)` if `keep` is not among the
    agents.
    """
    for axis in reversed(range(len(agents))):
        if agents[axis] == keep:
            continue
        moved = np.moveaxis(table, axis + 1, -1)
        shape = (len(table), *([1] * (moved.ndim - 2)), moved.shape[-1])
        table = (moved * joint_policy[agents[axis]].reshape(shape)).sum(axis=-1)
    return table if table.ndim == 3 else table[:, None, :]


def _support(factor: Factor) -> tuple[NDArray[np.int64], FloatArray]:
    """A factor's possible next local states, and their probabilities for every action.

    Returns `(n_local, width)` and `(n_local, *n_actions, width)`; a row with fewer than `width`
    possible next states is padded with next state 0 at probability 0.
    """
    flat = factor.successors.reshape(factor.n_local, -1)
    order = np.argsort(flat, axis=1, kind="stable")
    ranked = np.take_along_axis(flat, order, axis=1)
    slot_in_order = np.cumsum(np.diff(ranked, axis=1, prepend=ranked[:, :1]) > 0, axis=1)
    slots = np.empty_like(flat)
    np.put_along_axis(slots, order, slot_in_order, axis=1)
    width = int(slots.max()) + 1
    rows = np.arange(factor.n_local)[:, None]
    support = np.zeros((factor.n_local, width), dtype=np.int64)
    support[rows, slots] = flat
    chance = np.zeros((*factor.successors.shape[:-1], width))
    grid = np.indices(factor.successors.shape)[:-1]
    np.add.at(chance, (*grid, slots.reshape(factor.successors.shape)), factor.probabilities)
    return support, chance
