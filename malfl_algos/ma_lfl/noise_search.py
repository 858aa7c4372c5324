"""The search for noise and prior variance by the gradient of the log evidence.

With row variances d = noise + scale * model + counting, prior covariance V P and projected rows
(`row_sums`), the log evidence has the derivatives

  dL/dd_i = ((Omega r)_i^2 + (Omega K Sigma K' Omega)_ii - Omega_ii) / 2,
  dL/dlog V = (m' P m / V + tr(P Sigma) / V - rank P) / 2,

where Omega is the precision of the rows with the constants integrated out, m and Sigma are the
posterior mean and covariance of the reward, and r = y - K m. Newton's method takes the average
information of Gilmour, Thompson and Cullis (1995), w_j' Q w_k / 2 with w_j = (dC/dphi_j) Q y, in
place of the negative second derivatives, for the logarithms of noise, scale and V.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.linalg
from numpy.typing import NDArray
from scipy.linalg.blas import dtrsm

from malfl_algos.ma_lfl.posterior import MEAN_VARIANCE, cholesky, mean_precision
from malfl_algos.ma_lfl.row_sums import projected_blocks, total_of
from malfl_algos.ma_lfl.rows import Rows
from malfl_algos.normal import Normal
from malfl_algos.work.compilation import compiled

__all__ = ["NoiseFit", "noise_fit", "searched_noise"]

FloatArray = NDArray[np.float64]

WIDEST_STEP = 1.5
"""Largest change of a logarithm in one step."""
DAMPING = 1e-6
"""Smallest number that is added to the information of every logarithm."""
SMALL_GAIN, SMALL_STEP = 0.02, 0.02
"""The search ends if the next step promises less log evidence, or changes all logarithms by less.
"""
SHORTER = 4
"""Largest number of times that a step is shortened because the log evidence fell."""


@dataclass(frozen=True, eq=False)
class NoiseFit:
    """The posterior at one noise, scale and prior variance, and the derivatives of its evidence.

    Args:
        logs: their logarithms; without the scale if that is not searched.
        log_evidence: log evidence.
        gradient: its derivatives by the logarithms.
        information: average information, a positive semidefinite matrix.
        mean, precision: of the posterior.
        sums: of the rows.
    """

    logs: FloatArray
    log_evidence: float
    gradient: FloatArray
    information: FloatArray
    mean: FloatArray
    precision: FloatArray
    sums: Normal


def searched_noise(
    rows: Rows, start: FloatArray, bounds: tuple[FloatArray, FloatArray], *, evaluations: int
) -> NoiseFit:
    """The noise, scale and prior variance of largest evidence near a start.

    Args:
        rows: without a chain and stagewise factors.
        start: logarithms of noise, scale (left out if it is 0) and prior variance.
        bounds: smallest and largest logarithms.
        evaluations: largest number of points that are tried, but for steps that are shortened.
    """
    low, high = bounds
    here = noise_fit(rows, np.clip(start, low, high))
    for _ in range(evaluations - 1):
        step = _newton_step(here, low, high)
        gain = here.gradient @ step - step @ here.information @ step / 2
        if np.abs(step).max() < SMALL_STEP or gain < SMALL_GAIN:
            break
        there = noise_fit(rows, np.clip(here.logs + step, low, high))
        for _ in range(SHORTER):
            if there.log_evidence >= here.log_evidence:
                break
            step = step / 3
            there = noise_fit(rows, np.clip(here.logs + step, low, high))
        if there.log_evidence < here.log_evidence:
            break
        here = there
    return here


def _newton_step(at: NoiseFit, low: FloatArray, high: FloatArray) -> FloatArray:
    """The step of Newton's method along the logarithms that no bound holds.

    It is damped until it is short enough. A flat direction, such as a noise near 0, is then held
    back, and the others hardly.
    """
    stuck = ((at.logs <= low) & (at.gradient < 0)) | ((at.logs >= high) & (at.gradient > 0))
    free = np.flatnonzero(~stuck)
    step = np.zeros(len(at.logs))
    if not len(free):
        return step
    curved = at.information[np.ix_(free, free)]
    curved = curved + 1e-3 * np.diag(np.diag(curved))
    damping = DAMPING
    while True:
        step[free] = np.linalg.solve(curved + damping * np.eye(len(free)), at.gradient[free])
        if np.abs(step).max() <= WIDEST_STEP:
            return step
        damping *= 10


def noise_fit(rows: Rows, logs: FloatArray) -> NoiseFit:
    """The posterior for logarithms of noise, scale and prior variance; see `NoiseFit`."""
    noise, *scales, prior_variance = (float(own) for own in np.exp(logs))
    scale = scales[0] if scales else 0.0
    variance = noise + scale * rows.model_variance + rows.response_variance
    blocks = list(projected_blocks(rows.coefficients, rows.response, variance))
    sums = total_of(blocks)
    prior = rows.prior
    rank = float(np.trace(prior))
    precision = sums.information + prior / prior_variance + mean_precision(rows)
    factor = cholesky(precision, lower=True)
    mean = np.asarray(scipy.linalg.cho_solve((factor, True), sums.moment))
    of_mean = (len(prior) - rank) * np.log(MEAN_VARIANCE * rows.temperature**2)
    volume = 2 * np.log(np.diag(factor)).sum() + rank * np.log(prior_variance) + of_mean
    # the sum of squares that is left says what is lost in the difference of two large ones
    unexplained = float(mean @ (precision - sums.information) @ mean)
    size = len(scales) + 1
    gradient, moved = np.zeros(size), np.zeros((size + 1, size + 1))
    pulls = np.zeros((len(prior), size + 1))
    free = prior @ mean
    for block in blocks:
        model = rows.model_variance[block.stages, block.states].reshape(block.weight.shape)
        slopes = np.stack([np.full(model.shape, noise), *(own * model for own in scales)])
        left = block.projected[:, -1] - block.projected[:, :-1] @ mean
        spread = _rooted(block.projected, factor)
        unexplained += float(left @ left)
        along = np.zeros((len(spread), size + 1))
        along[:, -1] = spread[:, :-1] @ (factor.T @ free)
        _derivatives(block.weight, spread, left, slopes, gradient, along)
        moved += along.T @ along
        pulls += spread[:, :-1].T @ along
    covered = scipy.linalg.cho_solve((factor, True), prior).trace()
    by_prior = (float(mean @ free + covered) / prior_variance - rank) / 2
    return NoiseFit(
        np.asarray(logs),
        sums.log_norm - (unexplained + float(volume)) / 2,
        np.append(gradient, by_prior),
        (moved - pulls.T @ pulls) / 2,
        mean,
        precision,
        sums,
    )


def _rooted(projected: FloatArray, factor: FloatArray) -> FloatArray:
    """The projected coefficients times a root of the posterior covariance, in place; the response
    stays as it is.
    """
    size = len(projected.T)
    extended = np.eye(size, order="F")
    extended[:-1, :-1] = factor
    return np.asarray(dtrsm(1.0, extended, projected.T, lower=1, overwrite_b=1)).T


@compiled()
def _derivatives(  # noqa: C901 - a compiled loop over plain arrays
    weight: Any, spread: Any, left: Any, slopes: Any, gradient: Any, along: Any
) -> None:  # pragma: no cover
    """Add a block's part of the gradient, and write the projected w_j into `along`.

    Args:
        weight: `(n_groups, n_actions)`.
        spread: of `_rooted`.
        left: projected residuals.
        slopes: derivatives of the variances by the logarithms, `(n_logs, n_groups, n_actions)`.
    """
    n_logs, n_groups, n_actions = slopes.shape
    width = spread.shape[1] - 1
    axis = np.zeros(n_actions)
    root = np.zeros(n_actions)
    shared = np.zeros(width)
    told = np.zeros((n_logs, width))
    for g in range(n_groups):
        total = 0.0
        for a in range(n_actions):
            total += weight[g, a]
        if total == 0.0:
            continue
        for a in range(n_actions):
            root[a] = np.sqrt(weight[g, a])
            axis[a] = root[a] / np.sqrt(total)
        axis[0] += 1.0
        first = g * (n_actions - 1) - 1
        shared[:] = 0.0
        pulled = 0.0
        for a in range(1, n_actions):
            pulled += axis[a] * left[first + a]
            for k in range(width):
                shared[k] += axis[a] * spread[first + a, k]
        crossed = np.zeros(n_logs)
        residual = np.zeros(n_actions)
        for a in range(n_actions):
            share = axis[a] / axis[0]
            w = weight[g, a]
            residual[a] = -root[a] * share * pulled
            if a > 0:
                residual[a] += root[a] * left[first + a]
            by_variance = (residual[a] ** 2 - w * (1.0 - w / total)) / 2.0
            for j in range(n_logs):
                gradient[j] += by_variance * slopes[j, g, a]
                crossed[j] += root[a] * share * slopes[j, g, a] * residual[a]
                part = w * slopes[j, g, a] / 2.0
                if a == 0:
                    for k in range(width):
                        told[j, k] += part * (share * shared[k]) ** 2
                else:
                    for k in range(width):
                        told[j, k] += part * (spread[first + a, k] - share * shared[k]) ** 2
        for a in range(1, n_actions):
            for j in range(n_logs):
                own = root[a] * slopes[j, g, a] * residual[a]
                along[first + a, j] = own - axis[a] * crossed[j]
    for j in range(n_logs):
        for k in range(width):
            gradient[j] += told[j, k]
