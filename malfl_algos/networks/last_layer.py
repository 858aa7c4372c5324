"""The last layer of a reward network, inferred from the actions of the following stages.

By (6), alpha log pi_{h+1} = q_h up to a constant per observation, and q_h is affine in the layer.
The Gaussian inference of `malfl_algos.ma_lfl` therefore applies. Its noise has three parts: the
multinomial actions, the regression behind q_h, and the learner. The evidence chooses the size of
the learner's noise and the prior variance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax

from malfl_algos.ma_lfl.inference import fit
from malfl_algos.ma_lfl.policy_estimation import (
    CONCENTRATION,
    smoothed_policy,
    working_response,
)
from malfl_algos.ma_lfl.posterior import Evidence, Given, Posterior
from malfl_algos.ma_lfl.rows import Rows
from malfl_algos.networks.action_values import StageRows
from malfl_algos.networks.device_equations import device_equations
from malfl_algos.networks.dynamics import Dynamics
from malfl_algos.networks.tables import fetched, joined, like

__all__ = ["LastLayer", "fit_last_layer", "prediction"]

FloatArray = NDArray[np.float64]

PASSES = 3
"""Rounds in which the multinomial likelihood is expanded about the fit."""
EVALUATIONS = 8
"""Noise settings that the evidence tries in a round."""


@dataclass(frozen=True, eq=False)
class LastLayer:
    """Posterior of the last layer.

    Args:
        mean: `(k,)`.
        covariance: `(k, k)`.
        evidence: noise and prior, and how they were chosen.
        step_size: of the assumed learning rule; see `fit_last_layer`.
        rank: number of directions that the data determine better than the prior does.
    """

    mean: FloatArray
    covariance: FloatArray
    evidence: Evidence
    step_size: float | None
    rank: int


def fit_last_layer(
    stages: Sequence[StageRows],
    dynamics: Dynamics,
    *,
    temperature: float,
    step_size: float | None,
    given: Given | None = None,
) -> LastLayer:
    """Infer w from all stages.

    Args:
        stages: the evidence of each stage.
        dynamics: the regressions behind the action values.
        temperature: alpha.
        step_size: beta of learners that update a table from 0 in every stage. The value of an
            action tried N times is then the fraction 1 - (1 - beta)^N of q_h. None: learners reach
            q_h.
        given: noise and prior to use; None: the evidence chooses them.
    """
    reached = [_reached(one, step_size) for one in stages]
    coefficients = joined(
        [
            like(one.coefficients, part[..., None]) * one.coefficients
            for part, one in zip(reached, stages, strict=True)
        ]
    )
    offset = np.concatenate(
        [part * fetched(one.offset) for part, one in zip(reached, stages, strict=True)]
    )
    counts = np.concatenate([one.counts for one in stages])
    k = coefficients.shape[-1]
    prior = np.eye(k)
    prior[-1, -1] = 0.0  # no prior on the constant, which comes last
    response = temperature * np.log(smoothed_policy(counts, pseudo_count=CONCENTRATION))
    variance, constant = temperature**2 / (counts + 0.5), 0.0
    noise = np.zeros(counts.shape)
    posterior: Posterior | None = None
    for _ in range(PASSES):
        rows = Rows(
            coefficients[None],
            (response - offset)[None],
            variance[None],
            noise[None],
            prior,
            constant,
            temperature,
            equations=device_equations(coefficients, response - offset, variance, noise),
        )
        posterior = fit(
            rows,
            start=None if posterior is None else posterior.evidence,
            evaluations=EVALUATIONS,
            scaled=bool(noise.any()),
            given=given,
        )
        noise = _noise(stages, dynamics, posterior.mean, step_size)
        evidence = posterior.evidence
        own = evidence.noise_variance + (evidence.noise_scale or 1.0) * noise
        q = fetched(coefficients @ like(coefficients, posterior.mean)) + offset
        result, _ = working_response(q, own, counts, temperature=temperature)
        response, variance, constant = result.mean, result.variance, result.log_constant
    assert posterior is not None
    rank = _rank(posterior)
    return LastLayer(posterior.mean, posterior.covariance(), posterior.evidence, step_size, rank)


def prediction(
    one: StageRows, mean: FloatArray, *, temperature: float, step_size: float | None
) -> float:
    """Return the log-likelihood per step of the next stage's actions under (6)."""
    q = _reached(one, step_size) * _q(one, mean)
    log_policy = log_softmax(q / temperature, axis=-1)
    return float((one.counts * log_policy).sum() / one.counts.sum())


def _q(one: StageRows, mean: FloatArray) -> FloatArray:
    """Return the action values of a stage at a reward, `(n, n_own)`."""
    return fetched(one.coefficients @ like(one.coefficients, mean) + one.offset)


def _reached(one: StageRows, step_size: float | None) -> FloatArray:
    """Return the fraction of q that a learner has reached from 0, `(n, n_own)`."""
    if step_size is None:
        return np.ones(one.visits.shape)
    return np.asarray(-np.expm1(one.visits * np.log1p(-step_size)))


def _noise(
    stages: Sequence[StageRows],
    dynamics: Dynamics,
    mean: FloatArray,
    step_size: float | None,
) -> FloatArray:
    """Return the predictable variance of the learner's q about the model.

    One part is the randomness of the next observations behind K. For td learners a second part is
    the unknown progress of the values where an action was tried a few times only. The lasting
    fluctuation of td values is part of the noise that the evidence chooses.
    """
    weights = np.append(mean, 1.0)
    step = {
        one.stage: dynamics.residual(one.stage, fetched(one.values @ like(one.values, weights)))
        for one in stages
    }
    found = []
    for one in stages:
        variance = sum(own * step[stage] for stage, own in one.leverage.items())
        if step_size is not None:
            reached = _reached(one, step_size)
            q = _q(one, mean)
            variance = variance + reached * (1 - reached) * q**2
        found.append(variance)
    return np.concatenate(found)


def _rank(posterior: Posterior) -> int:
    """Count the eigenvalues of the data's information above the prior's, without the constant."""
    values = np.linalg.eigvalsh(posterior.information[:-1, :-1])
    return int((values > 1 / posterior.evidence.prior_variance).sum())
