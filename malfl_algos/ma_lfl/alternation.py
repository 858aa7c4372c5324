"""Fitting a learner model: reward from policies, policies from the reward, in turn.

Counts alone estimate a rarely played action's probability badly, and that estimate enters twice: as
what is to be explained, and, with the stage before it, in the model itself. A fitted learner
predicts every next policy, so each pass estimates the policies anew from counts and prediction
together, weighs both by their variance, and fits the reward again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from malfl_algos.ma_lfl.inference import Evidence, Given, Posterior, Rows, fit
from malfl_algos.ma_lfl.krylov import TIGHT, UnformedPosterior, UnformedRows, unformed_posterior
from malfl_algos.ma_lfl.learner_models import LearnerModel, UnformedModel
from malfl_algos.ma_lfl.policy_estimation import smoothed_policy
from malfl_algos.ma_lfl.replay import ReplayedTd
from malfl_algos.ma_lfl.response import working_response
from malfl_algos.ma_lfl.unformed import Values
from malfl_algos.trace import LearningTrace, Stage

__all__ = ["AgentFit", "alternate", "noise_settings"]

FloatArray = NDArray[np.float64]

CONCENTRATION = 0.3
"""Pseudo-count per action of the first policy estimates."""
SETTLED = 0.1
"""A reward has settled when it moves by less than this many posterior deviations, root mean
square.
"""
KNOWN_VARIANCE = 1e-10
"""Variance of log pi where the policy is known."""
FIRST_EVALUATIONS, LATER_EVALUATIONS = 12, 16
"""Noise settings tried in the first pass and in each later one."""
LARGE = 5e9
"""Above so many rows x unknowns squared, the cost of a noise setting, half as many are tried."""


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

    posterior: Posterior | UnformedPosterior
    policies: FloatArray
    model: LearnerModel
    passes: int
    settled: bool


def alternate(
    trace: LearningTrace,
    models: Sequence[LearnerModel],
    *,
    known_policies: Mapping[str, FloatArray],
    features: Sequence[FloatArray | None],
    temperature: float,
    passes: int,
    given: Given | None = None,
    unformed: bool = False,
) -> list[AgentFit]:
    """Fit every agent's reward, all agents pass by pass, since each one's policies enter the
    others'.

    Args:
        trace: at least two stages.
        models: the learner model of each agent.
        known_policies: agent id to `(n_stages, n_states, n_actions)`.
        features: per agent `(n_unknowns, n_features)`, reward = features @ weights; None: every
            unknown is free.
        temperature: alpha > 0.
        passes: at most so many.
        given: noise and prior to take without a search.
        unformed: never to form the coefficients of the unknowns, for large games; without features
            noise and prior must then be given.

    Returns:
        One fit per agent.
    """
    models = list(models)
    known = [agent in known_policies for agent in trace.agents]
    policies = [
        known_policies[agent]
        if agent in known_policies
        else smoothed_policy(
            np.stack([stage.action_counts(index) for stage in trace.stages]),
            pseudo_count=CONCENTRATION,
        )
        for index, agent in enumerate(trace.agents)
    ]
    states: list[_State | None] = [None] * trace.n_agents
    for _ in range(passes):
        before = [state.posterior.mean if state else None for state in states]
        for index in range(trace.n_agents):
            states[index] = _pass(
                trace,
                models[index],
                policies,
                index,
                features=features[index],
                temperature=temperature,
                earlier=states[index],
                known=known[index],
                given=given,
                unformed=unformed,
            )
        for index, state in enumerate(states):
            assert state is not None
            model = models[index]
            if isinstance(model, ReplayedTd) and model.bootstrap == "soft_q":
                models[index] = replace(model, reward=state.reward)
            if not known[index]:
                policies[index] = np.concatenate([policies[index][:1], state.predicted])
        if all(known) and not any(s is None or s.model_variance.any() for s in states):
            before = [state.posterior.mean if state else None for state in states]
            break  # all that a pass could change is known
        if all(_settled(b, s) for b, s in zip(before, states, strict=True)):
            break
    return [
        AgentFit(s.posterior, policies[i], models[i], s.number, _settled(before[i], s))
        for i, s in enumerate(states)
        if s is not None
    ]


def noise_settings(n_rows: int, n_unknowns: int, *, first: bool) -> int:
    """How many noise settings are tried in a pass, the first or a later one."""
    evaluations = FIRST_EVALUATIONS if first else LATER_EVALUATIONS
    return evaluations // 2 if n_rows * n_unknowns**2 > LARGE else evaluations


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

    posterior: Posterior | UnformedPosterior
    reward: FloatArray
    predicted: FloatArray
    response: FloatArray
    variance: FloatArray
    log_constant: float
    model_variance: FloatArray
    number: int


def _pass(
    trace: LearningTrace,
    model: LearnerModel,
    policies: Sequence[FloatArray],
    index: int,
    *,
    features: FloatArray | None,
    temperature: float,
    earlier: _State | None,
    known: bool,
    given: Given | None,
    unformed: bool,
) -> _State:
    stages = list(enumerate(trace.stages[:-1]))
    joint = [[policy[h] for policy in policies] for h, _ in stages]
    counts = np.stack([stage.action_counts(index) for stage in trace.stages[1:]]).astype(float)
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
    data = _Data(response, variance, predicted, constant, temperature)
    posterior: Posterior | UnformedPosterior
    if unformed and features is None:
        posterior, q = _without_coefficients(model, stages, joint, index, data, given)
        reward = posterior.mean
    else:
        k, offset = _coefficients(model, stages, joint, index, features, unformed=unformed)
        posterior = _with_coefficients(
            k, offset, data, features, earlier.posterior.evidence if earlier else None, given
        )
        reward = posterior.mean if features is None else features @ posterior.mean
        q = k @ posterior.mean + offset
    noise = np.stack([model.variance(stage, joint[h], index, reward, q[h]) for h, stage in stages])
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


@dataclass(frozen=True, eq=False)
class _Data:
    """What the policies say, and how surely; see `Rows`."""

    response: FloatArray
    response_variance: FloatArray
    model_variance: FloatArray
    log_constant: float
    temperature: float


def _coefficients(
    model: LearnerModel,
    stages: Sequence[tuple[int, Stage]],
    joint: Sequence[Sequence[FloatArray]],
    index: int,
    features: FloatArray | None,
    *,
    unformed: bool,
) -> tuple[FloatArray, FloatArray]:
    """Coefficients of the unknowns or weights, one more axis than the offset that goes with it."""
    if unformed and features is not None:
        maps = _values(model, stages, joint, index)
        columns = [
            np.stack([values.apply(column, residual=TIGHT) for values in maps])
            for column in features.T
        ]
        return np.stack(columns, axis=-1), np.stack([values.offset for values in maps])
    q = np.stack([model.coefficients(stage, joint[h], index) for h, stage in stages])
    return q[..., :-1] if features is None else q[..., :-1] @ features, q[..., -1]


def _with_coefficients(
    coefficients: FloatArray,
    offset: FloatArray,
    data: _Data,
    features: FloatArray | None,
    start: Evidence | None,
    given: Given | None,
) -> Posterior:
    n_unknowns = coefficients.shape[-1]
    level = np.full((n_unknowns, n_unknowns), 1 / n_unknowns) if features is None else 0.0
    rows = Rows(
        coefficients=coefficients,
        response=data.response - offset,
        response_variance=data.response_variance,
        model_variance=data.model_variance,
        prior=np.eye(n_unknowns) - level,
        log_constant=data.log_constant,
        temperature=data.temperature,
    )
    return fit(
        rows,
        start=start,
        evaluations=noise_settings(data.response.size, n_unknowns, first=start is None),
        scaled=bool(data.model_variance.any()),
        given=given,
    )


def _without_coefficients(
    model: LearnerModel,
    stages: Sequence[tuple[int, Stage]],
    joint: Sequence[Sequence[FloatArray]],
    index: int,
    data: _Data,
    given: Given | None,
) -> tuple[UnformedPosterior, FloatArray]:
    assert given is not None
    posterior = unformed_posterior(
        UnformedRows(
            _values(model, stages, joint, index),
            data.response,
            data.response_variance,
            data.model_variance,
            data.temperature,
        ),
        given,
    )
    return posterior, posterior.q


def _values(
    model: LearnerModel,
    stages: Sequence[tuple[int, Stage]],
    joint: Sequence[Sequence[FloatArray]],
    index: int,
) -> list[Values]:
    assert isinstance(model, UnformedModel)
    return [model.values(stage, joint[h], index, n_stages=len(stages)) for h, stage in stages]


def _settled(before: FloatArray | None, state: _State | None) -> bool:
    if before is None or state is None:
        return False
    return state.posterior.distance(state.posterior.mean - before) < SETTLED
