"""A posterior precision that is factorised, and close to that of a reward on a large game.

In the coordinates V = (I - gamma P)^-1 r of the last stage, r = B V, the precision would be

  X = sum_h gamma^2 P_h' C_h P_h + B' prior B

if the soft values of all stages were V. X is formed and factorised. It alone is a poor
approximation. Values that depend on the positions of the other agents alone, V = U a, do not depend
on the agent's own action, so X holds nothing about them but the prior; the data determine them
because the first policies differ from the last. For these values the soft values of the stages
whose policies differ are therefore computed,

  V_h = V + D_h U' V,    D_h = (I - gamma P_h)^-1 gamma (P_h - P) U,

by a few backups, and X becomes sum_h (I + D_h U')' gamma^2 P_h' C_h P_h (I + D_h U') + B' prior B.
The precision divided by X then has nearly all eigenvalues close to one.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Literal, NamedTuple

import numpy as np
import scipy.linalg
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.linalg.lapack import dpotrf

from malfl_algos.ma_lfl.matrix_free_evidence import log_det_of_stay
from malfl_algos.ma_lfl.matrix_free_values import ExactValues, Values
from malfl_algos.ma_lfl.precision import LogDet, Precision, Preconditioner, in_threads
from malfl_algos.ma_lfl.shared_values_loops import (
    add_information,
    backed_up,
    centred,
    gathered,
    scattered,
)

__all__ = [
    "MOST_BYTES",
    "SharedValues",
    "can_share",
    "shared_bytes",
    "shared_preconditioner",
    "shared_values",
]

FloatArray = NDArray[np.float64]

MOST_BYTES = 2**30
"""Largest matrix that is factorised, in bytes."""
DRAWS, WORTH = 128, 60
"""Number of samples under X, and the number of posterior samples that their variances are worth."""
SAMPLE_SEED = 20222
CHANGED = 0.1
"""A stage differs from the last if its policies move the probabilities of the others' positions by
more than this, on average.
"""
BACKUPS = 6
"""Number of backups that approximate soft values; it affects only the number of iterations."""
SLICES = 4
"""Number of parts of a triangle that are summed at the same time."""
CHUNK = 2000
"""Number of joint states that are processed at a time."""


@dataclass(frozen=True, eq=False)
class SharedValues:
    """X in factors, and the approximate inverse B X^-1 B' of the precision.

    Args:
        back: B', `(n_states, n_states)`.
        unit: U, orthonormal functions of the groups, `(n_states, n_groups)`.
        upper: R, R' R = Q X Q + level U U' with Q = I - U U', in the upper triangle.
        beside: R'^-1 Q X U, `(n_states, n_groups)`.
        sizes, vectors: eigenvalues and eigenvectors of U' X U - beside' beside.
        log_det: of X.
        mean_variance: inverse of the prior precision of a constant reward.
    """

    back: sp.csr_array
    unit: sp.csr_array
    upper: FloatArray
    beside: FloatArray
    sizes: FloatArray
    vectors: FloatArray
    log_det: float
    mean_variance: float

    def __call__(self, x: FloatArray) -> FloatArray:
        """B X^-1 B' x, `(n_states, k)`, with the mean, which the data do not show, by itself."""
        mean = x.mean(axis=0)
        right = self.back @ (x - mean)
        alike = self.unit.T @ right
        apart = self._solved(right - self.unit @ alike, transposed=True)
        alike = self.vectors.T @ (alike - self.beside.T @ apart)
        alike = self.vectors @ (alike / self.sizes[:, None])
        found = self._values(apart - self.beside @ alike, alike)
        return np.asarray(found - found.mean(axis=0) + self.mean_variance * mean)

    def draws(self, rng: np.random.Generator, count: int) -> FloatArray:
        """Samples of a normal distribution with precision X, as rewards, `(n_states, count)`."""
        alike = rng.standard_normal((len(self.sizes), count))
        alike = self.vectors @ (alike / np.sqrt(self.sizes)[:, None])
        apart = rng.standard_normal((len(self.upper), count)) - self.beside @ alike
        return self._values(apart, alike)

    def _values(self, apart: FloatArray, alike: FloatArray) -> FloatArray:
        apart = self._solved(apart, transposed=False)
        value = apart + self.unit @ (alike - self.unit.T @ apart)
        return np.asarray(self.back.T @ value)

    def _solved(self, right: FloatArray, *, transposed: bool) -> FloatArray:
        turned: Literal[0, 1] = 1 if transposed else 0
        found = scipy.linalg.solve_triangular(self.upper, right, trans=turned, check_finite=False)
        return np.asarray(found)


