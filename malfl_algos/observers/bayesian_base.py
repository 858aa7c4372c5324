"""The common part of `ma-lfl-bellman` and `ma-lfl-replay`: options and the steps of a recovery.

A recovery checks its arguments, chooses the settings that are not given by evidence, and fits every
agent's reward.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from math import prod
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from malfl_algos.contract import API_VERSION, Problem, RecoveredRewards, Source
from malfl_algos.ma_lfl.alternation import AgentFit, alternate, unexplained
from malfl_algos.ma_lfl.carried_rules import choice_of, follows_q
from malfl_algos.ma_lfl.cut_stages import of_stages
from malfl_algos.ma_lfl.discount_profile import profiled, with_uncertain_discount
from malfl_algos.ma_lfl.gradient_fit import fit_policy_gradient, reward_prior
from malfl_algos.ma_lfl.greedy import Choice
from malfl_algos.ma_lfl.greedy_fit import fit_greedy, small_enough
from malfl_algos.ma_lfl.learner_models import LearnerModel, LinearisedModel
from malfl_algos.ma_lfl.low_rank_fit import LowRankPriors, start_of_search
from malfl_algos.ma_lfl.possible_rules import possible_rules
from malfl_algos.ma_lfl.posterior import Given
from malfl_algos.ma_lfl.prior_shapes import MARGIN, SmoothPriors
from malfl_algos.ma_lfl.race import Runner
from malfl_algos.ma_lfl.reward_models import (
    OF_STATES,
    RewardModel,
    count_unknowns,
    feature_maps,
    with_intercept,
)
from malfl_algos.ma_lfl.reward_priors import (
    RewardPrior,
    Seen,
    alike_states,
    own_cells,
    prior_of_alike_states,
)
from malfl_algos.ma_lfl.rule_averaging import close_rivals, decided
from malfl_algos.ma_lfl.search import Found, Search, key_of
from malfl_algos.ma_lfl.settings import (
    GRADIENT,
    LINEARISED_PASSES,
    SEARCH_PASSES,
    SEARCH_STAGES,
    Gradient,
    Solver,
    check_solver,
    choose_settings,
)
from malfl_algos.ma_lfl.stages import StageArrays
from malfl_algos.ma_lfl.stagewise import StageKind
from malfl_algos.ma_lfl.uncertain_dynamics import DRAWS, with_uncertain_dynamics
from malfl_algos.observers.bayesian_result import check_covariance, recovered_rewards
from malfl_algos.observers.reading import check_data, drawn_dynamics, dynamics_of, stage_arrays
from malfl_algos.observers.state_coordinates import seen_states
from malfl_algos.trace import LearningTrace
from malfl_algos.work.threads import one_blas_thread
from malfl_env.errors import InputError
from malfl_env.markov_game import MarkovGame

__all__ = ["BayesianObserver", "Settings", "check_improvement"]

FloatArray = NDArray[np.float64]

Settings = Mapping[str, Any]
"""Settings that may be chosen by evidence: discount, rule, step_size, improvement (rho)."""


STAGES = ("auto", "same", "noise", "scale", "both")
STAGE_MARGIN = 10.0
"""Steps and noises by stage are fitted if they promise to raise the log evidence by more than this.
"""
PRIORS = ("auto", "iid", "smooth")
POLICIES_UNUSED = "not used: the rewards are recovered from single steps, which tell the policies"
"""Diagnostics of an agent whose known policies have no effect."""
MOST_SMOOTH, MOST_SMOOTH_ASKED = 1000, 2500
"""Largest number of unknowns for which `auto` tries a smooth prior, and for which there is one:
every step of its search factorises matrices of this size.
"""
LEAST_STAGES = 3
"""Smallest number of stages from which the share rho can be chosen."""


@dataclass(frozen=True)
class BayesianObserver(ABC):
    """The common part of both observers; see `MaLflBellman` and `MaLflReplay` for the options.

    A subclass lists its learners' rules in `rules`, the first of which a search starts with, and
    builds the learner model of a rule.
    """

    reward_model: Literal["state", "next_state", "own_action", "joint", "features"] = "state"
    features: Any = field(default=None, compare=False)
    step_size: float | None = 0.1
    passes: int = 8
    covariance: bool = False
    noise_variance: float | None = None
    prior_variance: float | None = None
    noise_scale: float = 1.0
    improvement: float | Literal["auto"] = "auto"
    stages: Literal["auto", "same", "noise", "scale", "both"] = "auto"
    prior: Literal["auto", "iid", "smooth"] = "auto"
    step_size_decay: float | None = 0.0

    api_version: ClassVar[tuple[int, int]] = API_VERSION
    rules: ClassVar[tuple[str, ...]] = ()
    needs_game: ClassVar[bool] = True
    averages: ClassVar[bool] = True
    cheap_verdict: ClassVar[bool] = True

    def __post_init__(self) -> None:
        models = ("state", "next_state", "own_action", "joint", "features")
        if self.reward_model not in models:
            raise InputError(
                f"reward_model must be one of {', '.join(models)}, got {self.reward_model!r}"
            )
        if (self.features is not None) != (self.reward_model == "features"):
            raise InputError(
                "features and reward_model features must be given together, got reward_model "
                f"{self.reward_model!r} and features {type(self.features).__name__}"
            )
        check_steps(self.step_size, self.step_size_decay)
        if self.passes < 1:
            raise InputError(f"passes must be >= 1, got {self.passes}")
        if (self.noise_variance is None) != (self.prior_variance is None):
            raise InputError(
                "noise_variance and prior_variance must be given together or both left out, got "
                f"{self.noise_variance} and {self.prior_variance}"
            )
        for name in ("noise_variance", "prior_variance"):
            value = getattr(self, name)
            if value is not None and not 0 < value < np.inf:
                raise InputError(f"{name} must be > 0 and finite, got {value}")
        if not 0 <= self.noise_scale < np.inf:
            raise InputError(f"noise_scale must be >= 0 and finite, got {self.noise_scale}")
        check_improvement(self.improvement)
        if self.stages not in STAGES:
            raise InputError(f"stages must be one of {', '.join(STAGES)}, got {self.stages!r}")
        if self.prior not in PRIORS:
            raise InputError(f"prior must be one of {', '.join(PRIORS)}, got {self.prior!r}")

    def check_size(self, n_states: int, n_actions: tuple[int, ...], n_stages: int) -> None:
        """Reject a game that is too large for this method; see `malfl_algos.contract.Observer`."""
        if self.reward_model != "features":
            n_unknowns = count_unknowns(self.reward_model, n_states, n_actions)
            solver = self._solver(n_unknowns, coordinates=True, known_discount=True)
            n_formed = {"dense": n_unknowns, "low-rank": self._columns()}.get(solver, 0)
            check_solver(solver, n_formed, n_states, n_actions, n_stages)

    def _solver(self, n_unknowns: int, *, coordinates: bool, known_discount: bool) -> Solver:
        """The solver.

        Args:
            n_unknowns: number of reward values.
            coordinates: whether the states have coordinates.
            known_discount: whether the discount is known.
        """
        return "dense"

    def _columns(self) -> int:
        """Largest number of states that the solver `low-rank` interpolates from."""
        return 0

    def _check_trace(self, trace: LearningTrace) -> dict[str, Any]:
        """Reject a trace that the observer cannot use; return further diagnostics of the trace."""
        return {}

    @abstractmethod
    def _rules(self) -> tuple[str, ...]:
        """Possible rules of the learners; with more than one, the evidence chooses."""

    def _log_prior(self, rule: str) -> float:
        """Log of the prior probability of a rule, up to a constant."""
        return 0.0

    def _passes(self, settings: Settings, *, search: bool) -> int:
        linearised = LINEARISED_PASSES if follows_q(settings["rule"]) else 0
        return SEARCH_PASSES + linearised if search else self.passes

    def _parts(
        self, stages: Sequence[StageArrays], settings: Settings, *, search: bool
    ) -> list[StageArrays] | None:
        """The stages cut into parts, if the policy moves within them; None: they stay whole.

        Args:
            stages: of the trace.
            settings: of the learner model.
            search: whether settings are searched. Their evidence is that of the actions after the
                first stage, whether the policy moves or not.
        """
        return None

    def _fits_of_steps(
        self,
        stages: Sequence[StageArrays],
        game: MarkovGame | None,
        settings: Settings,
        maps: Sequence[FloatArray | None],
        *,
        passes: int,
        search: bool,
    ) -> list[AgentFit] | None:
        """The fits of rules whose rewards are recovered from single steps; None: of other rules."""
        return None

    @abstractmethod
    def _model(self, game: MarkovGame | None, settings: Settings) -> LearnerModel:
        """The learner model for these settings."""

    def recover(
        self,
        trace: LearningTrace,
        *,
        game: MarkovGame | None,
        discount: float | None,
        temperature: float | None,
        known_policies: Mapping[str, FloatArray] | None = None,
    ) -> RecoveredRewards:
        """Recover every agent's reward; see `malfl_algos.contract.Observer`.

        The reward is the posterior mean with its mean over states (or states and actions) removed,
        because the data hardly determine that mean. `sd` holds the posterior standard deviations of
        the mean-removed reward. Of an unknown discount, that of largest evidence is taken; the
        diagnostics hold its 95 % interval by profile likelihood (`discount_interval`), and the
        deviations contain its uncertainty. Without a temperature the reward is in units of the
        temperature. The diagnostics hold all settings, and the evidence of every choice that was
        tried. Where it leaves rules about as probable, the best on all stages is taken, and the
        others widen the deviations by their weight (`rule_weights`).
        """
        problem = Problem(trace, game, discount, temperature, known_policies)
        unit = 1.0 if problem.temperature is None else problem.temperature
        given_game, (game, known) = game, (problem.game, problem.known)
        check_data(problem)
        further = self._check_trace(trace)
        base, maps = self._unknowns(trace)
        seen = seen_states(trace, problem.game)
        solver = self._checked_solver(trace, base, maps[0], discount, coordinates=seen is not None)
        if self.covariance:
            check_covariance(base, trace)
        game, covered = self._dynamics(trace, game)
        stages = stage_arrays(trace)
        smooth, without_smooth = self._smooth_priors(trace, problem.game, solver, known)
        alternated = self._alternated(
            seen, trace.n_agents, solver, maps, smooth, known_discount=discount is not None
        )

        def fits(
            settings: Settings,
            *,
            search: bool,
            every_stage: bool = False,
            stagewise: StageKind = "same",
            runner: Runner | None = None,
        ) -> list[AgentFit]:
            shared = {"reward_model": base, "temperature": unit, **settings}
            used = stages[:SEARCH_STAGES] if search and not every_stage else stages
            knowing = [
                known[agent][: len(used)] if agent in known else None for agent in trace.agents
            ]
            passes = self._passes(settings, search=search)
            of_steps = self._fits_of_steps(used, game, shared, maps, passes=passes, search=search)
            if of_steps is not None:
                return [
                    replace(one, further={**one.further, "known_policies": POLICIES_UNUSED})
                    if agent in known
                    else one
                    for agent, one in zip(trace.agents, of_steps, strict=True)
                ]
            parts = self._parts(used, settings, search=search)
            if self._has_smooth_prior(settings["rule"], trace, base, maps):
                return self._fits_with_smooth_prior(
                    used, game, shared, base, maps, known_policies=knowing, passes=passes
                )
            found = alternated(
                used if parts is None else parts,
                [self._model(game, shared)] * trace.n_agents,
                search=search,
                choice=choice_of(settings["rule"]),
                known_policies=knowing if parts is None else [None] * trace.n_agents,
                temperature=unit,
                passes=passes,
                retained=settings["improvement"],
                stagewise=stagewise,
                measured=not search and parts is None,
                gives_up=None if parts is not None or runner is None else runner.gives_up,
            )
            if parts is None:
                return found
            return [of_stages(one, index, used, parts) for index, one in enumerate(found)]

        candidates = Search(
            self._search_data(trace, given_game, known, unit),
            lambda own, runner: _found(fits(own, search=True, runner=runner), own, unit),
            lambda own: self._log_prior(own["rule"]),
            lambda own: own["rule"] != GRADIENT and choice_of(own["rule"]) == "soft",
        )

        done: dict[tuple[Any, ...], list[AgentFit]] = {}

        def whole(settings: Settings, stagewise: StageKind) -> list[AgentFit]:
            key = (*key_of(settings), stagewise)
            if key not in done:
                done[key] = fits(settings, search=False, stagewise=stagewise)
            return done[key]

        def every_stage(settings: Settings) -> float:
            found = fits(settings, search=True, every_stage=True)
            return _evidence(found) + self._log_prior(settings["rule"])

        rules, left_out = _possible_rules(self._rules(), stages, solver)
        with one_blas_thread():  # matrices are small, and sums must not depend on the threads
            settings, searches = choose_settings(
                candidates.evidence,
                rules,
                rule=rules[0] if len(rules) == 1 else None,
                discount=discount,
                step_size=self.step_size,
                improvement=self._improvement(trace),
                gradient=self._gradient(trace),
                step_size_decay=self.step_size_decay,
                every_stage=every_stage if trace.n_stages > SEARCH_STAGES else None,
                unexplained=candidates.unexplained,
                # replay knows the learners' noise: its first stages tell rules apart
                whole=(lambda own: _evidence(whole(own, "same"))) if self.needs_game else None,
            )
            by_stages: dict[tuple[Any, ...], dict[str, Any]] = {}
            settings, final, weights, told = self._decided(
                settings,
                candidates.tried,
                lambda own: self._by_stages(
                    partial(whole, own), by_stages.setdefault(key_of(own), {})
                ),
                discount,
            )
            final = self._with_dynamics(final, problem, stages, maps)
        searches.update(by_stages[key_of(settings)])
        chosen = {
            "reward_model": self.reward_model,
            **settings,
            "searches": searches,
            "rule_weights": weights,
            "rules_left_out": left_out,
            "solver": solver,
            "unit": "temperature" if problem.temperature is None else "given",
            "states_without_dynamics": int((~covered).sum()),
            **_independent(without_smooth),
            **told,
            **further,
        }
        found = recovered_rewards(
            trace, final, base, maps, chosen, temperature=unit, covariance=self.covariance
        )
        return replace(found, source=Source.of(problem, self))

    def _search_data(
        self,
        trace: LearningTrace,
        game: MarkovGame | None,
        known: Mapping[str, FloatArray],
        unit: float,
    ) -> Hashable | None:
        """Identifies what the search for settings depends on, apart from the settings; None where
        that is more than the first stages: dynamics are estimated from all stages.
        """
        if game is None and self.needs_game:
            return None
        policies = tuple(
            (agent, np.ascontiguousarray(own[:SEARCH_STAGES]).tobytes())
            for agent, own in known.items()
        )
        return self, id(self.features), trace.stages[:SEARCH_STAGES], game, policies, unit

    def _alternated(
        self,
        seen: Seen | None,
        n_agents: int,
        solver: Solver,
        maps: Sequence[FloatArray | None],
        smooth: SmoothPriors | None,
        *,
        known_discount: bool,
    ) -> Callable[..., list[AgentFit]]:
        """`alternate` with the arguments that all its calls of a recovery share; further arguments
        are `search` and `choice`.
        """
        if solver == "low-rank":
            assert seen is not None
            # without matrices there is neither a covariance nor an evidence of discounts
            independent = self.prior == "auto" and not self.covariance and known_discount
            columns = self._columns()
            return LowRankPriors(seen, n_agents, columns=columns, independent=independent).fits

        def fits(
            stages: Sequence[StageArrays],
            models: Sequence[LearnerModel],
            *,
            search: bool,
            choice: Choice,
            **options: Any,
        ) -> list[AgentFit]:
            given = self._given()
            if given is None and solver == "iterative" and maps[0] is None:
                given = start_of_search(options)
            return alternate(
                stages,
                models,
                features=maps,
                given=given,
                matrix_free=solver == "iterative",
                choice=choice,
                smooth=None if search or choice == "greedy" else smooth,
                **options,
            )

        return fits

    def _decided(
        self,
        settings: dict[str, Any],
        tried: Sequence[tuple[Settings, float]],
        fit: Callable[[Settings], list[AgentFit]],
        discount: float | None,
    ) -> tuple[dict[str, Any], list[AgentFit], list[dict[str, Any]], dict[str, Any]]:
        """The settings that all data leave most probable, the fits with the uncertainty of rule and
        discount, the weights of the rules, and the diagnostics of an unknown discount.
        """
        if not self.averages:
            return *decided([settings], fit), {}
        candidates: Sequence[Settings] = [settings, *close_rivals(tried, settings)]
        if discount is not None:
            return *decided(candidates, fit), {}
        candidates, profile = profiled(candidates, fit)
        settings, final, weights = decided(candidates, fit)
        sides = [fit({**settings, "discount": place}) for place in profile.places]
        final = with_uncertain_discount(final, sides, profile)
        return settings, final, weights, profile.diagnostics()

    def _with_dynamics(
        self,
        fits: list[AgentFit],
        problem: Problem,
        stages: Sequence[StageArrays],
        maps: Sequence[FloatArray | None],
    ) -> list[AgentFit]:
        """The fits with the uncertainty of the dynamics if they were estimated."""
        if not self.needs_game or problem.game is not None:
            return fits
        return with_uncertain_dynamics(
            fits, stages, drawn_dynamics(problem.trace, DRAWS), features=maps
        )

    def smooth_prior_of(
        self, trace: LearningTrace, game: MarkovGame | None, agent_index: int
    ) -> RewardPrior | None:
        """The prior of an agent's reward over the coordinates of the states; None: they have none.

        Args:
            trace, game: as `recover` takes them.
            agent_index: the agent.
        """
        seen = seen_states(trace, game)
        if seen is None or self.reward_model == "features":
            return None
        n_actions = trace.n_actions
        per_state = {"own_action": n_actions[agent_index], "joint": prod(n_actions)}
        alike = alike_states(seen, agent_index)
        return prior_of_alike_states(alike, per_state.get(self.reward_model, 1))

    def _smooth_priors(
        self,
        trace: LearningTrace,
        game: MarkovGame | None,
        solver: Solver,
        known: Mapping[str, FloatArray],
    ) -> tuple[SmoothPriors | None, str | None]:
        """The smooth priors to try, or why there are none. An agent whose policies are known needs
        none: they tell its reward all but exactly.

        Raises:
            InputError: if a smooth prior is asked for and not possible.
        """
        if self.prior == "iid" or solver == "low-rank":
            return None, None
        why = self._without_smooth_prior(trace, solver)
        if why is None:
            found = [self.smooth_prior_of(trace, game, index) for index in range(trace.n_agents)]
            if None not in found:
                margin = MARGIN if self.prior == "auto" else -np.inf
                unknown = [agent not in known for agent in trace.agents]
                priors = [own if on else None for own, on in zip(found, unknown, strict=True)]
                return SmoothPriors(priors, margin, cells=self._cells(trace, game)), None
            why = (
                "the states are mere numbers: give a game whose observations have coordinates, or "
                "a trace whose states are labels of several columns"
            )
        if self.prior == "smooth":
            raise InputError(f"prior smooth is not possible: {why}; or set prior to auto or iid")
        return None, why

    def _cells(
        self, trace: LearningTrace, game: MarkovGame | None
    ) -> list[NDArray[np.int64] | None] | None:
        """Every agent's own cell by joint state, for `auto` and rewards of the state."""
        seen = seen_states(trace, game)
        if self.prior != "auto" or self.reward_model not in OF_STATES or seen is None:
            return None
        return [own_cells(seen, index) for index in range(trace.n_agents)]

    def _without_smooth_prior(self, trace: LearningTrace, solver: Solver) -> str | None:
        """Why there is no smooth prior whatever the states are."""
        if self.reward_model == "features":
            return "with features the prior is one of independent weights"
        if self._given() is not None:
            return "noise_variance and prior_variance are given"
        if solver == "iterative":
            return "the solver is iterative"
        n_unknowns = count_unknowns(self.reward_model, trace.n_states, trace.n_actions)
        most = MOST_SMOOTH_ASKED if self.prior == "smooth" else MOST_SMOOTH
        if n_unknowns > most:
            return f"{n_unknowns} unknowns, tried with up to {most}"
        return None

    def _has_smooth_prior(
        self,
        rule: str,
        trace: LearningTrace,
        base: RewardModel,
        maps: Sequence[FloatArray | None],
    ) -> bool:
        """Whether `alternate` does not fit the rewards of learners of this rule."""
        if choice_of(rule) == "soft" or base == "joint" or self._given() is not None:
            return rule == GRADIENT
        n_actions = max(trace.n_actions)
        n_unknowns = count_unknowns(base, trace.n_states, trace.n_actions)
        n_formed = max(n_unknowns if own is None else own.shape[1] for own in maps)
        return small_enough((trace.n_stages, trace.n_states, n_actions), n_formed)

    def _fits_with_smooth_prior(
        self,
        stages: Sequence[StageArrays],
        game: MarkovGame | None,
        settings: Settings,
        base: RewardModel,
        maps: Sequence[FloatArray | None],
        *,
        known_policies: Sequence[FloatArray | None],
        passes: int,
    ) -> list[AgentFit]:
        """The fits of rules whose data say little about single reward values."""
        shared: dict[str, Any] = {
            "known_policies": known_policies,
            "features": maps,
            "passes": passes,
        }
        if settings["rule"] == GRADIENT:
            assert game is not None
            discount = settings["discount"]
            return fit_policy_gradient(stages, game, base, discount=discount, **shared)
        n_states, *n_actions = stages[0].joint_counts.shape
        priors = [
            reward_prior(game, own, base, n, n_states)
            for own, n in zip(maps, n_actions, strict=True)
        ]
        model = self._model(game, settings)
        assert isinstance(model, LinearisedModel)
        models = [model] * len(n_actions)
        shared["temperature"] = settings["temperature"]
        return fit_greedy(stages, models, priors, **shared)

    def _dynamics(
        self, trace: LearningTrace, game: MarkovGame | None
    ) -> tuple[MarkovGame | None, NDArray[np.bool_]]:
        """The game, estimated if it is needed and not given; and the states where it is known."""
        if self.needs_game:
            return dynamics_of(trace, game)
        return game, np.ones(trace.n_states, dtype=bool)

    def _unknowns(self, trace: LearningTrace) -> tuple[RewardModel, Sequence[FloatArray | None]]:
        """The reward model of the learner models, and each agent's map from feature weights."""
        if self.reward_model == "features":
            base, maps = feature_maps(self.features, trace.n_states, trace.n_actions)
            return base, [with_intercept(own) for own in maps]
        return self.reward_model, [None] * trace.n_agents

    def _checked_solver(
        self,
        trace: LearningTrace,
        base: RewardModel,
        features: FloatArray | None,
        discount: float | None,
        *,
        coordinates: bool,
    ) -> Solver:
        """The solver for a trace of this size, after checking memory and options."""
        n_unknowns = count_unknowns(base, trace.n_states, trace.n_actions)
        solver = self._solver(
            n_unknowns, coordinates=coordinates, known_discount=discount is not None
        )
        n_weights = 0 if features is None else features.shape[1]
        n_formed = {"dense": n_unknowns, "low-rank": self._columns()}.get(solver, n_weights)
        check_solver(solver, n_formed, trace.n_states, trace.n_actions, trace.n_stages)
        if solver == "iterative" and features is None:
            self._check_iterative()
            if discount is None:
                raise InputError(_needs("discount"))
        return solver

    def _given(self) -> Given | None:
        if self.noise_variance is None or self.prior_variance is None:
            return None
        return Given(self.noise_variance, self.noise_scale, self.prior_variance)

    def _by_stages(
        self, whole: Callable[[StageKind], list[AgentFit]], searches: dict[str, Any]
    ) -> list[AgentFit]:
        """The fits with what differs from stage to stage; what was tried enters the searches."""
        if self.stages != "auto":
            return whole(self.stages)
        same = whole("same")
        gain = sum(one.posterior.evidence.gain or 0.0 for one in same)
        if self._given() is not None or gain <= STAGE_MARGIN:
            return same
        both = whole("both")
        searches["stages"] = tried = {"same": _evidence(same), "both": _evidence(both)}
        return both if tried["both"] > tried["same"] else same

    def _improvement(self, trace: LearningTrace) -> float | None:
        """rho, or None if it is to be chosen. One improvement alone does not show what was kept."""
        if self.improvement == "auto":
            if all(follows_q(rule) for rule in self._rules()):
                return 0.0
            return None if trace.n_stages >= LEAST_STAGES else 0.0
        return float(self.improvement)

    def _gradient(self, trace: LearningTrace) -> Gradient:
        """When to try the rule `policy-gradient`."""
        return "never"

    def _searches(self) -> bool:
        """Whether noise and prior can be searched without matrices."""
        return self._rules() == ("exact",) and self.reward_model in OF_STATES

    def _check_iterative(self) -> None:
        """Reject what the iterative solver cannot do: choice by evidence, and covariance."""
        missing = {
            "noise_variance and prior_variance": self._given() is None and not self._searches(),
            "learner": len(self._rules()) > 1,
            "step_size": self.step_size is None and self._rules() != ("exact",),
            "improvement": self.improvement == "auto",
        }
        if self.stages not in ("auto", "same"):
            raise InputError(_needs(f"stages same instead of {self.stages}"))
        for name, absent in missing.items():
            if absent:
                raise InputError(_needs(name))
        if self.covariance:
            raise InputError("solver iterative computes no covariance: set covariance to false")


