"""The command `malfl plugins`, and the part of `--help` that is about one plugin."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from malfl_algos.cli.table import (
    argument,
    command,
    option_argument,
    picked,
    read_config,
    read_options,
    tell,
    tell_of_compilation,
)
from malfl_algos.plugins.discovery import Kind, Plugin, canonical_name, clashes, discover
from malfl_env.errors import InputError

if TYPE_CHECKING:
    from malfl_algos.testing.subject import Check

__all__ = ["plugin_help", "plugins"]


@command(
    "plugins",
    "List the installed learners and observers, or check them.",
    argument(
        "action",
        nargs="?",
        choices=("list", "doctor", "check"),
        default="list",
        help="list: read their metadata (the default); doctor: import each plugin and make an "
        "instance; check: run the conformance tests of the plugin NAME, some minutes",
    ),
    argument("name", nargs="?", metavar="NAME", help="check this learner or observer"),
    option_argument(),
    needs_extra=False,
)
def plugins(arguments: argparse.Namespace) -> int:
    """List the plugins from their metadata, import each, or run the conformance tests of one."""
    if arguments.action == "check":
        if arguments.name is None:
            raise InputError(
                "malfl plugins check needs the NAME of a plugin (malfl plugins lists them)"
            )
        return _check(arguments.name, read_options(arguments.option))
    if arguments.name is not None or arguments.option:
        raise InputError(f"malfl plugins {arguments.action} takes neither a NAME nor --option")
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


def _check(name: str, options: Mapping[str, Any]) -> int:
    """Run the conformance tests; a failed one does not keep the others from running."""
    missing = [own for own in ("scipy", "numba", "pydantic") if find_spec(own) is None]
    if missing:
        raise ImportError(
            f'malfl plugins check needs {", ".join(missing)}: pip install "malfl-env[algos]"'
        )
    tell_of_compilation()
    from malfl_algos.plugins.loading import find_plugin

    bare = name.rpartition(":")[2]
    kinds = sorted({plugin.kind for plugin in discover()[0] if plugin.name == bare})
    failed: list[str] = []
    for kind in kinds or ["observer"]:
        tell(str(find_plugin(kind, name)))
        for check, call in _checks(kind, name, options):
            words = _error_of(call)
            same = "the same error as above" if words in failed else words
            tell(f"ok      {check}" if words is None else f"FAILED  {check}: {same}")
            if words is not None and words not in failed:
                failed.append(words)
    tell(f"{len(failed)} error(s)" if failed else "no errors found")
    return 1 if failed else 0


def _checks(kind: Kind, name: str, options: Mapping[str, Any]) -> list[Check]:
    from malfl_algos.testing import learner_checks, observer_checks

    of_kind = learner_checks if kind == "learner" else observer_checks
    try:
        return list(of_kind(name, options=options))
    except AssertionError as fault:  # not a plugin
        return [("declaration", partial(_fail, fault))]


def _error_of(call: Callable[[], Any]) -> str | None:
    """The error of a check in one line; None if it passes."""
    try:
        call()
    except AssertionError as fault:
        return " ".join(str(fault).split())
    except (Exception, SystemExit) as fault:
        return " ".join(f"{type(fault).__name__}: {fault}".split())
    return None


def _fail(fault: AssertionError) -> None:
    raise fault


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
