"""One fit of a reward to the policies of the stages, with or without a matrix of coefficients."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from malfl_algos.ma_lfl.inference import Evidence, Given, Posterior, Rows, fit
from malfl_algos.ma_lfl.learner_models import LearnerModel, MatrixFreeModel
from malfl_algos.ma_lfl.matrix_free_posterior import MatrixFreePosterior, matrix_free_posterior
from malfl_algos.ma_lfl.matrix_free_values import Values
from malfl_algos.ma_lfl.precision import TIGHT, MatrixFreeRows
from malfl_algos.ma_lfl.stages import StageArrays

__all__ = ["Data", "fit_data", "noise_settings"]

FloatArray = NDArray[np.float64]

FIRST_EVALUATIONS, LATER_EVALUATIONS = 12, 16
"""Number of noise settings tried in the first iteration and in each later one."""
LARGE = 5e9
"""A noise setting costs rows x unknowns squared; above this cost half as many are tried."""


def noise_settings(n_rows: int, n_unknowns: int, *, first: bool) -> int:
    """Number of noise settings that the first or a later iteration tries."""
    evaluations = FIRST_EVALUATIONS if first else LATER_EVALUATIONS
    return evaluations // 2 if n_rows * n_unknowns**2 > LARGE else evaluations


@dataclass(frozen=True, eq=False)
class Data:
    """The response and its variances; see `malfl_algos.ma_lfl.inference.Rows`."""

    response: FloatArray
    response_variance: FloatArray
    model_variance: FloatArray
    log_constant: float
    temperature: float


def fit_data(
    data: Data,
    model: LearnerModel,
    stages: Sequence[StageArrays],
    joint: Sequence[Sequence[FloatArray]],
    index: int,
    *,
    features: FloatArray | None,
    start: Evidence | None,
    given: Given | None,
    matrix_free: bool,
) -> tuple[Posterior | MatrixFreePosterior, FloatArray]:
    """Posterior of the unknowns or weights, and the action values at its mean.

    Args:
        data: the working response of the policies.
        model: the learner model: how the action values depend on the reward.
        stages: all stages but the last.
        joint: the policies of all agents in each of these stages.
        index: the agent.
        features: `(n_unknowns, n_features)`, reward = features @ weights; None: every unknown is
            free.
        start, given: as `malfl_algos.ma_lfl.inference.fit` takes them.
        matrix_free: whether to avoid the coefficients of the unknowns.

    Returns:
        The posterior, and q at its mean, `(n_stages - 1, n_states, n_actions)`.
    """
    if matrix_free and features is None:
        assert given is not None
        values = _values(model, stages, joint, index)
        rows = MatrixFreeRows(
            values,
            data.response,
            data.response_variance,
            data.model_variance,
            data.temperature,
        )
        matrix_free_fit = matrix_free_posterior(rows, given)
        return matrix_free_fit, matrix_free_fit.q
    k, offset = _coefficients(model, stages, joint, index, features, matrix_free=matrix_free)
    posterior = _with_coefficients(k, offset, data, features, start, given)
    return posterior, k @ posterior.mean + offset


def _coefficients(
    model: LearnerModel,
    stages: Sequence[StageArrays],
    joint: Sequence[Sequence[FloatArray]],
    index: int,
    features: FloatArray | None,
    *,
    matrix_free: bool,
) -> tuple[FloatArray, FloatArray]:
    """Coefficients `(n_stages - 1, n_states, n_actions, n_unknowns)` of the unknowns or weights,
    and the offset of q, `(n_stages - 1, n_states, n_actions)`.
    """
    if matrix_free and features is not None:
        maps = _values(model, stages, joint, index)
        columns = [values.apply(features, residual=TIGHT) for values in maps]
        return np.stack(columns), np.stack([values.offset for values in maps])
    q = model.coefficients(stages, joint, index)
    return q[..., :-1] if features is None else q[..., :-1] @ features, q[..., -1]


def _with_coefficients(
    coefficients: FloatArray,
    offset: FloatArray,
    data: Data,
    features: FloatArray | None,
    start: Evidence | None,
    given: Given | None,
) -> Posterior:
    n_unknowns = coefficients.shape[-1]
    mean = np.full((n_unknowns, n_unknowns), 1 / n_unknowns) if features is None else 0.0
    rows = Rows(
        coefficients=coefficients,
        response=data.response - offset,
        response_variance=data.response_variance,
        model_variance=data.model_variance,
        prior=np.eye(n_unknowns) - mean,
        log_constant=data.log_constant,
        temperature=data.temperature,
    )
    return fit(
        rows,
        start=start,
        evaluations=noise_settings(data.response.size, n_unknowns, first=start is None),
        scaled=bool(data.model_variance.any()),
        given=given,
    )


def _values(
    model: LearnerModel,
    stages: Sequence[StageArrays],
    joint: Sequence[Sequence[FloatArray]],
    index: int,
) -> list[Values]:
    assert isinstance(model, MatrixFreeModel)
    played = zip(stages, joint, strict=True)
    return [model.values(*at, index, n_stages=len(stages)) for at in played]
