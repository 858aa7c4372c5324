"""EPIC and STARC: distances between rewards that ignore shaping and scale, on a known game.

The order of all policies does not change when a shaping phi(s) - gamma E[phi(s') | s, a] (constants
are shapings) is added to a reward, or when the reward is multiplied by a positive number. Both
distances ignore these changes and nothing else. They are 0 exactly where one reward is a shaped and
positively scaled copy of the other, and 1 where it is such a copy of the other's negative. They
differ in the shaped copy that represents a reward.

Rewards are functions of the joint action, r(s, a^1..a^n); a reward of the state alone is repeated
over joint actions. An observer sees the other agents play only their own policies. Differences that
these policies hide are ignored in an `averaged_space`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve
from scipy.sparse.linalg import lsmr

from malfl_algos.scores.means import Score
from malfl_algos.soft import (
    averaged_reward,
    averaged_transition,
    discounted_sum,
    expected_next,
    policy_transition,
)
from malfl_env.arguments import Discount, Index, typed
from malfl_env.errors import InputError
from malfl_env.markov_game import MarkovGame

__all__ = [
    "RewardSpace",
    "averaged_space",
    "epic",
    "epic_canonical",
    "joint_space",
    "starc",
    "starc_canonical",
]

FloatArray = NDArray[np.float64]
JointPolicy = Sequence[FloatArray]

DENSE_STATES = 2000
"""Largest number of states for a Cholesky factor; larger games use LSMR."""
NOTHING_LEFT = 1e-10
"""Relative norm below which the rest of a reward without its shaping is rounding error."""


@typed
@dataclass(frozen=True, eq=False)
class RewardSpace:
    """The space in which rewards are compared: states, actions, weights and dynamics.

    Made by `joint_space` or `averaged_space`.

    Args:
        game: the dynamics.
        discount: gamma in [0, 1).
        states: int `(n_counted,)`: the joint states that are compared.
        weights: `(n_counted,)`: of these states, > 0, sum 1; the actions of a state share its
            weight equally.
        transition: sparse `(n_counted * n_choices, n_counted)`: next-state probabilities of
            (state, action).
        joint_policy: the policies that the other agents are averaged over; None where joint actions
            are compared.
        agent_index: the agent whose own actions are compared; None where joint actions are.
    """

    game: MarkovGame
    discount: Discount
    states: NDArray[np.int64]
    weights: FloatArray
    transition: sp.csr_array
    joint_policy: JointPolicy | None = None
    agent_index: int | None = None

    def values(self, reward: FloatArray) -> FloatArray:
        """A reward as a table over the states and actions of this space.

        Args:
            reward: `(n_states,)` or `(n_states, *n_actions)`; finite.

        Returns:
            `(n_counted, n_choices)`: joint actions in row-major order, or the agent's own actions.

        Raises:
            InputError: the reward has another shape.
        """
        table, n_states = np.asarray(reward, dtype=np.float64), self.game.n_states
        full = (n_states, *self.game.n_actions)
        if table.shape not in ((n_states,), full):
            raise InputError(f"a reward has shape {table.shape}, expected {(n_states,)} or {full}")
        if self.joint_policy is not None and self.agent_index is not None:
            game = self.game.with_rewards([table] * self.game.n_agents)
            return averaged_reward(game, self.joint_policy, self.agent_index)[self.states]
        if table.ndim == 1:
            table = np.broadcast_to(table.reshape(-1, *[1] * self.game.n_agents), full)
        return table[self.states].reshape(len(self.states), -1)

    def shaping(self, potential: FloatArray) -> FloatArray:
        """phi(s) - gamma E[phi(s') | s, a], `(n_counted, n_choices)`, of phi `(n_counted,)`."""
        return potential[:, None] - self.discount * expected_next(self.transition, potential)

    @cached_property
    def _design(self) -> sp.csr_array:
        """The matrix of shaping, `(n_rows, n_counted)`; rows are scaled by roots of weights."""
        n_choices = self.transition.shape[0] // len(self.states)
        own = sp.kron(sp.eye_array(len(self.states)), np.ones((n_choices, 1)), format="csr")
        roots = np.sqrt(np.repeat(self.weights / n_choices, n_choices))
        return sp.csr_array(sp.diags_array(roots) @ (own - self.discount * self.transition))

    @cached_property
    def _factor(self) -> tuple[FloatArray, bool]:
        return cho_factor((self._design.T @ self._design).toarray())

    def nearest_potential(self, values: FloatArray) -> FloatArray:
        """The phi whose shaping is nearest to the values in weighted least squares."""
        roots = np.sqrt(self.weights / values.shape[1])
        goal = (roots[:, None] * values).ravel()
        if len(self.states) <= DENSE_STATES:
            return np.asarray(cho_solve(self._factor, self._design.T @ goal))
        return np.asarray(lsmr(self._design, goal, atol=1e-14, btol=1e-14, maxiter=10_000)[0])


@typed
def joint_space(
    game: MarkovGame, *, discount: Discount, weights: NDArray[np.generic] | None = None
) -> RewardSpace:
    """Rewards r(s, a^1..a^n) under the game's own dynamics.

    Args:
        game: the dynamics; its rewards are not read.
        discount: gamma in [0, 1).
        weights: `(n_states,)`, numbers >= 0 or bool: the weight of each joint state. States with a
            weight > 0 must be closed: no joint action leads out of them. None means equal weights.

    Raises:
        InputError: invalid weights, states that are not closed, a discount outside [0, 1), or a
            game whose joint transitions do not fit in memory.
    """
    successors, probabilities = game.joint_successors()
    n_rows = successors[..., 0].size
    rows = np.repeat(np.arange(n_rows), successors.shape[-1])
    entries = (np.broadcast_to(probabilities, successors.shape).ravel(), (rows, successors.ravel()))
    transition = sp.coo_array(entries, shape=(n_rows, game.n_states)).tocsr()
    return RewardSpace(game, discount, *_counted(game, transition, discount, weights))


@typed
def averaged_space(
    game: MarkovGame,
    joint_policy: JointPolicy,
    agent_index: Index,
    *,
    discount: Discount,
    weights: NDArray[np.generic] | None = None,
) -> RewardSpace:
    """Rewards r(s, a^i) of one agent; rewards and dynamics are averaged over the others' policies.

    r(s, a^i) = E over a^-i ~ pi^-i(s) of r(s, a), and P is averaged in the same way. Two rewards
    over joint actions are equal here if these averages are equal.

    Args:
        joint_policy: `(n_states, n_actions)` per agent; the agent's own entry is not read.
        agent_index: i.
        game, discount, weights: as in `joint_space`.

    Raises:
        InputError: as `joint_space`.
    """
    transition = averaged_transition(game, joint_policy, agent_index)
    counted = _counted(game, transition, discount, weights)
    return RewardSpace(game, discount, *counted, tuple(joint_policy), agent_index)


@typed
def epic(estimate: FloatArray, truth: FloatArray, space: RewardSpace) -> Score:
    """EPIC distance: Pearson distance sqrt((1 - rho) / 2) of the canonical rewards.

    Rows (s, a) are weighted by the space's states, actions uniformly; see `epic_canonical`.

    Args:
        estimate, truth: the recovered and the ground-truth reward, each `(n_states,)` or
            `(n_states, *n_actions)`.
        space: in which they are compared.

    Returns:
        A value in [0, 1]: 0 for a shaped, positively scaled copy, 1 for such a copy of the
        negative. None with a reason if one of the rewards is a pure shaping, or the estimate is not
        finite.

    Raises:
        InputError: a wrong shape, or a ground truth that is not finite.

    Source: Gleave et al., Quantifying Differences in Reward Functions, ICLR 2021.
    """
    # constants are shapings, so canonical rewards have mean zero and rho is their cosine
    return _distance(estimate, truth, space, epic_canonical)


@typed
def starc(estimate: FloatArray, truth: FloatArray, space: RewardSpace) -> Score:
    """STARC distance: half the distance of the canonical rewards, each scaled to norm 1.

    d = || c(r) / ||c(r)|| - c(t) / ||c(t)|| || / 2 with the weighted l2 norm, the space's states
    and uniform actions as weights, and `starc_canonical` as c. Halved, it lies in [0, 1]: the
    distance of a reward from its negative is 1, not 2. Otherwise as `epic`.

    Source: Skalse et al., STARC: A General Framework For Quantifying Differences Between Reward
    Functions, ICLR 2024.
    """
    return _distance(estimate, truth, space, starc_canonical)


def epic_canonical(values: FloatArray, space: RewardSpace) -> FloatArray:
    """The shaped copy of a reward that is nearest to zero.

    c(r)(s, a) = r(s, a) - m(s) + gamma E[m(s') | s, a], with the m that makes the weighted sum of
    squares of c(r) smallest.

    Gleave et al. draw the next state of their canonical form independently of s and a. This removes
    a potential from r(s, a, s'), but not from a reward of (s, a) alone, whose shaping contains the
    expected next state. This projection removes it exactly, and has the properties that the paper
    asks of a canonical form: c is linear, c(r) - r is a shaping, and c(r) = 0 for shapings only.

    Args:
        values: `(n_counted, n_choices)`, from `space.values`.

    Returns:
        `(n_counted, n_choices)`, of weighted mean zero.
    """
    once = values - space.shaping(space.nearest_potential(values))
    # the second projection removes the rounding error of the first
    return once - space.shaping(space.nearest_potential(once))


def starc_canonical(values: FloatArray, space: RewardSpace) -> FloatArray:
    """Value-adjusted levelling: the advantage under the uniform policy.

    c(r)(s, a) = r(s, a) + gamma E[V(s') | s, a] - V(s). V is the value of r under uniform play of
    all agents. In an averaged space only the agent itself plays uniformly.

    Args:
        values: `(n_counted, n_choices)`, from `space.values`.

    Returns:
        `(n_counted, n_choices)`, of mean zero in every state.
    """
    uniform = np.full_like(values, 1 / values.shape[1])
    own = policy_transition(space.transition, uniform)
    value = discounted_sum(own, values.mean(axis=1), discount=space.discount)
    return values - space.shaping(value)


def _distance(
    estimate: FloatArray,
    truth: FloatArray,
    space: RewardSpace,
    canonical: Callable[[FloatArray, RewardSpace], FloatArray],
) -> Score:
    _check_table("estimate", estimate, space.game)
    _check_table("truth", truth, space.game)
    if not np.all(np.isfinite(truth)):
        raise InputError("the ground-truth reward has values that are not finite")
    if not np.all(np.isfinite(estimate)):
        return Score(None, "the estimate has values that are not finite")
    units = []
    for name, reward in (("ground-truth reward", truth), ("estimate", estimate)):
        values = space.values(reward)
        largest = np.abs(values).max()
        # division by a subnormal number loses digits
        scaled = values / largest if largest > np.finfo(float).tiny else np.zeros_like(values)
        left = canonical(scaled, space)
        norm = float(np.sqrt(_weighted(left**2, space)))
        if norm <= NOTHING_LEFT:
            return Score(
                None, f"the {name} is constant up to shaping: it ranks all policies equally"
            )
        units.append(left / norm)
    # sqrt((1 - cosine) / 2), without the loss of digits where the cosine is near 1
    half = float(np.sqrt(_weighted((units[0] - units[1]) ** 2, space))) / 2
    return Score(min(half, 1.0))


def _check_table(name: str, reward: FloatArray, game: MarkovGame) -> None:
    allowed = ((game.n_states,), (game.n_states, *game.n_actions))
    if reward.shape not in allowed:
        raise InputError(f"{name} has shape {reward.shape}, expected {allowed[0]} or {allowed[1]}")


def _weighted(values: FloatArray, space: RewardSpace) -> float:
    return float(space.weights @ values.mean(axis=1))


def _counted(
    game: MarkovGame,
    transition: sp.csr_array,
    discount: Discount,
    weights: NDArray[np.generic] | None,
) -> tuple[NDArray[np.int64], FloatArray, sp.csr_array]:
    """The compared states, their weights, and the transition among them."""
    if not 0 <= discount < 1:
        raise InputError(f"discount must be in [0, 1), got {discount}")
    given = np.ones(game.n_states) if weights is None else np.asarray(weights, dtype=np.float64)
    if given.shape != (game.n_states,) or not (np.all(given >= 0) and 0 < given.sum() < np.inf):
        raise InputError(
            f"weights must be {game.n_states} numbers >= 0, not all 0, "
            f"got {given} of shape {given.shape}"
        )
    states = np.flatnonzero(given)
    n_choices = transition.shape[0] // game.n_states
    rows = (states[:, None] * n_choices + np.arange(n_choices)).ravel()
    among = sp.csr_array(transition[rows][:, states])
    leaving = among.sum(axis=1) < 1 - 1e-9
    if np.any(leaving):
        raise InputError(
            "the joint states with a weight > 0 must be closed, but an action leads out of joint "
            f"state {states[np.argmax(leaving) // n_choices]}: give its next states a weight > 0"
        )
    return states, given[states] / given.sum(), among
