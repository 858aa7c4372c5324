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

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from malfl_algos.ma_lfl.alternation import AgentFit, alternate, unexplained
from malfl_algos.ma_lfl.learner_models import ExactEvaluation, LearnerModel
from malfl_algos.ma_lfl.low_rank_priors import pivoted_cholesky
from malfl_algos.ma_lfl.posterior import NOISE_BOUNDS, Given
from malfl_algos.ma_lfl.prior_shapes import LEAST_IID, Shape, SmoothPriors, shape_root
from malfl_algos.ma_lfl.reward_priors import (
    Alike,
    RewardPrior,
    Seen,
    alike_states,
    prior_of_alike_states,
)
from malfl_algos.ma_lfl.settings import POOR, SEARCH_PASSES, SEARCH_STAGES
from malfl_algos.ma_lfl.stages import StageArrays

__all__ = [
    "Interpolation",
    "LowRankPriors",
    "interpolation",
    "interpolation_from",
    "start_of_search",
]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

START = 1e-3
"""Noise variance that the search for independent rewards starts from, in units of alpha squared,
unless all policies are known. Then it starts from the smallest one.
"""
NOT_TRIED = (
    "without matrices that takes exact evaluation and no kept share of the policy; give "
    "noise_variance and prior_variance, and set prior to iid"
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

    Where smooth rewards leave more than `POOR` of the improvements unexplained, independent rewards
    are fitted, too, without matrices, if the learners evaluate their policies exactly and keep
    nothing of them. Those that explain more are taken. There is no log evidence to compare. If all
    policies are known, they tell rewards all but exactly, and independent ones are taken at once.

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
        alone = options["retained"] == 0 and isinstance(models[0], ExactEvaluation)
        known = all(own is not None for own in options["known_policies"])
        if self._may_be_independent and alone and known:
            return _single(stages, models, None, "the agents' policies are known", options)
        smooth = self._smooth(stages, models, options)
        alpha = options["temperature"]
        left = max(unexplained(own, temperature=alpha) for own in smooth)
        if not self._may_be_independent or left <= POOR:
            return smooth
        words = f"smooth rewards leave {min(left, 1):.0%} of the improvements unexplained"
        if not alone:
            return _saying(smooth, f"{words}; independent rewards were not tried: {NOT_TRIED}")
        prior_variance = smooth[0].posterior.evidence.prior_variance
        single = _single(stages, models, prior_variance, words, options)
        less = max(unexplained(own, temperature=alpha) for own in single)
        words += f", independent ones {less:.0%}"
        return _saying(smooth if less >= left else single, words)

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


def _single(
    stages: Sequence[StageArrays],
    models: Sequence[LearnerModel],
    prior_variance: float | None,
    why: str,
    options: dict[str, Any],
) -> list[AgentFit]:
    """The fits of independent rewards, whose noise and prior are searched from given ones on."""
    start = start_of_search(options, prior_variance)
    found = alternate(
        stages,
        models,
        features=[None] * len(models),
        matrix_free=True,
        given=start,
        **{**options, "stagewise": "same", "measured": False},
    )
    words = {"solver": "iterative", "prior": {"kind": "iid", "reason": why}}
    return [replace(own, further={**own.further, **words}) for own in found]


def start_of_search(options: Mapping[str, Any], prior_variance: float | None = None) -> Given:
    """Noise and prior that the search for independent rewards starts from.

    Args:
        options: `temperature` and `known_policies`, as `malfl_algos.ma_lfl.alternation.alternate`
            takes them.
        prior_variance: to start from; None: alpha squared.
    """
    unit = options["temperature"] ** 2
    known = all(own is not None for own in options["known_policies"])
    noise = NOISE_BOUNDS[0] if known else START
    return Given(noise * unit, 1.0, unit if prior_variance is None else prior_variance, True)


def _saying(fits: Sequence[AgentFit], words: str) -> list[AgentFit]:
    return [
        replace(own, further={**own.further, "prior": {**own.further["prior"], "reason": words}})
        for own in fits
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
