"""The result of the Bayesian observers: mean-removed rewards, standard deviations, diagnostics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from malfl_algos.contract import RecoveredRewards
from malfl_algos.ma_lfl.alternation import KNOWN_VARIANCE, AgentFit
from malfl_algos.ma_lfl.data_fit import noise_settings
from malfl_algos.ma_lfl.improvement import OPEN
from malfl_algos.ma_lfl.learner_models import SWEEPS
from malfl_algos.ma_lfl.matrix_free_posterior import MatrixFreePosterior
from malfl_algos.ma_lfl.policy_estimation import CONCENTRATION
from malfl_algos.ma_lfl.posterior import MEAN_VARIANCE, Evidence, Posterior
from malfl_algos.ma_lfl.replay_loops import SIGNS
from malfl_algos.ma_lfl.reward_models import OF_STATES, RewardModel, identification, in_joint_order
from malfl_algos.trace import LearningTrace
from malfl_algos.verdict.halves import told_variance
from malfl_env.checks import check_table_bytes

__all__ = ["check_covariance", "recovered_rewards"]

FloatArray = NDArray[np.float64]

RANK_TOLERANCE = 1e-9
"""Eigenvalues of the information below this share of its largest count as zero."""


def recovered_rewards(
    trace: LearningTrace,
    fits: Sequence[AgentFit],
    base: RewardModel,
    maps: Sequence[FloatArray | None],
    settings: Mapping[str, Any],
    *,
    temperature: float,
    covariance: bool,
) -> RecoveredRewards:
    """Posterior means with mean zero, and their standard deviations.

    Args:
        trace: the trace.
        fits: one fit per agent.
        base: the reward model of the learner models.
        maps: per agent the map from feature weights to unknowns; None: the fit is of the unknowns.
        settings: settings that were given or chosen by evidence, for the diagnostics.
        temperature: alpha.
        covariance: whether to return the covariance, too.
    """
    unseen = ~np.any([stage.state_counts > 0 for stage in trace.stages], axis=0)
    rewards, sds, covariances = {}, {}, {}
    for index, (agent, one, own) in enumerate(zip(trace.agents, fits, maps, strict=True)):
        own = own if one.features is None else one.features
        mean, sd, spread = _moments(one, own, covariance=covariance)
        numbers = np.arange(len(mean), dtype=np.float64).reshape(trace.n_states, -1)
        place = in_joint_order(numbers, base, index, trace.n_actions).astype(np.int64)
        rewards[agent], sds[agent] = (mean - mean.mean())[place], sd[place]
        if spread is not None:
            covariances[agent] = spread[np.ix_(place.ravel(), place.ravel())]
    return RecoveredRewards(
        rewards=rewards,
        diagnostics={
            agent: _diagnose(
                one,
                settings,
                None if own is not None or one.features is not None else unseen,
                temperature=temperature,
            )
            for agent, one, own in zip(trace.agents, fits, maps, strict=True)
        },
        estimated_policies={a: one.policies for a, one in zip(trace.agents, fits, strict=True)},
        sd=sds,
        covariance=covariances or None,
    )


def check_covariance(model: RewardModel, trace: LearningTrace) -> None:
    """Reject a covariance that is too large, with the memory that it needs."""
    n_values = trace.n_states * (1 if model in OF_STATES else int(np.prod(trace.n_actions)))
    check_table_bytes(8 * n_values**2, f"the covariance of {n_values} reward values")


def _moments(
    fit: AgentFit, features: FloatArray | None, *, covariance: bool
) -> tuple[FloatArray, FloatArray, FloatArray | None]:
    """Mean of the unknowns; standard deviations and, if wanted, covariance of the mean-removed
    reward.
    """
    posterior = fit.posterior
    if isinstance(posterior, MatrixFreePosterior):
        return posterior.mean, posterior.sd, None
    mean, spread = posterior.mean, posterior.covariance()
    if features is not None:
        mean = features @ mean
        left = np.zeros(len(mean)) if fit.left_out is None else fit.left_out
        centred = features - features.mean(axis=0)  # first: the level is hardly known
        if not covariance:
            variance = ((centred @ spread) * centred).sum(axis=1) + left
            return mean, np.sqrt(np.maximum(variance, 0)), None
        spread = centred @ spread @ centred.T + np.diag(left)
    spread = spread - spread.mean(axis=0)
    spread = spread - spread.mean(axis=1, keepdims=True)
    sd = np.sqrt(np.maximum(np.diag(spread), 0))
    return mean, sd, spread if covariance else None


def _diagnose(
    fit: AgentFit,
    settings: Mapping[str, Any],
    unseen: NDArray[np.bool_] | None,
    *,
    temperature: float,
) -> dict[str, Any]:
    """Diagnostics of one agent's fit, as JSON values."""
    chosen, posterior = fit.posterior.evidence, fit.posterior
    if isinstance(posterior, MatrixFreePosterior):
        known = _without_matrices(posterior)
    else:
        prior = fit.further.get("prior", {})
        known = _ranks(posterior, unseen, smooth=prior.get("kind") == "smooth")
        if fit.features is not None:
            known["identification"] += (
                f"; the rewards of {len(fit.features)} states are interpolated from those of "
                f"{len(posterior.mean)}"
            )
    return {
        "learner_model": fit.model.name,
        **settings,
        "n_unknowns": len(posterior.mean),
        **known,
        "representative": "posterior mean, mean removed; the prior mean where unidentified",
        "log_evidence": chosen.log_evidence,
        "noise_variance": chosen.noise_variance,
        "noise_scale": chosen.noise_scale,
        "prior_variance": chosen.prior_variance,
        "bounds_hit": list(chosen.bounds_hit),
        **_improvement(chosen, searched="improvement" in settings["searches"]),
        "first_policy_concentration": fit.concentration,
        **fit.further,
        "passes": fit.passes,
        "settled": fit.converged,
        "fixed": {
            "concentration": CONCENTRATION,
            "noise_settings": noise_settings(
                fit.policies[1:].size, len(posterior.mean), first=False
            ),
            "known_variance": KNOWN_VARIANCE * temperature**2,
            "mean_variance": MEAN_VARIANCE * temperature**2,
            "sweeps": SWEEPS,
            "signs": SIGNS,
        },
    }


