"""How far apart two rewards are, up to what no behaviour can tell: EPIC and STARC on a known game.

Adding a shaping phi(s) - gamma E[phi(s') | s, a] to a reward, a constant among them, or multiplying
it by a positive number leaves the order of all policies as it is. Both distances are blind to that
and to nothing else: they are 0 exactly where one reward is such a copy of the other, and 1 where it
is a copy of the other's negative. They differ in which member of the class of shaped rewards they
look at. The joint action counts, not one agent's: r(s, a^1..a^n); a reward of the state alone is
spread over the joint actions. What an observer cannot tell apart, because it saw the others play
only what they played, is compared in an `averaged_space`.
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
"""Up to this many states the nearest potential comes from a factor, beyond from LSMR."""
NOTHING_LEFT = 1e-10
"""Share of a reward that is rounding when all else of it was shaping."""


@dataclass(frozen=True, eq=False)
class RewardSpace:
    """The rewards that are compared: what they are functions of, what counts, what shaping does.

    Made by `joint_space` or `averaged_space`.

    Args:
        game: the dynamics.
        discount: gamma in [0, 1).
        states: int `(n_counted,)`: the joint states that count.
        weights: `(n_counted,)`: of these states, > 0, sum 1; the actions of a state share its
            weight equally.
        transition: sparse `(n_counted * n_choices, n_counted)`: next states of (state, action).
        joint_policy, agent_index: whose policies the other agents are averaged over, and for whom;
            None where joint actions are compared.
    """

    game: MarkovGame
    discount: float
    states: NDArray[np.int64]
    weights: FloatArray
    transition: sp.csr_array
    joint_policy: JointPolicy | None = None
    agent_index: int | None = None

    def values(self, reward: FloatArray) -> FloatArray:
        """A reward as this space sees it.

        Args:
            reward: `(n_states,)`, or `(n_states, *n_actions)`; finite.

        Returns:
            `(n_counted, n_choices)`: joint actions in row-major order, or the agent's own actions.

        Raises:
            InputError: for another shape.
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
        """phi(s) - gamma E[phi(s') | s, a] of phi `(n_counted,)`, `(n_counted, n_choices)`."""
        return potential[:, None] - self.discount * expected_next(self.transition, potential)

    @cached_property
    def _design(self) -> sp.csr_array:
        """Shaping as a matrix, rows times the root of their weight, `(n_rows, n_counted)`."""
        n_choices = self.transition.shape[0] // len(self.states)
        own = sp.kron(sp.eye_array(len(self.states)), np.ones((n_choices, 1)), format="csr")
        roots = np.sqrt(np.repeat(self.weights / n_choices, n_choices))
        return sp.csr_array(sp.diags_array(roots) @ (own - self.discount * self.transition))

    @cached_property
    def _factor(self) -> tuple[FloatArray, bool]:
        return cho_factor((self._design.T @ self._design).toarray())

    def nearest_potential(self, values: FloatArray) -> FloatArray:
        """The phi whose shaping is nearest to the values, by weighted least squares."""
        roots = np.sqrt(self.weights / values.shape[1])
        goal = (roots[:, None] * values).ravel()
        if len(self.states) <= DENSE_STATES:
            return np.asarray(cho_solve(self._factor, self._design.T @ goal))
        return np.asarray(lsmr(self._design, goal, atol=1e-14, btol=1e-14, maxiter=10_000)[0])


def joint_space(
    game: MarkovGame, *, discount: float, weights: NDArray[np.generic] | None = None
) -> RewardSpace:
    """Rewards r(s, a^1..a^n) under the game's own dynamics.

    Args:
        game: the dynamics; its rewards are not read.
        discount: gamma in [0, 1).
        weights: `(n_states,)`, >= 0: how much each joint state counts; bool will do. The states
            that count must be closed: no joint action leads out of them. Left out: all alike.

    Raises:
        InputError: for weights that are none or not closed, a discount outside [0, 1), or a game
            whose joint transitions do not fit in memory.
    """
    successors, probabilities = game.joint_successors()
    n_rows = successors[..., 0].size
    rows = np.repeat(np.arange(n_rows), successors.shape[-1])
    entries = (np.broadcast_to(probabilities, successors.shape).ravel(), (rows, successors.ravel()))
    transition = sp.coo_array(entries, shape=(n_rows, game.n_states)).tocsr()
    return RewardSpace(game, discount, *_counted(game, transition, discount, weights))


def averaged_space(
    game: MarkovGame,
    joint_policy: JointPolicy,
    agent_index: int,
    *,
    discount: float,
    weights: NDArray[np.generic] | None = None,
) -> RewardSpace:
    """Rewards r(s, a^i) of one agent, rewards and dynamics averaged over what the others play.

    r(s, a^i) = E over a^-i ~ pi^-i(s) of r(s, a), and likewise P. Two rewards over joint actions
    that differ only where these policies cannot show it are one here.

    Args:
        joint_policy: `(n_states, n_actions)` per agent; the agent's own entry is not read.
        agent_index: i.
        game, discount, weights: as `joint_space`, and the errors, too.
    """
    transition = averaged_transition(game, joint_policy, agent_index)
    counted = _counted(game, transition, discount, weights)
    return RewardSpace(game, discount, *counted, tuple(joint_policy), agent_index)


