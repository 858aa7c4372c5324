"""What to say of a recovered reward beside its values: what is known of it, and by what choices."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import scipy.linalg

from malfl_algos.ma_lfl.alternation import (
    CONCENTRATION,
    KNOWN_VARIANCE,
    AgentFit,
)
from malfl_algos.ma_lfl.data_fit import noise_settings
from malfl_algos.ma_lfl.inference import MEAN_VARIANCE, Posterior
from malfl_algos.ma_lfl.learner_models import SWEEPS
from malfl_algos.ma_lfl.matrix_free_posterior import UnformedPosterior
from malfl_algos.ma_lfl.replay_loops import SIGNS

__all__ = ["diagnose"]

RANK_TOLERANCE = 1e-9
"""Eigenvalues of the information below this share of its largest count as zero."""


def diagnose(
    one: AgentFit, reward_model: str, settings: Mapping[str, Any], *, temperature: float
) -> dict[str, Any]:
    """Diagnostics of one agent's fit, all of it fit for JSON.

    Args:
        one: the fit.
        reward_model: as the user named it.
        settings: what was given or chosen by evidence.
        temperature: alpha.
    """
    chosen, posterior = one.posterior.evidence, one.posterior
    if isinstance(posterior, UnformedPosterior):
        known = _without_matrices(posterior)
    else:
        known = _ranks(posterior, reward_model)
    return {
        "learner_model": one.model.name,
        "reward_model": reward_model,
        **settings,
        "n_unknowns": len(posterior.mean),
        **known,
        "representative": "posterior mean, mean removed",
        "log_evidence": chosen.log_evidence,
        "noise_variance": chosen.noise_variance,
        "noise_scale": chosen.noise_scale,
        "prior_variance": chosen.prior_variance,
        "bounds_hit": list(chosen.bounds_hit),
        "passes": one.passes,
        "settled": one.settled,
        "fixed": {
            "concentration": CONCENTRATION,
            "noise_settings": noise_settings(
                one.policies[1:].size, len(posterior.mean), first=False
            ),
            "known_variance": KNOWN_VARIANCE * temperature**2,
            "mean_variance": MEAN_VARIANCE * temperature**2,
            "sweeps": SWEEPS,
            "signs": SIGNS,
        },
    }


def _without_matrices(posterior: UnformedPosterior) -> dict[str, Any]:
    """What can be said of a posterior whose precision was never formed."""
    return {
        "rank": None,
        "n_unidentified": None,
        "identification": (
            "not computed: the rank takes a matrix that the iterative solver never forms; values "
            "whose deviation is near that of the prior are the prior's"
        ),
        "n_prior_dominated": None,
        "effective_parameters": posterior.effective_parameters,
        "iterations": posterior.iterations[1],
        "iterations_of_the_mean": posterior.iterations[0],
        "accuracy": posterior.accuracy,
        "sd_method": posterior.sd_method,
    }


def _ranks(posterior: Posterior, reward_model: str) -> dict[str, Any]:
    values = np.linalg.eigvalsh(posterior.information)
    rank = int((values > RANK_TOLERANCE * max(values[-1], 1e-300)).sum())
    free = len(values) - rank
    shares = scipy.linalg.eigvalsh(posterior.information, posterior.precision)
    weak = int((shares < 0.5).sum())
    return {
        "rank": rank,
        "n_unidentified": free,
        "identification": _verdict(reward_model, free, weak, len(values)),
        "n_prior_dominated": weak,
        "effective_parameters": float(shares.sum()),
        "iterations": None,
        "sd_method": "exact",
    }


def _verdict(reward_model: str, free: int, weak: int, n_unknowns: int) -> str:
    level = 1 if reward_model == "state" else 0
    if free > level:
        return (
            f"not identified: {free} of {n_unknowns} directions leave no trace in the data; along "
            "them the reward is the prior's, deviations of mean zero with the prior's variance"
        )
    if weak > 1:
        return (
            f"partly identified: along {weak} of {n_unknowns} directions the prior says more than "
            "the data"
        )
    if free == 1:
        return "identified up to one additive constant"
    return "identified; the level is known faintly at best, and is not claimed"
