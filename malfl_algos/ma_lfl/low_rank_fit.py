"""Smooth priors of games with many states: the rewards of all states from those of a few.

The unknowns are the rewards r_Z of the states Z that a pivoted Cholesky factorisation of a first
covariance k chooses. All rewards follow by interpolation that keeps constants (kriging with an
unknown mean, Rasmussen and Williams 2006, section 2.7),

  r(s) = sum_z W(s, z) r_Z(z),    W(s) = k_Z(s)' C + (1 - k_Z(s)' C 1) 1' C / 1' C 1,    C = K_Z^-1,

as in structured kernel interpolation (Wilson and Nickisch 2015). Prior, evidence and posterior of
r_Z are those of a small game (`prior_shapes`), and the learner models are needed along the columns
of W only. Under the covariance that is chosen in the end, interpolation leaves out

  k(s, s) - 2 W(s) k_Z(s) + W(s) K_Z W(s)'

of the smooth part of the prior variance of every state, and, but for the states Z, all of the part
without neighbours.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from malfl_algos.ma_lfl.alternation import AgentFit, alternate
from malfl_algos.ma_lfl.learner_models import (
    ExactEvaluation,
    ExpectedTd,
    LearnerModel,
    StageModel,
)
from malfl_algos.ma_lfl.low_rank_priors import pivoted_cholesky
from malfl_algos.ma_lfl.prior_comparison import (
    Comparison,
    compared,
    independent_fits,
    start_of_search,
)
from malfl_algos.ma_lfl.prior_shapes import LEAST_IID, Shape, SmoothPriors, shape_root
from malfl_algos.ma_lfl.reward_priors import (
    Alike,
    RewardPrior,
    Seen,
    alike_states,
    prior_of_alike_states,
)
from malfl_algos.ma_lfl.settings import SEARCH_PASSES, SEARCH_STAGES
from malfl_algos.ma_lfl.stages import StageArrays

__all__ = [
    "Interpolation",
    "LowRankPriors",
    "interpolation",
    "interpolation_from",
]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

NOT_TRIED = (
    "without matrices that takes learner exact or td, improvement 0 and the same noise and step in "
    "all stages"
)
NUGGET = 1e-6
"""Share of the prior variance that is added where the covariance of the chosen states is inverted.
"""


@dataclass(frozen=True, eq=False)
class Interpolation:
    """The rewards of all states from those of a few.

    Args:
        states: the few, `(k,)`.
        weights: W, `(n_states, k)`; its rows sum to 1.
        prior: of the rewards of the few, in units of the temperature.
        alike: how alike all states are to the few.
        settings: of the covariance that the states were chosen with.
    """

    states: IntArray
    weights: FloatArray
    prior: RewardPrior
    alike: Alike
    settings: FloatArray

    def left_out(self, settings: FloatArray) -> FloatArray:
        """Prior variance of every state that interpolation leaves out, `(n_states,)`, relative to
        the average prior variance of the few states about their mean.

        Args:
            settings: of `prior`.
        """
        between = _covariance(self.alike, settings)
        alone = np.exp(settings[1 : 1 + len(self.alike.parts)]).sum()
        variance = alone - 2 * (self.weights * between).sum(axis=1)
        variance += ((self.weights @ between[self.states]) * self.weights).sum(axis=1)
        found = np.maximum(variance, 0.0) / shape_root(self.prior, settings)[1]
        found += np.exp(settings[0]) / shape_root(self.prior, settings)[1] + LEAST_IID
        found[self.states] = 0.0
        return np.asarray(found)


def interpolation(
    seen: Seen, agent_index: int, settings: FloatArray, *, most: int
) -> Interpolation:
    """The interpolation of a smooth covariance.

    Args:
        seen: what the states are.
        agent_index: the agent.
        settings: of `malfl_algos.ma_lfl.reward_priors.prior_of_alike_states`; its part without
            neighbours is not used.
        most: largest number of states that the others follow from; with at least as many as there
            are states, every state is one of them.
    """
    n_states = len(seen.coordinates[0])
    if most >= n_states:
        return interpolation_from(seen, agent_index, settings, np.arange(n_states))

    def column(state: int) -> FloatArray:
        alike = alike_states(seen, agent_index, np.array([state]))
        return _covariance(alike, settings)[:, 0]

    alone = np.full(n_states, column(0)[0])
    few = pivoted_cholesky(column, alone, most=most).pivots
    return interpolation_from(seen, agent_index, settings, few)


def interpolation_from(
    seen: Seen, agent_index: int, settings: FloatArray, few: IntArray
) -> Interpolation:
    """The interpolation from given states.

    Args:
        seen, agent_index, settings: as `interpolation` takes them.
        few: the states, as `interpolation` has chosen them.
    """
    n_states = len(seen.coordinates[0])
    if len(few) == n_states:
        alike = alike_states(seen, agent_index)
        return Interpolation(few, np.eye(n_states), prior_of_alike_states(alike), alike, settings)
    of_few = Seen(seen.names, tuple(own[few] for own in seen.coordinates), seen.owners)
    alike = alike_states(seen, agent_index, few)
    between = _covariance(alike, settings)
    factor = scipy.linalg.cho_factor(between[few] + NUGGET * between.max() * np.eye(len(few)))
    weights = scipy.linalg.cho_solve(factor, between.T).T
    level = scipy.linalg.cho_solve(factor, np.ones(len(few)))
    weights += np.outer(1 - weights.sum(axis=1), level / level.sum())
    prior = prior_of_alike_states(alike_states(of_few, agent_index))
    return Interpolation(few, weights, prior, alike, settings)


class LowRankPriors:
    """The smooth priors of all agents, chosen by the evidence of the first stages.

    The states that the others follow from are chosen for the most probable settings before anything
    was seen, then for those that the first stages leave most probable. All later fits share them.

    Of learners that evaluate exactly or by td, and keep nothing of their log policy, independent
    rewards are compared with them by their evidence (`prior_comparison`), and fitted in their place
    where smooth ones are not better. If all policies are known, they tell rewards all but exactly,
    and independent ones are taken at once.

    Args:
        seen: what the states are.
        n_agents: number of agents.
        columns: largest number of states that the others follow from.
        independent: whether independent rewards may be taken.
    """

    def __init__(self, seen: Seen, n_agents: int, *, columns: int, independent: bool) -> None:
        self._seen, self._columns, self._may_be_independent = seen, columns, independent
        self._first = []
        for index in range(n_agents):
            alike = alike_states(seen, index, np.zeros(1, dtype=np.int64))
            means = prior_of_alike_states(alike).means
            self._first.append(interpolation(seen, index, means, most=columns))
        self._chosen: list[tuple[Interpolation, Shape]] = []
        self._compared: dict[Hashable, Comparison] = {}

    def fits(
        self,
        stages: Sequence[StageArrays],
        models: Sequence[LearnerModel],
        *,
        search: bool,
        **options: Any,
    ) -> list[AgentFit]:
        """The fits under the chosen priors, whose settings are chosen again after every iteration.

        Args:
            stages, models: as `malfl_algos.ma_lfl.alternation.alternate` takes them.
            search: whether other settings are searched. The rewards of the few states are then
                independent.
            options: its further arguments.
        """
        if search:
            return self._independent(stages, models, **options)
        model, known = models[0], all(own is not None for own in options["known_policies"])
        alone = isinstance(model, (ExactEvaluation, ExpectedTd)) and options["retained"] == 0
        if self._may_be_independent and alone and known:
            start = start_of_search(options)
            return independent_fits(
                stages, models, start, "the agents' policies are known", options
            )
        smooth = self._smooth(stages, models, options)
        if not self._may_be_independent:
            return _saying(smooth, "independent rewards were not tried")
        key = model.key if isinstance(model, StageModel) else None
        if alone and options["stagewise"] == "same":
            priors = [own.prior for own, _ in self._chosen]
            try:
                self._compared[key] = compared(stages, smooth, priors)
            except ArithmeticError as fault:
                return _saying(smooth, f"independent rewards were not compared: {fault}")
        if not alone or key not in self._compared:
            return _saying(smooth, f"independent rewards were not tried: {NOT_TRIED}")
        found = self._compared[key]
        if found.smooth or options["stagewise"] != "same":
            return _saying(smooth, found.words(), found)
        start = found.start or start_of_search(options)
        single = independent_fits(stages, models, start, found.words(), options)
        return _saying(single, found.words(), found)

    def _smooth(
        self,
        stages: Sequence[StageArrays],
        models: Sequence[LearnerModel],
        options: dict[str, Any],
    ) -> list[AgentFit]:
        """The fits under smooth priors."""
        if not self._chosen:
            self._choose(stages, models, options)
        priors = [own.prior for own, _ in self._chosen]
        found = alternate(
            stages,
            models,
            features=[own.weights for own, _ in self._chosen],
            matrix_free=True,
            smooth=SmoothPriors(priors, -np.inf, [shape for _, shape in self._chosen]),
            **options,
        )
        pairs = zip(found, self._chosen, strict=True)
        return [_with_left_out(fit, own) for fit, (own, _) in pairs]

    def _independent(
        self, stages: Sequence[StageArrays], models: Sequence[LearnerModel], **options: Any
    ) -> list[AgentFit]:
        features = [own.weights for own in self._first]
        return alternate(stages, models, features=features, matrix_free=True, **options)

    def _choose(
        self,
        stages: Sequence[StageArrays],
        models: Sequence[LearnerModel],
        options: dict[str, Any],
    ) -> None:
        first = stages[:SEARCH_STAGES]
        known = [None if own is None else own[: len(first)] for own in options["known_policies"]]
        brief = {
            "known_policies": known,
            "passes": SEARCH_PASSES,
            "stagewise": "same",
            "measured": False,
        }
        smooth = SmoothPriors([own.prior for own in self._first], -np.inf)
        for fit, index in zip(
            self._independent(first, models, **{**options, **brief, "smooth": smooth}),
            range(len(models)),
            strict=True,
        ):
            settings = np.array(fit.further["prior"]["settings"])
            own = interpolation(self._seen, index, settings, most=self._columns)
            root, variance = shape_root(own.prior, settings)
            self._chosen.append((own, Shape(settings, root, variance, 0.0)))


def _saying(
    fits: Sequence[AgentFit], words: str, found: Comparison | None = None
) -> list[AgentFit]:
    """The fits with the choice of the prior in their diagnostics."""
    gains: Sequence[float | None] = [None] * len(fits) if found is None else found.gains
    errors: Sequence[float | None] = [None] * len(fits) if found is None else found.errors
    said = [
        {**own.further["prior"], "reason": words, "gain": gain, "gain_error": error}
        for own, gain, error in zip(fits, gains, errors, strict=True)
    ]
    return [
        replace(own, further={**own.further, "prior": prior})
        for own, prior in zip(fits, said, strict=True)
    ]


def _covariance(alike: Alike, settings: FloatArray) -> FloatArray:
    """The smooth part of a prior covariance."""
    n_parts = len(alike.parts)
    log_lengths = settings[1 + n_parts :]
    parts = [alike.part(own, settings[1 + own], log_lengths)[0] for own in range(n_parts)]
    return np.asarray(np.sum(parts, axis=0))


def _with_left_out(fit: AgentFit, own: Interpolation) -> AgentFit:
    words = dict(fit.further["prior"])
    left = own.left_out(np.array(words["settings"]))
    words |= {
        "states": own.states.tolist(),
        "interpolated_with": own.settings.tolist(),
        "left_out": float(left.mean()),
    }
    variance = fit.posterior.evidence.prior_variance
    return replace(
        fit,
        features=own.weights,
        left_out=variance * left,
        further={**fit.further, "prior": words},
    )