class Differences(NamedTuple):
    """What the stages that differ from the last add to X.

    Args:
        beside: sum of S_h D_h, `(n_states, n_groups)`.
        within: sum of D_h' S_h D_h.
    """

    beside: FloatArray
    within: FloatArray


def shared_bytes(n_states: int) -> int:
    """Memory that X takes, in bytes; 0: it is too large, and not formed."""
    found = 8 * n_states**2
    return found if found <= MOST_BYTES else 0


def can_share(precision: Precision) -> bool:
    """Whether X can be formed: learners evaluate their policies exactly, rewards are of the state,
    transitions are sparse matrices, and X is not too large.
    """
    n_states = precision.rows.response.shape[1]
    if precision.rows.n_unknowns != n_states or not shared_bytes(n_states):
        return False
    return all(
        isinstance(values, ExactValues) and isinstance(values.transition, sp.csr_array)
        for values in precision.rows.values
    )


def shared_preconditioner(precision: Precision) -> Preconditioner:
    """The approximate inverse of the precision from X, with the variances of samples under X."""
    shared = shared_values(precision)
    rng, last = np.random.default_rng(SAMPLE_SEED), precision.rows.values[-1]
    draws = shared.draws(rng, DRAWS)
    stay = log_det_of_stay(_sparse(last.onward), last.discount, rng)
    log_det = LogDet(shared.log_det - 2 * stay.value, 2 * stay.error)
    return Preconditioner(
        shared, [np.var(draws - draws.mean(axis=0), axis=1)], WORTH, True, log_det
    )


def shared_values(precision: Precision) -> SharedValues:
    """X of a posterior precision, for sparse transitions and a reward of the state."""
    rows, last = precision.rows, precision.rows.values[-1]
    n_states = rows.n_unknowns
    forward = sp.csr_array(sp.eye_array(n_states) - last.discount * _sparse(last.onward))
    sizes = np.bincount(last.others)
    unit = _functions_of(last.others)
    matrix = np.zeros((n_states, n_states))
    in_threads(partial(_add_information, matrix, precision), *_slices(n_states))
    # the data say nothing about U: what X has there comes from the prior and the differences
    beside, within = _add_prior(matrix, forward, precision, unit)
    level = float(np.mean(np.diag(matrix)))
    centred(matrix, last.others, beside, within, sizes, level)
    for found in in_threads(
        partial(_differences, last=last, unit=unit), rows.values, precision.weights
    ):
        if found is not None:
            beside += found.beside.T
            within += found.within
    upper, fault = dpotrf(matrix.T, lower=0, overwrite_a=1, clean=0)
    if fault:
        raise ArithmeticError(f"the precision is not positive definite at unknown {fault}")
    apart = beside.T - unit @ (unit.T @ beside.T)
    apart = scipy.linalg.solve_triangular(upper, apart, trans=1, check_finite=False)
    eigenvalues, vectors = scipy.linalg.eigh(within - apart.T @ apart)
    # rounding may hide the smallest one, of a constant value
    eigenvalues = np.maximum(eigenvalues, (1 - last.discount) ** 2 / precision.mean_variance)
    log_det = 2 * np.log(np.diag(upper)).sum() - len(sizes) * np.log(level)
    return SharedValues(
        sp.csr_array(forward.T),
        unit,
        upper,
        apart,
        eigenvalues,
        vectors,
        float(log_det + np.log(eigenvalues).sum()),
        precision.mean_variance,
    )


