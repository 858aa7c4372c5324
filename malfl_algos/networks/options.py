"""The options of a fit with networks. This module does not import PyTorch."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import Literal

from malfl_env.checks import check_count
from malfl_env.errors import InputError

__all__ = ["FitOptions", "RewardModel"]

RewardModel = Literal["state", "own_action", "joint"]


@dataclass(frozen=True)
class FitOptions:
    """Options of the recovery of rewards with networks.

    Args:
        form: `bellman`: the soft value of every stage follows from the reward, whose last layer is
            inferred with a posterior; `potentials`: equations (11)-(12) of the paper, with a free
            potential per stage; `moves`: for gradient learners such as PPO, whose own noise is the
            largest error, see `malfl_algos.networks.moves`. It needs `reward_model: state` and at
            least three stages, and takes `improvement`, `learner` and `prior_variance` as they are.
        reward_model: `state` r(o), `own_action` r(o, a^i), or `joint` r(o, a^1..a^n); o is the
            agent's own observation.
        learner: `exact`: the learners' action values solve equation (5); `td`: learners update a
            table from 0 in every stage, so that an action tried more often is closer to its value;
            `auto`: the evidence decides if observations repeat, else `exact`.
        improvement: share rho of its log policy that a learner keeps in an improvement. 0 or
            `soft`: the next policy is proportional to exp(q / alpha), equation (6); 1 or
            `proximal`: it is the last policy times exp(q / alpha), q without entropy bonus, nearly
            as in gradient learners (PPO), and the temperature is the inverse of their step size;
            `auto`: chosen by the evidence.
        reward_inputs: for `moves`, per agent in order, the columns of its flat observation that the
            reward is linear in; null: all columns and the random layers.
        learner_inputs: for `moves`, per agent in order, the columns that the learner's own policy
            reads; null: all.
        rewarded: for `moves`: the reward of a step is a function of the observation `before` or
            `after` it.
        step_size: step size beta of td learners.
        prior_variance: prior variance of a weight of the last layer, in units of alpha squared;
            null: the value that maximises the evidence (the marginal likelihood). The evidence
            assumes independent noise at every observation. The noise of a learner with a network is
            smooth. It is mistaken for reward unless a small variance is given.
        trunk: hidden layers below the inferred layer: `random`, or those of the estimated
            `policies`, or of the `potentials`; `kernel`: random features of a Gaussian kernel, as
            many as the last entry of `widths`.
        length_scale: of the kernel, in standard deviations of an input (a digit counts as if its
            values were equally likely); null: the one of largest evidence among 0.9, 1.3 and 1.9.
        grouped_digits: this many consecutive digits of an observation are one thing, as row and
            column of an agent (2) are; a kernel trunk has an indicator of each of its values.
        values: `steps`: the values of a stage come from its own steps; `model`: they come from the
            learned dynamics and the policies at all observations, visited in that stage or not.
        first_moves: number of improvements, from the first, that the rewards are inferred from;
            null: all. The values of later stages, which visit few states, are approximated less
            well. Dynamics and policies come from all stages in any case.
        rounds: how often the policies are put in order before the fit: where a stage was not
            visited, they are those that the fitted values imply. The agents must share their
            observations.
        widths: widths of the hidden layers of a random trunk.
        hidden: widths of the hidden layers of the trained networks: policies, rewards, potentials.
        ensemble: number of members of the ensemble. Each has its own layers; their spread is part
            of the posterior standard deviation.
        bootstrap: whether every member is fitted to resampled episodes of each stage.
        dynamics: `joint`: one linear map of features per joint action, from all stages; `own`: one
            per own action and stage; `auto`: joint for up to 25 joint actions.
        entropy_coefficient: weight lambda >= 0 of the entropy bonus in the policy estimate,
            equation (10); it biases the estimated policies.
        epochs: largest number of training rounds; early stopping may end it before.
        batch_size: distinct observations or steps in a mini-batch.
        learning_rate: initial learning rate of Adam; it is halved when the held-out loss stops
            improving.
        max_rows: largest number of observations per stage from which the last layer is inferred.
        device: device of networks, tables of features and linear systems: cpu, cuda, cuda:1, ...
        seed: seed of all random numbers; one seed gives one result on one machine.

    Raises:
        InputError: for an option out of its range; the message names it.
    """

    form: Literal["bellman", "potentials", "moves"] = "bellman"
    reward_model: RewardModel = "state"
    learner: Literal["auto", "exact", "td"] = "auto"
    improvement: float | Literal["auto", "soft", "proximal"] = "auto"
    prior_variance: float | None = None
    reward_inputs: tuple[tuple[int, ...], ...] | None = None
    learner_inputs: tuple[tuple[int, ...], ...] | None = None
    rewarded: Literal["before", "after"] = "before"
    step_size: float = 0.1
    trunk: Literal["random", "policies", "potentials", "kernel"] = "random"
    length_scale: float | None = None
    grouped_digits: int = 1
    values: Literal["steps", "model"] = "steps"
    first_moves: int | None = None
    rounds: int = 0
    widths: tuple[int, ...] = (128,)
    hidden: tuple[int, ...] = (64, 64)
    ensemble: int = 5
    bootstrap: bool = False
    dynamics: Literal["auto", "joint", "own"] = "auto"
    entropy_coefficient: float = 0.0
    epochs: int = 200
    batch_size: int = 4096
    learning_rate: float = 0.01
    max_rows: int = 1000
    device: str = "cpu"
    seed: int = 0

    def __post_init__(self) -> None:
        choices = {
            "form": ("bellman", "potentials", "moves"),
            "rewarded": ("before", "after"),
            "reward_model": ("state", "own_action", "joint"),
            "learner": ("auto", "exact", "td"),
            "trunk": ("random", "policies", "potentials", "kernel"),
            "values": ("steps", "model"),
            "dynamics": ("auto", "joint", "own"),
        }
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise InputError(
                    f"{name} must be one of {', '.join(allowed)}, got {getattr(self, name)!r}"
                )
        self._check_improvement()
        self._check_numbers()
        self._check_moves()

    @property
    def retained(self) -> float | None:
        """rho; None if the evidence chooses it."""
        if self.improvement == "auto":
            return None if self.form == "bellman" and self.learner != "td" else 0.0
        named = {"soft": 0.0, "proximal": 1.0}
        return named.get(str(self.improvement), self.improvement)  # type: ignore[arg-type]

    def _check_moves(self) -> None:
        if self.form == "moves" and self.reward_model != "state":
            raise InputError(f"form: moves needs reward_model: state, got {self.reward_model}")
        given = self.reward_inputs, self.learner_inputs
        if self.form != "moves" and (given != (None, None) or self.rewarded != "before"):
            raise InputError(
                "reward_inputs, learner_inputs and rewarded need form: moves, got form: "
                f"{self.form}"
            )

    def _check_improvement(self) -> None:
        words = ("auto", "soft", "proximal")
        if isinstance(self.improvement, str):
            allowed = self.improvement in words
        else:
            allowed = 0 <= self.improvement <= 1
        if not allowed:
            raise InputError(
                f"improvement must be one of {', '.join(words)}, or a number in [0, 1], got "
                f"{self.improvement!r}"
            )
        if self.retained and (self.form != "bellman" or self.learner == "td"):
            raise InputError(
                f"improvement: {self.improvement} needs form: bellman and learner: auto or exact, "
                f"got form: {self.form} and learner: {self.learner}"
            )

    def _check_numbers(self) -> None:
        for name in ("ensemble", "epochs", "batch_size", "max_rows"):
            check_count(name, getattr(self, name), minimum=1)
        check_count("seed", self.seed, minimum=0)
        for name in ("widths", "hidden"):
            layers = getattr(self, name)
            if not layers or min(layers) < 1:
                raise InputError(f"{name} must hold widths >= 1, at least one, got {layers}")
        check_count("rounds", self.rounds, minimum=0)
        if self.first_moves is not None:
            check_count("first_moves", self.first_moves, minimum=1)
        check_count("grouped_digits", self.grouped_digits, minimum=1)
        if self.rounds and (self.form != "bellman" or self.retained != 0):
            raise InputError(
                "rounds needs form: bellman and improvement: soft, got form: "
                f"{self.form} and improvement: {self.improvement}"
            )
        for name in ("prior_variance", "learning_rate", "length_scale"):
            value = getattr(self, name)
            if value is not None and not 0 < value < inf:
                raise InputError(f"{name} must be > 0 and finite, got {value}")
        if not 0 <= self.entropy_coefficient < inf:
            raise InputError(
                f"entropy_coefficient must be >= 0 and finite, got {self.entropy_coefficient}"
            )
        if not 0 < self.step_size < 1:
            raise InputError(f"step_size must be in (0, 1), got {self.step_size}")
