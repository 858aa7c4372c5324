"""Reward families by name: the two built in, and those that a configuration defines."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from malfl_algos.plugins.options import suggestion
from malfl_env.checks import shown
from malfl_env.errors import InputError
from malfl_env.rewards import FAMILIES, REWARD_NAMES

__all__ = ["check_families", "family_rewards"]

_NAME = re.compile(r"[a-z0-9-]{1,100}")
_LARGEST = sys.float_info.max
_TAKEN = ("figures",)


def check_families(
    names: Sequence[str], defined: Mapping[str, Sequence[Any]], *, n_agents: int
) -> None:
    """Check the names that are asked for and the definitions.

    Raises:
        InputError: for an unknown name, a name that cannot be a folder's, a built-in name defined
            anew, a definition with a wrong number of entries, or an entry that is neither a reward
            name nor a table of finite numbers.
    """
    for name, entries in defined.items():
        if not _NAME.fullmatch(name) or name in _TAKEN:
            raise InputError(
                "families: a name must be of lower-case letters, digits and hyphens, at most 100, "
                f"and not {_TAKEN[0]!r}, got {shown(name)}"
            )
        if name in FAMILIES:
            raise InputError(f"families.{name}: this name is built in, choose another")
        if len(entries) != n_agents:
            raise InputError(
                f"families.{name} must have one entry for each of {n_agents} agents, "
                f"got {len(entries)}"
            )
        for index, entry in enumerate(entries):
            _check_entry(entry, where=f"families.{name}[{index}]")
    known = [*FAMILIES, *defined]
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


def _check_entry(entry: Any, *, where: str) -> None:
    if isinstance(entry, str):
        if entry not in REWARD_NAMES:
            raise InputError(
                f"{where}: unknown reward {shown(entry)}{suggestion(entry, REWARD_NAMES) or ';'} "
                f"known: {', '.join(REWARD_NAMES)}"
            )
    elif not isinstance(entry, tuple) or not all(map(_is_numbers, entry)) or not entry:
        raise InputError(
            f"{where} must be a reward name ({', '.join(REWARD_NAMES)}) or a list of finite "
            f"numbers, one per joint state, got {str(entry)[:60]}"
        )


def _is_numbers(value: Any) -> bool:
    if isinstance(value, tuple):
        return all(map(_is_numbers, value))
    # a whole number too large for a float is no finite number either
    return type(value) in (int, float) and -_LARGEST <= value <= _LARGEST
