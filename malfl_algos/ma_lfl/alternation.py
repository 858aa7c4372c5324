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
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from malfl_algos.ma_lfl.agent_pass import (
    KNOWN_VARIANCE,
    AgentState,
    Prediction,
    action_counts,
    one_pass,
    played_stages,
)
from malfl_algos.ma_lfl.choices import open_scale
from malfl_algos.ma_lfl.data_fit import Data
from malfl_algos.ma_lfl.greedy import Choice
from malfl_algos.ma_lfl.learner_models import LearnerModel, LinearisedModel
from malfl_algos.ma_lfl.matrix_free_posterior import MatrixFreePosterior
from malfl_algos.ma_lfl.policy_estimation import CONCENTRATION, smoothed_policy
from malfl_algos.ma_lfl.posterior import Given, Posterior
from malfl_algos.ma_lfl.prior_shapes import Shape, SmoothPriors, chosen_shapes, shape_words
from malfl_algos.ma_lfl.replay import ReplayedTd
from malfl_algos.ma_lfl.reward_priors import RewardPrior
from malfl_algos.ma_lfl.sparse_rewards import with_special_cell
from malfl_algos.ma_lfl.stages import StageArrays
from malfl_algos.ma_lfl.stagewise import StageKind
from malfl_algos.work.telling import say

__all__ = [
    "KNOWN_VARIANCE",
    "AgentFit",
    "alternate",
    "played_stages",
    "unexplained",
]

FloatArray = NDArray[np.float64]

CONVERGED = 0.1
"""A reward has converged when an iteration moves it by less than this many posterior standard
deviations, root mean square.
"""


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
        features: `(n_unknowns, n_features)`, reward = features @ weights, if the posterior is of
            weights that this fit has chosen; None: it is not.
        left_out: prior variance of every unknown that these features lack, `(n_unknowns,)`.
        concentration: pseudo-count per action of the first policy that the evidence chose; None:
            the counts of the first stage are not used.
    """

    posterior: Posterior | MatrixFreePosterior
    policies: FloatArray
    model: LearnerModel
    passes: int
    converged: bool
    further: Mapping[str, Any] = field(default_factory=dict)
    data: Data | None = None
    features: FloatArray | None = None
    left_out: FloatArray | None = None
    concentration: float | None = None


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
    smooth: SmoothPriors | None = None,
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
        smooth: smooth priors to choose from, for soft choices, and with features only those of
            `malfl_algos.ma_lfl.low_rank_fit`; see `_with_smooth_priors`. None: the unknowns are
            independent.

    Returns:
        One fit per agent.
    """
    run = _Run(
        stages,
        list(models),
        [own is not None for own in known_policies],
        [
            smoothed_policy(action_counts(stages, index), pseudo_count=CONCENTRATION)
            if own is None
            else own
            for index, own in enumerate(known_policies)
        ],
        partial(
            one_pass,
            stages,
            temperature=temperature,
            given=given,
            matrix_free=matrix_free,
            retained=retained,
            stagewise=stagewise,
            choice=choice,
        ),
        features,
    )
    if smooth is not None and smooth.first is not None:
        run.shapes = list(smooth.first)
        return _with_smooth_priors(run, None, smooth, temperature, passes=passes, measured=measured)
    for number in range(1, passes + 1):
        run.words = f"{models[0].name}: iteration {number} of at most {passes}"
        late = passes == 1 or number > 1
        if run.iterate(measured=measured and late, gives_up=gives_up and partial(gives_up, number)):
            break
    fits = run.fits()
    if smooth is None:
        return fits
    return _with_smooth_priors(run, fits, smooth, temperature, passes=passes, measured=measured)


class _Run:
    """All agents between two iterations."""

    def __init__(
        self,
        stages: Sequence[StageArrays],
        models: list[LearnerModel],
        known: list[bool],
        policies: list[FloatArray],
        one_pass: Callable[..., tuple[AgentState, Callable[[], Prediction]]],
        features: Sequence[FloatArray | None],
    ) -> None:
        self.models, self.known, self.policies = models, known, policies
        self.stages, self.one_pass, self.features = stages, one_pass, features
        self.states: list[AgentState | None] = [None] * len(models)
        self.shapes: list[Shape | None] = [None] * len(models)
        self.converged = [False] * len(models)
        self.words = models[0].name

    def iterate(self, *, measured: bool, gives_up: Callable[[float], bool] | None = None) -> bool:
        """One iteration of all agents; whether it is the last one.

        Args:
            measured: as `alternate` takes it.
            gives_up: whether to stop, from the log evidence of all agents; None: never. A fit that
                is given up predicts nothing.
        """
        before, models_before = list(self.states), list(self.models)
        predict: list[Callable[[], Prediction]] = []
        for index, model in enumerate(self.models):
            say(f"{self.words}, agent {index + 1} of {len(self.models)}")
            self.states[index], own = self.one_pass(
                model,
                self.policies,
                index,
                features=self.features[index],
                earlier=self.states[index],
                known=self.known[index],
                measured=measured,
                shape=self.shapes[index],
            )
            predict.append(own)
        self.converged = [_converged(b, s) for b, s in zip(before, self.states, strict=True)]
        known = all(self.known)
        if known:
            self._predict(predict)
            if self.models == models_before and not any(map(_noisy, self.states)):
                self.converged = [True] * len(before)  # another iteration would change nothing
        settled = all(self.converged)
        given_up = not settled and gives_up is not None and gives_up(self.log_evidence)
        if not known and not given_up:
            self._predict(predict)
        return settled or given_up

    def _predict(self, predict: Sequence[Callable[[], Prediction]]) -> None:
        """Models and policies for the next iteration."""
        for index, state in enumerate(self.states):
            assert state is not None
            predicted = predict[index]()
            self.states[index] = replace(state, predicted=predicted)
            model = self.models[index]
            if isinstance(model, ReplayedTd) and model.bootstrap == "soft_q":
                self.models[index] = replace(model, reward=state.reward)
            if isinstance(model, LinearisedModel):
                self.models[index] = model.linearised(state.reward)
            if not self.known[index]:
                self.policies[index] = predicted.policies

    @property
    def log_evidence(self) -> float:
        """Log evidence of all agents."""
        found = [one.posterior.evidence.log_evidence for one in self.states if one is not None]
        return sum(one or 0.0 for one in found)

    @property
    def posteriors(self) -> list[Posterior]:
        """The posteriors of the unknowns, if they have matrices."""
        found = [one.posterior for one in self.states if one is not None]
        return [one for one in found if isinstance(one, Posterior)]

    def fits(self) -> list[AgentFit]:
        """The fits of the last iteration."""
        return [
            AgentFit(
                s.posterior,
                self.policies[i],
                self.models[i],
                s.number,
                self.converged[i],
                open_scale(s.predicted.epsilon) if s.predicted else {},
                s.data,
                concentration=s.concentration,
            )
            for i, s in enumerate(self.states)
            if s is not None
        ]


