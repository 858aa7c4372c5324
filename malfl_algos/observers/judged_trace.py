"""Numbers of a verdict that need no reward: contradictions of trace, game and known policies."""

from __future__ import annotations

from typing import Any

import numpy as np

from malfl_algos.contract import Problem
from malfl_algos.verdict.balance import (
    broken_steps,
    chance_misfit,
    imbalance,
    policy_misfit,
    repeated,
)
from malfl_algos.verdict.change import policy_change

__all__ = ["numbers_of_trace", "policy_change_of", "policy_misfit_of"]


def numbers_of_trace(problem: Problem) -> dict[str, Any]:
    """Numbers about contradictions between trace and game, and within the trace."""
    trace, game = problem.trace, problem.game
    stages = [stage.counts for stage in trace.stages]
    broken = [
        broken_steps(np.asarray(steps.states), np.asarray(steps.next_states), steps.episode_ends)
        for steps in (stage.transitions for stage in trace.stages)
        if steps is not None and steps.states is not None and steps.n_steps > 1
    ]
    numbers: dict[str, Any] = {
        "repeated_stages": repeated(stages),
        "broken_steps": max(broken) if broken else None,
        "unaccounted_visits": 0.0,
    }
    if game is not None:
        numbers["unaccounted_visits"] = imbalance(game, stages)
        seen = [stage.seen_next_states for stage in trace.stages]
        if not game.deterministic and all(own is not None for own in seen):
            found = [own for own in seen if own is not None]
            columns = ("rows", "next_states", "counts")
            rows, after, counts = (
                np.concatenate([getattr(own, name) for own in found]) for name in columns
            )
            numbers["chance_misfit"] = chance_misfit(game, rows, after, counts)
    return numbers


def policy_misfit_of(problem: Problem, index: int) -> float | None:
    """See `malfl_algos.verdict.balance.policy_misfit`; None for policies that are estimated."""
    agent = problem.trace.agents[index]
    if agent not in problem.known:
        return None
    counts = np.stack([stage.action_counts(index) for stage in problem.trace.stages])
    return policy_misfit(counts, problem.known[agent])


def policy_change_of(problem: Problem, index: int) -> dict[str, float]:
    """See `malfl_algos.verdict.balance.policy_change`; nothing for policies that are known."""
    if problem.trace.agents[index] in problem.known:
        return {}
    counts = np.stack([stage.action_counts(index) for stage in problem.trace.stages])
    found = policy_change(counts)
    return (
        {}
        if found is None
        else dict(zip(("policy_change", "policy_change_p_value"), found, strict=True))
    )