def _add_information(matrix: FloatArray, precision: Precision, begin: int, end: int) -> None:
    """Add the sum of gamma^2 P_h' C_h P_h to some rows of the lower triangle."""
    for values, w in zip(precision.rows.values, precision.weights, strict=True):
        own, factor = _sparse(values.transition), values.discount**2
        add_information(matrix, begin, end, own.indptr, own.indices, own.data, w, factor)


def _slices(n_states: int) -> tuple[list[int], list[int]]:
    """Where slices of a lower triangle of about equal size begin and end."""
    ends = [round(n_states * np.sqrt(part / SLICES)) for part in range(SLICES + 1)]
    return ends[:-1], ends[1:]


def _add_prior(
    matrix: FloatArray, forward: sp.csr_array, precision: Precision, unit: sp.csr_array
) -> tuple[FloatArray, FloatArray]:
    """Add B' prior B to the lower triangle; it times U' from the left, and also times U."""
    n_states = len(matrix)
    entries = sp.coo_array(sp.tril(forward.T @ forward))
    matrix[entries.row, entries.col] += entries.data / precision.prior_variance
    levels = (forward.T @ np.ones(n_states)) / np.sqrt(n_states)
    gap = 1 / precision.mean_variance - 1 / precision.prior_variance
    for begin in range(0, n_states, CHUNK):
        part = levels[begin : begin + CHUNK]
        matrix[begin : begin + CHUNK] += gap * np.outer(part, levels)
    alike = forward @ unit.toarray()
    beside = precision.prior(alike).T @ forward
    return np.asarray(beside), alike.T @ precision.prior(alike)


def _differences(
    values: Values, weights: FloatArray, *, last: Values, unit: sp.csr_array
) -> Differences | None:
    """What a stage adds to X because its soft values differ; None if they hardly do."""
    onward = _sparse(values.onward)
    moved = sp.csr_array((onward - _sparse(last.onward)) @ unit)
    lengths = np.sqrt(np.bincount(last.others))
    change = sp.csr_array(abs(moved)) @ lengths
    if float(change.mean()) < CHANGED:
        return None
    gamma = values.discount
    ahead = backed_up(
        onward.indptr, onward.indices, gamma * onward.data, gamma * moved.toarray(), BACKUPS
    )
    own, beside = _sparse(values.transition), np.zeros(ahead.shape)
    within = np.zeros((ahead.shape[1], ahead.shape[1]))
    n_actions = weights.shape[1]
    probabilities = gamma * own.data
    for begin in range(0, len(ahead), CHUNK):
        w = weights[begin : begin + CHUNK]
        pointers = own.indptr[begin * n_actions : (begin + len(w)) * n_actions + 1]
        shares = w / np.maximum(w.sum(axis=1, keepdims=True), 1e-300)
        roots, seen = np.sqrt(w), np.empty((w.size, ahead.shape[1]))
        gathered(pointers, own.indices, probabilities, ahead, shares, roots, seen)
        scattered(pointers, own.indices, probabilities, seen, roots, beside)
        within += seen.T @ seen
    return Differences(beside, within)


def _functions_of(groups: NDArray[np.int64]) -> sp.csr_array:
    """The indicators of groups with length one, `(n_states, n_groups)`."""
    sizes = np.bincount(groups)
    entries = (1 / np.sqrt(sizes[groups]), groups, np.arange(len(groups) + 1))
    return sp.csr_array(entries, shape=(len(groups), len(sizes)))


def _sparse(transition: object) -> sp.csr_array:
    """The transition, which is a sparse matrix."""
    assert isinstance(transition, sp.csr_array)
    return transition
