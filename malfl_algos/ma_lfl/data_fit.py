"""One fit of a reward to the policies of the stages, with or without a matrix of coefficients."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from malfl_algos.ma_lfl.improvement import step_of
from malfl_algos.ma_lfl.inference import fit
from malfl_algos.ma_lfl.learner_models import (
    LearnerModel,
    MatrixFreeModel,
    split_coefficients,
)
from malfl_algos.ma_lfl.matrix_free_posterior import MatrixFreePosterior, matrix_free_posterior
from malfl_algos.ma_lfl.matrix_free_values import Values
from malfl_algos.ma_lfl.posterior import Evidence, Given, Posterior
from malfl_algos.ma_lfl.precision import TIGHT, MatrixFreeRows
from malfl_algos.ma_lfl.reward_models import feature_prior, level_of, without_level
from malfl_algos.ma_lfl.rows import Chain, Rows, Stagewise
from malfl_algos.ma_lfl.stages import StageArrays
from malfl_algos.ma_lfl.stagewise import StageKind
from malfl_env.errors import InputError

__all__ = [
    "Data",
    "Fitted",
    "coefficients_of",
    "fit_data",
    "matrix_free_rows",
    "noise_settings",
    "rows_of",
]

FloatArray = NDArray[np.float64]

FIRST_EVALUATIONS, LATER_EVALUATIONS = 12, 16
"""Number of noise settings tried in the first iteration and in each later one."""
LARGE = 5e9
"""A noise setting costs rows x unknowns squared; above this cost half as many are tried."""


def noise_settings(n_rows: int, n_unknowns: int, *, first: bool) -> int:
    """Number of noise settings that the first or a later iteration tries."""
    evaluations = FIRST_EVALUATIONS if first else LATER_EVALUATIONS
    return evaluations // 2 if n_rows * n_unknowns**2 > LARGE else evaluations


class Fitted(NamedTuple):
    """A posterior and what follows from its mean.

    Args:
        posterior: of the unknowns or weights.
        q: action values, `(n_stages - 1, n_states, n_actions)`.
        drift: x_{h+1} - rho x_h without noise, same shape; equal to q for rho = 0.
    """

    posterior: Posterior | MatrixFreePosterior
    q: FloatArray
    drift: FloatArray


@dataclass(frozen=True, eq=False)
class Data:
    """The response and its variances; see `malfl_algos.ma_lfl.rows.Rows`.

    Args:
        response, response_variance: of every stage, `(n_stages, n_states, n_actions)`. Those of the
            first stage are used only if the learner keeps a share of its log policy.
        model_variance: of every stage but the last, `(n_stages - 1, n_states, n_actions)`.
        log_constant: as `malfl_algos.ma_lfl.rows.Rows` takes it.
        temperature: alpha.
        retained: share rho that the learner keeps; with `searched` the one that the search starts
            from.
        searched: whether the evidence chooses rho.
        stages: what differs from stage to stage.
        measured: as `malfl_algos.ma_lfl.inference.fit` takes it.
        repeats: number of rows whose errors repeat each other; 1: they are independent.
    """

    response: FloatArray
    response_variance: FloatArray
    model_variance: FloatArray
    log_constant: float
    temperature: float
    retained: float = 0.0
    searched: bool = False
    stages: StageKind = "same"
    measured: bool = False
    repeats: float = 1.0

    def chain(self, offset: FloatArray) -> Chain | None:
        """What the rows need further; None if the learner keeps nothing.

        Args:
            offset: q for a reward of 0, `(n_stages - 1, n_states, n_actions)`.
        """
        if not self.searched and self.retained == 0:
            return None
        previous = self.response[:-1] - offset
        return Chain(self.retained, previous, self.response_variance[0], self.searched)

    def stagewise(self, offset: FloatArray, start: Evidence | None) -> Stagewise | None:
        """The factors of the stages to start from; None if all stages are the same."""
        if self.stages == "same":
            return None
        ones = np.ones(len(offset))
        scales, noises = ones, ones
        if start is not None and start.scales:
            scales, noises = np.array(start.scales), np.array(start.noises)
        return Stagewise(scales, noises, offset)


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
    root: FloatArray | None = None,
) -> Fitted:
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
        root: lower triangular L: the prior covariance of the unknowns is V L L' about their nearly
            flat mean, with V searched. With features it is that of weights, of which equal ones
            give equal unknowns. None: L is the identity.
    """
    if matrix_free and features is None:
        assert given is not None
        if data.retained:
            raise InputError(
                f"solver iterative takes improvement 0 only, got {data.retained}: set solver to "
                "dense, or use features"
            )
        rows = matrix_free_rows(data, model, stages, joint, index)
        matrix_free_fit = matrix_free_posterior(rows, given)
        return Fitted(matrix_free_fit, matrix_free_fit.q, matrix_free_fit.q)
    k, offset = coefficients_of(model, stages, joint, index, features, matrix_free=matrix_free)
    if root is None:
        posterior = _with_coefficients(k, offset, data, features, start, given)
    else:
        posterior = _with_coefficients(k @ root, offset, data, None, start, given, root)
        posterior = posterior.mapped(root)
    if data.repeats > 1:
        posterior = posterior.repeated(data.repeats)
    q = k @ posterior.mean + offset
    retained = posterior.evidence.retained
    scales = posterior.evidence.scales
    if retained == 0 and not scales:
        return Fitted(posterior, q, q)
    drift = step_of(retained) * (q - offset) + (1 - retained) * offset
    if scales:
        drift = np.reshape(scales, (-1, 1, 1)) * drift
    return Fitted(posterior, q, drift)


