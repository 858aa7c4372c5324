"""Observation and action spaces of non-enumerable games: which are allowed, and their JSON form."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from malfl_env.checks import shown
from malfl_env.errors import InputError

__all__ = [
    "AnySpace",
    "action_counts",
    "check_in_space",
    "check_observation_space",
    "discrete_range",
    "narrowed",
    "observation_spaces",
    "space_from_json",
    "space_to_json",
]

AnySpace = spaces.Space[Any]
_MOST_NUMBERS = 2**24  # in one observation; more come from a mistake or a malicious file


def observation_spaces(env: Any) -> tuple[AnySpace, ...]:
    """Observation space of every agent of a parallel environment, in the order of its agents.

    Args:
        env: a PettingZoo parallel environment.

    Raises:
        InputError: for a space that is not Box, Discrete, MultiDiscrete or MultiBinary.
    """
    found = tuple(env.observation_space(agent) for agent in _agents(env))
    for agent, space in zip(env.possible_agents, found, strict=True):
        check_observation_space(space, where=str(agent))
    return found


def check_observation_space(space: AnySpace, *, where: str) -> None:
    """Reject observations that are neither arrays nor discrete.

    Raises:
        InputError: the message names the agent and says what to do.
    """
    known = (spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary, spaces.Box)
    if type(space) not in known or (
        isinstance(space, spaces.Box) and space.dtype.kind not in "iuf"
    ):
        raise InputError(
            f"{where}: observations must be arrays of numbers or discrete (Box, Discrete, "
            f"MultiDiscrete, MultiBinary), the space is {space}: flatten it first, for example "
            "with gymnasium.spaces.flatten in a wrapper"
        )
    if prod(space.shape or ()) > _MOST_NUMBERS:
        raise InputError(
            f"{where}: an observation must have at most {_MOST_NUMBERS} numbers, the space has "
            f"{prod(space.shape or ())}"
        )


def action_counts(env: Any) -> tuple[int, ...]:
    """Number of actions of every agent of a parallel environment, in the order of its agents.

    Args:
        env: a PettingZoo parallel environment.

    Raises:
        InputError: for an action space that is not Discrete.
    """
    counts = []
    for agent in _agents(env):
        space = env.action_space(agent)
        if type(space) is not spaces.Discrete:
            raise InputError(
                f"{agent}: actions must be Discrete, the space is {space}: choose a version of the "
                "game with discrete actions (mpe2: continuous_actions=False) or a wrapper that "
                "makes them discrete"
            )
        counts.append(int(space.n))
    return tuple(counts)


def _agents(env: Any) -> list[Any]:
    try:
        return list(env.possible_agents)
    except (AttributeError, TypeError):
        raise InputError(
            f"env must be a parallel environment with possible_agents, got {shown(env)}"
        ) from None


def narrowed(observations: NDArray[Any], space: AnySpace) -> NDArray[Any]:
    """Observations of a discrete space as the smallest sufficient integers; a Box's unchanged."""
    if isinstance(space, spaces.Box):
        return observations
    if isinstance(space, spaces.MultiBinary):
        return observations.astype(np.uint8)
    starts, sizes = discrete_range(space)
    lowest, highest = int(starts.min()), int((starts + sizes - 1).max())
    kind = np.promote_types(np.min_scalar_type(lowest), np.min_scalar_type(highest))
    return observations.astype(kind)


def discrete_range(space: AnySpace) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First value and number of values of every digit of a Discrete or MultiDiscrete, flat."""
    sizes = np.atleast_1d(getattr(space, "nvec", getattr(space, "n", 0)))
    starts = np.broadcast_to(np.atleast_1d(getattr(space, "start", 0)), sizes.shape)
    return starts.reshape(-1).astype(np.int64), sizes.reshape(-1).astype(np.int64)


def check_in_space(observations: NDArray[Any], space: AnySpace, *, where: str) -> None:
    """Reject observations `(n, ...)` whose shape or kind of numbers is not that of the space.

    Values are not checked.

    Raises:
        InputError: the message names `where`, the observations and the space.
    """
    kinds = "iuf" if isinstance(space, spaces.Box) else "iub"
    if observations.shape[1:] != (space.shape or ()) or observations.dtype.kind not in kinds:
        raise InputError(
            f"{where}: observations are {observations.dtype} (n, *{observations.shape[1:]}), their "
            f"space is {space}"
        )


def space_to_json(space: AnySpace) -> dict[str, Any]:
    """A space as JSON values."""
    if isinstance(space, spaces.Discrete):
        return {"kind": "Discrete", "n": int(space.n), "start": int(space.start)}
    if isinstance(space, spaces.MultiDiscrete):
        return {
            "kind": "MultiDiscrete",
            "nvec": space.nvec.tolist(),
            "start": np.broadcast_to(space.start, space.nvec.shape).tolist(),
        }
    if isinstance(space, spaces.MultiBinary):
        return {"kind": "MultiBinary", "shape": list(space.shape)}
    if isinstance(space, spaces.Box):
        low, high = (_bound(bound) for bound in (space.low, space.high))
        return {
            "kind": "Box",
            "shape": list(space.shape),
            "dtype": str(space.dtype),
            "low": low,
            "high": high,
        }
    raise InputError(f"this space cannot be saved: {space}")


def space_from_json(content: Any) -> AnySpace:
    """The space that `space_to_json` wrote.

    Raises:
        InputError: for anything else.
    """
    try:
        space = _space(content)
        check_observation_space(space, where="the space")
        return space
    except (
        KeyError,
        TypeError,
        AttributeError,
        AssertionError,
        OverflowError,
        MemoryError,
    ) as fault:
        raise InputError(f"not an observation space: {str(content)[:80]}") from fault


def _space(content: Mapping[str, Any]) -> AnySpace:
    kind = content["kind"]
    if kind == "Discrete":
        return spaces.Discrete(content["n"], start=content["start"])
    if kind == "MultiDiscrete":
        return spaces.MultiDiscrete(content["nvec"], start=content["start"])
    if kind not in ("MultiBinary", "Box"):
        raise InputError(f"not an observation space: {kind!r}")
    shape = tuple(content["shape"])
    if not all(type(size) is int and size >= 0 for size in shape) or prod(shape) > _MOST_NUMBERS:
        raise InputError(f"not the shape of an observation: {shape}")
    if kind == "MultiBinary":
        return spaces.MultiBinary(shape)
    dtype = np.dtype(content["dtype"])
    low, high = (np.broadcast_to(_unbound(content[name], dtype), shape) for name in ("low", "high"))
    return spaces.Box(low, high, shape=shape, dtype=dtype.type)


def _bound(bound: NDArray[Any]) -> Any:
    """A bound as text, which can be infinite; a single text if all numbers are equal."""
    if bound.size and np.all(bound == bound.flat[0]):
        return str(bound.flat[0].item())
    texts = [str(number) for number in bound.reshape(-1).tolist()]
    return np.array(texts, dtype=object).reshape(bound.shape).tolist()


def _unbound(text: Any, dtype: np.dtype[Any]) -> NDArray[Any]:
    as_number = float if dtype.kind == "f" else int
    texts = np.asarray(text, dtype=object)
    numbers = [as_number(own) for own in texts.reshape(-1)]
    return np.array(numbers, dtype=dtype).reshape(texts.shape)
