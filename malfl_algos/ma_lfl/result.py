"""From fits to the answer: rewards with their mean removed, and how sure they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from malfl_algos.contract import RecoveredRewards
from malfl_algos.ma_lfl.alternation import AgentFit
from malfl_algos.ma_lfl.matrix_free_posterior import UnformedPosterior
from malfl_algos.ma_lfl.recovery import in_joint_order
from malfl_algos.ma_lfl.regression import RewardModel
from malfl_algos.trace import LearningTrace
from malfl_env.checks import check_table_bytes

__all__ = ["check_covariance", "recovered_rewards"]

FloatArray = NDArray[np.float64]


def recovered_rewards(
    trace: LearningTrace,
    fits: Sequence[AgentFit],
    base: RewardModel,
    maps: Sequence[FloatArray | None],
    diagnostics: Mapping[str, Any],
    *,
    covariance: bool,
) -> RecoveredRewards:
    """Posterior means with mean zero, and deviations of these.

    Args:
        trace: what was observed.
        fits: per agent.
        base: how the unknowns of the learner models are numbered.
        maps: per agent from weights of features to unknowns; None: the unknowns themselves.
        diagnostics: per agent id.
        covariance: whether to give the covariance, too.
    """
    rewards, sds, covariances = {}, {}, {}
    for index, (agent, one) in enumerate(zip(trace.agents, fits, strict=True)):
        mean, own = one.posterior.mean, maps[index]
        numbers = np.arange(len(mean if own is None else own), dtype=np.float64)
        place = in_joint_order(
            numbers.reshape(trace.n_states, -1), base, index, trace.n_actions
        ).astype(np.int64)
        if isinstance(one.posterior, UnformedPosterior):
            sd = one.posterior.sd
        elif own is not None and not covariance:
            mean, sd = own @ mean, _feature_sd(own, one.posterior.covariance())
        else:
            spread = one.posterior.covariance()
            if own is not None:
                mean, spread = own @ mean, own @ spread @ own.T
            spread = _centred(spread)
            sd = np.sqrt(np.maximum(np.diag(spread), 0))
            if covariance:
                covariances[agent] = spread[np.ix_(place.ravel(), place.ravel())]
        rewards[agent] = (mean - mean.mean())[place]
        sds[agent] = sd[place]
    return RecoveredRewards(
        rewards=rewards,
        diagnostics=diagnostics,
        estimated_policies={a: one.policies for a, one in zip(trace.agents, fits, strict=True)},
        sd=sds,
        covariance=covariances if covariance else None,
    )


def check_covariance(model: RewardModel, trace: LearningTrace) -> None:
    """Refuse a covariance too large, stating the memory that it would take."""
    n_values = trace.n_states * (1 if model == "state" else int(np.prod(trace.n_actions)))
    check_table_bytes(8 * n_values**2, f"the covariance of {n_values} reward values")


def _feature_sd(features: FloatArray, covariance: FloatArray) -> FloatArray:
    """Deviations of the mean-removed reward, given the covariance of its weights."""
    centred = features - features.mean(axis=0)
    variance = ((centred @ covariance) * centred).sum(axis=1)
    return np.asarray(np.sqrt(np.maximum(variance, 0)))


def _centred(covariance: FloatArray) -> FloatArray:
    """J C J with J = I - 11'/n: the covariance of what is left when the mean is taken out."""
    rows = covariance - covariance.mean(axis=0)
    return np.asarray(rows - rows.mean(axis=1, keepdims=True))
