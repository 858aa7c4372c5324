"""Fit a learner model by alternation: the reward from the policies, then the policies from the
reward.

Counts alone give a poor estimate of the probability of a rarely played action. That estimate enters
twice: as data, and, in the stage before, as part of the learner model. A fitted learner model
predicts every next policy. Each iteration therefore estimates the policies from counts and
prediction together, weighted by their variances, and fits the reward again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from malfl_algos.ma_lfl.choices import (
    CONCENTRATION,
    first_greedy,
    greedy_choices,
    open_scale,
    repeats,
    soft_choices,
)
from malfl_algos.ma_lfl.data_fit import Data, fit_data
from malfl_algos.ma_lfl.greedy import Choice
from malfl_algos.ma_lfl.learner_models import LearnerModel, LinearisedModel
from malfl_algos.ma_lfl.matrix_free_posterior import MatrixFreePosterior
from malfl_algos.ma_lfl.policy_estimation import smoothed_policy
from malfl_algos.ma_lfl.posterior import Given, Posterior
from malfl_algos.ma_lfl.replay import ReplayedTd
from malfl_algos.ma_lfl.stages import StageArrays
from malfl_algos.ma_lfl.stagewise import StageKind

__all__ = ["CONCENTRATION", "AgentFit", "alternate", "played_stages", "unexplained"]

FloatArray = NDArray[np.float64]

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
        further: further diagnostics of the learner model, JSON values.
        data: the working response of the last iteration, of all its stages.
    """

    posterior: Posterior | MatrixFreePosterior
    policies: FloatArray
    model: LearnerModel
    passes: int
    converged: bool
    further: Mapping[str, Any] = field(default_factory=dict)
    data: Data | None = None


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
    retained: float | None = 0.0,
    stagewise: StageKind = "same",
    measured: bool = False,
    choice: Choice = "soft",
    gives_up: Callable[[int, float], bool] | None = None,
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
        retained: share rho of its log policy that every learner keeps; None: positive, and chosen
            by the evidence for every agent.
        stagewise: what differs from stage to stage: `noise`, `scale` (the learner's step), `both`.
        measured: whether to compute the standard deviation of a searched rho, and what stagewise
            factors would gain, for `same`.
        choice: how the learners choose actions: `soft`, or epsilon-`greedy` with retained 0; see
            `malfl_algos.ma_lfl.greedy`.
        gives_up: whether to stop after an iteration, from its number, 1 for the first, and the log
            evidence of all agents; None: never.

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
    for number in range(1, passes + 1):
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
                retained=retained,
                stagewise=stagewise,
                measured=measured and (passes == 1 or states[index] is not None),
                choice=choice,
            )
        for index, state in enumerate(states):
            assert state is not None
            model = models[index]
            if isinstance(model, ReplayedTd) and model.bootstrap == "soft_q":
                models[index] = replace(model, reward=state.reward)
            if isinstance(model, LinearisedModel):
                models[index] = model.linearised(state.reward)
            if not known[index]:
                policies[index] = state.policies
        if all(known) and models == models_before and not any(map(_noisy, states)):
            converged = [True] * n_agents  # another iteration would change nothing
        else:
            converged = [_converged(b, s) for b, s in zip(before, states, strict=True)]
        if all(converged) or (gives_up is not None and gives_up(number, _log_evidence(states))):
            break
    return [
        AgentFit(
            s.posterior,
            policies[i],
            models[i],
            s.number,
            converged[i],
            open_scale(s.epsilon),
            s.data,
        )
        for i, s in enumerate(states)
        if s is not None
    ]


@dataclass(frozen=True, eq=False)
class _State:
    """One agent after an iteration.

    Args:
        posterior: posterior of the unknowns or weights.
        reward: posterior mean of the unknowns.
        policies: policies estimated from counts and prediction together, of every stage.
        response, variance, log_constant: the working response of every stage for the next
            iteration.
        model_variance: variance of the learner's noise that this fit predicts.
        number: number of iterations so far.
        epsilon: of every stage but the first, for epsilon-greedy choices.
        data: the working response of this iteration.
    """

    posterior: Posterior | MatrixFreePosterior
    reward: FloatArray
    policies: FloatArray
    response: FloatArray
    variance: FloatArray
    log_constant: float
    model_variance: FloatArray
    number: int
    epsilon: FloatArray | None = None
    data: Data | None = None