def _possible_rules(
    rules: tuple[str, ...], stages: Sequence[StageArrays], solver: Solver
) -> tuple[tuple[str, ...], str | None]:
    """The rules that the evidence may choose from, and why others are left out: with the solver
    `low-rank`, those whose action values are not computed column by column.
    """
    rules, left_out = possible_rules(rules, stages)
    if solver != "low-rank":
        return rules, left_out
    kept = tuple(rule for rule in rules if rule in {"td", "exact"})
    others = "; ".join(rule for rule in rules if rule not in kept)
    words = f"{others}: too large a game; give learner and solver dense to assume such a rule"
    return kept, "; ".join(filter(None, (left_out, words if others else None))) or None


def _independent(reason: str | None) -> dict[str, Any]:
    """The diagnostics of a prior that is not smooth for a reason; none where evidence chooses."""
    return {"prior": {"kind": "iid", "reason": reason}} if reason else {}


def _found(fits: Sequence[AgentFit], settings: Settings, unit: float) -> Found:
    if settings["rule"] == GRADIENT:
        return Found(_evidence(fits), None)
    return Found(_evidence(fits), max(unexplained(one, temperature=unit) for one in fits))


def _evidence(fits: Sequence[AgentFit]) -> float:
    return sum(one.posterior.evidence.log_evidence or 0.0 for one in fits)


def check_steps(step_size: float | None, decay: float | None) -> None:
    """Reject a step size outside (0, 1) and a decay outside [0, 1]."""
    if step_size is not None and not 0 < step_size < 1:
        raise InputError(f"step_size must be in (0, 1) or None, got {step_size}")
    if decay is not None and not 0 <= decay <= 1:
        raise InputError(f"step_size_decay must be in [0, 1], got {decay}")


def check_improvement(improvement: float | str) -> None:
    """Reject a share rho that is neither `auto` nor in [0, 1]."""
    if improvement == "auto":
        return
    if isinstance(improvement, str) or not 0 <= improvement <= 1:
        raise InputError(
            f"improvement must be auto or a number in [0, 1], got {improvement!r}: it is the share "
            "of its log policy that a learner keeps, 0 for soft policy iteration"
        )


def _needs(option: str) -> str:
    return (
        f"solver iterative cannot choose it by the evidence: give {option} (evidence "
        "chooses it on a smaller game of this kind), or set solver to dense"
    )
