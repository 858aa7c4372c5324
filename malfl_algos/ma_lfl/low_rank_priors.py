"""Functions that the rewards of a large game are made of, and prior covariances of their weights.

Kernels are products over the coordinates. Where the states are all combinations of their
coordinates, as on a board, products of the eigenvectors of one coordinate each are eigenvectors of
the whole covariance (Saatci 2012, chapter 5), and those of largest eigenvalue are the functions.
Elsewhere a pivoted Cholesky factorisation (Harbrecht, Peters, Schneider 2012) finds functions
column by column. No matrix of all states is formed. The functions are those of one kernel; the
weights have the covariance of any other, so that kernels are compared without new derivatives.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from typing import Literal, NamedTuple

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

__all__ = ["LEVEL", "Basis", "Factor", "Form", "Kernel", "basis_of", "pivoted_cholesky"]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
Form = Literal["gaussian", "matern"]

LEVEL = 30.0
"""Prior standard deviation of the mean of the reward, in those of its values."""
CUT_OFF = 5e-4
"""A factorisation ends where it leaves out this share of the prior variance."""
WIDE = 0.7
"""Length of the kernel whose functions are taken, in numbers of values of a coordinate."""
VARIED = 0.3
"""Share of the factor of a coordinate that varies where products of all coordinates are too many.
The functions of largest prior variance are then those of one and two coordinates, and leave out
little.
"""
LONGEST, TOO_MUCH = 0.5, 0.03
"""Products of all coordinates are too many if the functions leave out more than this share of the
prior variance at this length, in numbers of values of a coordinate.
"""
TIE = 1e-9
"""Eigenvalues that differ relatively by less are the same; all or none of them are taken."""
COMPARED = 2000
"""Number of states at which covariances are compared where the states are not a board."""
JITTER = 1e-9
"""Added to the diagonal of a covariance, relative to its mean, before it is factorised."""


class Kernel(NamedTuple):
    """A prior covariance of variance one: share times a product over the coordinates, and the rest
    independent.

    Args:
        length: over which rewards are alike, in the unit of the coordinates.
        share: of the variance that is smooth, in [0, 1].
        form: of the factor of a coordinate at distance d, in lengths: `gaussian` exp(-d^2 / 2), for
            rewards with all derivatives, or `matern` (1 + sqrt(3) d) exp(-sqrt(3) d), for rewards
            with one.
        varied: share of the factor of a coordinate that varies along it, in (0, 1]; the rest is
            constant. Functions of k coordinates have the weight varied^k (1 - varied)^(n - k), so
            that a small share prefers sums of functions of few coordinates (Duvenaud, Nickisch,
            Rasmussen 2011).
    """

    length: float
    share: float
    form: Form = "gaussian"
    varied: float = 1.0

    def along(self, distance: FloatArray) -> FloatArray:
        """The factor of one coordinate, in the shape of the distances."""
        d = np.abs(distance) / self.length
        if self.form == "gaussian":
            found = np.exp(-(d**2) / 2)
        else:
            found = (1 + np.sqrt(3) * d) * np.exp(-np.sqrt(3) * d)
        return np.asarray(1 - self.varied + self.varied * found)

    def between(self, points: FloatArray, others: FloatArray) -> FloatArray:
        """Covariance of states at these coordinates, `(n, m)`, without the independent part."""
        found = np.full((len(points), len(others)), float(self.share))
        for own, other in zip(points.T, others.T, strict=True):
            found *= self.along(own[:, None] - other)
        return found


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


@dataclass(frozen=True, eq=False)
class Basis:
    """The functions, and the prior covariance of their weights.

    Args:
        functions: `(n_states, k)`; the last one is the level, 1 for all states.
        covariance: of the weights of the others under a kernel of variance one, `(k - 1, k - 1)`.
        complete: whether the functions can be every reward.
        width: number of steps that the coordinates reach over, on average.
        varied: of the kernels that the functions were chosen for.
    """

    functions: FloatArray
    covariance: Callable[[Kernel], FloatArray]
    complete: bool
    width: float
    varied: float = 1.0

    def root(self, kernel: Kernel) -> FloatArray:
        """Lower triangular root of the prior covariance of the weights of all functions."""
        covariance = self.covariance(kernel)
        size = len(covariance)
        covariance = covariance + JITTER * np.trace(covariance) / size * np.eye(size)
        root = np.zeros((size + 1, size + 1))
        root[:size, :size] = scipy.linalg.cholesky(covariance, lower=True)
        root[size, size] = LEVEL
        return root

    def left_out(self, kernel: Kernel) -> FloatArray:
        """Prior variance of each state that the functions lack, `(n_states,)`."""
        if self.complete:
            return np.zeros(len(self.functions))
        features = self.functions[:, :-1] @ self.root(kernel)[:-1, :-1]
        return np.asarray(np.maximum(1 - (features**2).sum(axis=1), 0.0))


def basis_of(coordinates: FloatArray, *, most: int) -> Basis:
    """Functions of the state for a Gaussian process over its coordinates.

    With at least as many functions as states, every state is one. With fewer on a board, functions
    of the same eigenvalue are taken together or not at all, so that the order of agents and of
    states does not matter.

    Args:
        coordinates: of every state, `(n_states, n_coordinates)`.
        most: largest number of functions besides the level.
    """
    width = float(np.ptp(coordinates, axis=0).mean()) + 1
    if len(coordinates) <= most:
        functions = np.eye(len(coordinates))
        return Basis(_with_level(functions), _complete(coordinates), True, width)
    basis = _incomplete(coordinates, most, width, 1.0)
    longest = Kernel(LONGEST * width, 1.0, "matern")
    if basis.left_out(longest).mean() <= TOO_MUCH:
        return basis
    return _incomplete(coordinates, most, width, VARIED)


def _incomplete(coordinates: FloatArray, most: int, width: float, varied: float) -> Basis:
    found = _places(coordinates)
    functions, covariance = (
        _of_points(coordinates, most, varied) if found is None else _of_board(*found, most, varied)
    )
    return Basis(_with_level(functions), covariance, False, width, varied)


def _with_level(functions: FloatArray) -> FloatArray:
    return np.column_stack([functions, np.ones(len(functions))])


def _complete(coordinates: FloatArray) -> Callable[[Kernel], FloatArray]:
    def covariance(kernel: Kernel) -> FloatArray:
        rest = (1 - kernel.share) * np.eye(len(coordinates))
        return kernel.between(coordinates, coordinates) + rest

    return covariance


def _places(coordinates: FloatArray) -> tuple[list[FloatArray], IntArray] | None:
    """The values of every coordinate, and the place of every state's value among them; None if the
    states are not all combinations of these values.
    """
    found = [np.unique(own, return_inverse=True) for own in coordinates.T]
    values = [own for own, _ in found]
    places = np.stack([own.ravel() for _, own in found], axis=1)
    sizes = [len(own) for own in values]
    if float(np.prod([float(size) for size in sizes])) != len(coordinates):
        return None
    cells = np.ravel_multi_index(tuple(places.T), sizes)
    return (values, places) if len(np.unique(cells)) == len(coordinates) else None


def _of_board(
    values: list[FloatArray], places: IntArray, most: int, varied: float
) -> tuple[FloatArray, Callable[[Kernel], FloatArray]]:
    """Products of eigenvectors along the coordinates, of length one over all states."""
    spectra, bases = [], []
    for own in values:
        length = WIDE * len(own) * float(np.median(np.diff(own), axis=0))
        wide = Kernel(length, 1.0, "matern", varied)
        spectrum, basis = np.linalg.eigh(wide.along(own[:, None] - own))
        # more than `most` of one coordinate are never among the `most` largest products
        spectra.append(np.maximum(spectrum[::-1], 0.0)[: most + 1] / len(own))
        bases.append(basis[:, ::-1])
    products = reduce(np.multiply.outer, spectra)
    order = np.argsort(-products, axis=None, kind="stable")[: most + 1]
    largest, count = products.ravel()[order], most
    while count > 1 and largest[count - 1] <= largest[most] * (1 + TIE):
        count -= 1
    chosen = np.unravel_index(order[:count], products.shape)
    functions = np.ones((len(places), count))
    for number, picked in enumerate(chosen):
        functions *= bases[number][:, picked][places[:, number]]

    def covariance(kernel: Kernel) -> FloatArray:
        found = np.full((count, count), float(kernel.share))
        for own, basis, picked in zip(values, bases, chosen, strict=True):
            along = basis.T @ kernel.along(own[:, None] - own) @ basis
            found *= along[np.ix_(picked, picked)]
        return found

    return functions, covariance


def _of_points(
    coordinates: FloatArray, most: int, varied: float
) -> tuple[FloatArray, Callable[[Kernel], FloatArray]]:
    """Columns of a pivoted Cholesky factor; other kernels are fitted at some of the states."""
    ranges = np.ptp(coordinates, axis=0)
    wide = Kernel(max(WIDE * float(ranges.max()), 1.0), 1.0, "matern", varied)

    def column(pivot: int) -> FloatArray:
        return wide.between(coordinates, coordinates[[pivot]])[:, 0]

    found = pivoted_cholesky(column, np.ones(len(coordinates)), most=most)
    functions = np.linalg.qr(found.columns)[0]
    some = np.linspace(0, len(coordinates) - 1, min(COMPARED, len(coordinates))).astype(int)
    inverse = np.linalg.pinv(functions[some])

    def covariance(kernel: Kernel) -> FloatArray:
        found = inverse @ kernel.between(coordinates[some], coordinates[some]) @ inverse.T
        return np.asarray((found + found.T) / 2)

    return functions, covariance


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