def _with_smooth_priors(
    run: _Run,
    independent: Sequence[AgentFit] | None,
    smooth: SmoothPriors,
    temperature: float,
    *,
    passes: int,
    measured: bool,
) -> list[AgentFit]:
    """The fits with smooth priors of the agents whose evidence asks for them, else as they were.

    The shapes of the priors are chosen at the noise of the last iteration; up to `passes` further
    iterations then fit rewards and policies under them, and choose them again.

    Args:
        run: after the iterations with independent unknowns.
        independent: its fits; None: there were no such iterations, and smooth priors are kept.
        smooth, temperature, passes, measured: as `alternate` takes them.
    """
    tried = run.shapes
    if independent is not None:
        tried = chosen_shapes(smooth, run.posteriors, temperature, run.shapes)
        run.shapes = [one if one and one.gain > smooth.margin else None for one in tried]
    for number in range(1, passes + 1):
        if not any(run.shapes):
            break
        run.words = f"{run.models[0].name}, smooth priors: iteration {number} of at most {passes}"
        late = independent is not None or number > 1 or passes == 1
        settled = run.iterate(measured=measured and late)
        tried = chosen_shapes(smooth, run.posteriors, temperature, run.shapes)
        if settled:
            break
        run.shapes = [own and one for own, one in zip(run.shapes, tried, strict=True)]
    found = []
    shapes = [one.shape for one in run.states if one is not None]
    for index, (own, shape, last) in enumerate(zip(run.fits(), shapes, tried, strict=True)):
        prior, gain = smooth.priors[index], None if last is None else last.gain
        words: dict[str, Any] = {"kind": "iid", "gain": gain}
        if prior is None:
            words = {"kind": "iid", "reason": "the agent's policies are known"}
        if prior is not None and shape and gain is not None and gain > smooth.margin:
            words = {"kind": "smooth", "gain": gain, **shape_words(prior, shape)}
        elif independent is not None:
            own = independent[index]
        found.append(replace(own, further={**own.further, "prior": words}))
    return [
        _averaged(own, prior, cells, temperature)
        for own, prior, cells in zip(
            found, smooth.priors, smooth.cells or [None] * len(found), strict=True
        )
    ]


def _averaged(
    fit: AgentFit, prior: RewardPrior | None, cells: NDArray[np.int64] | None, temperature: float
) -> AgentFit:
    """A fit averaged with rewards of one special cell, if they count."""
    if prior is None or cells is None or not isinstance(fit.posterior, Posterior):
        return fit
    average = with_special_cell(fit.posterior, cells, temperature)
    if average is None:
        return fit
    words = {**fit.further["prior"], "special_cell": average.words()}
    return replace(fit, posterior=average.posterior, further={**fit.further, "prior": words})


def unexplained(fit: AgentFit, *, temperature: float) -> float:
    """Variance that a fit leaves to noise of unknown origin, relative to that of log pi_{h+1} minus
    rho log pi_h about its mean over the actions.
    """
    at, logs = fit.posterior.evidence, np.log(np.maximum(fit.policies, 1e-300))
    moved = logs[1:] - at.retained * logs[:-1]
    moved = moved - moved.mean(axis=-1, keepdims=True)
    return float(at.noise_variance / max(temperature**2 * np.mean(moved**2), 1e-300))


def _converged(before: AgentState | None, now: AgentState | None) -> bool:
    if before is None or now is None:
        return False
    if isinstance(now.posterior, MatrixFreePosterior) and not now.posterior.settled:
        return False
    return now.posterior.distance(now.posterior.mean - before.posterior.mean) < CONVERGED


def _noisy(state: AgentState | None) -> bool:
    """Whether another iteration would change the fit even if all policies are known."""
    if state is None or (
        isinstance(state.posterior, MatrixFreePosterior) and not state.posterior.settled
    ):
        return True
    return state.predicted is None or bool(state.predicted.model_variance.any())
