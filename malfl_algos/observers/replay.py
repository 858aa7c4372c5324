"""The observer `ma-lfl-replay`, which needs every transition that the learners used, in order.

It is the estimator of `malfl_algos.observers.bayesian` with the learner models of
`malfl_algos.ma_lfl.replay` (learners with an entropy bonus that start anew in every stage) and of
`malfl_algos.ma_lfl.q_replay` (Q-learners that carry q over).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from malfl_algos.ma_lfl.alternation import AgentFit
from malfl_algos.ma_lfl.carried_rules import (
    CARRIED_RULES,
    POLICIES,
    Carried,
    among,
    choice_of,
    follows_q,
)
from malfl_algos.ma_lfl.cut_stages import cut_stages
from malfl_algos.ma_lfl.gradient_fit import reward_prior
from malfl_algos.ma_lfl.greedy import CHOICES
from malfl_algos.ma_lfl.greedy_steps import MOST_UNKNOWNS, fit_greedy_steps
from malfl_algos.ma_lfl.learner_models import LearnerModel
from malfl_algos.ma_lfl.q_replay import ReplayedQ
from malfl_algos.ma_lfl.replay import ReplayedTd
from malfl_algos.ma_lfl.reward_models import count_unknowns
from malfl_algos.ma_lfl.settings import SEARCH_PASSES
from malfl_algos.ma_lfl.stages import StageArrays
from malfl_algos.observers.bayesian_base import BayesianObserver
from malfl_algos.observers.bayesian_options import Settings
from malfl_algos.observers.reading import dynamics_of
from malfl_algos.trace import LearningTrace
from malfl_env.errors import InputError
from malfl_env.markov_game import MarkovGame

__all__ = ["MaLflReplay"]

FloatArray = NDArray[np.float64]

PAPER_RULES = ("fresh", "executed", "expected", "soft_q")
"""Rules of learners with an entropy bonus, whose q starts from 0 in every stage."""
USUAL = 10.0
"""Log of the prior odds of the paper's learner, `fresh`, against any other rule: few data hardly
tell them apart, and a wrong choice costs accuracy.
"""
PARTS, SEARCH_PARTS = 10, 5
"""Number of parts into which a stage is cut if the policy moves within it; and in the search for
settings, and for greedy choices, with which many parts take long.
"""


@dataclass(frozen=True)
class MaLflReplay(BayesianObserver):
    """Recover rewards from all transitions in order, by replaying the learners' updates.

    The game may be None. It is used only for the coordinates of the states, which the prior of
    greedy learners needs.

    Args:
        reward_model: `state` r(s), `next_state` r(s') of the state that a step leads to,
            `own_action` r(s, a^i), `joint` r(s, a^1..a^n), or `features`.
        features: phi of the reward model `features`, r = phi . w: an array `(n_states, k)` or
            `(n_states, *n_actions, k)`. An intercept is added.
        passes: largest number of iterations, each of which fits the reward and then the policies.
        covariance: whether to return the posterior covariance of the mean-removed reward.
        noise_variance: variance of every row (stage, state, action) of the regression in addition
            to the one that the learner model predicts, in units of q squared; null: noise and prior
            are chosen by the evidence (the marginal likelihood).
        prior_variance: prior variance of a reward value about the mean of all reward values; give
            both noise_variance and prior_variance, or neither.
        noise_scale: factor on the variance that the learner model predicts, used if noise_variance
            is given.
        improvement: share rho of its log policy that a learner keeps in an improvement: 0 for soft
            policy iteration, between 0 and 1 for natural policy gradient, 1 for mirror descent;
            `auto`: chosen by the evidence, together with the learners' rule.
        stages: what differs from stage to stage. `noise`: the noise variance; `scale`: the step of
            the learners; `both`; `same`: neither; `auto`: both, if the evidence asks for it.
        prior: prior of the reward values of learners with soft choices. `iid`: they are
            independent. `smooth`: states that are alike, by the cells of the agents or the columns
            of their labels, have similar values; lengths and shares are chosen by the evidence.
            `auto`: smooth, if that raises the log evidence by more than 3; averaged with rewards of
            one special cell of the agent where these are probable.
        bootstrap: value of the next state in the learners' updates. With an entropy bonus, and q
            from 0 in every stage, `fresh`: of a newly drawn action (the paper's learner);
            `executed`: of the action that was played next; `expected`: the expectation under the
            policy; `soft_q`: the soft maximum over actions. With ordinary rewards, and q carried
            over from stage to stage, `q-learning`: the maximum; `sarsa`: of the action that was
            played next; `expected-sarsa`: the expectation. `auto`: chosen by the evidence.
        policy: policy of learners that carry q over. `frozen`: it stays within a stage; `moving`:
            it follows q at every step; `auto`: chosen by the evidence.
        choice: how such learners choose actions: `soft`, by a softmax of q at the temperature;
            `greedy`, the action of greatest q but for a share epsilon, which is estimated;
            `auto`: chosen by the evidence, without greedy policies that move: give bootstrap,
            policy and choice for them. Their rewards are recovered from single steps, those of
            other learners from the counts of stages. The prior of greedy learners is smooth in the
            coordinates of the state as far as the evidence asks for it.
        step_size: step size beta of the learners; null: chosen by the evidence.
        step_size_decay: the power w in beta_k = step_size / k^w at the k-th update of a state and
            action, in a stage or, for learners that carry q over, in all stages; null: chosen by
            the evidence for learners that carry q over, else 0.
        initial_q: q of learners that carry it over, before the first update. `zero`, or any other
            number for all states and actions; `uniform_others`: the discounted reward of an action
            that is played for ever in a state while the others draw theirs evenly (Calvano et al.
            2020). It needs a log that begins where the agents began to learn; the verdict compares
            its evidence with that of `zero` if policies are greedy and move.
        reward_changes: number of the stage, from 1 on, with which the agents' rewards change while
            they learn on; the reward from this stage on is recovered, after that of the stages
            before. Only for greedy policies that move; null: they do not change.
        incomplete: treatment of a trace that lacks some transitions that the learners used:
            `refuse` rejects it, `flag` lists the stages in the diagnostics.
    """

    step_size: float | None = None
    bootstrap: Literal[
        "auto",
        "fresh",
        "executed",
        "expected",
        "soft_q",
        "q-learning",
        "sarsa",
        "expected-sarsa",
    ] = "auto"
    policy: Literal["auto", "frozen", "moving"] = "auto"
    choice: Literal["auto", "soft", "greedy"] = "auto"
    step_size_decay: float | None = None
    initial_q: Literal["zero", "uniform_others"] = "zero"
    reward_changes: int | None = None
    incomplete: Literal["refuse", "flag"] = "refuse"

    needs_transitions: ClassVar[bool] = True
    needs_game: ClassVar[bool] = False
    rules: ClassVar[tuple[str, ...]] = (
        *PAPER_RULES,
        *(
            Carried(rule, policy, choice).name
            for rule in CARRIED_RULES
            for policy in POLICIES
            for choice in CHOICES
            if (policy, choice) != ("moving", "greedy")
        ),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        rules = ("auto", *PAPER_RULES, *CARRIED_RULES)
        if self.bootstrap not in rules:
            raise InputError(f"bootstrap must be {', '.join(rules)}, got {self.bootstrap!r}")
        if self.policy not in ("auto", *POLICIES):
            raise InputError(f"policy must be auto, frozen or moving, got {self.policy!r}")
        if self.choice not in ("auto", *CHOICES):
            raise InputError(f"choice must be auto, soft or greedy, got {self.choice!r}")
        if self.bootstrap in PAPER_RULES and (self.policy, self.choice) != ("auto", "auto"):
            raise InputError(
                f"policy and choice must be auto for bootstrap {self.bootstrap}, with which "
                f"learners do not carry q over, got {self.policy} and {self.choice}"
            )
        if self.bootstrap in CARRIED_RULES and self.improvement not in ("auto", 0):
            raise InputError(
                f"improvement must be auto or 0 for bootstrap {self.bootstrap}, with which "
                f"learners choose by q alone, got {self.improvement}"
            )
        if self.initial_q not in ("zero", "uniform_others"):
            raise InputError(f"initial_q must be zero or uniform_others, got {self.initial_q!r}")
        if self.bootstrap in PAPER_RULES and self.initial_q != "zero":
            raise InputError(
                f"initial_q must be zero for bootstrap {self.bootstrap}, with which learners do "
                f"not carry q over, got {self.initial_q}"
            )
        self._check_changes()
        if not self._rules():
            raise InputError(
                f"improvement must be auto or 0 where policy or choice is given, got "
                f"{self.improvement}: only learners that carry q over have these options, and they "
                "choose by q alone"
            )
        if self.incomplete not in ("refuse", "flag"):
            raise InputError(f"incomplete must be refuse or flag, got {self.incomplete!r}")

    def _check_changes(self) -> None:
        changes = self.reward_changes
        if changes is not None and changes < 1:
            raise InputError(f"reward_changes must be a stage >= 1, got {changes}")
        single = self.bootstrap in CARRIED_RULES and self.policy == "moving"
        if changes is not None and not (single and self.choice == "greedy"):
            raise InputError(
                f"reward_changes needs bootstrap {', '.join(CARRIED_RULES)}, policy moving and "
                f"choice greedy, got {self.bootstrap}, {self.policy} and {self.choice}"
            )

    def _rules(self) -> tuple[str, ...]:
        wanted = {"learner": self.bootstrap, "policy": self.policy, "choice": self.choice}
        rules = among(self.rules, **wanted)
        return tuple(
            rule for rule in rules if not follows_q(rule) or self.improvement in ("auto", 0)
        )

    def _dynamics(
        self, trace: LearningTrace, game: MarkovGame | None
    ) -> tuple[MarkovGame | None, NDArray[np.bool_]]:
        if self.initial_q == "uniform_others":
            return dynamics_of(trace, game)
        return super()._dynamics(trace, game)

    def _model(self, game: MarkovGame | None, settings: Settings) -> LearnerModel:
        shared = (
            settings["reward_model"],
            settings["discount"],
            settings["temperature"],
            settings["step_size"],
        )
        decay = settings["step_size_decay"]
        if not follows_q(settings["rule"]):
            return ReplayedTd(*shared, settings["rule"], decay)
        own = Carried.named(settings["rule"])
        return ReplayedQ(
            *shared,
            own.rule,
            decay,
            moving=own.policy == "moving",
            greedy=own.choice == "greedy",
            uniform_others=game if self.initial_q == "uniform_others" else None,
        )

    def _log_prior(self, rule: str) -> float:
        return 0.0 if rule == PAPER_RULES[0] else -USUAL

    def _passes(self, settings: Settings, *, search: bool) -> int:
        return SEARCH_PASSES if search else self.passes

    def _parts(
        self, stages: Sequence[StageArrays], settings: Settings, *, search: bool
    ) -> list[StageArrays] | None:
        rule = settings["rule"]
        if not follows_q(rule) or Carried.named(rule).policy == "frozen":
            return None
        few = search or choice_of(rule) == "greedy"
        return cut_stages(stages, SEARCH_PARTS if few else PARTS, explain_first=not search)

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
        base, rule = settings["reward_model"], settings["rule"]
        if not follows_q(rule) or Carried.named(rule)[1:] != ("moving", "greedy"):
            return None
        n_states, *n_actions = stages[0].joint_counts.shape
        unknowns = count_unknowns(base, n_states, tuple(n_actions))
        formed = max(unknowns if own is None else own.shape[1] for own in maps)
        if formed > MOST_UNKNOWNS:
            self._check_whole(formed)
            return None
        self._check_chosen()
        model = self._model(game, settings)
        assert isinstance(model, ReplayedQ)
        priors = [
            reward_prior(game, own, base, prod(n_actions) if base == "joint" else n, n_states)
            for own, n in zip(maps, n_actions, strict=True)
        ]
        changes = self.reward_changes
        if changes is not None and changes >= len(stages):  # a search uses the first stages
            changes = None
        return fit_greedy_steps(
            stages,
            [model] * len(n_actions),
            priors,
            features=maps,
            temperature=settings["temperature"],
            passes=passes,
            search=search,
            changes=changes,
        )

    def _check_whole(self, n_unknowns: int) -> None:
        """Reject what only single steps tell, where there are too many unknowns for them."""
        if self.reward_changes is not None:
            raise InputError(
                f"reward_changes needs at most {MOST_UNKNOWNS} unknowns, of which rewards are "
                f"recovered from single steps, got {n_unknowns}: leave reward_changes out and give "
                "the stages before and after the change as traces of their own, or take a reward "
                "model with fewer unknowns"
            )

    def _check_chosen(self) -> None:
        """Reject noise and prior, which single steps choose by themselves."""
        if self._given() is not None:
            raise InputError(
                "noise_variance and prior_variance must be left out for greedy policies that move, "
                "whose rewards are recovered from single steps without them, got "
                f"{self.noise_variance} and {self.prior_variance}"
            )

    def _check_trace(self, trace: LearningTrace) -> dict[str, Any]:
        if self.reward_changes is not None and self.reward_changes >= trace.n_stages:
            raise InputError(
                f"reward_changes must be a stage below {trace.n_stages}, the number of stages, got "
                f"{self.reward_changes}"
            )
        missing = [h for h, stage in enumerate(trace.stages[:-1]) if stage.transitions is None]
        if missing:
            raise InputError(
                f"ma-lfl-replay needs the ordered transitions, but stages {missing} hold none: "
                "learn with keep_transitions"
            )
        partial = [
            number
            for number, stage in enumerate(trace.stages)
            if stage.transitions is not None and not stage.transitions.complete
        ]
        if partial and self.incomplete == "refuse":
            raise InputError(
                f"stages {partial} lack some transitions that the learners used, so a replay would "
                "follow another learner: use ma-lfl-bellman, or set incomplete to flag"
            )
        return {"incomplete_stages": partial}
