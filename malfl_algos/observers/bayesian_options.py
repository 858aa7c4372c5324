"""The options of `ma-lfl-bellman` and `ma-lfl-replay`, their checks, and what follows from them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from malfl_algos.contract import API_VERSION
from malfl_algos.ma_lfl.alternation import AgentFit
from malfl_algos.ma_lfl.carried_rules import follows_q
from malfl_algos.ma_lfl.learner_models import LearnerModel
from malfl_algos.ma_lfl.posterior import Given
from malfl_algos.ma_lfl.reward_models import (
    OF_STATES,
    RewardModel,
    count_unknowns,
    feature_maps,
    with_intercept,
)
from malfl_algos.ma_lfl.settings import (
    LINEARISED_PASSES,
    SEARCH_PASSES,
    Gradient,
    Solver,
    check_solver,
)
from malfl_algos.ma_lfl.stages import StageArrays
from malfl_algos.observers.reading import dynamics_of
from malfl_algos.trace import LearningTrace
from malfl_env.errors import InputError
from malfl_env.markov_game import MarkovGame

__all__ = ["BayesianOptions", "Settings", "check_improvement"]

FloatArray = NDArray[np.float64]

Settings = Mapping[str, Any]
"""Settings that may be chosen by evidence: discount, rule, step_size, improvement (rho)."""

STAGES = ("auto", "same", "noise", "scale", "both")
PRIORS = ("auto", "iid", "smooth")
LEAST_STAGES = 3
"""Smallest number of stages from which the share rho can be chosen."""


@dataclass(frozen=True)
class BayesianOptions(ABC):
    """The options of both observers, and what a subclass says of its learners.

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
        td = self._rules() == ("td",) and self.step_size is not None
        return (td or self._rules() == ("exact",)) and self.reward_model in OF_STATES

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


def check_steps(step_size: float | None, decay: float | None) -> None:
    """Reject a step size outside (0, 1) and a decay outside [0, 1]."""
    if step_size is not None and not 0 < step_size < 1:
        raise InputError(
            f"step_size must be in (0, 1), or null (chosen by the evidence), got {step_size}"
        )
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
