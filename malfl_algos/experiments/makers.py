"""Which plugin, of which distribution and version, made each unit of a run folder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from malfl_algos.experiments.config import PluginConfig
from malfl_algos.experiments.jobs import Unit
from malfl_algos.plugins.discovery import canonical_name
from malfl_algos.plugins.loading import Plugin
from malfl_env.errors import InputError

__all__ = ["check_makers", "maker"]

Plugins = Sequence[tuple[PluginConfig, Plugin]]
_KEYS = ("name", "distribution", "version")


def maker(unit: Unit, plugins: Plugins) -> dict[str, str] | None:
    """Name, distribution and version of the installed plugin that makes a unit."""
    for wanted, plugin in plugins:
        if (plugin.kind, wanted.label) == (unit.kind, unit.plugin.label):
            return plugin.identity
    return None


def check_makers(
    units: Sequence[Unit],
    parts: Mapping[str, Mapping[str, Any]],
    recorded: Mapping[str, Any],
    plugins: Plugins,
) -> Iterator[str]:
    """Compare the installed plugins with those that made the units of a run folder.

    Args:
        units: all units of the run.
        parts: the entry of each unit in `run.json`, by name.
        recorded: by label, the plugins of the call before. They made the units of parts that do
            not name their plugin.
        plugins: the learner and the observers, each with its installed plugin.

    Yields:
        A line for each plugin that made units in another version.

    Raises:
        InputError: for a unit of another plugin or distribution.
    """
    others: Counter[tuple[str, str, str, str]] = Counter()
    for unit in units:
        part, now = parts.get(unit.name, {}), maker(unit, plugins)
        before = part.get("plugin", recorded.get(unit.plugin.label))
        if now is None or part.get("state") != "done" or not _is_identity(before):
            continue
        if _full_name(before) != _full_name(now):
            raise InputError(
                f"{unit.name} was made by {_full_name(before)!r}, but {unit.plugin.name!r} is now "
                f"{_full_name(now)!r}: choose another folder, or add --overwrite"
            )
        if before["version"] != now["version"]:
            who = f"{unit.kind} {unit.plugin.label!r}", now["distribution"]
            others[(*who, before["version"], now["version"])] += 1
    for (plugin, distribution, made, installed), number in others.items():
        yield (
            f"{plugin}: {number} unit(s) were made with {distribution} {made}, {installed} is "
            "installed; they are kept (--overwrite makes them again)"
        )


def _is_identity(value: Any) -> bool:
    return isinstance(value, Mapping) and all(isinstance(value.get(key), str) for key in _KEYS)


def _full_name(identity: Mapping[str, str]) -> str:
    return f"{canonical_name(identity['distribution'])}:{identity['name']}"
