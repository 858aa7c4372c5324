"""The common part of `ma-lfl-bellman` and `ma-lfl-replay`: the steps of a recovery.

A recovery checks its arguments, chooses the settings that are not given by evidence, and fits every
agent's reward.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from malfl_algos.contract import Problem, RecoveredRewards, Source
from malfl_algos.ma_lfl.alternation import AgentFit, alternate, unexplained
from malfl_algos.ma_lfl.carried_rules import choice_of
from malfl_algos.ma_lfl.cut_stages import of_stages
from malfl_algos.ma_lfl.discount_profile import profiled, with_uncertain_discount
from malfl_algos.ma_lfl.greedy import Choice
from malfl_algos.ma_lfl.learner_models import LearnerModel
from malfl_algos.ma_lfl.low_rank_fit import LowRankPriors
from malfl_algos.ma_lfl.possible_rules import possible_rules
from malfl_algos.ma_lfl.prior_comparison import start_of_search
from malfl_algos.ma_lfl.prior_shapes import SmoothPriors
from malfl_algos.ma_lfl.race import Runner
from malfl_algos.ma_lfl.reward_priors import Seen
from malfl_algos.ma_lfl.rule_averaging import close_rivals, decided
from malfl_algos.ma_lfl.search import Found, Search, key_of
from malfl_algos.ma_lfl.settings import GRADIENT, SEARCH_STAGES, Solver, choose_settings
from malfl_algos.ma_lfl.stages import StageArrays
from malfl_algos.ma_lfl.stagewise import StageKind
from malfl_algos.ma_lfl.uncertain_dynamics import DRAWS, with_uncertain_dynamics
from malfl_algos.observers.bayesian_options import BayesianOptions, Settings
from malfl_algos.observers.bayesian_priors import (
    fits_with_smooth_prior,
    has_smooth_prior,
    smooth_priors,
)
from malfl_algos.observers.bayesian_result import check_covariance, recovered_rewards
from malfl_algos.observers.reading import check_data, drawn_dynamics, stage_arrays
from malfl_algos.observers.state_coordinates import seen_states
from malfl_algos.trace import LearningTrace
from malfl_algos.work.threads import one_blas_thread
from malfl_env.markov_game import MarkovGame

__all__ = ["BayesianObserver"]

FloatArray = NDArray[np.float64]

STAGE_MARGIN = 10.0
"""Steps and noises by stage are fitted if they promise to raise the log evidence by more than this.
"""
POLICIES_UNUSED = "not used: the rewards are recovered from single steps, which tell the policies"
"""Diagnostics of an agent whose known policies have no effect."""


@dataclass(frozen=True)
class BayesianObserver(BayesianOptions):
    """The common part of both observers; see `MaLflBellman` and `MaLflReplay` for the options."""

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
        smooth, without_smooth = smooth_priors(self, trace, problem.game, solver, known)
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
            if has_smooth_prior(self, settings["rule"], trace, base, maps):
                return fits_with_smooth_prior(
                    self, used, game, shared, base, maps, known_policies=knowing, passes=passes
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
