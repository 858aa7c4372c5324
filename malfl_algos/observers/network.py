"""The observer `ma-lfl-network`: rewards recovered by networks, from what agents observed and did.

It works from samples alone, without any list of states, so in games with continuous observations,
too. In a tabular game it sees every joint state's observation (grid world: rows and columns).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from malfl_algos.contract import API_VERSION, RecoveredRewards
from malfl_algos.networks.checkpoints import Checkpoints
from malfl_algos.networks.ensemble import Fitted, fit_agent
from malfl_algos.networks.fitting import Fitting
from malfl_algos.networks.gathering import Gathered, gather, input_features
from malfl_algos.networks.logging import tensorboard_log
from malfl_algos.networks.mlp import torch_device
from malfl_algos.networks.recovered_functions import AgentFunctions, RecoveredFunctions
from malfl_algos.networks.tabular import (
    checksum,
    known_tables,
    observed,
    on_all_states,
    policy_table,
)
from malfl_algos.networks.training import TrainingSettings
from malfl_algos.observation_trace import ObservationTrace
from malfl_algos.observers.reading import check_fits
from malfl_algos.play.spaces import space_to_json
from malfl_algos.trace import LearningTrace
from malfl_env.checks import check_count
from malfl_env.errors import InputError
from malfl_env.markov_game import MarkovGame

__all__ = ["MaLflNetwork"]

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class MaLflNetwork:
    """Rewards by networks, from observations, actions and next observations.

    Args:
        form: `bellman`: the soft value of every stage is tied to the reward, whose last layer is
            inferred with error bars; `potentials`: (11)-(12) with a free potential per stage.
        reward_model: `state` r(o), `own_action` r(o, a^i), or `joint` r(o, a^1..a^n); o is what the
            agent observes.
        learner: `exact`, learners whose action values are those of (5); `td`, learners that update
            a table from 0 in every stage, known by how often they tried what; `auto`: the evidence
            decides, where observations repeat.
        improvement: `soft`, learners whose next policy is exp(q / alpha), (6); `proximal`, learners
            that multiply their last policy by exp(q / alpha), q without entropy bonus, as gradient
            learners (PPO) nearly do: the temperature is then the inverse of their step.
        step_size: beta of td learners.
        prior_variance: of a weight of the last layer, in units of alpha squared; null: that of
            largest evidence, which knows only noise that is independent at every observation. What
            a learner with a network does beside its improvement is smooth, and passes for reward
            unless a small variance is given.
        trunk: hidden layers below the inferred one: `random`, those of the estimated `policies`, or
            of the `potentials`.
        widths: of the hidden layers of a random trunk.
        hidden: of the networks that are trained: policies, and the potentials' three.
        ensemble: members, each with layers of its own; their spread is part of the deviations.
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
        checkpoint_dir: folder from which a killed run goes on; null: none.
        log_dir: folder for TensorBoard's files; null: none.

    Raises:
        InputError: for an option out of its range; the message names it.
    """

    form: Literal["bellman", "potentials"] = "bellman"
    reward_model: Literal["state", "own_action", "joint"] = "state"
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
    checkpoint_dir: str | None = None
    log_dir: str | None = None

    api_version: ClassVar[tuple[int, int]] = API_VERSION
    needs_transitions: ClassVar[bool] = True

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
        self._check_rule()
        for name in ("ensemble", "epochs", "batch_size", "max_rows"):
            check_count(name, getattr(self, name), minimum=1)
        check_count("seed", self.seed, minimum=0)
        for name in ("widths", "hidden"):
            layers = getattr(self, name)
            if not layers or min(layers) < 1:
                raise InputError(f"{name} must hold widths >= 1, at least one, got {layers}")
        if not 0 <= self.entropy_coefficient < np.inf:
            raise InputError(
                f"entropy_coefficient must be >= 0 and finite, got {self.entropy_coefficient}"
            )
        if not (self.learning_rate > 0 and isfinite(self.learning_rate)):
            raise InputError(f"learning_rate must be > 0 and finite, got {self.learning_rate}")

    def _check_rule(self) -> None:
        """What the learners are taken to do, and the prior."""
        if self.improvement == "proximal" and (self.form != "bellman" or self.learner == "td"):
            raise InputError(
                "improvement: proximal needs form: bellman and learner: auto or exact, got form: "
                f"{self.form} and learner: {self.learner}"
            )
        if self.prior_variance is not None and not 0 < self.prior_variance < np.inf:
            raise InputError(f"prior_variance must be > 0 and finite, got {self.prior_variance}")
        if not 0 < self.step_size < 1:
            raise InputError(f"step_size must be in (0, 1), got {self.step_size}")

    def read(
        self, trace: ObservationTrace, *, discount: float, temperature: float
    ) -> RecoveredFunctions:
        """Recover every agent's reward as a function of what it observes.

        See `malfl_algos.contract.ObservationObserver`.

        Raises:
            InputError: for fewer than two stages, a discount or temperature out of its range, a
                device that is not there, or checkpoints of another fit.
            RuntimeError: where training diverges; the last good checkpoint stays.
        """
        views = self._fitted(trace, {}, discount=discount, temperature=temperature)
        functions = {
            agent: AgentFunctions(gathered.encoder, fitted.members, fitted.policies)
            for agent, (gathered, fitted) in zip(trace.agents, views, strict=True)
        }
        said = {a: fitted.diagnostics for a, (_, fitted) in zip(trace.agents, views, strict=True)}
        return RecoveredFunctions(functions, said)

    def recover(
        self,
        trace: LearningTrace,
        *,
        game: MarkovGame | None,
        discount: float | None,
        temperature: float,
        known_policies: Mapping[str, FloatArray] | None = None,
    ) -> RecoveredRewards:
        """Recover every agent's reward on all joint states; see `malfl_algos.contract.Observer`.

        Args:
            trace: with the steps of every stage.
            game: read for its observations alone; None: an agent observes the joint state's number.
            discount: must be given.
            temperature: alpha.
            known_policies: take the place of estimates in the others' moves and in the values.

        Raises:
            InputError: as `read`; also for an unknown discount, or a trace without transitions.
        """
        if discount is None:
            raise InputError(
                "ma-lfl-network cannot tell the discount: give it, or profile it by ma-lfl-bellman "
                "on a game that can be listed"
            )
        known = dict(known_policies or {})
        check_fits(trace, game, known)
        seen_trace = observed(trace, game)
        fits = self._fitted(seen_trace, known, discount=discount, temperature=temperature)
        states = np.arange(trace.n_states)
        seen = states if game is None else game.observation(states)
        rewards, sds, policies = {}, {}, {}
        for index, (agent, (gathered, fitted)) in enumerate(zip(trace.agents, fits, strict=True)):
            inputs = input_features(gathered.encoder, seen)
            rewards[agent], sds[agent] = on_all_states(fitted, inputs, trace.n_actions)
            policies[agent] = known.get(agent, policy_table(fitted, inputs, index))
        return RecoveredRewards(
            rewards=rewards,
            diagnostics={
                agent: fitted.diagnostics
                for agent, (_, fitted) in zip(trace.agents, fits, strict=True)
            },
            estimated_policies=policies,
            sd={a: sd for a, sd in sds.items() if np.all(np.isfinite(sd))} or None,
        )

    def _fitted(
        self,
        trace: ObservationTrace,
        known: Mapping[str, FloatArray],
        *,
        discount: float,
        temperature: float,
    ) -> list[tuple[Gathered, Fitted]]:
        if trace.n_stages < 2:
            raise InputError(
                "recovery needs at least two stages (one improvement), "
                f"the trace has {trace.n_stages}"
            )
        if not 0 <= discount < 1:
            raise InputError(f"discount must be in [0, 1), got {discount}")
        if not 0 < temperature < np.inf:
            raise InputError(f"temperature must be > 0 and finite, got {temperature}")
        device = torch_device(self.device)
        views = gather(trace)
        tables = known_tables(trace, views[0], known)
        identity = self._identity(trace, views, discount=discount, temperature=temperature)
        folder = None if self.checkpoint_dir is None else Path(self.checkpoint_dir)
        with tensorboard_log(self.log_dir, run=f"ma-lfl-network_seed_{self.seed}") as log:
            fitting = Fitting(
                form=self.form,
                reward_model=self.reward_model,
                learner=self.learner,
                improvement=self.improvement,
                prior_variance=self.prior_variance,
                step_size=self.step_size,
                trunk=self.trunk,
                dynamics=self.dynamics,
                widths=self.widths,
                hidden=self.hidden,
                ensemble=self.ensemble,
                bootstrap=self.bootstrap,
                entropy_coefficient=self.entropy_coefficient,
                training=TrainingSettings(self.epochs, self.batch_size, self.learning_rate),
                max_rows=self.max_rows,
                seed=self.seed,
                discount=discount,
                temperature=temperature,
                device=device,
                checkpoints=Checkpoints(folder, identity),
                log=log,
            )
            return [(view, fit_agent(view, fitting, tables)) for view in views]

    def _identity(
        self,
        trace: ObservationTrace,
        views: Sequence[Gathered],
        *,
        discount: float,
        temperature: float,
    ) -> dict[str, Any]:
        """What a checkpoint must be of, to be gone on from."""
        without = {"checkpoint_dir", "log_dir", "device"}
        options = {k: v for k, v in vars(self).items() if k not in without}
        described = options | {
            "observations": [space_to_json(space) for space in trace.spaces],
            "agents": trace.agents,
            "n_actions": trace.n_actions,
            "n_stages": trace.n_stages,
            "discount": discount,
            "temperature": temperature,
            "data": checksum(views),
        }
        plain: dict[str, Any] = json.loads(json.dumps(described))
        return plain
