"""T-REX: rewards by which the later of two stages of learning is the better one.

P(tau_i < tau_j) = exp R(tau_j) / (exp R(tau_i) + exp R(tau_j)), where R(tau) is the sum of the
rewards along a piece of an episode, and stage i is before stage j (Brown, Goo, Nagarajan and Niekum
2019, *Extrapolating Beyond Suboptimal Demonstrations via Inverse Reinforcement Learning from
Observations*, ICML). With rewards that are linear in features this is logistic regression.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit

__all__ = ["RankingFit", "fit_ranking", "pairs_of_counts", "pairs_of_steps"]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

ITERATIONS = 5000
TOLERANCE = 1e-6
"""Largest gradient at the end of the fit, per pair."""


@dataclass(frozen=True, eq=False)
class RankingFit:
    """Weights of a reward.

    Args:
        weights: `(k,)`.
        loss: mean of -log P over the pairs; log 2 for a reward that ranks nothing.
        ranked: share of the pairs whose later piece has the higher sum of rewards.
        gradient: largest absolute gradient at the end, per pair.
        iterations: of the optimiser.
    """

    weights: FloatArray
    loss: float
    ranked: float
    gradient: float
    iterations: int


def pairs_of_steps(
    rows: Sequence[NDArray[Any]],
    episode_ends: Sequence[NDArray[np.bool_]],
    *,
    n_rows: int,
    n_pairs: int,
    length: int,
    rng: np.random.Generator,
) -> sp.csr_array:
    """Draw pairs of pieces of episodes from different stages.

    Two stages are drawn, then an episode of each, then a piece of each episode. Both pieces have
    the same number of steps, at most `length`. As in the paper, the piece of the later stage does
    not begin earlier in its episode than that of the earlier stage, if it can.

    Args:
        rows: per stage int `(n_steps,)`: number of what the reward depends on at each step, for
            example the joint state. Every stage has at least one step.
        episode_ends: per stage bool `(n_steps,)`.
        n_rows: number of such numbers.
        n_pairs: number of pairs, >= 1.
        length: largest number of steps of a piece, >= 1.
        rng: draws the pairs.

    Returns:
        Sparse `(n_pairs, n_rows)`: visits by the later piece less visits by the earlier piece.
    """
    stages = np.array(list(combinations(range(len(rows)), 2)))
    drawn = stages[rng.integers(len(stages), size=n_pairs)]
    firsts, lengths = _episodes(episode_ends)
    n_episodes = np.array([len(own) for own in lengths])
    offset = np.cumsum(n_episodes) - n_episodes
    episode = offset[drawn] + rng.integers(n_episodes[drawn])
    sizes = np.concatenate(lengths)[episode]
    taken = np.minimum(sizes.min(axis=1), length)
    last = sizes - taken[:, None]
    early = rng.integers(last[:, 0] + 1)
    late = rng.integers(np.minimum(early, last[:, 1]), last[:, 1] + 1)
    base = np.cumsum([0, *(len(own) for own in rows)])[drawn]
    starts = base + np.concatenate(firsts)[episode] + np.stack([early, late], axis=1)
    pair = np.repeat(np.arange(n_pairs), taken)
    step = np.arange(len(pair)) - np.repeat(np.cumsum(taken) - taken, taken)
    every = np.concatenate(rows)
    visited = [every[np.repeat(starts[:, side], taken) + step] for side in (0, 1)]
    signs = np.repeat([-1.0, 1.0], len(pair))
    places = (np.tile(pair, 2), np.concatenate(visited))
    return sp.csr_array(sp.coo_array((signs, places), shape=(n_pairs, n_rows)))


def pairs_of_counts(visits: FloatArray, *, length: int) -> sp.csr_array:
    """One pair for every two stages: each stage is one piece with its share of visits.

    Args:
        visits: `(n_stages, n_rows)`, >= 0, none of the stages without visits.
        length: number of steps that a piece stands for.

    Returns:
        Sparse `(n_stages * (n_stages - 1) / 2, n_rows)`: expected visits by the later piece less
        those by the earlier piece.
    """
    shares = length * visits / visits.sum(axis=1, keepdims=True)
    return sp.csr_array([shares[j] - shares[i] for i, j in combinations(range(len(visits)), 2)])


def fit_ranking(design: FloatArray | sp.csr_array, *, ridge: float) -> RankingFit:
    """The weights w that minimise -sum log P + ridge |w|^2 / 2, a convex function.

    Args:
        design: `(n_pairs, k)`: features summed along the later piece less those of the earlier one;
            with one feature per row, the pairs themselves.
        ridge: > 0.

    Raises:
        ArithmeticError: if the minimisation does not reach its tolerance.
    """
    n_pairs = design.shape[0]

    def loss(weights: FloatArray) -> tuple[float, FloatArray]:
        margins = design @ weights
        value = np.logaddexp(0, -margins).sum() + ridge * (weights @ weights) / 2
        slope = ridge * weights - design.T @ expit(-margins)
        return float(value) / n_pairs, np.asarray(slope) / n_pairs

    found = minimize(
        loss,
        np.zeros(design.shape[1]),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": ITERATIONS, "maxfun": 2 * ITERATIONS, "gtol": TOLERANCE, "ftol": 0.0},
    )
    weights = np.asarray(found.x, dtype=np.float64)
    gradient = float(np.abs(loss(weights)[1]).max())
    if gradient > 100 * TOLERANCE:
        raise ArithmeticError(
            f"the ranking did not converge: a gradient per pair of {gradient:.1e} after "
            f"{found.nit} iterations; a larger ridge needs fewer"
        )
    margins = design @ weights
    return RankingFit(
        weights,
        loss=float(np.logaddexp(0, -margins).mean()),
        ranked=float(np.mean(margins > 0)),
        gradient=gradient,
        iterations=int(found.nit),
    )


def _episodes(
    episode_ends: Sequence[NDArray[np.bool_]],
) -> tuple[list[IntArray], list[IntArray]]:
    """First step and number of steps of every episode, per stage; the last may lack its end."""
    firsts, lengths = [], []
    for ends in episode_ends:
        last = np.flatnonzero(ends)
        if not len(last) or last[-1] != len(ends) - 1:
            last = np.append(last, len(ends) - 1)
        lengths.append(np.diff(last, prepend=-1))
        firsts.append(last + 1 - lengths[-1])
    return firsts, lengths
