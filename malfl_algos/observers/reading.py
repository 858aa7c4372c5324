"""From a trace to the arrays that `malfl_algos.ma_lfl` and `malfl_algos.soft` work on.

`last_stage`, `check_pseudo_count` and `without_data` serve `log-policy` and `maxent-irl`, which use
the last stage only.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from malfl_algos.contract import Problem
from malfl_algos.ma_lfl.policy_estimation import smoothed_policy
from malfl_algos.ma_lfl.stages import StageArrays, Steps, drawn_game, estimated_game
from malfl_algos.trace import LearningTrace, Stage
from malfl_env.errors import InputError
from malfl_env.markov_game import MarkovGame

__all__ = [
    "LastStage",
    "check_data",
    "check_pseudo_count",
    "drawn_dynamics",
    "dynamics_of",
    "estimated_dynamics",
    "last_stage",
    "stage_arrays",
    "without_data",
]

FloatArray = NDArray[np.float64]
_arrays: WeakKeyDictionary[Stage, StageArrays] = WeakKeyDictionary()


def stage_arrays(trace: LearningTrace) -> list[StageArrays]:
    """The stages of a tabular trace, with their steps if the trace holds them.

    Those without steps are made once, so that what is remembered of them serves every recovery.
    """
    return [_arrays_of(stage) for stage in trace.stages]


def _arrays_of(stage: Stage) -> StageArrays:
    if stage.transitions is not None:
        return StageArrays(stage.counts, _steps(stage))
    found = _arrays.get(stage)
    if found is None:
        found = _arrays[stage] = StageArrays(stage.counts)
    return found


def dynamics_of(
    trace: LearningTrace, game: MarkovGame | None
) -> tuple[MarkovGame, NDArray[np.bool_]]:
    """The given game, or one estimated from the trace; and the joint states where it is known.

    Raises:
        InputError: for a trace that is not tabular, or if no game is given and a stage holds no
            next states.
    """
    if not trace.is_tabular:
        raise InputError(
            "the trace holds observations and no counts of joint states: this observer needs a "
            "tabular trace; ma-lfl-network recovers rewards from observations"
        )
    if game is not None:
        return game, np.ones(trace.n_states, dtype=bool)
    first, starts = _start(trace)
    estimated, informed = estimated_game(
        *_all_next_states(trace),
        n_states=trace.n_states,
        n_actions=trace.n_actions,
        start=first,
    )
    return replace(estimated, start_probabilities=starts), informed


def drawn_dynamics(trace: LearningTrace, n_draws: int) -> list[MarkovGame]:
    """Draws from the posterior of the dynamics that `dynamics_of` estimates; always the same."""
    rng = np.random.default_rng(0)
    seen = _all_next_states(trace)
    return [
        drawn_game(
            *seen,
            n_states=trace.n_states,
            n_actions=trace.n_actions,
            start=_start(trace)[0],
            rng=rng,
        )
        for _ in range(n_draws)
    ]


def estimated_dynamics(trace: LearningTrace) -> MarkovGame | None:
    """The game estimated from a trace, with its agents; None if the trace holds no next states."""
    if any(stage.seen_next_states is None for stage in trace.stages):
        return None
    return replace(dynamics_of(trace, None)[0], agent_names=tuple(trace.agents))


def _steps(stage: Stage) -> Steps | None:
    steps = stage.transitions
    if steps is None or steps.states is None or steps.next_states is None:
        return None
    return Steps(steps.states, steps.joint_actions, steps.next_states, steps.episode_ends)


def _all_next_states(trace: LearningTrace) -> list[NDArray[Any]]:
    """The transitions of all stages, as `_next_states`."""
    seen = [_next_states(trace, index) for index in range(trace.n_stages)]
    return [np.concatenate(part) for part in zip(*seen, strict=True)]


def _next_states(trace: LearningTrace, index: int) -> tuple[NDArray[Any], ...]:
    """Flat (joint state, joint action), next state and count of the transitions of one stage."""
    seen = trace.stages[index].seen_next_states
    if seen is None:
        raise InputError(
            f"game is None, and stage {index} holds neither next-state counts nor transitions: "
            "give the game, or learn with keep_transitions"
        )
    return seen.rows, seen.next_states, seen.counts


def _start(trace: LearningTrace) -> tuple[int, FloatArray | None]:
    """The state in which episodes begin, and its frequencies if it varies.

    They are those of the first states of episodes if the trace holds steps, else the state is the
    most visited one of the first stage.
    """
    firsts = np.zeros(trace.n_states)
    for steps in filter(None, map(_steps, trace.stages)):
        begins = np.concatenate([[True], steps.episode_ends[:-1]])[: len(steps.states)]
        firsts += np.bincount(steps.states[begins], minlength=trace.n_states)
    if not firsts.any():
        return int(np.argmax(trace.stages[0].state_counts)), None
    varies = np.count_nonzero(firsts) > 1
    return int(np.argmax(firsts)), firsts / firsts.sum() if varies else None


@dataclass(frozen=True, eq=False)
class LastStage:
    """The behaviour of all agents in the last stage.

    Args:
        policies: per agent `(n_states, n_actions)`, positive where estimated. In a state without
            visits an estimate is uniform and holds no information.
        weights: per agent `(n_states, n_actions)`, the number of times each action was played; for
            a known policy its expectation, visits times probability.
        visits: number of visits of each state, `(n_states,)`; their sum is positive.
        known: per agent whether its policies are known.
    """

    policies: tuple[FloatArray, ...]
    weights: tuple[FloatArray, ...]
    visits: NDArray[np.int64]
    known: tuple[bool, ...]


def last_stage(problem: Problem, *, pseudo_count: float) -> LastStage:
    """Read the last stage of a trace.

    Args:
        problem: the arguments of the observer.
        pseudo_count: c of `malfl_algos.ma_lfl.policy_estimation.smoothed_policy`.

    Raises:
        InputError: if the last stage is empty.
    """
    trace, known = problem.trace, problem.known
    stage = trace.stages[-1]
    visits = stage.state_counts
    if not visits.any():
        raise InputError(
            f"stage {trace.n_stages - 1}, the last one, holds no data, and this observer uses only "
            "the last stage: cut the trace after a stage with data (LearningTrace.first)"
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
    """Reject a pseudo-count with which an estimated probability could be 0."""
    if not 0 < pseudo_count < np.inf:
        raise InputError(f"pseudo_count must be > 0 and finite, got {pseudo_count}")


def without_data(informed: NDArray[np.bool_]) -> dict[str, Any]:
    """Diagnostics of the states without data; `informed`, bool `(n_states,)`, marks those with
    data.
    """
    missing = np.flatnonzero(~informed)
    return {
        "rows": len(informed),
        "rows_left_out": len(missing),
        "states_without_data": missing.tolist(),
    }


def check_data(problem: Problem) -> None:
    """Require at least two stages, and data in every stage unless all policies are known."""
    problem.require_stages()
    for number, stage in enumerate(problem.trace.stages):
        if not stage.counts.any() and set(problem.known) != set(problem.trace.agents):
            before = f", or recover from the {number} before it (--stages {number})"
            raise InputError(
                f"stage {number} holds no data: remove it from the trace"
                + (before if number > 1 else "")
            )
