"""From a trace to the arrays that `malfl_algos.ma_lfl` and `malfl_algos.soft` work on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from malfl_algos.ma_lfl import dynamics
from malfl_algos.ma_lfl.stages import StageArrays, Steps
from malfl_algos.trace import LearningTrace, Stage
from malfl_env.errors import InputError
from malfl_env.markov_game import MarkovGame

__all__ = ["check_fits", "dynamics_of", "stage_arrays"]

FloatArray = NDArray[np.float64]


def stage_arrays(trace: LearningTrace) -> list[StageArrays]:
    """The stages of a tabular trace; their steps where these were kept."""
    return [StageArrays(stage.joint_counts, _steps(stage)) for stage in trace.stages]


def dynamics_of(
    trace: LearningTrace, game: MarkovGame | None
) -> tuple[MarkovGame, NDArray[np.bool_]]:
    """The game given, or the one that the trace shows; and in which joint states it is known.

    Raises:
        InputError: if no game is given and a stage says nothing of next states.
    """
    if game is not None:
        return game, np.ones(trace.n_states, dtype=bool)
    seen = [_next_states(trace, index) for index in range(trace.n_stages)]
    return dynamics.estimated_game(
        *(np.concatenate(part) for part in zip(*seen, strict=True)),
        n_states=trace.n_states,
        n_actions=trace.n_actions,
        start=_start(trace),
    )


def _steps(stage: Stage) -> Steps | None:
    steps = stage.transitions
    if steps is None or steps.states is None or steps.next_states is None:
        return None
    return Steps(steps.states, steps.joint_actions, steps.next_states, steps.episode_ends)


def _next_states(trace: LearningTrace, index: int) -> tuple[NDArray[Any], ...]:
    """Of one stage, flat (joint state, joint action), next state, count."""
    stage = trace.stages[index]
    seen, steps = stage.next_state_counts, _steps(stage)
    if seen is not None:
        return seen.rows, seen.next_states, seen.counts
    if steps is None:
        raise InputError(
            f"no game was given and stage {index} holds neither next-state counts nor "
            "transitions: give the game, or learn with keep_transitions"
        )
    actions = np.ravel_multi_index(tuple(steps.joint_actions.T), trace.n_actions)
    pairs = steps.states.astype(np.int64) * int(np.prod(trace.n_actions)) + actions
    return pairs, steps.next_states.astype(np.int64), np.ones(len(pairs), int)


def _start(trace: LearningTrace) -> int:
    """Where the first episode began, if the trace tells; else the most visited state."""
    steps = _steps(trace.stages[0])
    if steps is not None and len(steps.states):
        return int(steps.states[0])
    return int(np.argmax(trace.stages[0].state_counts))


def check_fits(
    trace: LearningTrace, game: MarkovGame | None, known_policies: Mapping[str, FloatArray]
) -> None:
    """Refuse a trace of another game, and policies that are none."""
    if game is not None and (trace.n_states, trace.n_actions) != (game.n_states, game.n_actions):
        raise InputError(
            f"the trace is of a game with {trace.n_states} joint states and actions "
            f"{trace.n_actions}, the game given has {game.n_states} and {game.n_actions}"
        )
    for agent, policies in known_policies.items():
        if agent not in trace.agents:
            raise InputError(f"known_policies names {agent!r}; the agents are {trace.agents}")
        expected = (trace.n_stages, trace.n_states, trace.n_actions[trace.agents.index(agent)])
        if policies.shape != expected:
            raise InputError(
                f"the known policies of {agent} have shape {policies.shape}, expected {expected}"
            )
        if not (np.all(policies >= 0) and np.allclose(policies.sum(axis=-1), 1, atol=1e-9)):
            raise InputError(f"the known policies of {agent} are not distributions over actions")
