"""The observer `ma-lfl-network`: rewards recovered by networks, from what agents observed and did.

It works from samples alone, without any list of states, so in games with continuous observations,
too. In a tabular game it sees every joint state's observation (grid world: rows and columns).
`malfl_algos.networks` says in which order to read what it is made of.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from gymnasium.spaces import Discrete
from numpy.typing import NDArray

from malfl_algos.contract import API_VERSION, RecoveredRewards
from malfl_algos.networks.checkpoints import Checkpoints
from malfl_algos.networks.encoding import input_features
from malfl_algos.networks.fitting import fit_agent
from malfl_algos.networks.gathering import Gathered, checksum, gather
from malfl_algos.networks.logging import tensorboard_log
from malfl_algos.networks.members import Fitting
from malfl_algos.networks.mlp import torch_device
from malfl_algos.networks.options import FitOptions
from malfl_algos.networks.recovered_functions import AgentFunctions, RecoveredFunctions
from malfl_algos.observation_trace import ObservationTrace, from_learning_trace
from malfl_algos.observers.reading import check_fits
from malfl_algos.play.spaces import space_to_json
from malfl_algos.trace import LearningTrace, Transitions
from malfl_env.errors import InputError
from malfl_env.markov_game import MarkovGame

__all__ = ["MaLflNetwork"]

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class MaLflNetwork(FitOptions):
    """Rewards by networks, from observations, actions and next observations.

    Args:
        checkpoint_dir: folder from which a killed run goes on; null: none.
        log_dir: folder for TensorBoard's files; null: none.

    Raises:
        InputError: for an option out of its range; the message names it.
    """

    checkpoint_dir: str | None = None
    log_dir: str | None = None

    api_version: ClassVar[tuple[int, int]] = API_VERSION
    needs_transitions: ClassVar[bool] = True

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
        return self._fitted(trace, {}, discount=discount, temperature=temperature)

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
        observed = _observed(trace, game)
        found = self._fitted(observed, known, discount=discount, temperature=temperature)
        states = np.arange(trace.n_states)
        seen = states if game is None else game.observation(states)
        rewards, sds, policies = {}, {}, {}
        for index, (agent, own) in enumerate(found.functions.items()):
            rewards[agent], sds[agent] = own.table(seen)
            policies[agent] = known.get(agent, _policy_table(own, seen, index))
        return RecoveredRewards(
            rewards=rewards,
            diagnostics=dict(found.diagnostics),
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
    ) -> RecoveredFunctions:
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
        tables = _known_tables(trace, views[0], known)
        identity = self._identity(trace, views, discount=discount, temperature=temperature)
        folder = None if self.checkpoint_dir is None else Path(self.checkpoint_dir)
        with tensorboard_log(self.log_dir, run=f"ma-lfl-network_seed_{self.seed}") as log:
            fitting = Fitting(
                self, discount, temperature, device, Checkpoints(folder, identity), log
            )
            fits = [fit_agent(view, fitting, tables) for view in views]
        return RecoveredFunctions(
            {
                agent: AgentFunctions(view.encoder, fit.members, fit.policies)
                for agent, view, fit in zip(trace.agents, views, fits, strict=True)
            },
            {agent: fit.diagnostics for agent, fit in zip(trace.agents, fits, strict=True)},
        )

    def _identity(
        self,
        trace: ObservationTrace,
        views: Sequence[Gathered],
        *,
        discount: float,
        temperature: float,
    ) -> dict[str, Any]:
        """A checkpoint can be resumed only if all of this matches."""
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


def _observed(trace: LearningTrace, game: MarkovGame | None) -> ObservationTrace:
    """The trace as observations; without a game the joint state's number is what is observed."""
    if game is not None:
        return from_learning_trace(trace, game)
    space = Discrete(trace.n_states)
    stages = []
    for index, stage in enumerate(trace.stages):
        steps = stage.transitions
        if steps is None or steps.states is None or steps.next_states is None:
            raise InputError(
                f"stage {index} of the trace has no transitions in their order: let the learner "
                "keep them (keep_transitions: true)"
            )
        stages.append(
            Transitions(
                states=steps.states,
                joint_actions=steps.joint_actions,
                next_states=steps.next_states,
                episode_ends=steps.episode_ends,
                complete=steps.complete,
                observations=dict.fromkeys(trace.agents, np.asarray(steps.states)),
                next_observations=dict.fromkeys(trace.agents, np.asarray(steps.next_states)),
                terminations=steps.terminations,
            )
        )
    return ObservationTrace(tuple(stages), trace.agents, trace.n_actions, (space,) * trace.n_agents)


def _known_tables(
    trace: ObservationTrace, view: Gathered, known: Mapping[str, FloatArray]
) -> dict[int, FloatArray]:
    """Known policies at the distinct observations, which all agents share in a tabular game."""
    if not known:
        return {}
    state = np.zeros(len(view.inputs), dtype=np.int64)
    for steps, stage in zip(trace.stages, view.stages, strict=True):
        state[stage.after[stage.which]] = np.asarray(steps.next_states)
        state[stage.here[stage.which]] = np.asarray(steps.states)
    return {trace.agents.index(a): np.asarray(p)[:, state] for a, p in known.items()}


def _policy_table(own: AgentFunctions, observations: NDArray[Any], index: int) -> FloatArray:
    """Estimated policies of an agent `(n_stages, n_states, n_actions)`."""
    inputs, policies = input_features(own.encoder, observations), own.policies
    return np.stack(
        [np.exp(policies.log_policies(inputs, h)[index]) for h in range(policies.n_stages)]
    )
