"""The posterior of `malfl_algos.ma_lfl.inference` on large games, by conjugate gradients."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from malfl_algos.ma_lfl.inference import Evidence, Given
from malfl_algos.ma_lfl.precision import (
    TIGHT,
    Apply,
    MatrixFreeRows,
    Precision,
    in_threads,
    preconditioner,
)

__all__ = ["MatrixFreePosterior", "conjugate_gradients", "matrix_free_posterior"]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

TOLERANCE = 0.05
"""Distance of mean and samples from the exact ones, in posterior deviations, root mean square."""
SAMPLES, USUAL = 4, 4
"""Samples of the posterior for its deviations, and how many more the preconditioner counts for;
where it says nothing of them, samples stand in.
"""
DELAY = 10
"""Iterations over which the distance is estimated (Hestenes and Stiefel's lower bound)."""
MAX_ITERATIONS = 3000
INNER, LOOSEST = 1e-10, 1e-3
"""Relative residuals of the solves within a product, in a first iteration and at most."""
MAX_ROUNDS = 5
"""How often the residual is computed anew."""
SAMPLE_SEED = 20221


@dataclass(frozen=True, eq=False)
class MatrixFreePosterior:
    """Posterior of the reward values.

    Args:
        mean: `(n_unknowns,)`.
        sd: of the mean-removed reward, approximately: from a few samples of the posterior and the
            diagonal of the preconditioner, an approximate inverse of the precision, scaled as the
            samples ask for; nine in ten are within a factor of two of the exact ones on 3x3. Of a
            reward of actions, from samples alone.
        evidence: the noise and prior used; its log evidence is not known.
        q: action values at the mean, `(n_stages, n_states, n_actions)`.
        precision: of the reward, as an operator.
        iterations: until the mean was found, and in all; mean and samples are found side by side.
        sd_method: where the deviations come from.
        accuracy: distance of the mean from the exact one, estimated, in posterior deviations.
        effective_parameters: how many the data determine, from the samples.
    """

    mean: FloatArray
    sd: FloatArray
    evidence: Evidence
    q: FloatArray
    precision: Precision
    iterations: tuple[int, int]
    sd_method: str
    accuracy: float
    effective_parameters: float

    def distance(self, moved: FloatArray) -> float:
        """Length of a change of the mean in posterior deviations, root mean square."""
        return float(np.sqrt(moved @ self.precision(moved) / len(moved)))


def matrix_free_posterior(rows: MatrixFreeRows, given: Given) -> MatrixFreePosterior:
    """Posterior of the reward for given noise and prior.

    Raises:
        ArithmeticError: if conjugate gradients do not get within a twentieth of a posterior
            deviation of the mean, or a soft value does not converge; with the residual reached.
    """
    variance = given.noise_variance + given.noise_scale * rows.model_variance
    precision = Precision(rows, 1 / (variance + rows.response_variance), given.prior_variance)
    offsets = np.stack(in_threads(lambda values: values.offset, rows.values))
    precondition, spread = preconditioner(precision)
    rng = np.random.default_rng(SAMPLE_SEED)
    n_samples = SAMPLES if spread else SAMPLES + USUAL
    right = [precision.moment(rows.response - offsets)]
    right += [precision.noise(rng) for _ in range(n_samples)]
    found, steps, distances = conjugate_gradients(precision, np.stack(right, axis=1), precondition)
    mean, samples = np.ascontiguousarray(found[:, 0]), found[:, 1:]
    squares = np.mean((samples - samples.mean(axis=0)) ** 2, axis=1)
    variance, method = squares, f"{n_samples} samples of the posterior"
    if spread:
        method += f", and the preconditioner, counted as {USUAL} more"
        usual = _calibrated(spread, squares)
        variance = (USUAL * usual + SAMPLES * squares) / (USUAL + SAMPLES)
    q = in_threads(lambda values: values.apply(mean, residual=TIGHT), rows.values)
    return MatrixFreePosterior(
        mean,
        np.sqrt(variance),
        Evidence(None, given.noise_variance, given.noise_scale, given.prior_variance, ()),
        np.stack(q) + offsets,
        precision,
        (int(steps[0]), int(steps.max())),
        method,
        float(distances[0]),
        max(rows.n_unknowns - 1 - float(squares.sum()) / given.prior_variance, 0.0),
    )


def _calibrated(parts: Sequence[FloatArray], squares: FloatArray) -> FloatArray:
    """The non-negative combination of variances under which squares of samples are most likely."""
    usual = [float(np.mean(squares / part)) for part in parts]

    def loss(logs: FloatArray) -> float:
        variance = sum(np.exp(log) * part for log, part in zip(logs, parts, strict=True))
        return float(np.mean(np.log(variance) + squares / variance))

    found = minimize(loss, np.log(usual) - np.log(len(parts)), method="Nelder-Mead")
    return np.asarray(sum(np.exp(log) * part for log, part in zip(found.x, parts, strict=True)))


def conjugate_gradients(
    precision: Precision, right: FloatArray, precondition: Apply
) -> tuple[FloatArray, IntArray, FloatArray]:
    """Solve precision x = right to within `TOLERANCE` of a posterior deviation, columns side by
    side.

    The distance that is left, in the metric of the precision, is estimated by what the last steps
    gained. Rewards of actions have directions that data say nothing of, on which steps gain little
    for long: their distance is bounded, by the residual and the prior (the level left out, which is
    not claimed). Solves within a product may be the rougher the smaller the residual is (Simoncini
    and Szyld 2003); since the residual that is carried along then drifts, it is computed anew at
    the end, and the solution is good when it needs no more than the steps of the estimate.

    Args:
        precision: a symmetric positive operator.
        right: `(n_unknowns, n_columns)`.
        precondition: an approximate inverse.

    Returns:
        x in the shape of right; for every column how many iterations it took, and the distance
        reached, estimated.

    Raises:
        ArithmeticError: if it is not reached; the message has what was.
    """
    x = np.zeros_like(right)
    steps = np.zeros(right.shape[1], dtype=np.int64)
    distances = np.full(right.shape[1], np.inf)
    open_ = np.arange(right.shape[1])
    for again in range(MAX_ROUNDS):
        residual = right[:, open_] - (precision(x[:, open_]) if again else 0.0)
        change, further, distances[open_], near = _descend(
            precision, residual, precondition, MAX_ITERATIONS - int(steps.max())
        )
        x[:, open_] += change
        steps[open_] += further
        if not near.all():
            break
        if again:
            open_ = open_[further > DELAY]
        if not open_.size:
            return x, steps, distances
    raise ArithmeticError(
        f"the posterior did not converge: after {steps.max()} iterations it was still about "
        f"{distances.max():.1e} posterior deviations away, wanted {TOLERANCE}; a larger "
        "noise_variance or a smaller prior_variance makes the problem better conditioned"
    )


def _descend(
    precision: Precision, residual: FloatArray, precondition: Apply, most: int
) -> tuple[FloatArray, IntArray, FloatArray, NDArray[np.bool_]]:
    """Steps of conjugate gradients from zero until the distance is small, or no more is gained.

    Columns leave one by one, so that none is carried along for nothing.

    Returns:
        Per column x, steps, distance, and whether it is known to be small: few steps tell little.
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
        ready = precondition(residual)
        before, size = size, np.einsum("uk,uk->k", residual, ready)
        if bounded:
            squares = np.mean((residual - residual.mean(axis=0)) ** 2, axis=0)
            distances[live] = np.sqrt(precision.prior_variance * squares)
        elif step:
            distances[live] = np.sqrt(gains.sum(axis=0) / len(x))
        distances[live[size == 0]] = 0.0
        known = bounded | (step >= DELAY) | (size == 0)
        near[live] = known & (distances[live] <= TOLERANCE)
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
        rough = np.minimum(INNER * np.sqrt(first / size), LOOSEST)
        along = precision(direction, residual=np.maximum(rough, TIGHT))
        length = size / np.einsum("uk,uk->k", direction, along)
        x = x + length * direction
        residual = residual - length * along
        gains[step % DELAY] = length * size
    found[:, live] = x
    return found, steps, distances, near
