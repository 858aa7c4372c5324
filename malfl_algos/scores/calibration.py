"""Whether an observer is as sure of a reward as it may be: posterior deviations against errors."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from malfl_algos.scores.means import Score
from malfl_env.errors import InputError

__all__ = ["CALIBRATION", "calibration", "mean_removed_sd"]

FloatArray = NDArray[np.float64]

CALIBRATION = ("coverage_1sd", "coverage_2sd", "coverage_3sd", "sd_ratio")


def mean_removed_sd(covariance: FloatArray) -> FloatArray:
    """Posterior deviations of values less their mean: root of the diagonal of J C J.

    J = I - 11'/n. What is common to all values drops out: a reward's level is not claimed.

    Args:
        covariance: C, symmetric `(n, n)`.

    Returns:
        `(n,)`, >= 0.
    """
    means = covariance.mean(axis=0)
    variance = np.diagonal(covariance) - 2 * means + means.mean()
    return np.asarray(np.sqrt(np.maximum(variance, 0)))


def calibration(
    estimate: FloatArray,
    truth: FloatArray,
    covariance: FloatArray,
    *,
    states: NDArray[np.bool_] | None = None,
) -> dict[str, Score]:
    """How often the mean-removed truth lies within 1, 2, 3 posterior deviations.

    For a Gaussian posterior that is neither too sure nor too timid: 0.683, 0.954, 0.997. Bars can
    cover by being wide, which the ratio shows.

    Args:
        estimate: posterior mean, `(n_states,)` or `(n_states, *n_actions)`.
        truth: either shape; a truth of the state is spread over joint actions, one over joint
            actions is averaged over them where the estimate is of the state.
        covariance: posterior, `(n_values, n_values)` over the flattened estimate.
        states: bool `(n_states,)`: the joint states that count; all when left out.

    Returns:
        `coverage_1sd`, `coverage_2sd`, `coverage_3sd` in [0, 1], and `sd_ratio`: mean posterior
        deviation over the deviation of the truth, both mean-removed and over the values that count.
        None with a reason where something is not finite, or (the ratio) the truth is constant.

    Raises:
        InputError: for shapes that do not fit.
    """
    estimated = np.asarray(estimate, dtype=np.float64)
    if covariance.shape != (estimated.size, estimated.size):
        raise InputError(
            f"the posterior covariance has shape {covariance.shape}, "
            f"expected {(estimated.size, estimated.size)}"
        )
    true = _spread(np.asarray(truth, dtype=np.float64), estimated.shape)
    counted = np.ones(len(estimated), dtype=bool) if states is None else states
    values = np.flatnonzero(np.repeat(counted, estimated.size // len(estimated)))
    estimated, true = estimated.ravel()[values], true.ravel()[values]
    spread = covariance[np.ix_(values, values)]
    if not (np.all(np.isfinite(estimated)) and np.all(np.isfinite(spread))):
        return _none("the posterior has values that are not finite")
    true = true - true.mean()
    error = np.abs(estimated - estimated.mean() - true)
    sd = mean_removed_sd(spread)
    scores = {f"coverage_{k}sd": Score(float(np.mean(error <= k * sd))) for k in (1, 2, 3)}
    if np.ptp(true) <= 1e-12 * np.abs(truth).max():
        return scores | {"sd_ratio": Score(None, "the ground-truth reward is constant")}
    return scores | {"sd_ratio": Score(float(sd.mean() / true.std()))}


def _none(reason: str) -> dict[str, Score]:
    return {name: Score(None, reason) for name in CALIBRATION}


def _spread(truth: FloatArray, shape: tuple[int, ...]) -> FloatArray:
    """The truth over what the estimate is a function of."""
    if len(truth) != shape[0] or (truth.ndim > 1 and len(shape) > 1 and truth.shape != shape):
        raise InputError(f"the estimate has shape {shape}, the truth {truth.shape}")
    if len(shape) == 1:
        return np.asarray(truth.mean(axis=tuple(range(1, truth.ndim))))
    if truth.ndim == 1:
        truth = truth.reshape(-1, *[1] * (len(shape) - 1))
    return np.broadcast_to(truth, shape)
