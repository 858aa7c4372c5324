"""The game of an experiment, its reward families and its reachable states.

A game is a grid world, described by `GameConfig`, or has a name (`named_games`).
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from malfl_algos.experiments.named_games import OWN, check_name
from malfl_algos.plugins.options import (
    check_plain,
    coerce,
    coerce_options,
    nested_tuples,
    suggestion,
)
from malfl_algos.verdict.balance import reachable_states
from malfl_env.checks import check_table_bytes, shown
from malfl_env.errors import InputError
from malfl_env.rewards import FAMILIES, REWARD_NAMES

__all__ = [
    "GameConfig",
    "check_families",
    "check_memory",
    "checked_mapping",
    "default_families",
    "families_from",
    "family_rewards",
    "game_from",
    "reachable_states",
]

_NAME = re.compile(r"[a-z0-9-]{1,100}")
_LARGEST = sys.float_info.max
_TAKEN = ("figures",)


@dataclass(frozen=True)
class GameConfig:
    """The grid world, as keywords of `malfl_env.grid_world_v0.parallel_env`.

    Args:
        size: rows and columns of the board.
        n_agents: number of agents, >= 2.
        starts: (row, column) where agents start, one for all or one per agent; None: top left.
        goals: (row, column) of the goals, one for all or one per agent; None: bottom right.
        walls: (row, column) of cells that cannot be entered.
        slip: probability in [0, 1] that a move is replaced by a random one.
    """

    size: int = 3
    n_agents: int = 2
    starts: Any = None
    goals: Any = None
    walls: Any = ()
    slip: float = 0.0


def game_from(value: Any) -> GameConfig | str:
    """The game from plain YAML values. Raises `InputError` that names the key."""
    if not isinstance(value, Mapping):
        return check_name(value)
    given = coerce_options(GameConfig, checked_mapping(value, where="game"), where="game")
    for key in ("starts", "goals", "walls"):
        check_plain(given.get(key), where=f"game: {key}")
        if key in given and not (given[key] is None and key != "walls"):
            given[key] = nested_tuples(coerce(given[key], tuple[Any, ...], where=f"game: {key}"))
    return GameConfig(**given)


def families_from(value: Any) -> dict[str, tuple[Any, ...]]:
    """Families from plain YAML values. Raises `InputError` that names the family."""
    families = {}
    for name, given in checked_mapping(value, where="families").items():
        coerce(name, str, where="families: a name")
        entries = coerce(given, tuple[Any, ...], where=f"families.{name}")
        for index, entry in enumerate(entries):
            check_plain(entry, where=f"families.{name}[{index}]")
        families[name] = nested_tuples(entries)
    return families


def default_families(game: GameConfig | str) -> tuple[str, ...]:
    """The families that are run if none is named."""
    return (OWN,) if isinstance(game, str) else ("homogeneous", "heterogeneous")


def check_families(
    names: Sequence[str],
    defined: Mapping[str, Sequence[Any]],
    *,
    game: GameConfig | str,
    n_agents: int | None,
) -> None:
    """Check the requested names and the definitions.

    Args:
        names: of the families to run.
        defined: the definitions in the configuration.
        game: of the experiment.
        n_agents: of the game; None: unknown.

    Raises:
        InputError: for an unknown name, a name that cannot be the name of a folder, a new
            definition of a built-in name, a definition with a wrong number of entries, or an entry
            that is neither a reward name nor a table of finite numbers.
    """
    built_in = (OWN,) if isinstance(game, str) else tuple(FAMILIES)
    reward_names = () if isinstance(game, str) else REWARD_NAMES
    for name, entries in defined.items():
        if not _NAME.fullmatch(name) or name in _TAKEN:
            raise InputError(
                "families: a name must be of lower-case letters, digits and hyphens, at most 100, "
                f"and not {_TAKEN[0]!r}, got {shown(name)}"
            )
        if name in built_in:
            raise InputError(f"families.{name}: this name is built in; choose another name")
        if n_agents is not None and len(entries) != n_agents:
            raise InputError(
                f"families.{name} must have one entry for each of {n_agents} agents, "
                f"got {len(entries)}"
            )
        for index, entry in enumerate(entries):
            _check_entry(entry, where=f"families.{name}[{index}]", reward_names=reward_names)
    known = [*built_in, *defined]
    for name in names:
        if name not in known:
            raise InputError(
                f"reward_families: unknown family {shown(name)}{suggestion(name, known) or ';'} "
                f"known: {', '.join(known)}"
            )


def family_rewards(name: str, defined: Mapping[str, Sequence[Any]]) -> Any:
    """The `rewards` option of the grid world for a family that passed `check_families`."""
    if name in FAMILIES:
        return name
    return [entry if isinstance(entry, str) else list(entry) for entry in defined[name]]


def check_memory(n_states: int, n_joint_actions: int, *, n_stages: int) -> None:
    """Reject a game whose joint counts would not fit, before any table of it is built."""
    check_table_bytes(
        8 * n_stages * n_states * n_joint_actions,
        f"game: the joint counts of {n_stages} stages with {n_states} joint states and "
        f"{n_joint_actions} joint actions",
    )


def checked_mapping(value: Any, *, where: str) -> Mapping[str, Any]:
    """The value, if it is a mapping; raises `InputError` that names it otherwise."""
    if not isinstance(value, Mapping):
        raise InputError(f"{where} must be a mapping of keys to values, got {shown(value)}")
    return value


def _check_entry(entry: Any, *, where: str, reward_names: Sequence[str]) -> None:
    if isinstance(entry, str) and reward_names:
        if entry not in reward_names:
            raise InputError(
                f"{where}: unknown reward {shown(entry)}{suggestion(entry, reward_names) or ';'} "
                f"known: {', '.join(reward_names)}"
            )
    elif not isinstance(entry, tuple) or not all(map(_is_numbers, entry)) or not entry:
        allowed = f"a reward name ({', '.join(reward_names)}) or " if reward_names else ""
        raise InputError(
            f"{where} must be {allowed}a list of finite numbers, one per joint state, got "
            f"{str(entry)[:60]}"
        )


def _is_numbers(value: Any) -> bool:
    if isinstance(value, tuple):
        return all(map(_is_numbers, value))
    # a whole number too large for a float is rejected, too
    return type(value) in (int, float) and -_LARGEST <= value <= _LARGEST
