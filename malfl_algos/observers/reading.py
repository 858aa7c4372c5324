"""From a trace to the arrays that `malfl_algos.ma_lfl` and `malfl_algos.soft` work on."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from malfl_algos.ma_lfl import dynamics
from malfl_algos.ma_lfl.stages import StageArrays, Steps
from malfl_algos.trace import LearningTrace, Stage
from malfl_env.errors import InputError
from malfl_env.markov_game import MarkovGame

__all__ = ["dynamics_of", "stage_arrays"]


def stage_arrays(trace: LearningTrace) -> list[StageArrays]:
    """The stages of a tabular trace; their steps where these were kept."""
    return [StageArrays(stage.counts, _steps(stage)) for stage in trace.stages]


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
    seen = trace.stages[index].seen_next_states
    if seen is None:
        raise InputError(
            f"no game was given and stage {index} holds neither next-state counts nor "
            "transitions: give the game, or learn with keep_transitions"
        )
    return seen.rows, seen.next_states, seen.counts


def _start(trace: LearningTrace) -> int:
    """Where the first episode began, if the trace tells; else the most visited state."""
    steps = _steps(trace.stages[0])
    if steps is not None and len(steps.states):
        return int(steps.states[0])
    return int(np.argmax(trace.stages[0].state_counts))
