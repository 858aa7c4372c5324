"""Roots of prior covariances of a reward: features whose independent weights have that covariance.

A pivoted Cholesky factorisation (Harbrecht, Peters, Schneider 2012) finds them column by column and
forms no matrix of all states. It says for every state how much of the prior variance it leaves out.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["LEVEL", "Kernel", "Root", "kernel_root"]

FloatArray = NDArray[np.float64]

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
    most = min(most, n_states)
    left = np.ones(n_states)
    columns = np.zeros((n_states, 0))
    enough = 0.0 if most == n_states else CUT_OFF * n_states
    for _ in range(most):
        pivot = int(np.argmax(left))
        if left.sum() <= enough or left[pivot] <= 1e-12:
            break
        column = kernel.column(coordinates, pivot) - columns @ columns[pivot]
        column /= np.sqrt(left[pivot])
        columns = np.column_stack([columns, column])
        left = np.maximum(left - column**2, 0.0)
        left[pivot] = 0.0
    level = np.full(n_states, LEVEL)
    return Root(np.column_stack([columns, level]), left)
