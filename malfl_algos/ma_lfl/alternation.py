"""Fitting a learner model: reward from policies, policies from the reward, in turn.

Counts alone estimate a rarely played action's probability badly, and that estimate enters twice: as
what is to be explained, and, with the stage before it, in the model itself. A fitted learner
predicts every next policy, so each pass estimates the policies anew from counts and prediction
together, weighs both by their variance, and fits the reward again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from malfl_algos.ma_lfl.data_fit import Data, fit_data
from malfl_algos.ma_lfl.inference import Given, Posterior
from malfl_algos.ma_lfl.learner_models import LearnerModel
from malfl_algos.ma_lfl.matrix_free_posterior import MatrixFreePosterior
from malfl_algos.ma_lfl.policy_estimation import smoothed_policy, working_response
from malfl_algos.ma_lfl.replay import ReplayedTd
from malfl_algos.ma_lfl.stages import StageArrays

__all__ = ["AgentFit", "alternate"]

FloatArray = NDArray[np.float64]

CONCENTRATION = 0.3
"""Pseudo-count per action of the first policy estimates."""
SETTLED = 0.1
"""A reward has settled when it moves by less than this many posterior deviations, root mean
square.
"""
KNOWN_VARIANCE = 1e-10
"""Variance of log pi where the policy is known."""


@dataclass(frozen=True, eq=False)
class AgentFit:
    """One agent's reward under one learner model.

    Args:
        posterior: of the reward unknowns, or of the feature weights.
        policies: estimated with the fit, `(n_stages, n_states, n_actions)`.
        model: the learner model.
        passes: how many were made.
        settled: whether the last pass moved the reward by less than a tenth of its deviation, in
            the metric of the posterior.
    """

    posterior: Posterior | MatrixFreePosterior
    policies: FloatArray
    model: LearnerModel
    passes: int
    settled: bool


def alternate(
    stages: Sequence[StageArrays],
    models: Sequence[LearnerModel],
    *,
    known_policies: Sequence[FloatArray | None],
    features: Sequence[FloatArray | None],
    temperature: float,
    passes: int,
    given: Given | None = None,
    matrix_free: bool = False,
) -> list[AgentFit]:
    """Fit every agent's reward, all agents pass by pass, since each one's policies enter the
    others'.

    Args:
        stages: at least two.
        models: the learner model of each agent.
        known_policies: per agent `(n_stages, n_states, n_actions)`; None: estimate them.
        features: per agent `(n_unknowns, n_features)`, reward = features @ weights; None: every
            unknown is free.
        temperature: alpha > 0.
        passes: at most so many.
        given: noise and prior to take without a search.
        matrix_free: never to form the coefficients of the unknowns, for large games; without
            features noise and prior must then be given.

    Returns:
        One fit per agent.
    """
    models = list(models)
    n_agents = len(models)
    known = [own is not None for own in known_policies]
    policies = [
        smoothed_policy(_counts(stages, index), pseudo_count=CONCENTRATION) if own is None else own
        for index, own in enumerate(known_policies)
    ]
    states: list[_State | None] = [None] * n_agents
    settled = [False] * n_agents
    for _ in range(passes):
        before, models_before = list(states), list(models)
        for index in range(n_agents):
            states[index] = _pass(
                stages,
                models[index],
                policies,
                index,
                features=features[index],
                temperature=temperature,
                earlier=states[index],
                known=known[index],
                given=given,
                matrix_free=matrix_free,
            )
        for index, state in enumerate(states):
            assert state is not None
            model = models[index]
            if isinstance(model, ReplayedTd) and model.bootstrap == "soft_q":
                models[index] = replace(model, reward=state.reward)
            if not known[index]:
                policies[index] = np.concatenate([policies[index][:1], state.predicted])
        if all(known) and models == models_before and not any(map(_noisy, states)):
            settled = [True] * n_agents  # nothing is left that another pass could change
        else:
            settled = [_settled(b, s) for b, s in zip(before, states, strict=True)]
        if all(settled):
            break
    return [
        AgentFit(s.posterior, policies[i], models[i], s.number, settled[i])
        for i, s in enumerate(states)
        if s is not None
    ]


@dataclass(frozen=True, eq=False)
class _State:
    """One agent after a pass.

    Args:
        posterior: of the unknowns or weights.
        reward: the unknowns.
        predicted: policies from the second stage on.
        response, variance, log_constant: the working response for the next pass.
        model_variance: the learner's noise as predicted with this fit.
        number: how many passes were made.
    """

    posterior: Posterior | MatrixFreePosterior
    reward: FloatArray
    predicted: FloatArray
    response: FloatArray
    variance: FloatArray
    log_constant: float
    model_variance: FloatArray
    number: int


def _pass(
    stages: Sequence[StageArrays],
    model: LearnerModel,
    policies: Sequence[FloatArray],
    index: int,
    *,
    features: FloatArray | None,
    temperature: float,
    earlier: _State | None,
    known: bool,
    given: Given | None,
    matrix_free: bool,
) -> _State:
    played = stages[:-1]
    joint = [[policy[h] for policy in policies] for h in range(len(played))]
    counts = _counts(stages[1:], index).astype(float)
    if earlier is None:
        response = temperature * np.log(np.maximum(policies[index][1:], 1e-300))
        variance = temperature**2 / (counts + 0.5)
        variance = np.where(counts.sum(axis=-1, keepdims=True) > 0, variance, np.inf)
        constant, predicted = 0.0, np.zeros(counts.shape)
    else:
        response, variance = earlier.response, earlier.variance
        constant, predicted = earlier.log_constant, earlier.model_variance
    if known:
        response = temperature * np.log(np.maximum(policies[index][1:], 1e-300))
        certain = KNOWN_VARIANCE * temperature**2
        variance, constant = np.where(policies[index][1:] > 1e-300, certain, np.inf), 0.0
    data = Data(response, variance, predicted, constant, temperature)
    posterior, q = fit_data(
        data,
        model,
        played,
        joint,
        index,
        features=features,
        start=earlier.posterior.evidence if earlier else None,
        given=given,
        matrix_free=matrix_free,
    )
    reward = posterior.mean if features is None else features @ posterior.mean
    noise = np.stack(
        [
            model.variance(stage, before, index, reward, own_q)
            for stage, before, own_q in zip(played, joint, q, strict=True)
        ]
    )
    evidence = posterior.evidence
    scale = evidence.noise_scale or 1.0
    answer, policy = working_response(
        q,
        evidence.noise_variance + scale * noise,
        counts,
        temperature=temperature,
    )
    return _State(
        posterior,
        reward,
        policy,
        answer.mean,
        answer.variance,
        answer.log_constant,
        noise,
        number=earlier.number + 1 if earlier else 1,
    )


def _counts(stages: Sequence[StageArrays], index: int) -> NDArray[np.int64]:
    return np.stack([stage.action_counts(index) for stage in stages])


def _settled(before: _State | None, now: _State | None) -> bool:
    if before is None or now is None:
        return False
    return now.posterior.distance(now.posterior.mean - before.posterior.mean) < SETTLED


def _noisy(state: _State | None) -> bool:
    return state is None or bool(state.model_variance.any())
