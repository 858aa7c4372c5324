"""Step and noise of every stage, chosen by the evidence.

Learners whose step sizes or gradient errors change from stage to stage follow
x_{h+1} = rho x_h + kappa_h (1 - rho) q_h + c_h(s) + noise of variance lambda_h v. Beforehand
log kappa_h has the standard deviation `SCALE_SPREAD`, log lambda_h has `NOISE_SPREAD`. Their
most probable values are found by gradients. By Fisher's identity the gradient of the log evidence
is the posterior mean of the gradient of the log density of data and reward.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import scipy.linalg
from numpy.typing import NDArray
from scipy.optimize import minimize

from malfl_algos.ma_lfl.improvement import step_of
from malfl_algos.ma_lfl.rows import (
    Rows,
    Stagewise,
    grouped,
    retained_of,
    stage_sums,
    unstaged,
    whitened,
)

__all__ = ["StageKind", "fitted_stages", "stage_gain", "stage_gradient", "stage_uncertainty"]

FloatArray = NDArray[np.float64]
StageKind = Literal["same", "noise", "scale", "both"]

SCALE_SPREAD, NOISE_SPREAD = 0.5, 1.5
STEPS = 20
"""Largest number of steps of one search."""
DIFFERENCE = 1e-3
"""Step of differences in log kappa_h."""
WIDEST = 5.0
"""Bound of log kappa_h and log lambda_h."""


@dataclass(frozen=True, eq=False)
class StageGradient:
    """Log evidence at fixed noise and prior, up to a constant, and its derivatives.

    Args:
        value: log evidence.
        scales, noises: derivatives by log kappa_h and log lambda_h, `(n_stages,)`.
        scale_information, noise_information: expected negative second derivatives, same shape.
        mean: posterior mean of theta.
    """

    value: float
    scales: FloatArray
    noises: FloatArray
    scale_information: FloatArray
    noise_information: FloatArray
    mean: FloatArray


def stage_gradient(
    rows: Rows, noise: float, scale: float, prior_precision: FloatArray
) -> StageGradient:
    """The log evidence of rows with stagewise factors, and its derivatives by their logarithms.

    Args:
        rows: the data, with stagewise factors.
        noise, scale: noise variance, and factor on the model's variance.
        prior_precision: of theta, `(n_unknowns, n_unknowns)`.
    """
    assert rows.stagewise is not None
    applied, factors = unstaged(rows)
    white, response = whitened(applied, noise * factors, scale)
    n_unknowns, step = len(prior_precision), step_of(retained_of(rows))
    columns = step * grouped(rows, applied.coefficients)
    rooted = white.root @ columns
    flat = rooted.reshape(-1, n_unknowns)
    along = np.einsum("sij,sj->si", white.root, response)
    moment = flat.T @ along.ravel()
    factor = scipy.linalg.cholesky(prior_precision + flat.T @ flat, lower=True)
    mean = scipy.linalg.cho_solve((factor, True), moment)
    half = scipy.linalg.solve_triangular(factor, moment, lower=True)
    spread = 2 * np.log(np.diag(factor)).sum()
    value = white.log_norm + (half @ half - (along**2).sum() - spread) / 2
    # theta = mean + inverse' times a standard normal
    inverse = scipy.linalg.solve_triangular(factor, np.eye(n_unknowns), lower=True)
    back = white.root.transpose(0, 2, 1)
    precise = back @ rooted
    pull = np.einsum("sij,sj->si", back, along) - precise @ mean
    drawn = (columns.reshape(flat.shape) @ inverse.T).reshape(columns.shape)
    pulled = (precise.reshape(flat.shape) @ inverse.T).reshape(columns.shape)
    offset = grouped(rows, rows.stagewise.scales[:, None, None] * rows.stagewise.offset)
    drift = columns @ mean + (1 - retained_of(rows)) * offset
    by_row = drift * pull - (drawn * pulled).sum(axis=-1)
    own = (white.root**2).sum(axis=1)
    by_variance = (pull**2 + (pulled**2).sum(axis=-1) - own) / 2
    unexplained = noise * rows.stagewise.noises
    model = scale * step**2 * grouped(rows, applied.model_variance)
    return StageGradient(
        float(value),
        stage_sums(rows, by_row + 2 * by_variance * model),
        stage_sums(rows, by_variance) * unexplained,
        stage_sums(rows, drift**2 * own),
        stage_sums(rows, own**2) * unexplained**2 / 2,
        mean,
    )


def fitted_stages(
    rows: Rows, noise: float, scale: float, prior_precision: FloatArray, kind: StageKind
) -> Rows:
    """The rows with the most probable steps and noises of the stages."""
    assert rows.stagewise is not None
    n = len(rows.response)
    with_scales, with_noises = kind in ("scale", "both"), kind in ("noise", "both")

    def at(logs: FloatArray) -> Rows:
        assert rows.stagewise is not None
        log_scales, log_noises = logs[:n] * with_scales, logs[n:] * with_noises
        factors = replace(rows.stagewise, scales=np.exp(log_scales), noises=np.exp(log_noises))
        return replace(rows, stagewise=factors)

    start = np.log(np.concatenate([rows.stagewise.scales, rows.stagewise.noises]))
    spread = np.repeat([SCALE_SPREAD, NOISE_SPREAD], n)
    first = stage_gradient(at(start), noise, scale, prior_precision)
    information = np.concatenate([first.scale_information, first.noise_information])
    unit = 1 / np.sqrt(information + 1 / spread**2)

    def loss(point: FloatArray) -> tuple[float, FloatArray]:
        logs = unit * point
        found = stage_gradient(at(logs), noise, scale, prior_precision)
        slope = np.concatenate([with_scales * found.scales, with_noises * found.noises])
        gap = float((logs**2 / spread**2).sum()) / 2 - found.value
        return gap, unit * (logs / spread**2 - slope)

    best = minimize(
        loss,
        start / unit,
        jac=True,
        method="L-BFGS-B",
        bounds=[(-WIDEST / size, WIDEST / size) for size in unit],
        options={"maxiter": STEPS, "maxfun": 2 * STEPS},
    )
    return at(unit * np.asarray(best.x))


def stage_uncertainty(
    rows: Rows, noise: float, scale: float, prior_precision: FloatArray, kind: StageKind
) -> tuple[float, FloatArray]:
    """Laplace's approximation of the integral over steps and noises of the stages.

    Returns:
        What the integral adds to the log evidence at their most probable values, and a root
        `(n_unknowns, n_stages)` of the part of the covariance of theta that comes from the steps.
    """
    assert rows.stagewise is not None
    factors = rows.stagewise
    here = stage_gradient(rows, noise, scale, prior_precision)
    added, root = 0.0, np.zeros((len(here.mean), 0))
    if kind in ("noise", "both"):
        width = here.noise_information * NOISE_SPREAD**2 + 1
        added -= float((np.log(factors.noises) ** 2).sum() / NOISE_SPREAD**2 + np.log(width).sum())
    if kind in ("scale", "both"):
        curvature, slopes = [], []
        for h in range(len(factors.scales)):
            moved = factors.scales.copy()
            moved[h] *= np.exp(DIFFERENCE)
            there = replace(rows, stagewise=replace(factors, scales=moved))
            found = stage_gradient(there, noise, scale, prior_precision)
            curvature.append((here.scales - found.scales) / DIFFERENCE)
            slopes.append((found.mean - here.mean) / DIFFERENCE)
        precision = np.array(curvature)
        precision = (precision + precision.T) / 2
        values, vectors = np.linalg.eigh(precision)
        values = np.maximum(values, 0) + 1 / SCALE_SPREAD**2
        root = np.array(slopes).T @ (vectors / np.sqrt(values))
        added -= float((np.log(factors.scales) ** 2).sum() / SCALE_SPREAD**2)
        added -= float(np.log(values * SCALE_SPREAD**2).sum())
    return added / 2, root


def stage_gain(rows: Rows, noise: float, scale: float, prior_precision: FloatArray) -> float:
    """The rise of the log evidence that steps and noises by stage promise, by one Newton step.

    It counts what the further parameters cost, as `stage_uncertainty` does.
    """
    n_stages = len(rows.response)
    if rows.stagewise is None:
        ones = np.ones(n_stages)
        rows = replace(rows, stagewise=Stagewise(ones, ones, np.zeros(rows.response.shape)))
    found = stage_gradient(rows, noise, scale, prior_precision)
    gain = 0.0
    for slope, information, spread in (
        (found.scales, found.scale_information, SCALE_SPREAD),
        (found.noises, found.noise_information, NOISE_SPREAD),
    ):
        gain += float((slope**2 / (information + 1 / spread**2)).sum()) / 2
        gain -= float(np.log(information * spread**2 + 1).sum()) / 2
    return gain
