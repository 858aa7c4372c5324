"""The observers `ma-lfl-bellman` and `ma-lfl-replay`: one estimator, exchangeable learner models.

Both say what a learner's action values would be as an affine function of the reward, and infer the
reward from the policies that follow. `ma-lfl-bellman` needs counts alone; `ma-lfl-replay` needs
every transition the learners learned from, in order, and then knows the learners' q but for the
draws that it cannot see.

Read these files in this order: this one, `bayesian_base` (options and the course of a recovery),
`reading` (from a trace to arrays), then in `malfl_algos.ma_lfl`: `learner_models` and `replay`
(action values, affine in the reward), `alternation` and `data_fit` (rewards and policies fitted in
turn), `inference` (the posterior and its evidence), `search` (settings that were left open); at the
end `bayesian_result` (the answer and its diagnostics).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from malfl_algos.contract import RecoveredRewards
from malfl_algos.ma_lfl.learner_models import ExactEvaluation, ExpectedTd, LearnerModel
from malfl_algos.ma_lfl.replay import ReplayedTd
from malfl_algos.ma_lfl.settings import Solver, choose_solver
from malfl_algos.observers.bayesian_base import BayesianObserver, Settings
from malfl_algos.trace import LearningTrace
from malfl_env.errors import InputError
from malfl_env.markov_game import MarkovGame

__all__ = ["MaLflBellman", "MaLflReplay"]

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class MaLflBellman(BayesianObserver):
    """Reward from counts: the potentials of (12) tied to the learner's own soft value.

    Args:
        reward_model: `state` r(s), `own_action` r(s, a^i), `joint` r(s, a^1..a^n), or `features`.
        features: with `features`: phi, `(n_states, k)` or `(n_states, *n_actions, k)`, r = phi . w.
        learner: `td`, learners that update along their data from q = 0 (the paper's), known through
            their expected updates; `exact`, learners that solve (5); `auto`: the evidence decides.
        step_size: beta of td learners; None: the evidence decides.
        passes: at most so many rounds of fitting the reward and the policies in turn.
        covariance: whether to return the posterior covariance of the mean-removed reward.
        noise_variance: variance of every row beside what the learner model predicts, in units of q
            squared; None: noise and prior are chosen by evidence.
        prior_variance: of a reward value about the mean of all; given with noise_variance.
        noise_scale: factor on the variance that the learner model predicts, where noise_variance is
            given.
        solver: `dense` forms the coefficients of all unknowns; `iterative` never does, takes memory
            in proportion to joint states times joint actions, gives deviations approximately, and
            needs noise and prior (not with `features`); `auto`: by size.
    """

    solver: Literal["auto", "dense", "iterative"] = "auto"
    learner: Literal["auto", "td", "exact"] = "auto"

    rules: ClassVar[tuple[str, ...]] = ("td", "exact")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.learner not in ("auto", *self.rules):
            raise InputError(f"learner must be auto, td or exact, got {self.learner!r}")
        if self.solver not in ("auto", "dense", "iterative"):
            raise InputError(f"solver must be auto, dense or iterative, got {self.solver!r}")
        if self.solver == "iterative" and self.reward_model != "features":
            self._check_iterative()

    def _rule(self) -> str:
        return self.learner

    def _solver(self, n_unknowns: int) -> Solver:
        given = self._given() is not None or self.reward_model == "features"
        return choose_solver(self.solver, n_unknowns, given=given)

    def _model(self, game: MarkovGame | None, settings: Settings) -> LearnerModel:
        assert game is not None
        shared = (game, settings["reward_model"], settings["discount"], settings["temperature"])
        if settings["rule"] == "exact":
            return ExactEvaluation(*shared)
        return ExpectedTd(*shared, settings["step_size"])


@dataclass(frozen=True)
class MaLflReplay(BayesianObserver):
    """Reward from every transition in order: the learners' own updates, replayed.

    Args:
        reward_model: `state` r(s), `own_action` r(s, a^i), `joint` r(s, a^1..a^n), or `features`.
        features: with `features`: phi, `(n_states, k)` or `(n_states, *n_actions, k)`, r = phi . w.
        passes: at most so many rounds of fitting the reward and the policies in turn.
        covariance: whether to return the posterior covariance of the mean-removed reward.
        noise_variance: variance of every row beside what the learner model predicts, in units of q
            squared; None: noise and prior are chosen by evidence.
        prior_variance: of a reward value about the mean of all; given with noise_variance.
        noise_scale: factor on the variance that the learner model predicts, where noise_variance is
            given.
        bootstrap: the learners' rule: `fresh`, `executed`, `expected`, `soft_q` (see
            `ReplayedTd`), or `auto`: the evidence decides.
        step_size: beta; None: the evidence decides.
        step_size_decay: beta_k = step_size / k^decay at the k-th visit in a stage.
        incomplete: what to do with a trace that does not hold all transitions that the learners
            learned from: `refuse` it, or `flag` the result.
    """

    step_size: float | None = None
    bootstrap: Literal["auto", "fresh", "executed", "expected", "soft_q"] = "fresh"
    step_size_decay: float = 0.0
    incomplete: Literal["refuse", "flag"] = "refuse"

    needs_transitions: ClassVar[bool] = True
    needs_game: ClassVar[bool] = False
    rules: ClassVar[tuple[str, ...]] = ("fresh", "executed", "expected", "soft_q")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.bootstrap not in ("auto", *self.rules):
            raise InputError(
                f"bootstrap must be auto, {', '.join(self.rules)}, got {self.bootstrap!r}"
            )
        if not 0 <= self.step_size_decay <= 1:
            raise InputError(f"step_size_decay must be in [0, 1], got {self.step_size_decay}")
        if self.incomplete not in ("refuse", "flag"):
            raise InputError(f"incomplete must be refuse or flag, got {self.incomplete!r}")

    def _rule(self) -> str:
        return self.bootstrap

    def _model(self, game: MarkovGame | None, settings: Settings) -> LearnerModel:
        return ReplayedTd(
            settings["reward_model"],
            settings["discount"],
            settings["temperature"],
            settings["step_size"],
            settings["rule"],
            self.step_size_decay,
        )

    def recover(
        self,
        trace: LearningTrace,
        *,
        game: MarkovGame | None,
        discount: float | None,
        temperature: float | None,
        known_policies: Mapping[str, FloatArray] | None = None,
    ) -> RecoveredRewards:
        """Recover every agent's reward; the game is not needed and not read.

        Raises:
            InputError: also for a trace without transitions, or with some left out unless flagged.
        """
        missing = [h for h, stage in enumerate(trace.stages[:-1]) if stage.transitions is None]
        if missing:
            raise InputError(
                f"replay needs the ordered transitions, and stages {missing} did not keep them: "
                "learn with keep_transitions"
            )
        partial = [
            number
            for number, stage in enumerate(trace.stages)
            if stage.transitions is not None and not stage.transitions.complete
        ]
        if partial and self.incomplete == "refuse":
            raise InputError(
                f"stages {partial} hold only some of the transitions that the learners learned "
                "from; a replay of them would be of another learner: use ma-lfl-bellman, or set "
                "incomplete to flag"
            )
        result = super().recover(
            trace,
            game=game,
            discount=discount,
            temperature=temperature,
            known_policies=known_policies,
        )
        told = {
            agent: {**said, "incomplete_stages": partial}
            for agent, said in result.diagnostics.items()
        }
        return replace(result, diagnostics=told)
