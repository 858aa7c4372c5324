"""Agreement with the ground truth: correlation over joint states, calibration of the posterior."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from malfl_algos.scores.means import Score
from malfl_env.arguments import typed
from malfl_env.errors import InputError

__all__ = ["CALIBRATION", "calibration", "mean_removed_sd", "pearson", "spearman", "state_values"]

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

CALIBRATION = ("coverage_1sd", "coverage_2sd", "coverage_3sd", "sd_ratio")


def state_values(reward: FloatArray) -> FloatArray:
    """A reward over joint states, `(n_states,)`; averaged uniformly over joint actions, if any."""
    table = np.asarray(reward, dtype=np.float64)
    return np.asarray(table.mean(axis=tuple(range(1, table.ndim))))


@typed
def pearson(estimate: FloatArray, truth: FloatArray, *, states: BoolArray | None = None) -> Score:
    """Pearson r of an estimated and a ground-truth reward over joint states.

    Args:
        estimate, truth: the recovered and the ground-truth reward, `(n_states,)` or
            `(n_states, *n_actions)`. The second form is averaged uniformly over joint actions.
        states: bool `(n_states,)`: the joint states to compare; None means all.

    Returns:
        A value in [-1, 1], or None with a reason: the ground truth or the estimate is constant, or
        the estimate is not finite.

    Raises:
        InputError: the numbers of joint states differ, or the ground truth is not finite.
    """
    estimated, true = _compared(estimate, truth, states)
    return _correlation(estimated, true)


@typed
def spearman(estimate: FloatArray, truth: FloatArray, *, states: BoolArray | None = None) -> Score:
    """Spearman rho: Pearson r of ranks; ties share their mean rank.

    Args:
        estimate, truth, states: as of `pearson`.

    Returns:
        A value in [-1, 1], or None with a reason, as `pearson`.

    Raises:
        InputError: as `pearson`.
    """
    estimated, true = _compared(estimate, truth, states)
    return _correlation(estimated, true, ranked=True)


def mean_removed_sd(covariance: FloatArray) -> FloatArray:
    """Posterior standard deviations of values minus their mean: root of the diagonal of J C J.

    J = I - 11'/n removes the common offset of all values, because the mean of a reward is not
    identified.

    Args:
        covariance: C, symmetric `(n, n)`.

    Returns:
        `(n,)`, >= 0.
    """
    means = covariance.mean(axis=0)
    variance = np.diagonal(covariance) - 2 * means + means.mean()
    return np.asarray(np.sqrt(np.maximum(variance, 0)))


@typed
def calibration(
    estimate: FloatArray,
    truth: FloatArray,
    covariance: FloatArray,
    *,
    states: BoolArray | None = None,
) -> dict[str, Score]:
    """Share of mean-removed ground-truth values within 1, 2, 3 posterior standard deviations.

    A well calibrated Gaussian posterior has shares of 0.683, 0.954 and 0.997. A posterior can reach
    high shares by being wide; the ratio of standard deviations shows this.

    Args:
        estimate: posterior mean, `(n_states,)` or `(n_states, *n_actions)`.
        truth: the ground truth, in either shape. It is repeated over joint actions, or averaged
            over them, to fit the estimate.
        covariance: of the posterior, `(n_values, n_values)` over the flattened estimate.
        states: bool `(n_states,)`: the joint states to compare; None means all.

    Returns:
        `coverage_1sd`, `coverage_2sd`, `coverage_3sd` in [0, 1], and `sd_ratio`: mean posterior
        standard deviation divided by the standard deviation of the ground truth. Means are removed
        over the compared values. None with a reason if the posterior is not finite, and for the
        ratio also if the ground truth is constant.

    Raises:
        InputError: the shapes do not fit.
    """
    estimated = np.asarray(estimate, dtype=np.float64)
    if covariance.shape != (estimated.size, estimated.size):
        raise InputError(
            f"the posterior covariance of an estimate of shape {estimated.shape} has shape "
            f"{covariance.shape}, expected {(estimated.size, estimated.size)}"
        )
    true = _spread(np.asarray(truth, dtype=np.float64), estimated.shape)
    counted = np.ones(len(estimated), dtype=bool) if states is None else states
    values = np.flatnonzero(np.repeat(counted, estimated.size // len(estimated)))
    estimated, true = estimated.ravel()[values], true.ravel()[values]
    spread = covariance[np.ix_(values, values)]
    if not (np.all(np.isfinite(estimated)) and np.all(np.isfinite(spread))):
        return dict.fromkeys(
            CALIBRATION, Score(None, "the posterior has values that are not finite")
        )
    true = true - true.mean()
    error = np.abs(estimated - estimated.mean() - true)
    sd = mean_removed_sd(spread)
    scores = {f"coverage_{k}sd": Score(float(np.mean(error <= k * sd))) for k in (1, 2, 3)}
    if np.ptp(true) <= 1e-12 * np.abs(truth).max():
        return scores | {"sd_ratio": Score(None, "the ground-truth reward is constant")}
    return scores | {"sd_ratio": Score(float(sd.mean() / true.std()))}


def _compared(
    estimate: FloatArray, truth: FloatArray, states: BoolArray | None
) -> tuple[FloatArray, FloatArray]:
    """Both rewards over the compared joint states, `(n_compared,)`."""
    estimated, true = state_values(estimate), state_values(truth)
    if estimated.shape != true.shape:
        raise InputError(
            f"the estimate has {len(estimated)} joint states, the ground truth {len(true)}: "
            "both must be rewards of one game"
        )
    if states is not None:
        estimated, true = estimated[states], true[states]
    if not np.all(np.isfinite(true)):
        raise InputError("the ground-truth reward has values that are not finite")
    return estimated, true


def _correlation(estimated: FloatArray, true: FloatArray, *, ranked: bool = False) -> Score:
    if not np.all(np.isfinite(estimated)):
        return Score(None, "the estimate has values that are not finite")
    for name, values in (("ground-truth reward", true), ("estimate", estimated)):
        if _is_constant(values):
            return Score(None, f"the {name} is constant")
    one, other = (_unit(_ranks(values) if ranked else values) for values in (estimated, true))
    return Score(float(np.clip(one @ other, -1.0, 1.0)))


def _is_constant(values: FloatArray) -> bool:
    # averaging leaves rounding errors in a constant
    return len(values) < 2 or bool(np.ptp(values) <= 1e-12 * np.abs(values).max())


def _ranks(values: FloatArray) -> FloatArray:
    """Ranks 1, 2, ...; ties share their mean rank."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    mean_rank = np.cumsum(counts) - (counts - 1) / 2
    return np.asarray(mean_rank[place])


def _unit(values: FloatArray) -> FloatArray:
    """The values, shifted and scaled to mean 0 and length 1."""
    scaled = values / np.abs(values).max()  # so that squares neither overflow nor vanish
    centred = scaled - scaled.mean()
    return np.asarray(centred / np.linalg.norm(centred))


def _spread(truth: FloatArray, shape: tuple[int, ...]) -> FloatArray:
    """The ground truth, in the shape of the estimate."""
    if len(truth) != shape[0] or (truth.ndim > 1 and len(shape) > 1 and truth.shape != shape):
        raise InputError(
            f"the estimate has shape {shape}, the ground truth {truth.shape}: they do not fit"
        )
    if len(shape) == 1:
        return np.asarray(truth.mean(axis=tuple(range(1, truth.ndim))))
    if truth.ndim == 1:
        truth = truth.reshape(-1, *[1] * (len(shape) - 1))
    return np.broadcast_to(truth, shape)
