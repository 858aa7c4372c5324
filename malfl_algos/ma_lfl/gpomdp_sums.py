"""The G(PO)MDP gradients of many policies and rewards from the same episodes.

The summed score of an episode up to step t is C - V pi, with C(s, b) how often it played b in s and
V(s) how often it was there. So the sums over episodes that the estimate of `gpomdp_gradient` needs
are quadratic in pi, with coefficients that the episodes alone determine.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from malfl_algos.ma_lfl.gpomdp import NEGLIGIBLE, SMALLEST, Episodes

__all__ = ["EpisodeSums", "bytes_of_sums", "sums_of_episodes"]

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class EpisodeSums:
    """Sums over the episodes of a stage, for every step t.

    Args:
        n_episodes: N.
        counts: sums of C, C^2 and C V, `(3, T, n_states, n_actions)`.
        visits: sums of V and V^2, `(2, T, n_states, 1)`.
        gained: the sums of `counts`, of gamma^t g times each, `(k, 3, T, n_states, n_actions)`.
        gained_visits: those of `visits`, `(k, 2, T, n_states, 1)`.
    """

    n_episodes: int
    counts: FloatArray
    visits: FloatArray
    gained: FloatArray
    gained_visits: FloatArray

    def gradient(self, policy: FloatArray, weights: FloatArray) -> FloatArray:
        """What `gpomdp_gradient` estimates for the reward g . weights.

        Args:
            policy: pi of the agent, `(n_states, n_actions)`.
            weights: `(k,)`.

        Returns:
            `(n_states, n_actions)`.
        """
        first, second, mixed = self.counts
        visits, visits_squared = self.visits
        scores = first - visits * policy
        squares = second - policy * (2 * mixed - visits_squared * policy)
        gained, gained_second, gained_mixed = np.tensordot(weights, self.gained, 1)
        gained_visits, gained_squared = np.tensordot(weights, self.gained_visits, 1)
        products = gained - gained_visits * policy
        weighted = gained_second - policy * (2 * gained_mixed - gained_squared * policy)
        # squares are >= 0 up to rounding
        baseline = weighted / (np.maximum(squares, 0.0) + SMALLEST * self.n_episodes)
        return np.asarray((products - scores * baseline).sum(axis=0) / self.n_episodes)


def bytes_of_sums(episodes: Episodes, n_states: int, n_actions: int, k: int) -> int:
    """Memory of the sums of k gains, in bytes, at most."""
    return 8 * 5 * (k + 1) * int(episodes.states.shape[1]) * n_states * n_actions


def sums_of_episodes(
    episodes: Episodes,
    agent_index: int,
    gains: FloatArray,
    *,
    n_states: int,
    n_actions: int,
    discount: float,
) -> EpisodeSums:
    """The sums of one stage.

    Args:
        episodes: of the stage.
        agent_index: column of the agent in the joint actions.
        gains: g, `(n_states, k)` or `(n_states, *n_actions of all agents, k)`.
        n_states, n_actions: of the agent's policies.
        discount: gamma in [0, 1).
    """
    n_episodes, length = episodes.states.shape
    by_state, rows = gains.ndim == 2, np.arange(n_episodes)
    counts = np.zeros((n_episodes, n_states, n_actions))
    visits = np.zeros((n_episodes, n_states, 1))
    of_counts, of_visits, weight = [], [], 1.0
    for t in range(length):
        if weight < NEGLIGIBLE:
            break
        here, actions, played = (
            episodes.states[:, t],
            episodes.joint_actions[:, t],
            episodes.played[:, t],
        )
        gain = gains[here] if by_state else gains[(here, *actions.T)]
        factors = np.column_stack([np.ones(n_episodes), weight * played[:, None] * gain]).T
        if by_state:  # the action of a step cannot change what the step gains
            of_counts.append(_sums(factors, counts, counts**2, counts * visits))
            of_visits.append(_sums(factors, visits, visits**2))
        counts[rows, here, actions[:, agent_index]] += played
        visits[rows, here, 0] += played
        if not by_state:
            of_counts.append(_sums(factors, counts, counts**2, counts * visits))
            of_visits.append(_sums(factors, visits, visits**2))
        weight *= discount
    by_counts, by_visits = np.stack(of_counts, axis=2), np.stack(of_visits, axis=2)
    return EpisodeSums(n_episodes, by_counts[0], by_visits[0], by_counts[1:], by_visits[1:])


def _sums(factors: FloatArray, *tables: FloatArray) -> FloatArray:
    """`(k + 1, n_tables, n_states, ...)`: every table summed with every factor."""
    return np.stack([np.tensordot(factors, table, 1) for table in tables], axis=1)
