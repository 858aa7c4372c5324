"""Gradients of expected discounted features in the parameters of a softmax policy.

The policy of an agent is pi(a | s) = exp(theta(s, a)) / sum_b exp(theta(s, b)). With the feature
expectations psi(theta) = E[sum_t gamma^t phi(s_t, a_t)] and rewards r = phi . w, the policy
gradient is the matrix of derivatives of psi times w (Ramponi, Drappo and Restelli 2020).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.sparse.linalg import splu

from malfl_algos.soft import policy_transition
from malfl_env.checks import check_table_bytes

__all__ = ["Episodes", "episodes_of", "exact_gradient", "gpomdp_gradient"]

FloatArray = NDArray[np.float64]

NEGLIGIBLE = 1e-9
"""Steps whose discount gamma^t is smaller do not enter a gradient."""
SMALLEST = 1e-3
"""Added to the mean squared score below a baseline, so that it is 0 where no score was seen."""


@dataclass(frozen=True, eq=False)
class Episodes:
    """Ordered steps as one row per episode; shorter episodes are padded at their end.

    Args:
        states: int `(n_episodes, length)`: joint state before each step.
        joint_actions: int `(n_episodes, length, n_agents)`.
        played: bool `(n_episodes, length)`: false for padding.
    """

    states: NDArray[np.int64]
    joint_actions: NDArray[np.int64]
    played: NDArray[np.bool_]


def episodes_of(
    states: NDArray[Any], joint_actions: NDArray[Any], episode_ends: NDArray[np.bool_]
) -> Episodes:
    """Cut ordered steps into episodes; the last one may be without an end.

    Args:
        states: int `(n_steps,)`; at least one step.
        joint_actions: int `(n_steps, n_agents)`.
        episode_ends: bool `(n_steps,)`: whether the step is the last of its episode.
    """
    last = np.flatnonzero(episode_ends)
    if not len(last) or last[-1] != len(states) - 1:
        last = np.append(last, len(states) - 1)
    lengths = np.diff(last, prepend=-1)
    played = np.arange(lengths.max()) < lengths[:, None]
    rows = np.zeros(played.shape, dtype=np.int64)
    actions = np.zeros((*played.shape, joint_actions.shape[1]), dtype=np.int64)
    rows[played], actions[played] = states, joint_actions
    return Episodes(rows, actions, played)


def gpomdp_gradient(
    policy: FloatArray,
    episodes: Episodes,
    agent_index: int,
    gains: FloatArray | sp.csr_array,
    *,
    discount: float,
) -> FloatArray:
    """G(PO)MDP estimate of the gradient of E[sum_t gamma^t g(s_t, a_t)], with a baseline.

    (1/n) sum_episodes sum_t (sum_{k <= t} grad log pi(a_k | s_k)) (gamma^t g_t - b_t), where the
    baseline b_t of a parameter is the mean of gamma^t g_t weighted by the square of its summed
    scores, which makes the variance smallest (Baxter and Bartlett 2001; Peters and Schaal 2008;
    it is the estimator of Ramponi et al. 2020). Where g depends on the state alone, the action a_t
    cannot change g_t, and the sum is over k < t.

    Args:
        policy: pi of the agent, `(n_states, n_actions)`.
        episodes: played under that policy.
        agent_index: column of the agent in the joint actions.
        gains: g, `(n_states, k)`, dense or sparse, or `(n_states, *n_actions, k)`: k rewards or
            features at once. After the end of an episode g is 0.
        discount: gamma in [0, 1).

    Returns:
        `(n_states, n_actions, k)`, in units of g. Over the actions of a state it sums to 0 up to
        the effect of the baseline.

    Raises:
        InputError: if the scores of all episodes would not fit into memory.
    """
    n_states, n_actions = policy.shape
    n_episodes, length = episodes.states.shape
    check_table_bytes(8 * n_episodes * policy.size, "the scores of a stage's episodes")
    by_state, k = gains.ndim == 2, gains.shape[-1]
    score = np.eye(n_actions) - policy[:, None, :]  # [s, a, b]: d log pi(a | s) / d theta(s, b)
    summed = np.zeros((n_episodes, n_states, n_actions))
    flat = summed.reshape(n_episodes, -1)
    total = np.zeros((policy.size, k))
    rows, weight = np.arange(n_episodes), 1.0
    for t in range(length):
        if weight < NEGLIGIBLE:
            break
        here = episodes.states[:, t]
        actions, played = episodes.joint_actions[:, t], episodes.played[:, t]
        step = score[here, actions[:, agent_index]] * played[:, None]
        gain: Any = gains[here] if by_state else gains[(here, *actions.T)]
        if isinstance(gain, sp.csr_array):
            gain = sp.diags_array(weight * played) @ gain
        else:
            gain = weight * played[:, None] * gain
        if not by_state:
            summed[rows, here] += step
        total += _centred_products(flat, gain)
        if by_state:
            summed[rows, here] += step
        weight *= discount
    return np.asarray(total / n_episodes).reshape(n_states, n_actions, k)


def _centred_products(scores: FloatArray, gain: FloatArray | sp.csr_array) -> FloatArray:
    """sum_n c_n (g_n - b) with the baseline b of least variance; `(n_parameters, k)`."""
    squares, gain_by = scores**2, gain.T
    weight = squares.sum(axis=0) + SMALLEST * len(scores)
    baseline = (gain_by @ squares) / weight
    return np.asarray(gain_by @ scores - scores.sum(axis=0) * baseline).T


def exact_gradient(
    policy: FloatArray,
    transition: sp.csr_array,
    gains: FloatArray,
    *,
    start: int | FloatArray,
    discount: float,
) -> FloatArray:
    """Exact gradient of E[sum_t gamma^t g(s_t, a_t)] by the policy gradient theorem.

    d(s) pi(a | s) (Q(s, a) - V(s)) with the discounted visits d = sum_t gamma^t P(s_t = s)
    (Sutton et al. 2000), episodes without end.

    Args:
        policy: pi of the agent, `(n_states, n_actions)`.
        transition: P(s' | s, a) with the others averaged out, `(n_states * n_actions, n_states)`.
        gains: g with the others averaged out, `(n_states, k)` or `(n_states, n_actions, k)`.
        start: joint state in which episodes begin, or its probabilities `(n_states,)`.
        discount: gamma in [0, 1).

    Returns:
        `(n_states, n_actions, k)`; it sums to 0 over the actions of a state.
    """
    n_states, n_actions = policy.shape
    if gains.ndim == 2:
        gains = np.repeat(gains[:, None, :], n_actions, axis=1)
    check_table_bytes(16 * gains.size, "the action values of all features")
    under = sp.csr_array(policy_transition(transition, policy))
    kernel = sp.eye_array(n_states) - discount * under
    value = splu(sp.csc_matrix(kernel)).solve(np.einsum("sa,sak->sk", policy, gains))
    first = np.zeros(n_states)
    if isinstance(start, np.ndarray):
        first[:] = start
    else:
        first[start] = 1.0
    visits = splu(sp.csc_matrix(kernel.T)).solve(first)
    q = gains + discount * (transition @ value).reshape(gains.shape)
    return np.asarray((visits[:, None] * policy)[..., None] * (q - value[:, None, :]))