def epic(estimate: FloatArray, truth: FloatArray, space: RewardSpace) -> Score:
    """EPIC distance: Pearson distance sqrt((1 - rho) / 2) of the canonical rewards.

    Rows (s, a) are weighted by the space's states, actions uniformly; see `epic_canonical`.

    Args:
        estimate, truth: `(n_states,)` or `(n_states, *n_actions)`, each on its own.
        space: what they are compared in.

    Returns:
        In [0, 1]: 0 for a shaped, positively scaled copy, 1 for one of the negative. None with a
        reason where one of them is all shaping, or the estimate is not finite.

    Raises:
        InputError: for a wrong shape, or a truth that is not finite.

    Source: Gleave et al., Quantifying Differences in Reward Functions, ICLR 2021.
    """
    # canonical rewards have mean zero, because constants are shapings: so rho is their cosine
    return _distance(estimate, truth, space, epic_canonical)


def starc(estimate: FloatArray, truth: FloatArray, space: RewardSpace) -> Score:
    """STARC distance: half the distance of the levelled rewards, each of norm 1.

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

    Gleave et al. draw the next state of their canonical form independently of s and a. That takes a
    potential out of r(s, a, s'), but not out of a reward of (s, a) alone, whose shaping has the
    dynamics averaged in. This projection takes it out exactly, and keeps what the paper asks of a
    canonical form: c is linear, c(r) - r is a shaping, and c(r) = 0 for shapings alone.

    Args:
        values: `(n_counted, n_choices)`, from `space.values`.

    Returns:
        `(n_counted, n_choices)`, of weighted mean zero.
    """
    once = values - space.shaping(space.nearest_potential(values))
    # a projection: the second time takes away what rounding left of the first
    return once - space.shaping(space.nearest_potential(once))


def starc_canonical(values: FloatArray, space: RewardSpace) -> FloatArray:
    """Value-adjusted levelling: the advantage under the uniform policy.

    c(r)(s, a) = r(s, a) + gamma E[V(s') | s, a] - V(s), V the value of r where all agents (in an
    averaged space: the agent itself, the others as given) play uniformly.

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
    if not np.all(np.isfinite(truth)):
        raise InputError("the ground-truth reward has values that are not finite")
    if not np.all(np.isfinite(estimate)):
        return Score(None, "the estimate has values that are not finite")
    units = []
    for name, reward in (("ground-truth reward", truth), ("estimate", estimate)):
        values = space.values(reward)
        largest = np.abs(values).max()
        # a smaller number than that has no room left to be divided by
        scaled = values / largest if largest > np.finfo(float).tiny else np.zeros_like(values)
        left = canonical(scaled, space)
        norm = float(np.sqrt(_weighted(left**2, space)))
        if norm <= NOTHING_LEFT:
            return Score(None, f"the {name} is constant up to shaping: it prefers nothing")
        units.append(left / norm)
    # sqrt((1 - cosine) / 2), without the loss of digits where the cosine is near 1
    half = float(np.sqrt(_weighted((units[0] - units[1]) ** 2, space))) / 2
    return Score(min(half, 1.0))


def _weighted(values: FloatArray, space: RewardSpace) -> float:
    return float(space.weights @ values.mean(axis=1))


def _counted(
    game: MarkovGame,
    transition: sp.csr_array,
    discount: float,
    weights: NDArray[np.generic] | None,
) -> tuple[NDArray[np.int64], FloatArray, sp.csr_array]:
    """States that count, their weights, and the transition among them."""
    if not 0 <= discount < 1:
        raise InputError(f"discount must be in [0, 1), got {discount}")
    given = np.ones(game.n_states) if weights is None else np.asarray(weights, dtype=np.float64)
    if given.shape != (game.n_states,) or not (np.all(given >= 0) and 0 < given.sum() < np.inf):
        raise InputError(
            f"weights must be {game.n_states} numbers >= 0, not all 0, got {given.shape} {given}"
        )
    states = np.flatnonzero(given)
    n_choices = transition.shape[0] // game.n_states
    rows = (states[:, None] * n_choices + np.arange(n_choices)).ravel()
    among = sp.csr_array(transition[rows][:, states])
    leaving = among.sum(axis=1) < 1 - 1e-9
    if np.any(leaving):
        raise InputError(
            "the joint states that count must be closed, but an action leads out of joint state "
            f"{states[np.argmax(leaving) // n_choices]}: weigh the states it leads to, too"
        )
    return states, given[states] / given.sum(), among
