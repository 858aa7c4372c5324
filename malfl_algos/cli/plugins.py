"""The command `malfl plugins`, and the part of `--help` that is about one plugin."""

from __future__ import annotations

import argparse
from importlib.util import find_spec

from malfl_algos.cli.table import argument, command, picked, read_config, tell
from malfl_algos.plugins.discovery import Kind, Plugin, canonical_name, clashes, discover

__all__ = ["plugin_help", "plugins"]


@command(
    "plugins",
    "List the learners and observers that are installed, or check them.",
    argument(
        "action",
        nargs="?",
        choices=("list", "doctor"),
        default="list",
        help="list them from their metadata (the default), or doctor: load and check each",
    ),
    needs_extra=False,
)
def plugins(arguments: argparse.Namespace) -> int:
    """List the plugins from metadata alone, or load and check each."""
    return _doctor() if arguments.action == "doctor" else _list()


def plugin_help(kind: Kind, name: str, config: str | None) -> str:
    """The options of one plugin, by its name or its label in a configuration file.

    Raises:
        ImportError: without the extra `algos`.
        InputError, PluginError: where there is no such plugin, or it cannot be loaded.
    """
    if find_spec("docstring_parser") is None:
        raise ImportError(
            f"the options of {kind} {name!r} are read with docstring_parser: "
            'pip install "malfl-env[algos]"'
        )
    from malfl_algos.plugins.loading import find_plugin
    from malfl_algos.plugins.option_help import option_help

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
    """What the metadata alone tell of a plugin that does not work by its name."""
    if plugin.malformed:
        return f"  [{plugin.malformed}]"
    rivals = clashes(plugin, installed)
    if not rivals:
        return ""
    if any(canonical_name(r.distribution) == canonical_name(plugin.distribution) for r in rivals):
        return "  [its distribution has two of this name]"
    return f"  [the name is used twice: say {plugin.full_name}]"


def _doctor() -> int:
    from malfl_algos.plugins.doctor import examine

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