def played_stages(model: LearnerModel, stages: Sequence[StageArrays]) -> Sequence[StageArrays]:
    """The stages whose play enters the next policies: all if the policy moves within them."""
    moving = isinstance(model, LinearisedModel) and model.moving
    return stages if moving else stages[:-1]


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
    retained: float | None,
    stagewise: StageKind,
    measured: bool,
    choice: Choice,
) -> _State:
    played = played_stages(model, stages)
    moving = len(played) == len(stages)
    joint = [[policy[h] for policy in policies] for h in range(len(played))]
    counts = _counts(stages, index).astype(float)
    data = _data(policies[index], counts, temperature, earlier, known=known, retained=retained)
    if choice == "greedy" and earlier is None:
        first = first_greedy(counts, policies[index], temperature, moving=moving)
        data = replace(
            data,
            response=first.mean,
            response_variance=first.variance,
            log_constant=first.log_constant,
        )
    data = replace(data, repeats=repeats(model, choice, len(stages) - 1))
    data = replace(data, stages=stagewise, measured=measured)
    posterior, q, drift = fit_data(
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
    epsilon = None
    if choice == "greedy":
        spread = posterior.evidence.row_variance(noise)
        response, estimated, epsilon = greedy_choices(
            drift, spread, counts, policies[index], temperature, moving=moving
        )
    else:
        response, estimated = soft_choices(
            drift, noise, counts, policies[index], posterior.evidence, temperature=temperature
        )
    return _State(
        posterior,
        reward,
        estimated,
        response.mean,
        response.variance,
        response.log_constant,
        noise,
        number=earlier.number + 1 if earlier else 1,
        epsilon=epsilon,
        data=data,
    )


def _data(
    policies: FloatArray,
    counts: FloatArray,
    temperature: float,
    earlier: _State | None,
    *,
    known: bool,
    retained: float | None,
) -> Data:
    """The working response of an agent's policies, of every stage, for the next fit."""
    logs = temperature * np.log(np.maximum(policies, 1e-300))
    if earlier is None:
        response = logs
        variance = temperature**2 / (counts + 0.5)
        variance = np.where(counts.sum(axis=-1, keepdims=True) > 0, variance, np.inf)
        variance[0] = temperature**2 / (counts[0] + CONCENTRATION)
        constant, predicted = 0.0, np.zeros(counts[1:].shape)
    else:
        response, variance = earlier.response, earlier.variance
        constant, predicted = earlier.log_constant, earlier.model_variance
    if known:
        certain = KNOWN_VARIANCE * temperature**2
        response, constant = logs, 0.0
        variance = np.where(policies > 1e-300, certain, np.inf)
    start = earlier.posterior.evidence.retained if earlier else 0.0
    return Data(
        response,
        variance,
        predicted,
        constant,
        temperature,
        retained=start if retained is None else retained,
        searched=retained is None,
    )


def unexplained(fit: AgentFit, *, temperature: float) -> float:
    """Variance that a fit leaves to noise of unknown origin, relative to that of log pi_{h+1} minus
    rho log pi_h about its mean over the actions.
    """
    at, logs = fit.posterior.evidence, np.log(np.maximum(fit.policies, 1e-300))
    moved = logs[1:] - at.retained * logs[:-1]
    moved = moved - moved.mean(axis=-1, keepdims=True)
    return float(at.noise_variance / max(temperature**2 * np.mean(moved**2), 1e-300))


def _counts(stages: Sequence[StageArrays], index: int) -> NDArray[np.int64]:
    return np.stack([stage.action_counts(index) for stage in stages])


def _converged(before: _State | None, now: _State | None) -> bool:
    if before is None or now is None:
        return False
    return now.posterior.distance(now.posterior.mean - before.posterior.mean) < CONVERGED


def _log_evidence(states: Sequence[_State | None]) -> float:
    return sum(one.posterior.evidence.log_evidence or 0.0 for one in states if one is not None)


def _noisy(state: _State | None) -> bool:
    return state is None or bool(state.model_variance.any())
