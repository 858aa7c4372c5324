"""The options of a fit with networks; read without PyTorch."""

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
    """How rewards are recovered with networks.

    Args:
        form: `bellman`: the soft value of every stage is tied to the reward, whose last layer is
            inferred with error bars; `potentials`: (11)-(12) with a free potential per stage.
        reward_model: `state` r(o), `own_action` r(o, a^i), or `joint` r(o, a^1..a^n); o is what the
            agent observes.
        learner: `exact`, learners whose action values are those of (5); `td`, learners that update
            a table from 0 in every stage, so that the visits of an action say how far its value has
            come; `auto`: the evidence decides, where observations repeat.
        improvement: `soft`, learners whose next policy is exp(q / alpha), (6); `proximal`, learners
            that multiply their last policy by exp(q / alpha), q without entropy bonus, as gradient
            learners (PPO) nearly do: the temperature is then the inverse of their step.
        step_size: beta of td learners.
        prior_variance: of a weight of the last layer, in units of alpha squared; null: that of
            largest evidence. The evidence assumes noise that is independent at every observation.
            What a learner with a network does beside its improvement is smooth, and is taken for
            reward unless a small variance is given.
        trunk: hidden layers below the inferred one: `random`, those of the estimated `policies`, or
            of the `potentials`.
        widths: of the hidden layers of a random trunk.
        hidden: widths of the hidden layers of the networks that are trained: policies, rewards and
            potentials.
        ensemble: members, each with layers of its own; their spread is part of the posterior
            standard deviation.
        bootstrap: whether every member sees episodes drawn anew from those of a stage.
        dynamics: `joint`: one linear map of features per joint action, from all stages; `own`: per
            own action and stage; `auto`: joint for up to 25 joint actions.
        entropy_coefficient: lambda >= 0 of (10); it biases the estimated policies.
        epochs: rounds of training at most; held-out episodes end it before.
        batch_size: items (distinct observations or steps) of a gradient step.
        learning_rate: of Adam at first; it is halved where held-out data improve no more.
        max_rows: observations of a stage, at most, that the last layer is inferred from.
        device: of the networks: cpu, cuda, cuda:1, ...; closed forms are solved on the CPU.
        seed: of all that is random: one seed, one result on one machine.

    Raises:
        InputError: for an option out of its range; the message names it.
    """

    form: Literal["bellman", "potentials"] = "bellman"
    reward_model: RewardModel = "state"
    learner: Literal["auto", "exact", "td"] = "auto"
    improvement: Literal["soft", "proximal"] = "soft"
    prior_variance: float | None = None
    step_size: float = 0.1
    trunk: Literal["random", "policies", "potentials"] = "random"
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
            "form": ("bellman", "potentials"),
            "reward_model": ("state", "own_action", "joint"),
            "learner": ("auto", "exact", "td"),
            "improvement": ("soft", "proximal"),
            "trunk": ("random", "policies", "potentials"),
            "dynamics": ("auto", "joint", "own"),
        }
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise InputError(
                    f"{name} must be one of {', '.join(allowed)}, got {getattr(self, name)!r}"
                )
        if self.improvement == "proximal" and (self.form != "bellman" or self.learner == "td"):
            raise InputError(
                "improvement: proximal needs form: bellman and learner: auto or exact, got form: "
                f"{self.form} and learner: {self.learner}"
            )
        self._check_numbers()

    def _check_numbers(self) -> None:
        for name in ("ensemble", "epochs", "batch_size", "max_rows"):
            check_count(name, getattr(self, name), minimum=1)
        check_count("seed", self.seed, minimum=0)
        for name in ("widths", "hidden"):
            layers = getattr(self, name)
            if not layers or min(layers) < 1:
                raise InputError(f"{name} must hold widths >= 1, at least one, got {layers}")
        for name in ("prior_variance", "learning_rate"):
            value = getattr(self, name)
            if value is not None and not 0 < value < inf:
                raise InputError(f"{name} must be > 0 and finite, got {value}")
        if not 0 <= self.entropy_coefficient < inf:
            raise InputError(
                f"entropy_coefficient must be >= 0 and finite, got {self.entropy_coefficient}"
            )
        if not 0 < self.step_size < 1:
            raise InputError(f"step_size must be in (0, 1), got {self.step_size}")
