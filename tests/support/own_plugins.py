"""The plugins of malfl-env itself that need no further extra; tests/torch has the others."""

from __future__ import annotations

from malfl_algos.plugins import list_plugins
from malfl_algos.plugins.discovery import Plugin

__all__ = ["own_plugins"]


def own_plugins() -> list[Plugin]:
    return [
        plugin
        for plugin in list_plugins()
        if plugin.distribution == "malfl-env" and not plugin.name.endswith("-network")
    ]
