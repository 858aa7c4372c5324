"""What `log-policy` and `maxent-irl`, which look at the last stage alone, have in common."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from malfl_algos.contract import Problem
from malfl_algos.ma_lfl.policy_estimation import smoothed_policy
from malfl_env.errors import InputError

__all__ = ["LastStage", "check_pseudo_count", "last_stage", "without_data"]

FloatArray = NDArray[np.float64]


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
