"""The command `malfl plugins`, and the part of `--help` that is about one plugin."""

from __future__ import annotations

import argparse
from importlib.util import find_spec

from malfl_algos.cli.table import argument, command, picked, read_config, tell
from malfl_algos.plugins.discovery import Kind, Plugin, canonical_name, clashes, discover

__all__ = ["plugin_help", "plugins"]


@command(
    "plugins",
    "List the installed learners and observers, or check them.",
    argument(
        "action",
        nargs="?",
        choices=("list", "doctor"),
        default="list",
        help="list: read their metadata (the default); doctor: import and check each plugin",
    ),
    needs_extra=False,
)
def plugins(arguments: argparse.Namespace) -> int:
    """List the plugins from their metadata, or import and check each."""
    return _doctor() if arguments.action == "doctor" else _list()


def plugin_help(kind: Kind, name: str, config: str | None) -> str:
    """The options of one plugin, by its name or its label in a configuration file.

    Raises:
        ImportError: without the extra `algos`.
        InputError: for an unknown plugin.
        PluginError: for a plugin that cannot be loaded.
    """
    if find_spec("docstring_parser") is None:
        raise ImportError(
            f'the help on {kind} {name!r} needs docstring_parser: pip install "malfl-env[algos]"'
        )
    from malfl_algos.plugins.inspection import option_help
    from malfl_algos.plugins.loading import find_plugin

    if config is not None:
        read = read_config(config)
        name = str(picked(name, (read.learner,) if kind == "learner" else read.observers)["name"])
    return option_help(find_plugin(kind, name))


def _list() -> int:
    installed, unreadable = discover()
    width = max([20, *(len(plugin.name) for plugin in installed)])
    for plugin in installed:
        tell(
            f"{plugin.kind:8}  {plugin.name:{width}}  {plugin.distribution} {plugin.version}  "
            f"{plugin.value}{_remark(plugin, installed)}"
        )
    for fault in unreadable:
        tell(f"unreadable: {fault}")
    return 0


def _remark(plugin: Plugin, installed: list[Plugin]) -> str:
    """Why a plugin cannot be loaded by its name, as far as metadata show; empty if it can."""
    if plugin.malformed:
        return f"  [{plugin.malformed}]"
    rivals = clashes(plugin, installed)
    if not rivals:
        return ""
    if any(canonical_name(r.distribution) == canonical_name(plugin.distribution) for r in rivals):
        return "  [its distribution has two plugins of this name]"
    if any(rival.is_own for rival in rivals):
        return f"  [the name is malfl-env's: write {plugin.full_name}]"
    return f"  [two distributions use this name: write {plugin.full_name}]"


def _doctor() -> int:
    from malfl_algos.plugins.inspection import examine

    installed, unreadable = discover()
    n_faults = len(unreadable)
    for fault in unreadable:
        tell(f"broken  {fault}")
    for plugin in installed:
        finding = examine(plugin, installed)
        tell(f"{finding.state:6}  {plugin}")
        n_faults += finding.state not in ("ok", "absent")
        if finding.traceback is not None:
            tell(finding.traceback)
            continue
        for note in finding.notes:
            tell(f"        note: {note}")
    return 1 if n_faults else 0
