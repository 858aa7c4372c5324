"""From a trace to the arrays that `malfl_algos.ma_lfl` and `malfl_algos.soft` work on.

`last_stage` and what follows it serve `log-policy` and `maxent-irl`, which read the last stage
alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from malfl_algos.contract import Problem
from malfl_algos.ma_lfl.policy_estimation import smoothed_policy
from malfl_algos.ma_lfl.stages import StageArrays, Steps, estimated_game
from malfl_algos.trace import LearningTrace, Stage
from malfl_env.errors import InputError
from malfl_env.markov_game import MarkovGame

__all__ = [
    "LastStage",
    "check_pseudo_count",
    "dynamics_of",
    "last_stage",
    "stage_arrays",
    "without_data",
]

FloatArray = NDArray[np.float64]


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
    return estimated_game(
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


@dataclass(frozen=True, eq=False)
class LastStage:
    """Everyone's behaviour in the last stage.

    Args:
        policies: per agent `(n_states, n_actions)`, positive where estimated; in a state without
            visits an estimate is uniform and means nothing.
        weights: per agent `(n_states, n_actions)`: how often each action was played; for a policy
            known for certain its expectation, visits times probability.
        visits: of each state, `(n_states,)`; at least one in all.
        known: per agent whether its policies are known for certain.
    """

    policies: tuple[FloatArray, ...]
    weights: tuple[FloatArray, ...]
    visits: NDArray[np.int64]
    known: tuple[bool, ...]


def last_stage(problem: Problem, *, pseudo_count: float) -> LastStage:
    """Read the last stage of a trace.

    Args:
        problem: what the observer was given.
        pseudo_count: of `smoothed_policy`.

    Raises:
        InputError: for an empty last stage.
    """
    trace, known = problem.trace, problem.known
    stage = trace.stages[-1]
    visits = stage.state_counts
    if not visits.any():
        raise InputError(
            f"the last stage, number {trace.n_stages - 1}, is empty, and this method reads no "
            "other: cut the trace after a stage with data (LearningTrace.first)"
        )
    policies: list[FloatArray] = []
    weights: list[FloatArray] = []
    for index, agent in enumerate(trace.agents):
        counts = stage.action_counts(index)
        if agent in known:
            policies.append(known[agent][-1])
            weights.append(visits[:, None] * known[agent][-1])
        else:
            policies.append(smoothed_policy(counts, pseudo_count=pseudo_count))
            weights.append(counts.astype(np.float64))
    return LastStage(
        tuple(policies),
        tuple(weights),
        visits,
        tuple(agent in known for agent in trace.agents),
    )


def check_pseudo_count(pseudo_count: float) -> None:
    """Refuse a pseudo-count that would let an estimated probability be 0."""
    if not 0 < pseudo_count < np.inf:
        raise InputError(f"pseudo_count must be > 0 and finite, got {pseudo_count}")


def without_data(informed: NDArray[np.bool_]) -> dict[str, Any]:
    """Diagnostics of the states that say nothing; `informed` is bool `(n_states,)`."""
    missing = np.flatnonzero(~informed)
    return {
        "rows": len(informed),
        "rows_left_out": len(missing),
        "states_without_data": missing.tolist(),
    }
