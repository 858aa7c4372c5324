"""One iteration of `alternation` for one agent: its reward from the policies, then its policies."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from malfl_algos.ma_lfl.choices import (
    first_greedy,
    greedy_choices,
    repeats,
    soft_choices,
)
from malfl_algos.ma_lfl.data_fit import Data, fit_data
from malfl_algos.ma_lfl.greedy import Choice
from malfl_algos.ma_lfl.learner_models import LearnerModel, LinearisedModel
from malfl_algos.ma_lfl.matrix_free_posterior import MatrixFreePosterior
from malfl_algos.ma_lfl.policy_estimation import Response, concentration_of
from malfl_algos.ma_lfl.posterior import Given, Posterior
from malfl_algos.ma_lfl.prior_shapes import Shape
from malfl_algos.ma_lfl.stages import StageArrays
from malfl_algos.ma_lfl.stagewise import StageKind

__all__ = [
    "KNOWN_VARIANCE",
    "AgentState",
    "Prediction",
    "action_counts",
    "one_pass",
    "played_stages",
]

FloatArray = NDArray[np.float64]

KNOWN_VARIANCE = 1e-10
"""Variance of log pi where the policy is known exactly."""


class Prediction(NamedTuple):
    """What a fit predicts, for the next iteration.

    Args:
        policies: policies estimated from counts and prediction together, of every stage.
        response: the working response of every stage.
        model_variance: variance of the learner's noise.
        epsilon: of every stage but the first, for epsilon-greedy choices.
    """

    policies: FloatArray
    response: Response
    model_variance: FloatArray
    epsilon: FloatArray | None = None


@dataclass(frozen=True, eq=False)
class AgentState:
    """One agent after an iteration.

    Args:
        posterior: posterior of the unknowns or weights.
        reward: posterior mean of the unknowns.
        number: number of iterations so far.
        data: the working response of this iteration.
        shape: of the prior of this iteration; None: the unknowns were independent.
        concentration: pseudo-count per action of the first policy that the evidence chose; None:
            the counts of the first stage are not used.
        predicted: for the next iteration; None for a fit that was given up.
    """

    posterior: Posterior | MatrixFreePosterior
    reward: FloatArray
    number: int
    data: Data | None = None
    shape: Shape | None = None
    concentration: float | None = None
    predicted: Prediction | None = None


def played_stages(model: LearnerModel, stages: Sequence[StageArrays]) -> Sequence[StageArrays]:
    """The stages whose play enters the next policies: all if the policy moves within them."""
    moving = isinstance(model, LinearisedModel) and model.moving
    return stages if moving else stages[:-1]


def one_pass(
    stages: Sequence[StageArrays],
    model: LearnerModel,
    policies: Sequence[FloatArray],
    index: int,
    *,
    features: FloatArray | None,
    temperature: float,
    earlier: AgentState | None,
    known: bool,
    given: Given | None,
    matrix_free: bool,
    retained: float | None,
    stagewise: StageKind,
    measured: bool,
    choice: Choice,
    shape: Shape | None = None,
) -> tuple[AgentState, Callable[[], Prediction]]:
    """One iteration; the arguments are those of `malfl_algos.ma_lfl.alternation.alternate`.

    Args:
        model: of this agent.
        policies: of all agents.
        index: the agent.
        earlier: this agent after the iteration before.
        known: whether its policies are known.
        shape: of the prior; None: the unknowns are independent.

    Returns:
        The state without its prediction, and what makes that.
    """
    played = played_stages(model, stages)
    moving = len(played) == len(stages)
    joint = [[policy[h] for policy in policies] for h in range(len(played))]
    counts = action_counts(stages, index).astype(float)
    concentration = concentration_of(counts[0])
    first_counts = counts[0] + concentration
    data = _data(
        policies[index],
        counts,
        first_counts,
        temperature,
        earlier,
        known=known,
        retained=retained,
    )
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
    before = earlier.posterior if earlier else None
    if isinstance(before, MatrixFreePosterior) and before.improved:
        given = before.improved
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
        root=None if shape is None else shape.root,
    )
    reward = posterior.mean if features is None else features @ posterior.mean
    own = policies[index]

    def predict() -> Prediction:
        noise = model.variance(played, joint, index, reward, q)
        if choice == "greedy":
            spread = posterior.evidence.row_variance(noise)
            response, estimated, epsilon = greedy_choices(
                drift, spread, counts, own, temperature, moving=moving
            )
            return Prediction(estimated, response, noise, epsilon)
        response, estimated = soft_choices(
            drift,
            noise,
            counts,
            own,
            posterior.evidence,
            first_counts=first_counts,
            temperature=temperature,
        )
        return Prediction(estimated, response, noise)

    state = AgentState(
        posterior,
        reward,
        number=earlier.number + 1 if earlier else 1,
        data=data,
        shape=shape,
        concentration=concentration if posterior.evidence.retained > 0 and not known else None,
    )
    return state, predict


def _data(
    policies: FloatArray,
    counts: FloatArray,
    first_counts: FloatArray,
    temperature: float,
    earlier: AgentState | None,
    *,
    known: bool,
    retained: float | None,
) -> Data:
    """The working response of an agent's policies, of every stage, for the next fit."""
    logs = temperature * np.log(np.maximum(policies, 1e-300))
    if earlier is None or earlier.predicted is None:
        response = logs.copy()
        variance = temperature**2 / (counts + 0.5)
        variance = np.where(counts.sum(axis=-1, keepdims=True) > 0, variance, np.inf)
        first = first_counts / first_counts.sum(axis=-1, keepdims=True)
        response[0] = temperature * np.log(first)
        variance[0] = temperature**2 / first_counts
        constant, predicted = 0.0, np.zeros(counts[1:].shape)
    else:
        said, predicted = earlier.predicted.response, earlier.predicted.model_variance
        response, variance, constant = said.mean, said.variance, said.log_constant
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


def action_counts(stages: Sequence[StageArrays], index: int) -> NDArray[np.int64]:
    """Counts of one agent's actions in every stage, `(n_stages, n_states, n_actions)`."""
    return np.stack([stage.action_counts(index) for stage in stages])
