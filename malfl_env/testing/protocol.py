"""Checks of one environment and of each value that it returns, and the plan of a check run.

Every check is a free function that returns nothing and raises through `fail`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any, NoReturn, TypeAlias

import numpy as np
from gymnasium import spaces
from pettingzoo import AECEnv, ParallelEnv

from malfl_env.checks import is_whole, shown
from malfl_env.errors import InputError
from malfl_env.testing.values import pieces

__all__ = [
    "PARTS",
    "Environment",
    "Moment",
    "Plan",
    "check_declaration",
    "check_live_agents",
    "check_shared_memory",
    "check_space_objects",
    "check_values",
    "fail",
    "possible_agents",
    "state_of",
]

# PettingZoo carries no types.
Environment: TypeAlias = Any

PARTS = ("observations", "rewards", "terminations", "truncations", "infos")


@dataclass(frozen=True)
class Plan:
    """The environment under test and the size of the test; see `check_parallel_env`.

    Args:
        factory: makes a new environment at each call.
        seeds: seeds to try, at least two.
        n_steps: length of the longest episode, except for the first one.
        episode_limit: length of the longest first episode, which should reach its end.
        n_episodes: episodes in a row after one seed.
        infos: whether infos are compared.
        stochastic: whether the environment is random; None: the test finds out.
    """

    factory: Callable[[], Environment]
    seeds: tuple[int, ...]
    n_steps: int
    episode_limit: int
    n_episodes: int
    infos: bool
    stochastic: bool | None

    def __post_init__(self) -> None:
        if len(set(self.seeds)) < 2 or any(not is_whole(seed) or seed < 0 for seed in self.seeds):
            raise InputError(
                f"seeds must be at least two different integers >= 0, got {list(self.seeds)}"
            )
        for name, least in (("n_steps", 2), ("episode_limit", 2), ("n_episodes", 2)):
            value = getattr(self, name)
            if not is_whole(value) or value < least:
                raise InputError(f"{name} must be an integer >= {least}, got {value!r}")


@dataclass(frozen=True)
class Moment:
    """What an environment returns at one reset (step 0) or step.

    Args:
        step: steps since the reset.
        agents: the live agents afterwards.
        returned: part name -> agent -> value; all parts of `PARTS`, after a reset two of them.
        state: `state()` if the environment has a `state_space`, otherwise None.
    """

    step: int
    agents: tuple[Any, ...]
    returned: Mapping[str, Mapping[Any, Any]]
    state: Any


def fail(fault: str, where: str, detail: str) -> NoReturn:
    """Raise the AssertionError that names an error, the place and the value."""
    raise AssertionError(f"{fault}: {detail} ({where})")


def possible_agents(env: Environment) -> tuple[Any, ...] | None:
    """The declared agents; None for an environment that declares none in advance."""
    agents = getattr(env, "possible_agents", None)
    return None if agents is None else tuple(agents)


def state_of(env: Environment) -> Any:
    """`state()` of an environment that declares a `state_space`, otherwise None."""
    return env.state() if getattr(env, "state_space", None) is not None else None


def check_declaration(env: Any) -> None:
    """Check the type of an environment, its name, agents and spaces, before any reset."""
    where = "after construction"
    if isinstance(env, AECEnv) or not isinstance(env, ParallelEnv):
        advice = "; convert it with pettingzoo.utils.aec_to_parallel"
        detail = f"the factory returned {type(env).__name__}"
        fail("not a parallel environment", where, detail + advice * isinstance(env, AECEnv))
    metadata = getattr(env, "metadata", None)
    name = metadata.get("name") if isinstance(metadata, Mapping) else None
    if not isinstance(name, str) or not name:
        fail("no name in metadata", where, f"metadata['name'] must be a text, got {shown(name)}")
    agents = possible_agents(env)
    if agents is not None:
        if not agents or len(set(agents)) < len(agents):
            fail("possible_agents repeats or is empty", where, shown(list(agents)))
        check_space_objects(env, agents, {}, where)


def check_space_objects(
    env: Environment, agents: Iterable[Any], known: dict[tuple[str, Any], Any], where: str
) -> None:
    """Check that each agent's spaces are Gymnasium spaces and always the same objects.

    Args:
        env: the environment.
        agents: the agents whose spaces are checked.
        known: (kind, agent) -> the first space returned; new ones are added.
        where: the place, for the message.
    """
    for agent in agents:
        for kind in ("observation_space", "action_space"):
            try:
                space, again = (getattr(env, kind)(agent) for _ in range(2))
            except Exception as error:
                fail("not a space", where, f"{kind}({agent!r}) raised {shown(error)}")
            if not isinstance(space, spaces.Space):
                fail("not a space", where, f"{kind}({agent!r}) is {shown(space)}")
            if space is not again or known.setdefault((kind, agent), space) is not space:
                fail("space is a new object", where, f"{kind}({agent!r}) changed its identity")


def check_values(env: Environment, moment: Moment, expected: Collection[Any], where: str) -> None:
    """Check keys, types and ranges of all values in a moment.

    Args:
        env: the environment, for its spaces.
        moment: the returned values, not copied.
        expected: the agents that every part must contain.
        where: the place, for the message.
    """
    for part, values in moment.returned.items():
        _check_keys(part, values, expected, possible_agents(env), where)
    for agent in expected:
        value = moment.returned["observations"][agent]
        reason = _mismatch(env.observation_space(agent), value)
        if reason:
            fail("observation outside its space", where, f"{agent!r} got {shown(value)}: {reason}")
        for part in moment.returned.keys() - {"observations"}:
            _check_scalar(part, agent, moment.returned[part][agent], where)
    if moment.state is not None:
        reason = _mismatch(env.state_space, moment.state)
        if reason:
            fail("state() outside state_space", where, f"{shown(moment.state)}: {reason}")


def _check_keys(
    part: str,
    values: Mapping[Any, Any],
    expected: Collection[Any],
    possible: tuple[Any, ...] | None,
    where: str,
) -> None:
    missing = [agent for agent in expected if agent not in values]
    if missing:
        fail(f"agent missing from {part}", where, f"no entry for {shown(missing)}")
    extra = [key for key in values if key not in expected]
    if part == "infos" and possible is not None:
        # PettingZoo allows keys of infos that name no agent ("common"), but not agents that are
        # not live.
        extra = [key for key in extra if key in possible]
    if extra:
        fail(f"agent too many in {part}", where, f"{shown(extra)} not among the live agents")


def _check_scalar(part: str, agent: Any, value: Any, where: str) -> None:
    detail = f"{agent!r} got {shown(value)} of type {type(value).__name__}"
    if part == "infos":
        if not isinstance(value, Mapping):
            fail("info is not a dict", where, detail)
    elif part == "rewards":
        number = isinstance(value, (int, float, np.integer, np.floating))
        if not number or isinstance(value, bool):
            fail("reward is not a number", where, detail)
        if not math.isfinite(value):
            fail("reward is not finite", where, detail)
    elif not isinstance(value, (bool, np.bool_)):
        fail(f"flag in {part} is not a bool", where, detail)


def _mismatch(space: Any, value: Any) -> str | None:
    """Why a value is not in a space; None if it is."""
    if isinstance(space, spaces.Dict) and isinstance(value, Mapping):
        if value.keys() != space.spaces.keys():
            return f"keys must be {shown(list(space.spaces))}"
        reasons = ((key, _mismatch(space[key], value[key])) for key in value)
        return next((f"[{key!r}] {reason}" for key, reason in reasons if reason), None)
    if isinstance(space, (spaces.Box, spaces.MultiDiscrete, spaces.MultiBinary)):
        if not isinstance(value, (np.ndarray, np.generic)):
            return f"a {type(value).__name__}, must be a numpy array"
        if value.shape != space.shape:
            return f"shape {value.shape}, the space has {space.shape}"
        if not np.can_cast(value.dtype, space.dtype):
            return f"dtype {value.dtype}, the space has {space.dtype}"
        value = np.asarray(value)
    return None if space.contains(value) else f"value not in {shown(space)}"


def check_shared_memory(moment: Moment, where: str) -> None:
    """Check that observations and `state()` share no writable memory, and infos no dictionary."""
    holders = dict(moment.returned["observations"])
    named = [(f"the observation of {agent!r}", value) for agent, value in holders.items()]
    for (one, left), (other, right) in combinations([*named, ("state()", moment.state)], 2):
        if any(_overlap(a, b) for a in pieces(left) for b in pieces(right)):
            fail("observation shared between agents", where, f"{one} and {other} are one buffer")
    for (one, left), (other, right) in combinations(moment.returned["infos"].items(), 2):
        if left is right:
            fail("info shared between agents", where, f"{one!r} and {other!r} hold one dict")


def _overlap(left: Any, right: Any) -> bool:
    if not isinstance(left, np.ndarray) or not isinstance(right, np.ndarray):
        return left is right
    # Read-only memory may be shared.
    return (left.flags.writeable or right.flags.writeable) and np.shares_memory(left, right)


def check_live_agents(
    before: tuple[Any, ...], moment: Moment, finished: set[Any], where: str
) -> None:
    """Check that agents leave exactly when they are terminated or truncated, and stay away.

    Args:
        before: the live agents before the step.
        moment: what the step returned.
        finished: agents that finished earlier in the episode; those of this step are added.
        where: the place, for the message.
    """
    ended = [
        agent
        for agent in before
        if moment.returned["terminations"][agent] or moment.returned["truncations"][agent]
    ]
    for agent in moment.agents:
        if agent in ended:
            fail("finished agent still in agents", where, f"{agent!r} has ended but is still live")
        if agent in finished:
            fail("finished agent came back", where, f"{agent!r} ended earlier in this episode")
    for agent in before:
        if agent not in ended and agent not in moment.agents:
            fail(
                "agent left without an end", where, f"{agent!r} is not in agents but has not ended"
            )
    finished.update(ended)
