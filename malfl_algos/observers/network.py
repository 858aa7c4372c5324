"""Observer `ma-lfl-network`: rewards recovered by networks from observations and actions.

It needs only sampled steps, not an enumeration of states, so it also works in games with continuous
observations. In a tabular game it uses the observation of every joint state (grid world: rows and
columns). The docstring of `malfl_algos.networks` states the order in which to read its files.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from malfl_algos.contract import API_VERSION, Diagnostics, Problem, RecoveredRewards, Source
from malfl_algos.networks.checkpoints import Checkpoints
from malfl_algos.networks.encoding import input_features
from malfl_algos.networks.fitting import fit_agent, follow
from malfl_algos.networks.gathering import Gathered, checksum, gather
from malfl_algos.networks.logging import tensorboard_log
from malfl_algos.networks.members import Fitting
from malfl_algos.networks.mlp import torch_device
from malfl_algos.networks.options import FitOptions
from malfl_algos.networks.recovered_functions import AgentFunctions, RecoveredFunctions
from malfl_algos.trace import LearningTrace
from malfl_env.markov_game import MarkovGame
from malfl_env.spaces import space_to_json

__all__ = ["MaLflNetwork"]

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class MaLflNetwork(FitOptions):
    """Recover rewards with networks from observations, actions and next observations.

    Args:
        checkpoint_dir: folder of checkpoints, from which an interrupted fit resumes; null: no
            checkpoints.
        log_dir: folder for TensorBoard's files; null: no log.

    Raises:
        InputError: if an option is out of its range; the message names the option.
    """

    checkpoint_dir: str | None = None
    log_dir: str | None = None

    api_version: ClassVar[tuple[int, int]] = API_VERSION
    needs_transitions: ClassVar[bool] = True

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

        Args:
            trace: with the steps of every stage. From a tabular trace without observations rewards
                are recovered as tables, from any other as functions of what an agent observes.
            game: of a tabular trace, read for its observations alone: tables are recovered. None:
                an agent observes what the trace holds, or else the joint state's number.
            discount: must be given.
            temperature: alpha; None: the reward is in units of the temperature.
            known_policies: take the place of estimates in the others' moves and in the values.

        Raises:
            InputError: for fewer than two stages, an unknown discount, a trace without transitions,
                a device that does not exist, or checkpoints of another fit.
            RuntimeError: where training diverges; the last good checkpoint stays.
        """
        problem = Problem(trace, game, discount, temperature, known_policies)
        problem.require_stages()
        unit = 1.0 if problem.temperature is None else problem.temperature
        scale = {"discount": problem.given("discount"), "temperature": unit}
        if not trace.is_tabular or (game is None and trace.spaces is not None):
            found = self._fitted(trace, problem.known, **scale)
            return replace(found, source=Source.of(problem, self))
        found = self._fitted(trace.with_observations(game), problem.known, **scale)
        states = np.arange(trace.n_states)
        seen = states if game is None else game.observation(states)
        rewards, sds, policies = {}, {}, {}
        for index, (agent, own) in enumerate(found.functions.items()):
            rewards[agent], sds[agent] = own.table(seen)
            policies[agent] = problem.known.get(agent, _policy_table(own, seen, index))
        return RecoveredRewards(
            rewards=rewards,
            diagnostics=dict(found.diagnostics),
            estimated_policies=policies,
            sd={a: sd for a, sd in sds.items() if np.all(np.isfinite(sd))} or None,
            source=Source.of(problem, self),
        )

    def _fitted(
        self,
        trace: LearningTrace,
        known: Mapping[str, FloatArray],
        *,
        discount: float,
        temperature: float,
    ) -> RecoveredFunctions:
        device = torch_device(self.device)
        views = gather(trace)
        tables = _known_tables(trace, views[0], known)
        identity = self._identity(trace, views, discount=discount, temperature=temperature)
        folder = None if self.checkpoint_dir is None else Path(self.checkpoint_dir)
        with tensorboard_log(self.log_dir, run=f"ma-lfl-network_seed_{self.seed}") as log:
            fitting = Fitting(
                self, discount, temperature, device, Checkpoints(folder, identity), log
            )
            followed = follow(views, fitting, tables)
            fits = [fit_agent(view, fitting, followed) for view in views]
        return RecoveredFunctions(
            functions={
                agent: AgentFunctions(view.encoder, fit.members, fit.policies)
                for agent, view, fit in zip(trace.agents, views, fits, strict=True)
            },
            diagnostics={
                agent: Diagnostics.of(fit.diagnostics)
                for agent, fit in zip(trace.agents, fits, strict=True)
            },
        )

    def _identity(
        self,
        trace: LearningTrace,
        views: Sequence[Gathered],
        *,
        discount: float,
        temperature: float,
    ) -> dict[str, Any]:
        """A checkpoint can be resumed only if all of this matches."""
        without = {"checkpoint_dir", "log_dir", "device"}
        options = {k: v for k, v in vars(self).items() if k not in without}
        described = options | {
            "observations": [space_to_json(space) for space in trace.spaces or ()],
            "agents": trace.agents,
            "n_actions": trace.n_actions,
            "n_stages": trace.n_stages,
            "discount": discount,
            "temperature": temperature,
            "data": checksum(views),
        }
        plain: dict[str, Any] = json.loads(json.dumps(described))
        return plain


def _known_tables(
    trace: LearningTrace, view: Gathered, known: Mapping[str, FloatArray]
) -> dict[int, FloatArray]:
    """Known policies at the distinct observations, which all agents share in a tabular game."""
    if not known:
        return {}
    state = np.zeros(len(view.inputs), dtype=np.int64)
    for seen, stage in zip(trace.stages, view.stages, strict=True):
        steps = seen.transitions
        assert steps is not None
        state[stage.after[stage.which]] = np.asarray(steps.next_states)
        state[stage.here[stage.which]] = np.asarray(steps.states)
    return {trace.agents.index(a): np.asarray(p)[:, state] for a, p in known.items()}


def _policy_table(own: AgentFunctions, observations: NDArray[Any], index: int) -> FloatArray:
    """Estimated policies of an agent `(n_stages, n_states, n_actions)`."""
    inputs, policies = input_features(own.encoder, observations), own.policies
    return np.stack(
        [np.exp(policies.log_policies(inputs, h)[index]) for h in range(policies.n_stages)]
    )
