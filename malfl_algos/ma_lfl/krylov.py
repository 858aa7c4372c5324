"""The posterior of `malfl_algos.ma_lfl.inference` on large games, by conjugate gradients."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from malfl_algos.ma_lfl.inference import Evidence, Given
from malfl_algos.ma_lfl.precision import TIGHT, Precision, UnformedRows, in_threads
from malfl_algos.ma_lfl.preconditioning import Apply, preconditioner

__all__ = ["UnformedPosterior", "conjugate_gradients", "unformed_posterior"]

FloatArray = NDArray[np.float64]

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
class UnformedPosterior:
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
        iterations: of the mean and of all samples.
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


def unformed_posterior(rows: UnformedRows, given: Given) -> UnformedPosterior:
    """Posterior of the reward for given noise and prior.

    Raises:
        ArithmeticError: if conjugate gradients do not get within a twentieth of a posterior
            deviation of the mean, or a soft value does not converge; with the residual reached.
    """
    variance = given.noise_variance + given.noise_scale * rows.model_variance
    precision = Precision(rows, 1 / (variance + rows.response_variance), given.prior_variance)
    offsets = np.stack(in_threads(lambda values: values.offset, rows.values))
    precondition, spread = preconditioner(precision)
    right = precision.moment(rows.response - offsets)
    mean, steps, distance = conjugate_gradients(precision, right, precondition)
    rng = np.random.default_rng(SAMPLE_SEED)
    n_samples = SAMPLES if spread else SAMPLES + USUAL
    found = [
        conjugate_gradients(precision, precision.noise(rng), precondition) for _ in range(n_samples)
    ]
    squares = np.mean([(sample - sample.mean()) ** 2 for sample, _, _ in found], axis=0)
    variance, method = squares, f"{n_samples} samples of the posterior"
    if spread:
        method += f", and the preconditioner, counted as {USUAL} more"
        usual = _calibrated(spread, squares)
        variance = (USUAL * usual + SAMPLES * squares) / (USUAL + SAMPLES)
    q = in_threads(lambda values: values.apply(mean, residual=TIGHT), rows.values)
    return UnformedPosterior(
        mean,
        np.sqrt(variance),
        Evidence(None, given.noise_variance, given.noise_scale, given.prior_variance, ()),
        np.stack(q) + offsets,
        precision,
        (steps, sum(further for _, further, _ in found)),
        method,
        distance,
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
) -> tuple[FloatArray, int, float]:
    """Solve precision x = right to within `TOLERANCE` of a posterior deviation.

    The distance that is left, in the metric of the precision, is estimated by what the last steps
    gained. Rewards of actions have directions that data say nothing of, on which steps gain little
    for long: their distance is bounded, by the residual and the prior (the level left out, which is
    not claimed). Solves within a product may be the rougher the smaller the residual is (Simoncini
    and Szyld 2003); since the residual that is carried along then drifts, it is computed anew at
    the end, and the solution is good when it needs no more than the steps of the estimate.

    Returns:
        x, how many iterations it took, and the distance reached, estimated.

    Raises:
        ArithmeticError: if it is not reached; the message has what was.
    """
    x, total, distance = np.zeros_like(right), 0, np.inf
    for again in range(MAX_ROUNDS):
        residual = right - precision(x) if again else right.copy()
        change, steps, distance = _descend(
            precision, residual, precondition, MAX_ITERATIONS - total
        )
        x, total = x + change, total + steps
        if distance > TOLERANCE:
            break
        if again and steps <= DELAY:
            return x, total, distance
    raise ArithmeticError(
        f"the posterior did not converge: after {total} iterations it was still about "
        f"{distance:.1e} posterior deviations away, wanted {TOLERANCE}; a larger noise_variance or "
        "a smaller prior_variance makes the problem better conditioned"
    )


def _descend(
    precision: Precision, residual: FloatArray, precondition: Apply, most: int
) -> tuple[FloatArray, int, float]:
    """Steps of conjugate gradients from zero until the distance is small, or no more is gained."""
    x = np.zeros_like(residual)
    direction, size, first, distance = x, np.inf, 0.0, np.inf
    gains = deque[float](maxlen=DELAY)
    bounded = precision.rows.n_unknowns != precision.rows.response.shape[1]
    for step in range(most):
        if bounded:
            centred = residual - residual.mean()
            distance = float(np.sqrt(precision.prior_variance * np.mean(centred**2)))
            if distance <= TOLERANCE:
                return x, step, distance
        ready = precondition(residual)
        before, size = size, float(residual @ ready)
        if size <= 0 or not np.isfinite(size):
            return x, step, 0.0 if size == 0 else distance
        direction = ready + size / before * direction
        first = first or size
        rough = min(INNER * np.sqrt(first / size), LOOSEST)
        along = precision(direction, residual=max(rough, TIGHT))
        length = size / float(direction @ along)
        x = x + length * direction
        residual = residual - length * along
        gains.append(length * size)
        if not bounded:
            distance = float(np.sqrt(sum(gains) / len(x)))
            if len(gains) == DELAY and distance <= TOLERANCE:
                return x, step + 1, distance
    return x, most, distance
