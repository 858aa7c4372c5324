"""Fit a learner model by alternation: the reward from the policies, then the policies from the
reward.

Counts alone give a poor estimate of the probability of a rarely played action. That estimate enters
twice: as data, and, in the stage before, as part of the learner model. A fitted learner model
predicts every next policy. Each iteration therefore estimates the policies from counts and
prediction together, weighted by their variances, and fits the reward again.
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
CONVERGED = 0.1
"""A reward has converged when an iteration moves it by less than this many posterior standard
deviations, root mean square.
"""
KNOWN_VARIANCE = 1e-10
"""Variance of log pi where the policy is known exactly."""


@dataclass(frozen=True, eq=False)
class AgentFit:
    """One agent's reward under one learner model.

    Args:
        posterior: posterior of the reward unknowns, or of the feature weights.
        policies: policies estimated together with the reward, `(n_stages, n_states, n_actions)`.
        model: the learner model.
        passes: number of iterations.
        converged: whether the last iteration moved the reward by less than `CONVERGED` posterior
            standard deviations, root mean square.
    """

    posterior: Posterior | MatrixFreePosterior
    policies: FloatArray
    model: LearnerModel
    passes: int
    converged: bool


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
    """Fit every agent's reward. All agents share each iteration, since the policies of one agent
    enter the learner models of the others.

    Args:
        stages: at least two stages.
        models: the learner model of each agent.
        known_policies: per agent `(n_stages, n_states, n_actions)`; None: estimate them.
        features: per agent `(n_unknowns, n_features)`, reward = features @ weights; None: every
            unknown is free.
        temperature: alpha > 0.
        passes: largest number of iterations, >= 1.
        given: noise and prior to use without a search.
        matrix_free: whether to avoid the coefficients of the unknowns, for large games. Without
            features, `given` is then required.

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
    converged = [False] * n_agents
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
            converged = [True] * n_agents  # another iteration would change nothing
        else:
            converged = [_converged(b, s) for b, s in zip(before, states, strict=True)]
        if all(converged):
            break
    return [
        AgentFit(s.posterior, policies[i], models[i], s.number, converged[i])
        for i, s in enumerate(states)
        if s is not None
    ]


@dataclass(frozen=True, eq=False)
class _State:
    """One agent after an iteration.

    Args:
        posterior: posterior of the unknowns or weights.
        reward: posterior mean of the unknowns.
        predicted: predicted policies from the second stage on.
        response, variance, log_constant: the working response for the next iteration.
        model_variance: variance of the learner's noise that this fit predicts.
        number: number of iterations so far.
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
    noise = model.variance(played, joint, index, reward, q)
    evidence = posterior.evidence
    scale = evidence.noise_scale or 1.0
    next_response, policy = working_response(
        q,
        evidence.noise_variance + scale * noise,
        counts,
        temperature=temperature,
    )
    return _State(
        posterior,
        reward,
        policy,
        next_response.mean,
        next_response.variance,
        next_response.log_constant,
        noise,
        number=earlier.number + 1 if earlier else 1,
    )


def _counts(stages: Sequence[StageArrays], index: int) -> NDArray[np.int64]:
    return np.stack([stage.action_counts(index) for stage in stages])


def _converged(before: _State | None, now: _State | None) -> bool:
    if before is None or now is None:
        return False
    return now.posterior.distance(now.posterior.mean - before.posterior.mean) < CONVERGED


def _noisy(state: _State | None) -> bool:
    return state is None or bool(state.model_variance.any())
