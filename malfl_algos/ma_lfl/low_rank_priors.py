"""Roots of prior covariances of a reward: features whose independent weights have that covariance.

A pivoted Cholesky factorisation (Harbrecht, Peters, Schneider 2012) finds them column by column and
forms no matrix of all states. It says for every state how much of the prior variance it leaves out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["LEVEL", "Factor", "Kernel", "Root", "kernel_root", "pivoted_cholesky"]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

LEVEL = 30.0
"""Prior standard deviation of the mean of the reward, in those of its values."""
CUT_OFF = 5e-4
"""The factorisation ends where it leaves out this share of the prior variance."""
ROUGHER = 3.0
"""Ratio of the two lengths of a kernel without an independent part."""


class Kernel(NamedTuple):
    """A prior covariance of variance one, share exp(-|s - s'|^2 / (2 length^2)) + (1 - share) rest.

    Args:
        length: over which rewards are alike, in the unit of the coordinates.
        share: of the variance that is smooth, in [0, 1].
        independent: whether the rest is the identity; otherwise it is smooth over a length that is
            shorter by the factor `ROUGHER`, which needs fewer features.
    """

    length: float
    share: float
    independent: bool = True

    def column(self, coordinates: FloatArray, pivot: int) -> FloatArray:
        """Covariance of all states with one of them, `(n_states,)`."""
        squared = ((coordinates - coordinates[pivot]) ** 2).sum(axis=1) / (2 * self.length**2)
        found = self.share * np.exp(-squared)
        if self.independent:
            found[pivot] += 1 - self.share
        else:
            found += (1 - self.share) * np.exp(-squared * ROUGHER**2)
        return np.asarray(found)


class Factor(NamedTuple):
    """A pivoted Cholesky factor.

    Args:
        columns: C, `(n_states, k)`: the covariance is C C' up to what is left out.
        pivots: the states that were chosen, in order, `(k,)`.
        left_out: prior variance of each state that C C' lacks, `(n_states,)`.
    """

    columns: FloatArray
    pivots: IntArray
    left_out: FloatArray


class Root(NamedTuple):
    """Features of a prior.

    Args:
        features: `(n_states, k)`; the last column is the level, `LEVEL` for all states.
        left_out: prior variance of each state that the features lack, `(n_states,)`.
    """

    features: FloatArray
    left_out: FloatArray


def kernel_root(kernel: Kernel, coordinates: FloatArray, *, most: int) -> Root:
    """Features F with F F' = covariance of the kernel + level, up to what is left out.

    Args:
        kernel: the covariance.
        coordinates: of every state, `(n_states, n_coordinates)`.
        most: largest number of features besides the level. With at least as many as states the
            features are complete.
    """
    n_states = len(coordinates)
    found = pivoted_cholesky(lambda p: kernel.column(coordinates, p), np.ones(n_states), most=most)
    level = np.full(n_states, LEVEL)
    return Root(np.column_stack([found.columns, level]), found.left_out)


def pivoted_cholesky(
    column: Callable[[int], FloatArray], variance: FloatArray, *, most: int
) -> Factor:
    """The factor of a covariance, at each step with the state whose variance is told least.

    Args:
        column: covariance of all states with one of them.
        variance: of every state, `(n_states,)`.
        most: largest number of columns. With at least as many as states the factor is complete.
    """
    left, n_states = variance, len(variance)
    most = min(most, n_states)
    columns = np.zeros((n_states, 0))
    pivots: list[int] = []
    enough = 0.0 if most == n_states else CUT_OFF * float(variance.sum())
    for _ in range(most):
        pivot = int(np.argmax(left))
        if left.sum() <= enough or left[pivot] <= 1e-12:
            break
        new = column(pivot) - columns @ columns[pivot]
        new /= np.sqrt(left[pivot])
        columns = np.column_stack([columns, new])
        left = np.maximum(left - new**2, 0.0)
        left[pivot] = 0.0
        pivots.append(pivot)
    return Factor(columns, np.array(pivots, dtype=np.int64), left)
