"""How well a recovered reward agrees with the ground truth: correlation over joint states."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from malfl_algos.scores.means import Score
from malfl_env.errors import InputError

__all__ = ["pearson", "spearman", "state_values"]

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]


def state_values(reward: FloatArray) -> FloatArray:
    """A reward over joint states: one over joint actions is averaged uniformly over them,
    `(n_states,)`."""
    table = np.asarray(reward, dtype=np.float64)
    return np.asarray(table.mean(axis=tuple(range(1, table.ndim))))


def pearson(estimate: FloatArray, truth: FloatArray, *, states: BoolArray | None = None) -> Score:
    """Pearson's correlation of an estimated and a ground-truth reward over joint states.

    Args:
        estimate, truth: `(n_states,)` or `(n_states, *n_actions)`; the latter is averaged uniformly
            over joint actions.
        states: bool `(n_states,)`: the joint states that count; all when left out.

    Returns:
        A value in [-1, 1], or None with a reason where the truth or the estimate is constant or the
        estimate is not finite.

    Raises:
        InputError: where the two are not of one number of joint states, or the truth is not finite.
    """
    estimated, true = _compared(estimate, truth, states)
    return _correlation(estimated, true)


def spearman(estimate: FloatArray, truth: FloatArray, *, states: BoolArray | None = None) -> Score:
    """Spearman's rank correlation, ties sharing their mean rank; otherwise as `pearson`."""
    estimated, true = _compared(estimate, truth, states)
    return _correlation(estimated, true, ranked=True)


def _compared(
    estimate: FloatArray, truth: FloatArray, states: BoolArray | None
) -> tuple[FloatArray, FloatArray]:
    """Both over the joint states that count, `(n_states,)`."""
    estimated, true = state_values(estimate), state_values(truth)
    if estimated.shape != true.shape:
        raise InputError(
            f"the estimate is of {len(estimated)} joint states, the truth of {len(true)}"
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
    # what is left of a constant after averaging is rounding, not signal
    return len(values) < 2 or bool(np.ptp(values) <= 1e-12 * np.abs(values).max())


def _ranks(values: FloatArray) -> FloatArray:
    """Ranks 1, 2, ...; ties share their mean rank."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    mean_rank = np.cumsum(counts) - (counts - 1) / 2
    return np.asarray(mean_rank[place])


def _unit(values: FloatArray) -> FloatArray:
    """The values with mean 0 and length 1."""
    scaled = values / np.abs(values).max()  # so that squares neither overflow nor vanish
    centred = scaled - scaled.mean()
    return np.asarray(centred / np.linalg.norm(centred))
