"""Distances between what an agent sees, as further columns of its observations.

Many observations are places of other things relative to the agent: landmarks, the other agents.
What a reward depends on is then often a distance, and things of one kind are interchangeable. A
`Group` says which columns hold the places of such things. For every pair of groups the columns made
here are the mean distance between their members, and the mean distance from a member of one to the
nearest member of the other. The agent itself, at 0, is a group. A group of its like is its team:
with all other groups, the agent and its mates then count together, since they are interchangeable.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from malfl_algos.trace import LearningTrace, Stage, Transitions
from malfl_env.errors import InputError

__all__ = ["Group", "relation_names", "relations", "with_relations"]

FloatArray = NDArray[np.float64]
OWN, TEAM = "self", "team"


@dataclass(frozen=True)
class Group:
    """Interchangeable things whose places relative to the agent are columns of its observation.

    Args:
        name: of the group; not `self` or `team`.
        start: first column.
        count: number of things, >= 1; thing k has the columns start + 2 k and start + 2 k + 1.
        team: whether the agent is one of them.
    """

    name: str
    start: int
    count: int
    team: bool = False


def relations(observations: NDArray[Any], groups: Sequence[Group]) -> FloatArray:
    """Return mean and nearest distances between groups.

    Args:
        observations: `(n, width)`.
        groups: which columns are places.

    Returns:
        `(n, n_relations)`, in the order of `relation_names`, in the observation's unit of length.
    """
    observations = np.asarray(observations, dtype=np.float64)
    members = _members(observations, groups)
    found = []
    for kind, one, other in _pairs(groups):
        gaps = members[one][:, :, None] - members[other][:, None]
        distance = np.linalg.norm(gaps, axis=-1)
        apart = ~np.eye(distance.shape[1], distance.shape[2], dtype=np.bool_) | (one != other)
        if kind == "mean":
            found.append(distance.sum(axis=(1, 2)) / apart.sum())
        else:
            found.append(np.where(apart, distance, np.inf).min(axis=2).mean(axis=1))
    return np.stack(found, axis=1)


def relation_names(groups: Sequence[Group]) -> list[str]:
    """Return the names of the columns of `relations`, such as `near landmarks to team`."""
    return [
        f"{kind} {one} {'to' if kind == 'near' else 'and'} {other}"
        for kind, one, other in _pairs(groups)
    ]


def with_relations(trace: LearningTrace, groups: Mapping[str, Sequence[Group]]) -> LearningTrace:
    """Return a trace whose observations have `relations` as further columns, which come last.

    Args:
        trace: of Box observations `(width,)`.
        groups: per agent.

    Raises:
        InputError: for an agent without groups, for other observations, or for columns that an
            observation does not have.
    """
    for agent, space in zip(trace.agents, trace.spaces or (), strict=True):
        if agent not in groups:
            raise InputError(f"groups must name every agent; {agent} is missing")
        if not isinstance(space, spaces.Box) or len(space.shape) != 1:
            raise InputError(f"{agent} must observe a Box with one axis, got {space}")
        _check(groups[agent], int(space.shape[0]), agent)
    stages = []
    for stage in trace.stages:
        steps = stage.transitions
        if steps is None or steps.observations is None or steps.next_observations is None:
            raise InputError("the trace must hold observations and next observations")
        stages.append(Stage(transitions=_extended(steps, groups)))
    wider = tuple(
        spaces.Box(-np.inf, np.inf, (space.shape[0] + len(_pairs(groups[agent])),), np.float32)
        for agent, space in zip(trace.agents, trace.spaces or (), strict=True)
        if isinstance(space, spaces.Box)
    )
    return LearningTrace(tuple(stages), trace.agents, trace.n_actions, wider)


def _extended(steps: Transitions, groups: Mapping[str, Sequence[Group]]) -> Transitions:
    def wider(kind: Mapping[str, NDArray[Any]] | None) -> dict[str, NDArray[Any]]:
        return {
            agent: np.concatenate([seen, relations(seen, groups[agent])], axis=1, dtype=np.float32)
            for agent, seen in (kind or {}).items()
        }

    return replace(
        steps,
        observations=wider(steps.observations),
        next_observations=wider(steps.next_observations),
    )


def _members(observations: FloatArray, groups: Sequence[Group]) -> dict[str, FloatArray]:
    """Return the places of every group's members, `(n, count, 2)`."""
    n = len(observations)
    found = {OWN: np.zeros((n, 1, 2))}
    for group in groups:
        columns = observations[:, group.start : group.start + 2 * group.count]
        found[group.name] = columns.reshape(n, group.count, 2)
        if group.team:
            found[TEAM] = np.concatenate([found[OWN], found[group.name]], axis=1)
    return found


def _pairs(groups: Sequence[Group]) -> list[tuple[str, str, str]]:
    """Return kind, group and other group of every relation."""
    sizes = {OWN: 1, **{group.name: group.count for group in groups}}
    mates = [group for group in groups if group.team]
    if mates:
        sizes[TEAM] = 1 + mates[0].count
    within = {group.name for group in mates}
    found = []
    names = list(sizes)
    for index, one in enumerate(names):
        for place, other in enumerate(names):
            if one == other and sizes[one] < 2:
                continue
            if _within_team(one, other, within):
                continue
            if place >= index:
                found.append(("mean", one, other))
            if sizes[other] > 1 + (one == other):
                found.append(("near", one, other))
    return found


def _within_team(one: str, other: str, mates: set[str]) -> bool:
    """Whether a relation is left out, because the team has it: of mates, but for the agent's."""
    if {one, other} & mates:
        return OWN not in (one, other)
    return {one, other} == {OWN, TEAM}


def _check(groups: Sequence[Group], width: int, agent: str) -> None:
    names = [group.name for group in groups]
    if len(set(names)) < len(names) or {OWN, TEAM} & set(names):
        raise InputError(
            f"groups of {agent} must have different names, not self or team; got {names}"
        )
    if sum(group.team for group in groups) > 1:
        raise InputError(f"at most one group of {agent} can be its team, got {names}")
    for group in groups:
        if group.count < 1 or group.start < 0 or group.start + 2 * group.count > width:
            raise InputError(
                f"group {group.name} of {agent} has the columns {group.start} to "
                f"{group.start + 2 * group.count - 1}, but the observation has {width}"
            )
