"""The trace of a game whose states nobody can list: what agents observed and did, stage by stage.

As a learning trace it holds no rewards and no policies. On disk it is a folder, whose arrays are
mapped into memory when it is loaded: a trace may be larger than the memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium.spaces import MultiDiscrete
from numpy.typing import NDArray

from malfl_algos.play.spaces import AnySpace, check_in_space, check_observation_space, narrowed
from malfl_algos.trace import LearningTrace, Transitions
from malfl_env.errors import InputError
from malfl_env.markov_game import MarkovGame

__all__ = ["ObservationTrace", "from_learning_trace"]

_BLOCK = 1 << 20  # steps looked at at once, where arrays may be on disk


@dataclass(frozen=True, eq=False)
class ObservationTrace:
    """Everything an observer may see of agents in a game that need not be enumerable.

    Args:
        stages: at least one; each with the observations and next observations of every agent, its
            steps those of whole episodes, one after the other.
        agents: ids in agent order, the order of the columns of joint actions.
        n_actions: of each agent.
        spaces: what each agent observes: Box, Discrete, MultiDiscrete or MultiBinary.

    Raises:
        InputError: where these do not fit together; the message names stage and column.
    """

    stages: tuple[Transitions, ...]
    agents: tuple[str, ...]
    n_actions: tuple[int, ...]
    spaces: tuple[AnySpace, ...]

    def __post_init__(self) -> None:
        if not self.stages:
            raise InputError("an observation trace needs at least one stage, got none")
        if not self.agents or len(set(self.agents)) != len(self.agents):
            raise InputError(f"agents must be distinct, at least one; got {self.agents}")
        for name in ("n_actions", "spaces"):
            if len(getattr(self, name)) != len(self.agents):
                raise InputError(
                    f"{name} must have an entry for each of {len(self.agents)} agents, got "
                    f"{len(getattr(self, name))}"
                )
        for agent, space, n_own in zip(self.agents, self.spaces, self.n_actions, strict=True):
            check_observation_space(space, where=agent)
            if n_own < 1:
                raise InputError(f"n_actions of {agent} must be >= 1, got {n_own}")
        for index, stage in enumerate(self.stages):
            _check_stage(stage, self, where=f"stage {index}")

    @property
    def n_stages(self) -> int:
        """Number of stages."""
        return len(self.stages)

    def save(self, folder: str | Path) -> None:
        """Write a folder of plain arrays with a manifest, atomically, without pickle.

        A trace larger than the memory: `malfl_algos.storage.observation_traces.TraceWriter`.

        Raises:
            InputError: for a folder that is there and holds something else.
        """
        from malfl_algos.storage.observation_traces import save_trace

        save_trace(self, folder)

    @classmethod
    def load(cls, folder: str | Path, *, verify: bool = True) -> ObservationTrace:
        """Map a trace written by `save`: arrays are read from the disk when they are used.

        Args:
            folder: of the trace.
            verify: whether all is read once and compared with its checksums.

        Raises:
            InputError: where a file is missing, cut, damaged or foreign; the message names it.
        """
        from malfl_algos.storage.observation_traces import load_trace

        return load_trace(folder, verify=verify)

    def first(self, n_stages: int) -> ObservationTrace:
        """The trace cut after its first stages."""
        if not 1 <= n_stages <= self.n_stages:
            raise InputError(f"n_stages must be 1..{self.n_stages}, got {n_stages}")
        return ObservationTrace(self.stages[:n_stages], self.agents, self.n_actions, self.spaces)


def from_learning_trace(trace: LearningTrace, game: MarkovGame) -> ObservationTrace:
    """A trace of a tabular game as its agents' observations (grid world: rows and columns).

    Every agent observes the digits of the joint state; the joint states themselves stay beside.

    Args:
        trace: with the steps of every stage in their order.
        game: the game it is of; its rewards are not read.

    Raises:
        InputError: for a trace without transitions, or of another game.
    """
    if (trace.n_states, trace.n_actions) != (game.n_states, game.n_actions):
        raise InputError(
            f"the trace is of a game with {trace.n_states} joint states and actions "
            f"{trace.n_actions}, the game has {game.n_states} and {game.n_actions}"
        )
    space: AnySpace = MultiDiscrete(list(game.observation_shape))
    digits = narrowed(game.observation(np.arange(game.n_states)), space)
    stages = []
    for index, stage in enumerate(trace.stages):
        steps = stage.transitions
        if steps is None or steps.states is None or steps.next_states is None:
            raise InputError(
                f"stage {index} of the trace has no transitions in their order: let the learner "
                "keep them (keep_transitions: true)"
            )
        observations, next_observations = digits[steps.states], digits[steps.next_states]
        stages.append(
            Transitions(
                states=steps.states,
                joint_actions=steps.joint_actions,
                next_states=steps.next_states,
                episode_ends=steps.episode_ends,
                complete=steps.complete,
                observations=dict.fromkeys(game.agents, observations),
                next_observations=dict.fromkeys(game.agents, next_observations),
                terminations=steps.terminations,
            )
        )
    spaces = (space,) * game.n_agents
    return ObservationTrace(tuple(stages), game.agents, game.n_actions, spaces)


def _check_stage(steps: Transitions, trace: ObservationTrace, *, where: str) -> None:
    n_agents = len(trace.agents)
    for kind in ("observations", "next_observations"):
        observed = getattr(steps, kind) or {}
        if set(observed) != set(trace.agents):
            raise InputError(
                f"{where}: {kind} must be of the agents {', '.join(trace.agents)}, they are of "
                f"{', '.join(observed) or 'none'}"
            )
        for agent, space in zip(trace.agents, trace.spaces, strict=True):
            check_in_space(observed[agent], space, where=f"{where}, {kind} of {agent}")
    actions = steps.joint_actions
    if actions.ndim != 2 or actions.shape[1] != n_agents or actions.dtype.kind not in "iu":
        raise InputError(
            f"{where}: joint_actions must be whole numbers (n_steps, {n_agents}), got "
            f"{actions.dtype} {actions.shape}"
        )
    if len(actions) == 0:
        raise InputError(f"{where} has no steps")
    _check_actions(actions, trace, where=where)
    ends = steps.episode_ends
    if ends.dtype != np.bool_ or ends.ndim != 1 or not ends[-1]:
        raise InputError(
            f"{where}: episode_ends must be true or false, and true at the stage's last step"
        )


def _check_actions(actions: NDArray[Any], trace: ObservationTrace, *, where: str) -> None:
    for first in range(0, len(actions), _BLOCK):
        block = actions[first : first + _BLOCK]
        for agent, n_own, own in zip(trace.agents, trace.n_actions, block.T, strict=True):
            if own.min() < 0 or own.max() >= n_own:
                raise InputError(
                    f"{where}: actions of {agent} must be in 0..{n_own - 1}, got {own.min()} to "
                    f"{own.max()}"
                )
