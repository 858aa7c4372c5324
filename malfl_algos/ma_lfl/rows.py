"""The rows of a fit, one per stage, state and action, and their normal equations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from malfl_algos.ma_lfl.chain_sums import chain_sums
from malfl_algos.ma_lfl.improvement import Whitening, by_state, step_of, whitening
from malfl_algos.ma_lfl.row_sums import row_sums
from malfl_algos.normal import Normal

__all__ = [
    "Chain",
    "Rows",
    "Stagewise",
    "grouped",
    "has_gradients",
    "normal_equations",
    "normal_equations_of",
    "retained_of",
    "stage_sums",
    "unstaged",
    "whitened",
    "with_retained",
]

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Chain:
    """The further data of learners that keep a share of their log policy.

    Args:
        retained: rho in [0, 1], see `malfl_algos.ma_lfl.improvement`.
        previous: alpha log pi of the stage before the improvement, minus b, in the shape of the
            response.
        first_variance: variance of alpha log pi of the first stage, `(n_states, n_actions)`.
        searched: whether rho is chosen by the evidence, starting from `retained`.
    """

    retained: float
    previous: FloatArray
    first_variance: FloatArray
    searched: bool = False


@dataclass(frozen=True, eq=False)
class Stagewise:
    """Step and noise of every stage, relative to those of all stages.

    Args:
        scales: kappa_h > 0, factor on (1 - rho) q_h, `(n_stages,)`.
        noises: factor on the noise variance, > 0, same shape.
        offset: q for a reward of 0, `(n_stages, n_states, n_actions)`.
    """

    scales: FloatArray
    noises: FloatArray
    offset: FloatArray


@dataclass(frozen=True, eq=False)
class Rows:
    """The data, one row per stage, state and action.

    Args:
        coefficients: K, `(n_stages, n_states, n_actions, n_unknowns)`.
        response: alpha log pi minus b, `(n_stages, n_states, n_actions)`, up to a constant per
            state.
        response_variance: variance of the response; infinite where nothing was observed.
        model_variance: variance of the learner's noise that the learner model predicts.
        prior: precision matrix of theta for a prior variance of one, `(n_unknowns, n_unknowns)`. It
            is a projection; its null space (the mean of the reward) has variance `MEAN_VARIANCE`.
        log_constant: constant that the evidence adds, see
            `malfl_algos.ma_lfl.policy_estimation.Response`.
        temperature: alpha, the unit of all bounds.
        chain: what the rows need where the learner keeps a share of its log policy; None: it is 0.
        stagewise: step and noise of every stage; None: the same in all stages.
        equations: forms the normal equations from noise and scale in place of `normal_equations`,
            where the coefficients are on another device.
    """

    coefficients: FloatArray
    response: FloatArray
    response_variance: FloatArray
    model_variance: FloatArray
    prior: FloatArray
    log_constant: float
    temperature: float
    chain: Chain | None = None
    stagewise: Stagewise | None = None
    equations: Callable[[float, float], Normal] | None = None


def normal_equations_of(rows: Rows) -> Callable[[float, float], Normal]:
    """Normal equations as a function of noise and scale; formed once if all rows share one
    variance.
    """
    if rows.equations is not None:
        return rows.equations
    if not _share_a_variance(rows):
        return lambda noise, scale: normal_equations(rows, noise, scale)
    known = rows.response_variance[np.isfinite(rows.response_variance)][0]
    one = normal_equations(rows, 1 - known, 0.0)
    return lambda noise, scale: one.times(1 / (noise + known))


def has_gradients(rows: Rows) -> bool:
    """Whether the errors of the rows are independent, with variances of their own."""
    plain = rows.equations is None and rows.chain is None and rows.stagewise is None
    return plain and not _share_a_variance(rows)


def _share_a_variance(rows: Rows) -> bool:
    if rows.chain is not None or rows.stagewise is not None or rows.model_variance.any():
        return False
    known = rows.response_variance[np.isfinite(rows.response_variance)]
    return bool(known.size) and bool(known.min() == known.max())


def normal_equations(rows: Rows, noise: float | FloatArray, scale: float) -> Normal:
    """Weighted normal equations with the constant of every state integrated out.

    See `malfl_algos.ma_lfl.row_sums`.
    """
    if rows.stagewise is not None:
        rows, factors = unstaged(rows)
        noise = noise * factors
    if rows.chain is not None:
        return _chained(rows, noise, scale)
    variance = noise + scale * rows.model_variance + rows.response_variance
    return row_sums(rows.coefficients, rows.response, variance)


def with_retained(rows: Rows, retained: float) -> Rows:
    """The same data under another share rho."""
    assert rows.chain is not None
    return replace(rows, chain=replace(rows.chain, retained=retained))


def retained_of(rows: Rows) -> float:
    """The share rho of these rows."""
    return 0.0 if rows.chain is None else rows.chain.retained


def unstaged(rows: Rows) -> tuple[Rows, FloatArray]:
    """The same data with the step of every stage in coefficients and response, and the factors on
    the noise variance, `(n_stages, 1, 1)`.
    """
    if rows.stagewise is None:
        return rows, np.ones((len(rows.response), 1, 1))
    scales = rows.stagewise.scales[:, None, None]
    further = (scales - 1) * (1 - retained_of(rows)) * rows.stagewise.offset
    applied = replace(
        rows,
        coefficients=scales[..., None] * rows.coefficients,
        response=rows.response - further,
        model_variance=scales**2 * rows.model_variance,
        stagewise=None,
    )
    return applied, rows.stagewise.noises[:, None, None]


def whitened(rows: Rows, noise: float | FloatArray, scale: float) -> tuple[Whitening, FloatArray]:
    """The whitening of rows without stagewise factors, and their responses, `(n_groups, n_rows)`;
    see `grouped`.
    """
    variance, response, response_variance = _chain_of(rows, noise, scale)
    if not retained_of(rows):
        variance = variance.reshape(1, -1, variance.shape[-1])
        seen = response_variance[1:].reshape(variance.shape)
        response_variance = np.concatenate([np.ones(variance.shape), seen])
    white = whitening(variance, response_variance, retained_of(rows))
    return white, grouped(rows, response)


def grouped(rows: Rows, table: FloatArray) -> FloatArray:
    """`(n_stages, n_states, n_actions, ...) -> (n_groups, n_rows, ...)`, such that the errors of
    different groups are independent: a group for every state, or, if the learner keeps nothing, for
    every stage and state.
    """
    if retained_of(rows):
        return by_state(table)
    return np.ascontiguousarray(table).reshape(-1, *table.shape[2:])


def stage_sums(rows: Rows, values: FloatArray) -> FloatArray:
    """Sums by stage of values `(n_groups, n_rows)` that are `grouped`."""
    n_stages, n_states, n_actions = rows.response.shape
    if retained_of(rows):
        return np.asarray(values.reshape(n_states, n_stages, n_actions).sum(axis=(0, 2)))
    return np.asarray(values.reshape(n_stages, -1).sum(axis=1))


def _chain_of(
    rows: Rows, noise: float | FloatArray, scale: float
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Variances of the rows, their responses, and the variances of the responses of all stages, of
    rows without stagewise factors.
    """
    retained, response = retained_of(rows), rows.response
    variance = noise + scale * step_of(retained) ** 2 * rows.model_variance
    first = np.ones(response.shape[1:])
    if rows.chain is not None:
        first, response = rows.chain.first_variance, response - retained * rows.chain.previous
    return variance, response, np.concatenate([first[None], rows.response_variance])


def _chained(rows: Rows, noise: float | FloatArray, scale: float) -> Normal:
    """Normal equations where errors of the policies are shared by successive rows."""
    retained = retained_of(rows)
    variance, response, response_variance = _chain_of(rows, noise, scale)
    found = chain_sums(rows.coefficients, response, variance, response_variance, retained)
    step = step_of(retained)
    return replace(found, information=step**2 * found.information, moment=step * found.moment)
