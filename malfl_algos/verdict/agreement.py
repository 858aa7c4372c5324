"""How close a reward can be to the ground truth, by the posterior and by two halves of the data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from malfl_algos.normal import Normal
from malfl_algos.verdict.halves import mean

__all__ = ["Agreement", "agreement", "correlation"]

FloatArray = NDArray[np.float64]

DRAWS = 40
SEED = 20231127


@dataclass(frozen=True)
class Agreement:
    """Correlations over the compared states.

    Args:
        halves: between the rewards from the odd and from the even improvements.
        halves_expected: the same, expected if the fitted model holds.
        p_value: probability of an agreement at most as high if the fitted model holds.
        expected: Pearson r of the reward with the ground truth, expected if the fitted model holds.
        low: its 5 % quantile.
    """

    halves: float
    halves_expected: float
    p_value: float
    expected: float
    low: float


def correlation(one: FloatArray, two: FloatArray) -> float:
    """Pearson r; 0 if one of the two is constant."""
    a, b = one - one.mean(), two - two.mean()
    size = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / size if size > 1e-300 else 0.0


def agreement(
    halves: tuple[Normal, Normal],
    whole: Normal,
    prior: FloatArray,
    reward: FloatArray | None,
    compared: Callable[[FloatArray], FloatArray],
) -> Agreement:
    """Agreement of the halves with each other, and of a reward with the posterior.

    Rewards are drawn from the posterior; the data of both halves are drawn anew under each.

    Args:
        halves: of the improvements.
        whole: of all of them. It is more than the sum of the halves where rows of successive
            improvements share errors.
        prior: prior precision of theta, of full rank.
        reward: the recovered reward at the compared states, `(n_compared,)`; None: the posterior
            mean of all improvements.
        compared: maps theta to the reward at the compared states.
    """
    centre = mean(whole, prior)
    judged = compared(centre) if reward is None else reward
    factor = scipy.linalg.cholesky(whole.information + prior, lower=False)
    normals = np.random.default_rng(SEED).normal(size=(DRAWS, 1 + len(halves), len(centre))).T
    thetas = centre[:, None] + scipy.linalg.solve_triangular(factor, normals[:, 0])
    roots = [_root(own.information) for own in halves]
    drawn = [
        mean(replace(own, moment=own.information @ thetas + root @ normals[:, 1 + place]), prior).T
        for place, (own, root) in enumerate(zip(halves, roots, strict=True))
    ]
    near = [correlation(compared(theta), judged) for theta in thetas.T]
    agreed = [correlation(compared(one), compared(two)) for one, two in zip(*drawn, strict=True)]
    found = correlation(*(compared(mean(own, prior)) for own in halves))
    return Agreement(
        halves=found,
        halves_expected=float(np.mean(agreed)),
        p_value=float(np.mean(np.asarray(agreed) <= found)),
        expected=float(np.mean(near)),
        low=float(np.quantile(near, 0.05)),
    )


def _root(matrix: FloatArray) -> FloatArray:
    """A square root of a positive semi-definite matrix."""
    values, vectors = np.linalg.eigh(matrix)
    return np.asarray(vectors * np.sqrt(np.maximum(values, 0)))
