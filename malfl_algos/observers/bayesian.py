"""The observer `ma-lfl-bellman`, which needs only counts; and `ma-lfl-replay` by its name.

`ma-lfl-bellman` and `ma-lfl-replay` are one estimator with exchangeable learner models. Both model
the learner's action values as an affine function of the reward, and infer the reward from the
policies of the next stage. `ma-lfl-replay` needs every transition that the learners used, in order;
the learners' q is then known up to their unobserved bootstrap draws.

Read these files in this order: this one and `replay`, `bayesian_options`, `bayesian_base` (the
steps of a recovery), `bayesian_priors` (smooth priors), `reading` (from a trace to arrays), then in
`malfl_algos.ma_lfl`: `learner_models`,
`expected_updates`, `replay` and `q_replay` (action values, affine in the reward), `alternation`,
`agent_pass`, `choices`, `greedy` and `data_fit` (rewards and policies fitted in turn),
`improvement` (learners that keep a share of their policy), `rows`, `row_sums`, `chain_sums`,
`posterior` and `prior_search` (normal equations, posterior, evidence), `noise_search` (noise and
prior along the gradient of the evidence), `stage_memory` (what recoveries from the same stages
share), `reward_priors` and `prior_shapes` (priors that are smooth over the coordinates of
`observers.state_coordinates`), `low_rank_fit` and `prior_comparison` (the same in large games),
`precision`, `matrix_free_posterior`, `spectrum`, `matrix_free_evidence`, `variance_steps`,
`shared_values`, `reward_diagonal` and `value_diagonal` (independent rewards of large games, without
matrices), `sparse_rewards` (rewards of one special cell),
`inference` and `stagewise` (the search of noise, prior, rho and what differs by stage),
`greedy_fit`, `greedy_posterior` and `halfspaces` (epsilon-greedy learners), `greedy_steps`,
`chosen_steps`, `step_likelihood`, `step_levels` and `held_out_steps` (the same from single steps),
`settings` (the choice of settings that are not given); last `bayesian_result` (the result and its
diagnostics).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from malfl_algos.ma_lfl.carried_rules import CARRIED_RULES, POLICIES, Carried, among
from malfl_algos.ma_lfl.expected_updates import ExpectedQ
from malfl_algos.ma_lfl.gradient_fit import TABLE_ROWS
from malfl_algos.ma_lfl.greedy import CHOICES
from malfl_algos.ma_lfl.learner_models import ExactEvaluation, ExpectedTd, LearnerModel
from malfl_algos.ma_lfl.reward_models import OF_STATES
from malfl_algos.ma_lfl.settings import GRADIENT, Gradient, Solver, choose_solver
from malfl_algos.observers.bayesian_base import BayesianObserver
from malfl_algos.observers.bayesian_options import Settings
from malfl_algos.observers.replay import MaLflReplay
from malfl_algos.trace import LearningTrace
from malfl_env.checks import shown
from malfl_env.errors import InputError
from malfl_env.markov_game import MarkovGame

__all__ = ["MaLflBellman", "MaLflReplay"]

GRADIENT_ROWS, MOST_GRADIENT_ROWS = 700, 2500
"""The rule `policy-gradient` is tried, and is possible, up to this many joint states times actions
but one: every step of its search factorises a matrix of this size for every stage.
"""


@dataclass(frozen=True)
class MaLflBellman(BayesianObserver):
    """Recover rewards from counts, with soft values in place of equation (12)'s free potentials.

    Args:
        reward_model: `state` r(s), `next_state` r(s') of the state that a step leads to,
            `own_action` r(s, a^i), `joint` r(s, a^1..a^n), or `features`.
        features: phi of the reward model `features`, r = phi . w: an array `(n_states, k)` or
            `(n_states, *n_actions, k)`. An intercept is added.
        learner: rule by which the agents learn. `td`: they update along their data from q = 0, as
            in the paper, modelled by their expected updates; `exact`: they solve equation (5) of
            the paper; `q-learning`, `sarsa`, `expected-sarsa`: they carry q over from stage to
            stage, and their rewards have no entropy bonus; `policy-gradient`: they follow the
            gradient of their return by steps of unknown size, with a table or a network as policy
            (REINFORCE, A2C, PPO), and the prior of their rewards is smooth in the coordinates of
            the state as far as the evidence asks for it; `auto`: chosen by the evidence, without
            `sarsa`, which differs from `expected-sarsa` in its noise alone, and without a moving
            `expected-sarsa`, which counts can hardly tell from a moving `q-learning`.
        policy: policy of a learner that carries q over. `frozen`: it stays within a stage;
            `moving`: it follows q at every step; `auto`: chosen by the evidence.
        choice: how a learner that carries q over chooses actions. `soft`: pi(a | s) proportional to
            exp(q(s, a) / temperature); `greedy`: the action of greatest q, and with probability
            epsilon one drawn evenly, where epsilon is estimated for every stage and the scale of
            the reward is open; `auto`: chosen by the evidence. The prior of greedy learners is
            smooth in the coordinates of the state as far as the evidence asks for it, unless the
            game is large, the reward is `joint` or the noise is given.
        step_size: step size beta of all learners but `exact`; null: chosen by the evidence.
        step_size_decay: power w in step_size / k^w at the k-th visit of a state and action, for
            learners that carry q over.
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
            `auto`: smooth, if that raises the log evidence by more than 3 (and more than twice the
            standard deviation of its error, where it is estimated); averaged with rewards of one
            special cell of the agent where these are probable.
        solver: `dense` forms the matrix of all unknowns. `iterative` does not: its memory is
            proportional to joint states times joint actions, its standard deviations are
            approximate, and it needs noise_variance and prior_variance, except with `features` and
            with learner `exact` or `td` for a reward of the state, where it searches them.
            `low-rank` interpolates the rewards of all states from those of a few, under a smooth
            prior; it needs states with coordinates and the learner `td` or `exact`. `auto`: `dense`
            for up to 1,000 unknowns, otherwise the one that is possible.
        columns: largest number of states that `low-rank` interpolates from.
    """

    solver: Literal["auto", "dense", "iterative", "low-rank"] = "auto"
    learner: Literal[
        "auto", "td", "exact", "q-learning", "sarsa", "expected-sarsa", "policy-gradient"
    ] = "auto"
    policy: Literal["auto", "frozen", "moving"] = "auto"
    choice: Literal["auto", "soft", "greedy"] = "auto"
    step_size_decay: float = 0.0
    columns: int = 100

    rules: ClassVar[tuple[str, ...]] = (
        "td",
        "exact",
        "q-learning",
        "q-learning, moving",
        "expected-sarsa",
        "q-learning, greedy",
        "q-learning, moving, greedy",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        learners = ("auto", "td", "exact", *CARRIED_RULES, GRADIENT)
        if self.learner not in learners:
            raise InputError(f"learner must be one of {', '.join(learners)}, got {self.learner!r}")
        if self.policy not in ("auto", *POLICIES):
            raise InputError(f"policy must be auto, frozen or moving, got {self.policy!r}")
        if self.choice not in ("auto", *CHOICES):
            raise InputError(f"choice must be auto, soft or greedy, got {self.choice!r}")
        if self.learner in ("td", "exact") and (self.policy, self.choice) != ("auto", "auto"):
            raise InputError(
                f"policy and choice must be auto for the learner {self.learner}, which does not "
                f"carry q over, got {self.policy} and {self.choice}"
            )
        if self.learner in CARRIED_RULES and self.improvement not in ("auto", 0):
            raise InputError(
                f"improvement must be auto or 0 for the learner {self.learner}, which chooses by q "
                f"alone, got {self.improvement}"
            )
        if self.solver not in ("auto", "dense", "iterative", "low-rank"):
            raise InputError(
                f"solver must be auto, dense, iterative or low-rank, got {self.solver!r}"
            )
        if self.columns < 2:
            raise InputError(f"columns must be >= 2, got {self.columns}")
        if self.solver == "iterative" and self.reward_model != "features":
            self._check_iterative()
        if self.learner == GRADIENT:
            self._check_gradient()

    def _check_gradient(self) -> None:
        """Reject options that the rule `policy-gradient` cannot follow."""
        wanted = {
            "reward_model": (self.reward_model != "joint", "state, own_action or features"),
            "noise_variance": (self._given() is None, "null: the evidence chooses noise and prior"),
            "improvement": (self.improvement in ("auto", 1), "auto or 1"),
            "solver": (self.solver != "iterative", "auto or dense"),
        }
        for name, (fits, allowed) in wanted.items():
            if not fits:
                raise InputError(
                    f"learner {GRADIENT} needs {name} {allowed}, got {getattr(self, name)!r}"
                )

    def _gradient(self, trace: LearningTrace) -> Gradient:
        try:
            self._check_gradient()
        except InputError:
            return "never"
        if min(trace.n_actions) == 1:
            return "never"
        rows = largest_rows(trace)
        named = (self.learner, self.policy, self.choice) != ("auto", "auto", "auto")
        if named or rows > GRADIENT_ROWS:
            return "never"
        return "always" if rows <= TABLE_ROWS else "where others fail"

    def _check_trace(self, trace: LearningTrace) -> dict[str, Any]:
        if self.learner == GRADIENT and min(trace.n_actions) == 1:
            raise InputError(
                f"learner {GRADIENT} needs agents with two or more actions, got "
                f"{shown(trace.n_actions)}: an agent with one action has no gradient; use td or "
                "exact"
            )
        if self.learner == GRADIENT and largest_rows(trace) > MOST_GRADIENT_ROWS:
            raise InputError(
                f"learner {GRADIENT} takes at most {MOST_GRADIENT_ROWS} joint states times actions "
                f"but one, the trace has {largest_rows(trace)}: use td or exact"
            )
        return super()._check_trace(trace)

    def _rules(self) -> tuple[str, ...]:
        wanted = {"learner": self.learner, "policy": self.policy, "choice": self.choice}
        return among(self.rules, **wanted)

    def _solver(self, n_unknowns: int, *, coordinates: bool, known_discount: bool) -> Solver:
        given = self._given() is not None or self.reward_model == "features"
        needs = {
            "reward_model state or next_state": self.reward_model in OF_STATES,
            "prior smooth or auto": self.prior != "iid",
            "noise_variance null": self._given() is None,
            "learner td, exact or auto": bool({"td", "exact"} & set(self._rules())),
            "states with coordinates": coordinates,
        }
        missing = [name for name, met in needs.items() if not met]
        if self.solver == "low-rank" and missing:
            raise InputError(f"solver low-rank needs {missing[0]}; or set solver to auto")
        alone = self.prior == "iid" and self.improvement == 0 and self._searches()
        alone = alone and known_discount and not self.covariance and self.stages in ("auto", "same")
        return choose_solver(self.solver, n_unknowns, given=given or alone, low_rank=not missing)

    def _columns(self) -> int:
        return self.columns

    def _model(self, game: MarkovGame | None, settings: Settings) -> LearnerModel:
        assert game is not None
        shared = (game, settings["reward_model"], settings["discount"], settings["temperature"])
        if settings["rule"] == "exact":
            return ExactEvaluation(*shared)
        if settings["rule"] == "td":
            return ExpectedTd(*shared, settings["step_size"])
        own = Carried.named(settings["rule"])
        return ExpectedQ(
            *shared,
            settings["step_size"],
            own.rule,
            self.step_size_decay,
            moving=own.policy == "moving",
            greedy=own.choice == "greedy",
        )


def largest_rows(trace: LearningTrace) -> int:
    """Number of joint states times an agent's actions but one."""
    return trace.n_states * (max(trace.n_actions) - 1)