def _improvement(chosen: Evidence, *, searched: bool) -> dict[str, Any]:
    """The share rho with an interval of 2 standard deviations, and whether it tells the scale."""
    rho, sd = chosen.retained, chosen.retained_sd
    interval = [max(rho - 2 * sd, 0.0), min(rho + 2 * sd, 1.0)] if searched else None
    is_open = rho > OPEN
    return {
        "improvement": rho,
        "improvement_sd": sd if searched else None,
        "improvement_interval": interval,
        "stage_scales": list(chosen.scales) or None,
        "stage_noises": list(chosen.noises) or None,
        "scale": "open" if is_open else "temperature",
        "scale_reason": (
            "the learners keep nearly all of their log policy, so only reward times step is known; "
            "the reward is that of mirror descent with step 1"
            if is_open
            else None
        ),
    }


def _without_matrices(posterior: MatrixFreePosterior) -> dict[str, Any]:
    """Diagnostics of a posterior whose precision matrix was not formed."""
    return {
        "rank": None,
        "n_unidentified": None,
        "n_without_data": None,
        "identification": (
            "not computed: the iterative solver does not form the matrix whose rank it is; values "
            "whose posterior standard deviation is near that of the prior come from the prior"
        ),
        "n_prior_dominated": None,
        "effective_parameters": posterior.effective_parameters,
        "iterations": posterior.iterations[1],
        "iterations_of_the_mean": posterior.iterations[0],
        "accuracy": posterior.accuracy,
        "log_evidence_error": posterior.evidence_error,
        "sd_method": posterior.sd_method,
    }


def _ranks(
    posterior: Posterior, unseen: NDArray[np.bool_] | None, *, smooth: bool
) -> dict[str, Any]:
    """Diagnostics of the directions that the data determine.

    Args:
        posterior: posterior of the unknowns or weights.
        unseen: joint states without data, bool `(n_states,)`; None for feature weights and for
            states that the others are interpolated from.
        smooth: whether the prior is smooth, so that rough directions have little variance.
    """
    information, n_unknowns = posterior.information, len(posterior.mean)
    values = np.linalg.eigvalsh(information)
    least = RANK_TOLERANCE * max(values[-1], 1e-300)
    per_state = 0 if unseen is None else n_unknowns // len(unseen)
    untouched = np.zeros(n_unknowns, dtype=bool)
    if unseen is not None:
        untouched = np.repeat(unseen, per_state) & (np.diag(information) <= least)
    n_without_data = int(untouched.sum())
    shares = scipy.linalg.eigvalsh(information, posterior.precision)
    weak = int((shares < 0.5).sum()) - n_without_data
    told = None
    if smooth:
        touched = np.ones(n_unknowns, dtype=bool)
        if unseen is not None:
            touched = ~np.repeat(unseen, per_state)
        told = told_variance(information, posterior.precision - information, touched)
    return {
        **identification(
            n_unknowns=n_unknowns,
            rank=int((values > least).sum()),
            n_without_data=n_without_data,
            per_state=per_state,
            weak=weak,
            told=told,
        ),
        **({} if told is None else {"told_variance": told}),
        "n_prior_dominated": weak,
        "effective_parameters": float(shares.sum()),
        "iterations": None,
        "sd_method": "exact",
    }
