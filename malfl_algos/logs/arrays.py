"""A learning trace from arrays of steps in the order of play."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from malfl_algos.logs.reading import trace_from_table
from malfl_algos.trace import LearningTrace
from malfl_env.checks import shown
from malfl_env.errors import InputError

__all__ = ["trace_from_arrays"]


def trace_from_arrays(
    states: Any, actions: Mapping[str, Any], next_states: Any, episode_ends: Any, **roles: Any
) -> LearningTrace:
    """The trace of arrays; see `LearningTrace.from_transitions`."""
    if not isinstance(actions, Mapping) or not actions:
        raise InputError(
            f"actions must map every agent's name to its actions, got {shown(actions)}"
        )
    columns: dict[str, Any] = {f"action/{agent}": own for agent, own in actions.items()}
    columns["state"] = states
    n_steps = len(np.asarray(next(iter(actions.values()))))
    ends = np.zeros(n_steps, dtype=bool) if episode_ends is None else np.asarray(episode_ends)
    if ends.dtype != bool or ends.shape != (n_steps,):
        raise InputError(
            f"episode_ends must be true or false for each of {n_steps} steps, got {ends.dtype} "
            f"{ends.shape}"
        )
    columns["episode"] = np.cumsum(ends) - ends
    columns["step"] = np.arange(n_steps)
    given = {"next_state": next_states, "stage": roles.pop("stage", None)}
    for name, own in given.items():
        if own is not None:
            columns[name] = own
            roles[name] = name
    return trace_from_table(
        columns,
        state="state",
        actions={agent: f"action/{agent}" for agent in actions},
        episode="episode",
        step="step",
        **roles,
    )
