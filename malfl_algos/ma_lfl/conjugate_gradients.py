"""Conjugate gradients for the posterior of a reward on a large game."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from malfl_algos.ma_lfl.precision import TIGHT, Precision, Preconditioner
from malfl_algos.ma_lfl.spectrum import Spectrum

__all__ = ["MAX_ITERATIONS", "TOLERANCE", "conjugate_gradients"]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

TOLERANCE = 0.05
"""Largest distance of the mean and the samples from the exact ones, in posterior standard
deviations, root mean square.
"""
DELAY = 10
"""Number of iterations over which the distance is estimated (Hestenes and Stiefel's lower bound).
"""
CLOSE = 2.0
"""Factor on the distance that a close preconditioner shows; its smallest eigenvalue is estimated
from above.
"""
ROUGHLY = 0.2
"""The distance that is allowed where a rough solution will do."""
QUADRATURE = 6
"""Smallest number of iterations of a column whose spectrum tells a log determinant: with fewer the
quadrature is too coarse, however near the solution is.
"""
NEARING = 1e-4
"""Relative residual of the solves within a product where only `TOLERANCE` is left to go, with a
close preconditioner.
"""
MAX_ITERATIONS = 3000
INNER, LOOSEST = 1e-10, 1e-3
"""Relative residuals of the solves within a product: in the first iteration, and the largest one.
"""
MAX_ROUNDS = 5
"""Largest number of times that the residual is recomputed."""


def conjugate_gradients(
    precision: Precision,
    right: FloatArray,
    nearby: Preconditioner,
    *,
    roughly: int = 0,
    met: Spectrum | None = None,
) -> tuple[FloatArray, IntArray, FloatArray]:
    """Solve precision x = right, all columns side by side, to within `TOLERANCE` posterior standard
    deviations; the last columns, if the preconditioner is close, to within `ROUGHLY`.

    The remaining distance, in the metric of the precision, is estimated from the residual if the
    preconditioner is close, and otherwise from the progress of the last steps. For rewards of
    actions this estimate fails, because the data do not determine some directions and progress
    along them is slow. There the distance is bounded by the residual and the prior, without the
    mean of the reward.

    The solves within a product may be less accurate the smaller the residual is (Simoncini and
    Szyld 2003). The recursively updated residual then drifts, so it is recomputed at the end. The
    solution is accepted when it needs no more than `DELAY` further steps.

    Args:
        precision: a symmetric positive definite operator.
        right: `(n_unknowns, n_columns)`.
        nearby: an approximate inverse of the precision.
        roughly: number of last columns for which a rough solution will do.
        met: gathers the spectrum of the first iterations.

    Returns:
        x in the shape of `right`; per column the number of iterations and the estimated distance.

    Raises:
        ArithmeticError: if the tolerance is not reached; the message states the distance reached.
    """
    x = np.zeros_like(right)
    steps = np.zeros(right.shape[1], dtype=np.int64)
    distances = np.full(right.shape[1], np.inf)
    unsolved, rough = np.arange(right.shape[1]), right.shape[1] - roughly
    allowed = np.full(right.shape[1], TOLERANCE)
    least = np.zeros(right.shape[1], dtype=np.int64)
    if nearby.close:
        allowed[rough:] = ROUGHLY
    if nearby.log_det is not None:
        least[rough:] = QUADRATURE
    spectrum = met or Spectrum()
    for restart in range(MAX_ROUNDS):
        if restart:
            spectrum = spectrum.after()
        residual = right[:, unsolved] - (precision(x[:, unsolved]) if restart else 0.0)
        change, further, distances[unsolved], near = _descend(
            precision,
            residual,
            nearby,
            allowed[unsolved],
            least[unsolved] if restart == 0 else np.zeros_like(unsolved),
            spectrum,
            most=MAX_ITERATIONS - int(steps.max()),
        )
        x[:, unsolved] += change
        steps[unsolved] += further
        if not near.all():
            break
        unsolved = unsolved[(further > DELAY) | ((restart == 0) & (allowed[unsolved] < ROUGHLY))]
        if not unsolved.size:
            return x, steps, distances
    raise ArithmeticError(
        f"the posterior did not converge: after {steps.max()} iterations it is about "
        f"{distances.max():.1e} posterior standard deviations away (allowed: {TOLERANCE}); "
        "a larger noise_variance or a smaller prior_variance makes the problem better conditioned"
    )


def _descend(
    precision: Precision,
    residual: FloatArray,
    nearby: Preconditioner,
    allowed: FloatArray,
    least: IntArray,
    spectrum: Spectrum,
    *,
    most: int,
) -> tuple[FloatArray, IntArray, FloatArray, NDArray[np.bool_]]:
    """Conjugate gradients from 0 until the distance is small or there is no more progress.

    A column is removed as soon as it is solved and has made its least number of steps, which saves
    its products.

    Returns:
        Per column x, the number of steps, the distance, and whether the distance is known to be
        small. It is not known after fewer than `DELAY` steps.
    """
    found, n_columns = np.zeros_like(residual), residual.shape[1]
    steps, distances = np.full(n_columns, most), np.full(n_columns, np.inf)
    near = np.zeros(n_columns, dtype=bool)
    bounded = precision.rows.n_unknowns != precision.rows.response.shape[1]
    live = np.arange(n_columns)
    x = direction = found
    size, first = np.full(n_columns, np.inf), np.zeros(n_columns)
    gains = np.zeros((DELAY, n_columns))
    for step in range(most):
        ready = nearby.apply(residual)
        before, size = size, np.einsum("uk,uk->k", residual, ready)
        if step == 0:
            spectrum.begin(size)
        if bounded:
            squares = np.mean((residual - residual.mean(axis=0)) ** 2, axis=0)
            distances[live] = np.sqrt(precision.prior_variance * squares)
        elif nearby.close:
            distances[live] = CLOSE * np.sqrt(size / len(x) / spectrum.least())
        elif step:
            distances[live] = np.sqrt(gains.sum(axis=0) / len(x))
        distances[live[size == 0]] = 0.0
        known = bounded | nearby.close | (step >= DELAY)
        known = (known & (step >= least[live])) | (size == 0)
        near[live] = known & (distances[live] <= allowed[live])
        going = ~near[live] & (size > 0) & np.isfinite(size)
        if not going.all():
            steps[live[~going]], found[:, live[~going]] = step, x[:, ~going]
            live, size, before, first = live[going], size[going], before[going], first[going]
            gains = gains[:, going]
            x, direction, residual, ready = (
                np.ascontiguousarray(each[:, going]) for each in (x, direction, residual, ready)
            )
            if not live.size:
                return found, steps, distances, near
        direction = ready + size / before * direction
        first = size if step == 0 else first
        rough = INNER * np.sqrt(first / size)
        if nearby.close:
            rough = NEARING * TOLERANCE / distances[live]
        rough = np.minimum(rough, LOOSEST)
        along = precision(direction, residual=np.maximum(rough, TIGHT))
        length = size / np.einsum("uk,uk->k", direction, along)
        spectrum.add(live, length, size / before)
        x = x + length * direction
        residual = residual - length * along
        gains[step % DELAY] = length * size
    found[:, live] = x
    return found, steps, distances, near
