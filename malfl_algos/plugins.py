"""Learners and observers by name: what is installed, and the loading of one.

A plugin is an entry point in the group `malfl.learners` or `malfl.observers` whose value is a
frozen dataclass: its fields are its options. Our own algorithms come through the same door. Listing
reads metadata and imports nothing; a plugin is imported when it is asked for by name, so a broken
one harms nobody else.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, is_dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Literal, cast

from malfl_algos.contract import API_VERSION, Learner, Observer
from malfl_algos.options import coerce_options, suggestion

__all__ = [
    "Plugin",
    "PluginError",
    "find_plugin",
    "list_plugins",
    "load_learner",
    "load_observer",
    "make_plugin",
    "plugin_class",
]

Kind = Literal["learner", "observer"]

_GROUPS: dict[Kind, str] = {"learner": "malfl.learners", "observer": "malfl.observers"}
_METHODS: dict[Kind, str] = {"learner": "learn", "observer": "recover"}
_VALUE = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")


class PluginError(RuntimeError):
    """A plugin that is installed but cannot be used; the message names it and its distribution."""


@dataclass(frozen=True)
class Plugin:
    """What an entry point says about a plugin.

    Args:
        kind: "learner" or "observer".
        name: the name of the entry point.
        value: `module:Class`.
        distribution: name of the distribution that brings it.
        version: of that distribution.
    """

    kind: Kind
    name: str
    value: str
    distribution: str
    version: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name!r} of distribution {self.distribution!r} {self.version}"


def list_plugins() -> list[Plugin]:
    """All installed plugins, sorted by kind, name and distribution. Imports none of them."""
    found = [
        _record(kind, entry)
        for kind, group in _GROUPS.items()
        for entry in entry_points(group=group)
    ]
    return sorted(found, key=lambda plugin: (plugin.kind, plugin.name, plugin.distribution))


def load_learner(name: str, **options: Any) -> Learner:
    """A learner by name. For errors see `find_plugin`, `plugin_class` and `make_plugin`."""
    return cast(Learner, make_plugin(find_plugin("learner", name), options))


def load_observer(name: str, **options: Any) -> Observer:
    """An observer by name. For errors see `find_plugin`, `plugin_class` and `make_plugin`."""
    return cast(Observer, make_plugin(find_plugin("observer", name), options))


def find_plugin(kind: Kind, name: str) -> Plugin:
    """The installed plugin of a name.

    Args:
        kind: "learner" or "observer".
        name: of its entry point, or `distribution:name` where two distributions use one name.

    Raises:
        ValueError: for an unknown name, with the nearest and all known ones.
        PluginError: where more than one distribution brings the name.
    """
    installed = [plugin for plugin in list_plugins() if plugin.kind == kind]
    distribution, _, bare = name.rpartition(":")
    matches = [
        plugin
        for plugin in installed
        if plugin.name == bare and distribution in ("", plugin.distribution)
    ]
    if not matches:
        known = sorted({plugin.name for plugin in installed})
        raise ValueError(
            f"unknown {kind} {name!r}{suggestion(bare, known) or ';'} "
            f"installed: {', '.join(known) or 'none'}"
        )
    if len(matches) > 1:
        sources = " and ".join(f"{m.distribution!r} {m.version}" for m in matches)
        choices = " or ".join(repr(f"{m.distribution}:{m.name}") for m in matches)
        raise PluginError(f"the {kind} name {bare!r} is used by {sources}: say {choices}")
    return matches[0]


def plugin_class(plugin: Plugin) -> type:
    """Import a plugin and check that it is one.

    Raises:
        PluginError: for a malformed entry point, a failing import (its cause chained), a value that
            is not a dataclass with the method of its kind, or one written for another major API
            version.
    """
    if not _VALUE.fullmatch(plugin.value):
        raise PluginError(f"{plugin}: malformed entry {plugin.value!r}, expected 'module:Class'")
    entry = EntryPoint(plugin.name, plugin.value, _GROUPS[plugin.kind])
    try:
        cls = entry.load()
    except (Exception, SystemExit) as fault:
        raise PluginError(f"{plugin} failed to import: {type(fault).__name__}: {fault}") from fault
    if not (isinstance(cls, type) and is_dataclass(cls)):
        raise PluginError(f"{plugin}: {plugin.value} must be a dataclass, it is {cls!r}")
    if not callable(getattr(cls, _METHODS[plugin.kind], None)):
        raise PluginError(f"{plugin}: {plugin.value} has no method {_METHODS[plugin.kind]!r}")
    _check_api_version(plugin, getattr(cls, "api_version", None))
    return cls


def make_plugin(plugin: Plugin, options: Mapping[str, Any]) -> Learner | Observer:
    """A plugin with options.

    Raises:
        PluginError: as in `plugin_class`.
        ValueError: for an unknown option, a value of the wrong type, or one that the plugin itself
            refuses.
    """
    cls = plugin_class(plugin)
    where = f"{plugin.kind} {plugin.name!r}"
    checked = coerce_options(cls, options, where=where)
    try:
        made = cls(**checked)
    except (ValueError, TypeError) as fault:
        # a TypeError is a required option that was left out
        raise ValueError(f"{where}: {fault}") from fault
    return cast("Learner | Observer", made)


def _check_api_version(plugin: Plugin, stated: object) -> None:
    wanted = ".".join(map(str, API_VERSION))
    if not (
        isinstance(stated, tuple) and len(stated) == 2 and all(type(part) is int for part in stated)
    ):
        raise PluginError(
            f"{plugin}: api_version must be a pair of whole numbers like {API_VERSION}, "
            f"got {stated!r}"
        )
    if stated[0] != API_VERSION[0]:
        raise PluginError(
            f"{plugin} is written for API version {stated[0]}.{stated[1]}, this is {wanted}: "
            "install a matching version of one of the two"
        )


def _record(kind: Kind, entry: EntryPoint) -> Plugin:
    distribution = entry.dist
    name = distribution.name if distribution else None
    version = distribution.version if distribution else None
    return Plugin(kind, entry.name, entry.value, name or "unknown", version or "unknown")
