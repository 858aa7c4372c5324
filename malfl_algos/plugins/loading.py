"""Learners and observers by name: what is installed, and the loading of one.

A plugin is an entry point in the group `malfl.learners` or `malfl.observers` whose value is a
frozen dataclass: its fields are its options. Our own algorithms come through the same door. Listing
reads metadata and imports nothing; a plugin is imported when it is asked for by name, so a broken
one harms nobody else.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from importlib.metadata import EntryPoint
from traceback import walk_tb
from typing import Any, cast

from malfl_algos.contract import (
    API_VERSION,
    Diagnostics,
    LearnedStage,
    Learner,
    Observer,
    Problem,
    RecoveredRewards,
    StageTruth,
)
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
from malfl_algos.plugins.options import coerce_options, option_hints, suggestion
from malfl_algos.trace import Stage
from malfl_env.errors import InputError

__all__ = [
    "PIPELINE_OPTIONS",
    "Kind",
    "MissingExtra",
    "Plugin",
    "PluginError",
    "PluginFault",
    "blaming",
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
"""Options that an experiment fills in where they are not given, with values to try them."""

_METHODS: dict[Kind, Any] = {"learner": Learner.learn, "observer": Observer.recover}

_GIVEN = (Stage, StageTruth, LearnedStage, RecoveredRewards, Diagnostics)
"""What plugins give back; its own checks reject what breaks the contract."""


class PluginError(RuntimeError):
    """A plugin that is installed but cannot be used; the message names it and its distribution."""


class MissingExtra(PluginError):
    """A plugin for which an extra of its distribution has to be installed, too."""


class PluginFault(PluginError):
    """A plugin that failed by its own fault; the cause is chained."""


def list_plugins() -> list[Plugin]:
    """All installed plugins, sorted by kind, name and distribution. Imports none of them."""
    return discover()[0]


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
        name: of its entry point, or `distribution:name` where two distributions use one name;
            distributions are compared as pip compares them, `My_Dist` is `my-dist`.

    Raises:
        InputError: for an unknown name, with the nearest and all known ones, or with how to install
            the distribution that is known to bring it.
        PluginError: where more than one distribution brings the name.
    """
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
    if len({plugin.distribution for plugin in matches}) > 1:
        sources = " and ".join(f"{m.distribution!r} {m.version}" for m in matches)
        choices = " or ".join(repr(m.full_name) for m in matches)
        raise PluginError(f"the {kind} name {bare!r} is used by {sources}: say {choices}")
    if len(matches) > 1:
        values = " and ".join(plugin.value for plugin in matches)
        raise PluginError(f"{matches[0]} stands twice among its entries, for {values}")
    return matches[0]


def plugin_class(plugin: Plugin) -> type:
    """Import a plugin and check that it is one.

    Raises:
        PluginError: for a malformed entry point or a missing module (`MissingExtra` where an extra
            brings it).
        PluginFault: for an import that fails otherwise, whatever it raises but for an interruption
            by a person, or a value that is not what
            `check_plugin_class` asks for.
    """
    if plugin.malformed:
        raise PluginError(f"{plugin}: {plugin.malformed}")
    try:
        cls = EntryPoint(plugin.name, plugin.value, GROUPS[plugin.kind]).load()
    except KeyboardInterrupt:
        raise
    except BaseException as fault:
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
    """Compare a loaded object with the protocol of its kind.

    Raises:
        InputError: saying what is missing: a frozen dataclass, options whose annotations can be
            evaluated, an API version of our major, the method of its kind, callable as the protocol
            calls it. The message continues the name of the object.
    """
    if not (isinstance(cls, type) and is_dataclass(cls)):
        raise InputError(f"must be a dataclass, it is {cls!r}")
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
    """A plugin with options.

    Raises:
        PluginError: as in `plugin_class`; `PluginFault` also where the plugin fails otherwise than
            by rejecting its options.
        InputError: for an unknown option, a value of the wrong type, or one that the plugin itself
            rejects.
    """
    cls = plugin_class(plugin)
    where = f"{plugin.kind} {plugin.name!r}"
    checked = coerce_options(cls, options, where=where)
    try:
        made = cls(**checked)
    except (ValueError, TypeError) as fault:
        # a TypeError is a required option that was left out
        raise InputError(f"{where}: {fault}") from fault
    except Exception as fault:
        raise PluginFault(f"{plugin} failed to start: {type(fault).__name__}: {fault}") from fault
    return cast("Learner | Observer", made)


@contextmanager
def blaming(plugin: Plugin) -> Iterator[None]:
    """Name a plugin in the errors of calls into it, and of our checks of what it returns.

    Raises:
        InputError: where the plugin rejects its input.
        PluginFault: for any other error that passed through a method of the plugin, and for stages
            and results that break the contract.
    """
    try:
        yield
    except (Exception, SystemExit) as fault:
        passed = [frame.f_locals.get("self") for frame, _ in walk_tb(fault.__traceback__)]
        from_plugin = any(isinstance(owner, plugin_class(plugin)) for owner in passed)
        if isinstance(fault, InputError) and _rejects(passed, from_plugin=from_plugin):
            raise InputError(f"{plugin.kind} {plugin.name!r}: {fault}") from fault
        in_words = isinstance(fault, (InputError, PluginFault))
        if from_plugin or in_words:
            told = fault if in_words else f"{type(fault).__name__}: {fault}"
            raise PluginFault(f"{plugin} failed: {told}") from fault
        raise


def _rejects(passed: list[Any], *, from_plugin: bool) -> bool:
    """Whether an `InputError` is about what a plugin is given, not about what it gives."""
    if any(isinstance(owner, Problem) for owner in passed):
        return True  # what the observer is given contradicts itself, whoever noticed
    return from_plugin and not any(isinstance(owner, _GIVEN) for owner in passed)


def _unknown(kind: Kind, name: str, installed: list[Plugin]) -> str:
    """What to say about a name that nobody brings."""
    own = [plugin for plugin in installed if plugin.kind == kind]
    if not own:
        return (
            f"unknown {kind} {name!r}: no {kind}s are installed at all, not even ours: "
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
            f"is written for API version {stated[0]}.{stated[1]}, this is {wanted}: {change}"
        )
    if any(field.name == "api_version" for field in fields(cls)):
        raise InputError(
            "has api_version among its options: annotate it as ClassVar[tuple[int, int]]"
        )


def _check_call(method: Any, protocol: Any) -> None:
    """Try to bind the arguments of the protocol, without calling."""
    try:
        signature = inspect.signature(method)
    except ValueError:  # compiled code does not always tell
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
    """The parameters of a method by name alone."""
    signature = inspect.signature(method)
    bare = [
        parameter.replace(annotation=parameter.empty) for parameter in signature.parameters.values()
    ]
    return str(inspect.Signature(bare))
