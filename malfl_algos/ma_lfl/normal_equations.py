"""Weighted normal equations of a reward, a constant per state integrated out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Normal", "Rows", "normal_equations", "normal_equations_of"]

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Rows:
    """All that the data say, one row per stage, state and action.

    Args:
        coefficients: K, `(n_stages, n_states, n_actions, n_unknowns)`.
        response: alpha log pi minus b, `(n_stages, n_states, n_actions)`, up to a constant per
            state.
        response_variance: of the response; infinite where nothing was seen.
        model_variance: the learner's noise as its model predicts it.
        prior: precision matrix of theta for a prior variance of one, `(n_unknowns, n_unknowns)`, a
            projection; what it leaves free (the level of the reward) has variance `MEAN_VARIANCE`.
        log_constant: what the evidence lacks, see `Response`.
        temperature: alpha, the unit of all bounds.
    """

    coefficients: FloatArray
    response: FloatArray
    response_variance: FloatArray
    model_variance: FloatArray
    prior: FloatArray
    log_constant: float
    temperature: float


@dataclass(frozen=True, eq=False)
class Normal:
    """Normal equations: theta' information theta / 2 - moment' theta + squares / 2 - log_norm."""

    information: FloatArray
    moment: FloatArray
    squares: float
    log_norm: float
    degrees: int

    def times(self, factor: float) -> Normal:
        """Of the same rows with all weights multiplied."""
        return Normal(
            factor * self.information,
            factor * self.moment,
            factor * self.squares,
            self.log_norm + self.degrees * np.log(factor) / 2,
            self.degrees,
        )


def normal_equations_of(rows: Rows) -> Callable[[float, float], Normal]:
    """Normal equations for any noise and scale; formed once if all rows share one variance."""
    seen = np.isfinite(rows.response_variance)
    known = rows.response_variance[seen]
    if rows.model_variance.any() or not known.size or known.min() < known.max():
        return lambda noise, scale: normal_equations(rows, noise, scale)
    one = normal_equations(rows, 1 - known[0], 0.0)
    return lambda noise, scale: one.times(1 / (noise + known[0]))


def normal_equations(rows: Rows, noise: float, scale: float) -> Normal:
    """Weighted normal equations with the constant of every state integrated out.

    A constant with a flat prior leaves each row minus the weighted mean over its state's actions.
    """
    variance = noise + scale * rows.model_variance + rows.response_variance
    weight = 1 / variance
    total = weight.sum(axis=-1, keepdims=True)
    share = weight / np.where(total > 0, total, 1)
    n_unknowns = rows.coefficients.shape[-1]
    information = np.zeros((n_unknowns, n_unknowns))
    moment = np.zeros(n_unknowns)
    squares = 0.0
    for k, y, w, m in zip(rows.coefficients, rows.response, weight, share, strict=True):
        root = np.sqrt(w)[..., None]
        centred = (root * (k - (m[..., None] * k).sum(axis=1, keepdims=True))).reshape(
            -1, n_unknowns
        )
        residual = (root[..., 0] * (y - (m * y).sum(axis=1, keepdims=True))).ravel()
        information += centred.T @ centred
        moment += centred.T @ residual
        squares += float(residual @ residual)
    seen = weight > 0
    log_norm = np.log(weight[seen]).sum() - np.log(total[total > 0]).sum()
    degrees = int(seen.sum()) - int((total > 0).sum())
    log_norm = (log_norm - degrees * np.log(2 * np.pi)) / 2
    return Normal(information, moment, squares, float(log_norm), degrees)
