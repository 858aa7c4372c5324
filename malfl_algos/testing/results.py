"""What must hold of an observer's result, whatever the method."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from malfl_algos.contract import RecoveredRewards
from malfl_algos.trace import LearningTrace
from malfl_env.testing.protocol import fail
from malfl_env.testing.values import shown

__all__ = ["check_result"]


def check_result(result: Any, trace: LearningTrace, wanted: tuple[str, ...], where: str) -> None:
    """Agents, shapes, ranges, and that what is JSON can be written as such.

    Args:
        result: what `recover` returned.
        trace: that it was given.
        wanted: agents whose rewards it owes.
        where: for messages.
    """
    if type(result) is not RecoveredRewards:
        fail("not a RecoveredRewards", where, f"recover returned {shown(result)}")
    _check_agents("rewards", result.rewards, trace, where)
    missing = [agent for agent in wanted if agent not in result.rewards]
    if missing:
        fail("agent missing from rewards", where, f"no reward for {', '.join(missing)}")
    tables = ((trace.n_states,), (trace.n_states, *trace.n_actions))
    for agent, reward in result.rewards.items():
        _check_numbers(f"rewards[{agent!r}]", reward, tables, where)
    _check_spread(result, trace, where)
    _check_policies(result.estimated_policies, trace, where)
    improvements = trace.n_stages - 1
    for name, tail in (("targets", True), ("potentials", False)):
        for agent, array in _of_agents(result, name, trace, where):
            own = (trace.n_actions[trace.agents.index(agent)],) if tail else ()
            shape = (improvements, trace.n_states, *own)
            _check_numbers(f"{name}[{agent!r}]", array, (shape,), where)
    _check_diagnostics(result.diagnostics, where)


def _check_agents(name: str, value: Any, trace: LearningTrace, where: str) -> None:
    if not isinstance(value, Mapping):
        fail("not keyed by agent", where, f"{name} is {shown(value)}")
    strangers = [agent for agent in value if agent not in trace.agents]
    if strangers:
        detail = f"{name} is of {shown(strangers)}, the agents are {trace.agents}"
        fail("reward of nobody in the game", where, detail)


def _of_agents(
    result: RecoveredRewards, name: str, trace: LearningTrace, where: str
) -> list[tuple[str, Any]]:
    value = getattr(result, name)
    if value is None:
        return []
    _check_agents(name, value, trace, where)
    return list(value.items())


def _check_numbers(name: str, array: Any, shapes: tuple[tuple[int, ...], ...], where: str) -> None:
    if not isinstance(array, np.ndarray) or array.shape not in shapes:
        found = f"shape {array.shape}" if isinstance(array, np.ndarray) else shown(array)
        fail("wrong shape", where, f"{name}: {found}, expected {' or '.join(map(str, shapes))}")
    if array.dtype.kind not in "iuf":
        fail("not numbers", where, f"{name} is of {array.dtype}")
    if not np.all(np.isfinite(array)):
        fail("not finite", where, f"{name} has {int((~np.isfinite(array)).sum())} such values")


def _check_spread(result: RecoveredRewards, trace: LearningTrace, where: str) -> None:
    """Standard deviations and covariances belong to the rewards."""
    for name in ("sd", "covariance"):
        for agent, array in _of_agents(result, name, trace, where):
            if agent not in result.rewards:
                fail("agent missing from rewards", where, f"{name} has {agent}, rewards have not")
            shape = np.shape(result.rewards[agent])
            size = int(np.prod(shape))
            expected = shape if name == "sd" else (size, size)
            _check_numbers(f"{name}[{agent!r}]", array, (expected,), where)
            variances = array if name == "sd" else np.diag(array)
            if np.any(variances < 0):
                fail("negative spread", where, f"{name}[{agent!r}] goes down to {variances.min()}")
            if name == "covariance" and not np.allclose(array, array.T):
                fail("covariance not symmetric", where, f"that of {agent}")


def _check_policies(value: Any, trace: LearningTrace, where: str) -> None:
    if value is None:
        return
    _check_agents("estimated_policies", value, trace, where)
    for agent, policies in value.items():
        n_actions = trace.n_actions[trace.agents.index(agent)]
        shape = (trace.n_stages, trace.n_states, n_actions)
        _check_numbers(f"estimated_policies[{agent!r}]", policies, (shape,), where)
        off = np.abs(policies.sum(axis=-1) - 1).max()
        if np.any(policies < 0) or off > 1e-6:
            fail("policy is not a distribution", where, f"estimated_policies[{agent!r}]")


def _check_diagnostics(diagnostics: Any, where: str) -> None:
    try:
        json.dumps(diagnostics, default=_plain)
    except (TypeError, ValueError) as fault:
        fail("diagnostics are not for JSON", where, str(fault))
    if not isinstance(diagnostics, Mapping):
        fail("not keyed by agent", where, f"diagnostics is {shown(diagnostics)}")


def _plain(value: Any) -> Any:
    """numpy's numbers and arrays, which the pipeline turns into JSON."""
    if isinstance(value, (np.ndarray, np.generic)):
        return value.tolist()
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{shown(value)} of {type(value).__name__} is nothing that JSON holds")
