"""Find a learner or an observer by its name, import it, check its class and make an instance.

A plugin is an entry point in the group `malfl.learners` or `malfl.observers` whose value is a
frozen dataclass; its fields are its options. Our own algorithms are plugins, too. Listing plugins
imports none of them. A plugin is imported when it is loaded by name, so a broken plugin does not
affect the others.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from importlib.metadata import EntryPoint
from typing import Any, cast

from malfl_algos.contract import API_VERSION, Learner, Observer
from malfl_algos.plugins.discovery import (
    GROUPS,
    Kind,
    Plugin,
    brought_by_extra,
    canonical_name,
    discover,
    install_plugin,
    missing_module,
)
from malfl_algos.plugins.interruption import pass_interruption
from malfl_algos.plugins.options import coerce_options, option_hints, suggestion
from malfl_env.checks import shown
from malfl_env.errors import InputError

__all__ = [
    "PIPELINE_OPTIONS",
    "Kind",
    "MissingExtra",
    "Plugin",
    "PluginError",
    "PluginFault",
    "check_plugin_class",
    "find_plugin",
    "list_plugins",
    "load_learner",
    "load_observer",
    "make_plugin",
    "plugin_class",
]


PIPELINE_OPTIONS: Mapping[str, Any] = {
    "discount": 0.9,
    "temperature": 3.0,
    "episodes": 3,
    "episode_length": 10,
    "seed": 0,
    "keep_transitions": False,
}
"""Options that an experiment fills in if they are not given, with values for a trial."""

_METHODS: dict[Kind, Any] = {"learner": Learner.learn, "observer": Observer.recover}


class PluginError(RuntimeError):
    """An installed plugin that cannot be used; the message names it and its distribution."""


class MissingExtra(PluginError):
    """A plugin that needs an extra of its distribution, which is not installed."""


class PluginFault(PluginError):
    """An error inside a plugin; its cause is chained."""


def list_plugins() -> list[Plugin]:
    """All installed plugins, sorted by kind, name and distribution. Imports none of them.

    Returns:
        Plugins with the attributes `kind` ("learner" or "observer"), `name`, `value`
        (`module:Class`), `distribution` and `version`.
    """
    return discover()[0]


def load_learner(name: str, **options: Any) -> Learner:
    """Load a learner by its name.

    Args:
        name: of its entry point, or `DISTRIBUTION:NAME` if two distributions have this name.
        options: fields of its class; `malfl learn NAME --help` lists them.

    Raises:
        InputError: for an unknown name, an unknown option, or a value that is not allowed.
        PluginError: for a plugin that cannot be used.
    """
    return cast(Learner, make_plugin(find_plugin("learner", name), options))


def load_observer(name: str, **options: Any) -> Observer:
    """Load an observer by its name.

    Args:
        name: of its entry point, or `DISTRIBUTION:NAME` if two distributions have this name.
        options: fields of its class; `malfl recover --observer NAME --help` lists them.

    Raises:
        InputError: for an unknown name, an unknown option, or a value that is not allowed.
        PluginError: for a plugin that cannot be used.
    """
    return cast(Observer, make_plugin(find_plugin("observer", name), options))


def find_plugin(kind: Kind, name: str) -> Plugin:
    """Find an installed plugin by its name.

    Args:
        kind: "learner" or "observer".
        name: name of its entry point, or `distribution:name` if two distributions use one name.
            Distributions are compared as pip does: `My_Dist` is `my-dist`. A name that malfl-env
            uses is malfl-env's, whatever else is installed.

    Raises:
        InputError: for an unknown name; the message names the nearest and all known ones, or the
            distribution to install.
        PluginError: for a name that two distributions use, or one distribution uses twice.
    """
    if not isinstance(name, str):
        raise InputError(f"{kind}: the name of a plugin must be text, got {shown(name)}")
    installed = list_plugins()
    distribution, _, bare = name.rpartition(":")
    matches = [
        plugin
        for plugin in installed
        if (plugin.kind, plugin.name) == (kind, bare)
        and (
            not distribution or canonical_name(distribution) == canonical_name(plugin.distribution)
        )
    ]
    if not matches:
        raise InputError(_unknown(kind, name, installed))
    matches = [plugin for plugin in matches if plugin.is_own] or matches
    if len({plugin.distribution for plugin in matches}) > 1:
        sources = " and ".join(f"{m.distribution!r} {m.version}" for m in matches)
        choices = " or ".join(repr(m.full_name) for m in matches)
        raise PluginError(f"the {kind} name {bare!r} is used by {sources}: write {choices}")
    if len(matches) > 1:
        values = " and ".join(plugin.value for plugin in matches)
        raise PluginError(f"{matches[0]} has two entries of this name, for {values}")
    return matches[0]


def plugin_class(plugin: Plugin) -> type:
    """Import a plugin and check its class.

    Raises:
        PluginError: for a malformed entry point or a missing module; `MissingExtra` if an extra
            provides the module.
        PluginFault: for any other exception of the import, except `KeyboardInterrupt`, and for a
            class that `check_plugin_class` rejects.
    """
    if plugin.malformed:
        raise PluginError(f"{plugin}: {plugin.malformed}")
    try:
        cls = EntryPoint(plugin.name, plugin.value, GROUPS[plugin.kind]).load()
    except BaseException as fault:
        pass_interruption(fault)
        advice = ""
        kind: type[PluginError] = PluginFault
        if isinstance(fault, ModuleNotFoundError):
            advice = f"; {missing_module(plugin, fault.name)}"
            kind = MissingExtra if brought_by_extra(plugin, fault.name) else PluginError
        raise kind(f"{plugin} failed to import: {type(fault).__name__}: {fault}{advice}") from fault
    try:
        check_plugin_class(cls, plugin.kind)
    except InputError as fault:
        raise PluginFault(f"{plugin}: {plugin.value} {fault}") from fault
    return cast(type, cls)


def check_plugin_class(cls: Any, kind: Kind) -> None:
    """Check that an imported object is a class as the contract describes it.

    It must be a frozen dataclass with our major API version, options whose annotations can be
    evaluated, and the method of its kind with the arguments of the protocol.

    Raises:
        InputError: naming the first error. The message continues the name of the object.
    """
    if not (isinstance(cls, type) and is_dataclass(cls)):
        raise InputError(f"must be a dataclass, got {cls!r}")
    if not cls.__dataclass_params__.frozen:  # type: ignore[attr-defined]
        raise InputError("must be a frozen dataclass: write @dataclass(frozen=True)")
    _check_api_version(cls)
    method = _METHODS[kind]
    own = inspect.getattr_static(cls, method.__name__, None)
    if not callable(getattr(cls, method.__name__, None)):
        raise InputError(f"has no method {method.__name__!r}{_signature(method)}")
    if isinstance(own, (staticmethod, classmethod)):
        raise InputError(f"{method.__name__} must be a plain method, not a {type(own).__name__}")
    _check_call(getattr(cls, method.__name__), method)
    option_hints(cls)


def make_plugin(plugin: Plugin, options: Mapping[str, Any]) -> Learner | Observer:
    """Make an instance of a plugin with the given options.

    Raises:
        InputError: for an unknown or missing option, a value of the wrong type, or a value that
            the plugin rejects with a `ValueError` or `TypeError`.
        PluginError: as in `plugin_class`; `PluginFault` also for any other exception of the plugin.
    """
    cls = plugin_class(plugin)
    where = f"{plugin.kind} {plugin.name!r}"
    checked = coerce_options(cls, options, where=where)
    try:
        made = cls(**checked)
    except (ValueError, TypeError) as fault:
        # a required option that is missing is a TypeError
        raise InputError(f"{where}: {fault}") from fault
    except BaseException as fault:
        pass_interruption(fault)
        raise PluginFault(f"{plugin} failed to start: {type(fault).__name__}: {fault}") from fault
    return cast("Learner | Observer", made)


def _unknown(kind: Kind, name: str, installed: list[Plugin]) -> str:
    """The message on an unknown name."""
    own = [plugin for plugin in installed if plugin.kind == kind]
    if not own:
        return (
            f"unknown {kind} {name!r}: no {kind}s are installed, not even those of malfl-env: "
            "pip install malfl-env (or pip install -e . in its checkout)"
        )
    advice = install_plugin(name.rpartition(":")[2])
    if advice:
        return f"unknown {kind} {name!r}: {advice}"
    known = sorted({plugin.name for plugin in own})
    full = [plugin.full_name for plugin in own]
    hint = suggestion(name, full if ":" in name else known)
    return f"unknown {kind} {name!r}{hint or ';'} installed: {', '.join(known)}"


def _check_api_version(cls: type) -> None:
    stated = getattr(cls, "api_version", None)
    if not (
        isinstance(stated, tuple) and len(stated) == 2 and all(type(part) is int for part in stated)
    ):
        raise InputError(
            f"api_version must be a pair of whole numbers like {API_VERSION}, got {stated!r}"
        )
    if stated[0] != API_VERSION[0]:
        wanted = ".".join(map(str, API_VERSION))
        change = "install a matching version of one of the two"
        if stated[0] == 1:
            change += (
                "; its author has to yield LearnedStage(Stage(...), StageTruth(policies)) from "
                "learn, to begin recover with Problem(...), and to set api_version to (2, 0)"
            )
        raise InputError(
            f"is written for API version {stated[0]}.{stated[1]}, malfl-env has {wanted}: {change}"
        )
    if any(field.name == "api_version" for field in fields(cls)):
        raise InputError(
            "has api_version among its options: annotate it as ClassVar[tuple[int, int]]"
        )


def _check_call(method: Any, protocol: Any) -> None:
    """Check that a method takes the arguments of the protocol, without calling it."""
    try:
        signature = inspect.signature(method)
    except ValueError:  # a compiled method may have no signature
        return
    parameters = inspect.signature(protocol).parameters.values()
    by_place = [p.name for p in parameters if p.kind is not p.KEYWORD_ONLY]
    by_name = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]
    try:
        signature.bind(*by_place, **dict.fromkeys(by_name))
    except TypeError as fault:
        raise InputError(
            f"{method.__name__}{signature} cannot be called as {protocol.__name__}"
            f"{_signature(protocol)}: {fault}"
        ) from None


def _signature(method: Any) -> str:
    """The parameters of a method without annotations."""
    signature = inspect.signature(method)
    bare = [
        parameter.replace(annotation=parameter.empty) for parameter in signature.parameters.values()
    ]
    return str(inspect.Signature(bare))
