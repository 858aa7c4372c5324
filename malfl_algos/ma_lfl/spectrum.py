"""What conjugate gradients show of the spectrum of a preconditioned matrix.

A column's step lengths and turns are the entries of a tridiagonal matrix. Its eigenvalues, weighted
by the squares of the first components of their eigenvectors, are a quadrature for functions of the
preconditioned matrix (Golub and Meurant 2010).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh_tridiagonal, eigvalsh_tridiagonal

from malfl_algos.ma_lfl.precision import LogDet

__all__ = ["Spectrum"]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

SMALLEST = 1e-12
"""Smaller eigenvalues are taken to be this."""


class Spectrum:
    """The eigenvalues that the columns of one call of conjugate gradients have met."""

    def __init__(self) -> None:
        self._smallest = 1.0
        self._sizes = np.zeros(0)
        self._lengths: list[list[float]] = []
        self._turns: list[list[float]] = []

    def begin(self, sizes: FloatArray) -> None:
        """From now on, these columns are iterated, from zero.

        Args:
            sizes: squared norm of every right side in the metric of the preconditioner.
        """
        self._sizes = sizes
        self._lengths = [[] for _ in sizes]
        self._turns = [[] for _ in sizes]

    def after(self) -> Spectrum:
        """A new one that knows the smallest eigenvalue of this one."""
        found = Spectrum()
        found._smallest = self.least()
        return found

    def add(self, columns: IntArray, lengths: FloatArray, turns: FloatArray) -> None:
        """A step: its length, and the share of the direction before in the present one."""
        for column, length, turn in zip(columns, lengths, turns, strict=True):
            self._lengths[column].append(float(length))
            self._turns[column].append(float(turn))

    def least(self) -> float:
        """The smallest eigenvalue of all columns so far, at most one."""
        found = [self._smallest]
        for column, own in enumerate(self._lengths):
            if own:
                found.append(float(eigvalsh_tridiagonal(*self._entries(column))[0]))
        return max(min(found), SMALLEST)

    def log_det(self, first: int) -> LogDet:
        """Unbiased estimate of the log determinant of the preconditioned matrix M A, from the
        columns from `first` on, whose right sides are normal with covariance A, the matrix.

        M^(1/2) times such a right side, v, has covariance B = M^(1/2) A M^(1/2). The expectation of
        v' f(B) v is the trace of f(B) B, which is the one of log B for f(x) = log(x) / x, and of
        (log B)^2 for f(x) = log(x)^2 / x. Twice the latter is the variance of the former, because
        v is normal.
        """
        traces = []
        for column in range(first, len(self._lengths)):
            found = np.zeros(2)
            if self._lengths[column]:
                nodes, vectors = eigh_tridiagonal(*self._entries(column))
                nodes = np.maximum(nodes, SMALLEST)
                logs, weights = np.log(nodes), self._sizes[column] * vectors[0] ** 2 / nodes
                found = np.array([weights @ logs, weights @ logs**2])
            traces.append(found)
        value, square = np.mean(traces, axis=0)
        return LogDet(float(value), float(np.sqrt(2 * square / len(traces))))

    def _entries(self, column: int) -> tuple[FloatArray, FloatArray]:
        lengths, turns = np.array(self._lengths[column]), np.array(self._turns[column][1:])
        diagonal = 1 / lengths
        diagonal[1:] += turns / lengths[:-1]
        return diagonal, np.sqrt(turns) / lengths[:-1]
