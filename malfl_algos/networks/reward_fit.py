"""The last layer of a reward network, inferred from the actions that learners went on to play.

(6) says alpha log pi_{h+1} = q_h up to a constant per observation, and q_h is affine in the layer:
the project's own Gaussian inference applies, with multinomial actions, the noise of the regression
behind q_h and a noise of the learner's, whose size and the prior's the evidence chooses.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax

from malfl_algos.ma_lfl.inference import Evidence, Given, Posterior, fit
from malfl_algos.ma_lfl.normal_equations import Rows
from malfl_algos.ma_lfl.policy_estimation import smoothed_policy
from malfl_algos.ma_lfl.response import working_response
from malfl_algos.networks.action_values import StageRows
from malfl_algos.networks.dynamics import Dynamics

__all__ = ["LastLayer", "fit_last_layer", "prediction"]

FloatArray = NDArray[np.float64]

PASSES = 3
"""Rounds of expanding the multinomial likelihood about the fit."""
EVALUATIONS = 8
"""Noise settings that the evidence tries in a round."""
CONCENTRATION = 0.3
"""Pseudo-count per action of the first expansion."""


@dataclass(frozen=True, eq=False)
class LastLayer:
    """Posterior of the last layer.

    Args:
        mean: `(k,)`.
        covariance: `(k, k)`.
        evidence: noise and prior, and how they were chosen.
        rank: how many directions of it the data determine better than the prior does.
    """

    mean: FloatArray
    covariance: FloatArray
    evidence: Evidence
    rank: int


def fit_last_layer(
    stages: Sequence[StageRows],
    dynamics: Dynamics,
    *,
    temperature: float,
    given: Given | None = None,
) -> LastLayer:
    """Infer w from all stages.

    Args:
        stages: what each says.
        dynamics: of the regressions behind them.
        temperature: alpha.
        given: noise and prior to take without a search.
    """
    coefficients = np.concatenate([one.coefficients for one in stages])
    offset = np.concatenate([one.offset for one in stages])
    counts = np.concatenate([one.counts for one in stages])
    k = coefficients.shape[-1]
    prior = np.eye(k)
    prior[-1, -1] = 0.0  # the constant, which comes last, is the level
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
        )
        posterior = fit(
            rows,
            start=None if posterior is None else posterior.evidence,
            evaluations=EVALUATIONS,
            scaled=bool(noise.any()),
            given=given,
        )
        noise = _regression_noise(stages, dynamics, posterior.mean)
        evidence = posterior.evidence
        own = evidence.noise_variance + (evidence.noise_scale or 1.0) * noise
        q = coefficients @ posterior.mean + offset
        answer, _ = working_response(q, own, counts, temperature=temperature)
        response, variance, constant = answer.mean, answer.variance, answer.log_constant
    assert posterior is not None
    return LastLayer(
        posterior.mean, posterior.covariance(), posterior.evidence, _rank(posterior, prior)
    )


def prediction(one: StageRows, mean: FloatArray, *, temperature: float) -> float:
    """Log likelihood per step of the next stage's actions, had they followed (6) from q_h."""
    log_policy = log_softmax((one.coefficients @ mean + one.offset) / temperature, axis=-1)
    return float((one.counts * log_policy).sum() / one.counts.sum())


def _regression_noise(
    stages: Sequence[StageRows], dynamics: Dynamics, mean: FloatArray
) -> FloatArray:
    """Variance of q for the randomness of the next observations that K was learned from."""
    weights = np.append(mean, 1.0)
    return np.concatenate(
        [one.leverage * dynamics.residual(one.stage, one.values @ weights) for one in stages]
    )


def _rank(posterior: Posterior, prior: FloatArray) -> int:
    """Eigenvalues of the data's information above the prior's, the constant aside."""
    inner = posterior.information[:-1, :-1]
    values = np.linalg.eigvalsh(inner)
    return int((values > 1 / posterior.evidence.prior_variance).sum())
