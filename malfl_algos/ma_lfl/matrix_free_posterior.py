"""The posterior of `malfl_algos.ma_lfl.inference` for large games, by conjugate gradients.

The precision matrix is never formed: `malfl_algos.ma_lfl.precision` applies it to vectors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from malfl_algos.ma_lfl.conjugate_gradients import conjugate_gradients
from malfl_algos.ma_lfl.matrix_free_evidence import log_evidence
from malfl_algos.ma_lfl.posterior import (
    Evidence,
    Given,
)
from malfl_algos.ma_lfl.precision import (
    TIGHT,
    MatrixFreeRows,
    Precision,
    Preconditioner,
    in_threads,
)
from malfl_algos.ma_lfl.reward_diagonal import can_probe, probed_preconditioner
from malfl_algos.ma_lfl.shared_values import can_share, shared_preconditioner
from malfl_algos.ma_lfl.spectrum import Spectrum
from malfl_algos.ma_lfl.value_diagonal import diagonal_preconditioner
from malfl_algos.ma_lfl.variance_steps import effective_parameters, improved_variances

__all__ = ["MatrixFreePosterior", "matrix_free_posterior", "preconditioner"]

FloatArray = NDArray[np.float64]

SAMPLES, ALONE = 4, 8
"""Number of posterior samples for the standard deviations, with and without variances from the
preconditioner.
"""
STEADY, SMALL_GAIN = 1.2, 0.02
"""Noise and prior are settled if a step changes them by less than this factor, or promises less
log evidence.
"""
SAMPLE_SEED = 20221


@dataclass(frozen=True, eq=False)
class MatrixFreePosterior:
    """Posterior of the reward values.

    Args:
        mean: `(n_unknowns,)`.
        sd: approximate posterior standard deviations of the mean-removed reward, `(n_unknowns,)`.
            For a reward of the state they combine a few posterior samples with the diagonal of the
            preconditioner, scaled to fit the samples. On the 3x3 game nine in ten are within a
            factor of two of the exact ones. For a reward of actions they use samples only.
        evidence: the noise and prior used; its log evidence is an estimate, or None.
        q: action values at the mean, `(n_stages, n_states, n_actions)`.
        precision: posterior precision of the reward, as an operator.
        iterations: number until the mean was found, and in total. Mean and samples are solved side
            by side.
        sd_method: description of how `sd` was computed.
        accuracy: estimated distance of the mean from the exact one, in posterior standard
            deviations.
        effective_parameters: number of parameters that the data determine, from the samples.
        improved: noise and prior after one step towards larger evidence, if they are searched.
        evidence_error: standard deviation of the error of the log evidence; None: not estimated.
        promise: by how much the log evidence would rise if it were quadratic and the whole step
            were made.
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
    improved: Given | None = None
    evidence_error: float | None = None
    promise: float = 0.0

    @property
    def settled(self) -> bool:
        """Whether noise and prior are given, or would be moved by less than the factor `STEADY`,
        or towards hardly more evidence.
        """
        if self.improved is None or self.promise < SMALL_GAIN:
            return True
        names = ("noise_variance", "prior_variance")
        moves = [getattr(self.improved, name) / getattr(self.evidence, name) for name in names]
        return bool(np.abs(np.log(moves)).max() < np.log(STEADY))

    def distance(self, moved: FloatArray) -> float:
        """Size of a change of the mean in posterior standard deviations, root mean square."""
        return float(np.sqrt(moved @ self.precision(moved) / len(moved)))


def matrix_free_posterior(rows: MatrixFreeRows, given: Given) -> MatrixFreePosterior:
    """Posterior of the reward for given noise and prior.

    Raises:
        ArithmeticError: if conjugate gradients do not come near enough to the exact mean, or
            a soft value does not converge; the message states the distance or residual reached.
    """
    variance = given.noise_variance + given.noise_scale * rows.model_variance
    precision = Precision(rows, 1 / (variance + rows.response_variance), given.prior_variance)
    offsets = np.stack(in_threads(lambda values: values.offset, rows.values))
    rng = np.random.default_rng(SAMPLE_SEED)
    nearby = preconditioner(precision, with_log_det=given.searched)
    n_samples = SAMPLES if nearby.parts else ALONE
    drawn = [precision.noise(rng) for _ in range(n_samples)]
    right = [precision.moment(rows.response - offsets), *(own for own, _ in drawn)]
    spectrum = Spectrum()
    found, steps, distances = conjugate_gradients(
        precision, np.stack(right, axis=1), nearby, roughly=n_samples, met=spectrum
    )
    mean, samples = np.ascontiguousarray(found[:, 0]), found[:, 1:]
    squares = np.mean((samples - samples.mean(axis=0)) ** 2, axis=1)
    variance, method = squares, f"{n_samples} samples of the posterior"
    if nearby.parts:
        method += f" and the preconditioner, weighted as {nearby.worth} samples"
        usual = _calibrated(nearby.parts, squares)
        variance = (nearby.worth * usual + SAMPLES * squares) / (nearby.worth + SAMPLES)
    q = in_threads(lambda values: values.apply(mean, residual=TIGHT), rows.values)
    of_prior = np.stack([own for _, own in drawn], axis=1)
    effective = effective_parameters(samples, of_prior, given.prior_variance)
    improved = evidence = error = None
    promise = 0.0
    gap = rows.response - (np.stack(q) + offsets)
    if nearby.log_det is not None:
        rest = spectrum.log_det(1)
        log_det = nearby.log_det.value + rest.value
        evidence = log_evidence(precision, gap, mean, log_det) + rows.log_constant
        # the mean is not the exact one, which costs half the square of the distance per unknown
        away = np.hypot(nearby.log_det.error, rest.error)
        error = float(away / 2 + len(mean) * distances[0] ** 2 / 2)
    if given.searched:
        improved, promise = improved_variances(given, precision, gap, mean, samples, effective)
    return MatrixFreePosterior(
        mean,
        np.sqrt(variance),
        Evidence(evidence, given.noise_variance, given.noise_scale, given.prior_variance, ()),
        np.stack(q) + offsets,
        precision,
        (int(steps[0]), int(steps.max())),
        method,
        float(distances[0]),
        effective,
        improved,
        error,
        promise,
    )


def preconditioner(precision: Precision, *, with_log_det: bool = False) -> Preconditioner:
    """The approximate inverse of the precision that fits its learner model and size.

    Args:
        precision: of the reward.
        with_log_det: whether its log determinant is wanted even if it takes long.
    """
    if can_share(precision):
        return shared_preconditioner(precision)
    if can_probe(precision):
        return probed_preconditioner(precision)
    return diagonal_preconditioner(precision, with_log_det=with_log_det)


def _calibrated(parts: Sequence[FloatArray], squares: FloatArray) -> FloatArray:
    """The positive combination of variances that makes squares of samples most likely."""
    usual = [float(np.mean(squares / part)) for part in parts]

    def loss(logs: FloatArray) -> float:
        variance = sum(np.exp(log) * part for log, part in zip(logs, parts, strict=True))
        return float(np.mean(np.log(variance) + squares / variance))

    found = minimize(loss, np.log(usual) - np.log(len(parts)), method="Nelder-Mead")
    return np.asarray(sum(np.exp(log) * part for log, part in zip(found.x, parts, strict=True)))