def coefficients_of(
    model: LearnerModel,
    stages: Sequence[StageArrays],
    joint: Sequence[Sequence[FloatArray]],
    index: int,
    features: FloatArray | None,
    *,
    matrix_free: bool = False,
) -> tuple[FloatArray, FloatArray]:
    """Coefficients `(n_stages - 1, n_states, n_actions, n_unknowns)` of the unknowns or weights,
    and the offset of q, `(n_stages - 1, n_states, n_actions)`.
    """
    if matrix_free and features is not None:
        maps = _values(model, stages, joint, index)
        columns = [values.apply(features, residual=TIGHT) for values in maps]
        return np.stack(columns), np.stack([values.offset for values in maps])
    k, offset = split_coefficients(model, stages, joint, index)
    return k if features is None else k @ features, offset


def _with_coefficients(
    coefficients: FloatArray,
    offset: FloatArray,
    data: Data,
    features: FloatArray | None,
    start: Evidence | None,
    given: Given | None,
    root: FloatArray | None = None,
) -> Posterior:
    rows = rows_of(coefficients, offset, data, features, start)
    if root is not None:
        rows = replace(rows, prior=without_level(level_of(root)))
    return fit(
        rows,
        start=start,
        evaluations=noise_settings(
            data.model_variance.size, coefficients.shape[-1], first=start is None
        ),
        scaled=bool(data.model_variance.any()),
        given=given,
        stages=data.stages,
        measured=data.measured,
    )


def rows_of(
    coefficients: FloatArray,
    offset: FloatArray,
    data: Data,
    features: FloatArray | None,
    start: Evidence | None,
) -> Rows:
    """The rows of a fit.

    Args:
        coefficients, offset: of `coefficients_of`.
        data, features, start: as `fit_data` takes them.
    """
    n_unknowns = coefficients.shape[-1]
    prior = np.eye(n_unknowns) - np.full((n_unknowns, n_unknowns), 1 / n_unknowns)
    if features is not None:
        prior = feature_prior(features)
    return Rows(
        coefficients=coefficients,
        response=data.response[1:] - offset,
        response_variance=data.response_variance[1:],
        model_variance=data.model_variance,
        prior=prior,
        log_constant=data.log_constant,
        temperature=data.temperature,
        chain=data.chain(offset),
        stagewise=data.stagewise(offset, start),
    )


def matrix_free_rows(
    data: Data,
    model: LearnerModel,
    stages: Sequence[StageArrays],
    joint: Sequence[Sequence[FloatArray]],
    index: int,
) -> MatrixFreeRows:
    """The rows of a fit without a matrix of coefficients; the arguments are those of `fit_data`."""
    return MatrixFreeRows(
        _values(model, stages, joint, index),
        data.response[1:],
        data.response_variance[1:],
        data.model_variance,
        data.temperature,
        data.log_constant,
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
