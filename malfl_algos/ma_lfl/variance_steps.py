"""Steps of noise and prior variance towards larger evidence, without log determinants.

A row's variance is a sum of components v V_v, of which the log evidence has the derivative
(y' P V_v P y - tr(P V_v)) / 2 with P the inverse covariance of the data. The quadratic form follows
from the residuals of the mean, the trace from samples of the posterior. The components take a step
of Fisher scoring, with the information tr(P V_v P V_w) / 2, at most by the factor `LARGEST_STEP`;
the prior variance becomes the mean square of the rewards per effective parameter (MacKay 1992).
Both rest where the evidence does.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from malfl_algos.ma_lfl.matrix_free_values import Values
from malfl_algos.ma_lfl.posterior import NOISE_BOUNDS, PRIOR_BOUNDS, SCALE_BOUNDS, Given
from malfl_algos.ma_lfl.precision import Precision, contrast, in_threads

__all__ = ["effective_parameters", "improved_variances"]

FloatArray = NDArray[np.float64]

LARGEST_STEP = 10.0
"""Largest factor by which a step changes a component of the rows' variance."""
ROUGH = 1e-6
"""Relative residual of the solves for the samples' action values."""


def effective_parameters(samples: FloatArray, of_prior: FloatArray, prior_variance: float) -> float:
    """Number of parameters that the data determine, n - 1 - tr C, where C is the posterior
    covariance relative to the prior, of rewards with their mean removed.

    A sample is x = A^-1 (p + d), A the precision, where p comes from the prior and d from the data.
    The expectations of x' x / v and p' x are tr C, and that of v p' p is n - 1. So
    n - 1 - x' x / v and v p' p - p' x have the wanted expectation. Their variances are 2 tr C^2 and
    2 tr (1 - C)^2 + tr C (1 - C): the first is the better one where the data say much, the second
    where they say little. They are weighted as if C were a multiple of the identity.

    Args:
        samples: x, `(n_unknowns, k)`.
        of_prior: p, same shape.
        prior_variance: v.
    """
    x, p = samples - samples.mean(axis=0), of_prior - of_prior.mean(axis=0)
    n, k = len(x) - 1, x.shape[1]
    much = n - float((x**2).sum()) / k / prior_variance
    little = float((prior_variance * p**2 - p * x).sum()) / k
    left = 1 - float(np.clip((much + little) / 2 / max(n, 1), 0.0, 1.0))
    spread = 2 * left**2, 2 * (1 - left) ** 2 + left * (1 - left)
    return max(float(much * spread[1] + little * spread[0]) / sum(spread), 0.0)


def improved_variances(
    given: Given,
    precision: Precision,
    gap: FloatArray,
    mean: FloatArray,
    samples: FloatArray,
    effective: float,
) -> tuple[Given, float]:
    """Noise and prior after one step towards larger evidence, within their bounds, and the rise of
    the log evidence that the step promises.

    Args:
        given: the present ones.
        precision: of the posterior under them.
        gap: response minus action values at the mean, `(n_stages, n_states, n_actions)`.
        mean: of the posterior.
        samples: of the posterior about its mean, `(n_unknowns, k)`.
        effective: number of parameters that the data determine.
    """
    rows, weights = precision.rows, precision.weights
    unit = rows.temperature**2
    gap = np.where(weights > 0, gap, 0.0)
    total = np.maximum(weights.sum(axis=-1, keepdims=True), 1e-300)
    kept = weights - weights**2 / total
    misfit = np.stack([contrast(own, w) for own, w in zip(gap, weights, strict=True)]) ** 2

    def spread(values: Values, w: FloatArray) -> FloatArray:
        seen = contrast(values.apply(samples, residual=ROUGH), w)
        return np.asarray(np.mean(seen**2, axis=-1))

    free = kept - np.stack(in_threads(spread, rows.values, weights))
    present, bounds = [given.noise_variance], [unit * np.array(NOISE_BOUNDS)]
    components = [np.ones(free.shape)]
    if rows.model_variance.any():
        present, bounds = [*present, given.noise_scale], [*bounds, np.array(SCALE_BOUNDS)]
        components.append(rows.model_variance)
    slope = np.array([((misfit - free) * own).sum() for own in components]) / 2
    seen = np.stack([(free * own).ravel() for own in components])
    moved, promise = _scored(np.array(present), slope, seen @ seen.T / 2, np.array(bounds))
    size, determined = float(np.sum((mean - mean.mean()) ** 2)), max(effective, 1.0)
    prior = float(np.clip(size / determined, *(unit * np.array(PRIOR_BOUNDS))))
    if prior != given.prior_variance:
        # the information of log v is tr (1 - C)^2 / 2, at least this
        information = determined**2 / len(mean) / 2
        promise += (size / given.prior_variance - determined) ** 2 / (8 * information)
    noise, scale = (*moved, given.noise_scale)[:2]
    return Given(float(noise), float(scale), prior, searched=True), promise


def _scored(
    present: FloatArray, slope: FloatArray, information: FloatArray, bounds: FloatArray
) -> tuple[FloatArray, float]:
    """Values after a step of Fisher scoring, and the rise that it promises. Values on a bound that
    their slope does not leave stay there.

    Args:
        present: values, > 0.
        slope, information: of the log evidence.
        bounds: of every value, `(n, 2)`.
    """
    lows, highs = bounds.T
    stuck = ((present <= lows) & (slope < 0)) | ((present >= highs) & (slope > 0))
    free = np.flatnonzero(~stuck & (np.diag(information) > 0))
    if not len(free):
        return present, 0.0
    moved = present.copy()
    steps = np.linalg.lstsq(information[np.ix_(free, free)], slope[free], rcond=1e-8)[0]
    moved[free] += np.clip(
        steps, present[free] * (1 / LARGEST_STEP - 1), present[free] * (LARGEST_STEP - 1)
    )
    return np.clip(moved, lows, highs), float(slope[free] @ steps) / 2
