"""Describe an installed plugin: its options, for `--help`, and its errors, for the doctor.

The documentation of an option is the text below its field, or its entry in the `Args` section of
the class.
"""

from __future__ import annotations

import inspect
import re
import traceback
from collections.abc import Iterator
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from importlib.util import find_spec
from textwrap import fill
from typing import Any, Literal, NamedTuple

from malfl_algos.plugins.discovery import Plugin, clashes
from malfl_algos.plugins.loading import (
    PIPELINE_OPTIONS,
    MissingExtra,
    PluginError,
    make_plugin,
    plugin_class,
)
from malfl_algos.plugins.options import describe, option_hints

__all__ = ["Finding", "Option", "describe_options", "examine", "option_help"]

_WIDTH = 100
_LABEL = re.compile(r"[a-z0-9-]+")


class Option(NamedTuple):
    """One option of a plugin.

    Args:
        name: of the field.
        allowed: its type in words.
        default: its default as one writes it in YAML; None for a required option.
        documentation: one line; empty if it is not documented.
    """

    name: str
    allowed: str
    default: str | None
    documentation: str


def describe_options(cls: type) -> list[Option]:
    """Describe the options of a dataclass, in order."""
    texts, hints = _field_texts(cls), option_hints(cls)
    return [
        Option(
            field.name,
            describe(hints[field.name]),
            _default(field),
            " ".join(texts.get(field.name, "").split()),
        )
        for field in fields(cls)
        if field.init
    ]


def option_help(plugin: Plugin) -> str:
    """Describe the options of a plugin, as text for a terminal.

    Raises:
        PluginError: for a plugin that cannot be loaded.
    """
    cls = plugin_class(plugin)
    lines = [
        f"options of {plugin.kind} {plugin.name!r} ({plugin.distribution} {plugin.version}), "
        "as --option KEY=VALUE or in YAML:",
        *_indented(_purpose(cls), 2),
    ]
    options = describe_options(cls)
    for option in options:
        lines.append(f"  {option.name}: {option.allowed} ({_origin(option)})")
        lines += _indented(option.documentation or "(not documented)", 6)
    if not options:
        lines.append("  (no options)")
    return "\n".join(lines)


@dataclass(frozen=True)
class Finding:
    """The result of `examine`.

    Args:
        plugin: the plugin.
        state: `ok`; `clash`: it works, but its name is not unique; `absent`: it needs an extra that
            is not installed; or `broken`.
        notes: remarks for its author, one line each.
        traceback: of the error and its causes, for a broken plugin.
    """

    plugin: Plugin
    state: Literal["ok", "clash", "absent", "broken"]
    notes: tuple[str, ...] = ()
    traceback: str | None = None


def examine(plugin: Plugin, installed: list[Plugin]) -> Finding:
    """Load a plugin, make an instance as an experiment does, and examine its options.

    Args:
        plugin: the plugin.
        installed: all installed plugins, to find equal names.
    """
    try:
        cls = plugin_class(plugin)
        unfillable = _unfillable_options(cls)
        if not unfillable:
            known = option_hints(cls)
            make_plugin(plugin, {k: v for k, v in PIPELINE_OPTIONS.items() if k in known})
        notes = _notes(plugin, cls, unfillable)
    except KeyboardInterrupt:
        raise
    except MissingExtra as fault:
        return Finding(plugin, "absent", (str(fault),))
    except (PluginError, ValueError) as fault:
        return Finding(plugin, "broken", (str(fault),), traceback.format_exc())
    except Exception as fault:
        note = f"its options cannot be read: {type(fault).__name__}: {fault}"
        return Finding(plugin, "broken", (note,), traceback.format_exc())
    rivals = clashes(plugin, installed)
    if rivals:
        others = " and ".join(f"{rival.distribution!r} {rival.version}" for rival in rivals)
        notes = (f"the name is also used by {others}: write {plugin.full_name!r}", *notes)
    return Finding(plugin, "clash" if rivals else "ok", notes)


def _default(field: Field[Any]) -> str | None:
    if field.default_factory is not MISSING:
        return _in_yaml(field.default_factory())
    return None if field.default is MISSING else _in_yaml(field.default)


def _in_yaml(value: Any) -> str:
    """A default as one writes it in YAML; a value that YAML lacks is shown as in Python."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_in_yaml, value))}]"
    return repr(value)


def _origin(option: Option) -> str:
    """The origin of the value if it is not given."""
    if option.name == "keep_transitions":
        return "default: true if an observer needs them, else false"
    if option.name in PIPELINE_OPTIONS:
        return "default: the experiment's"
    return "required" if option.default is None else f"default: {option.default}"


def _purpose(cls: type) -> str:
    """The first paragraph of the class's docstring, unless `dataclass` generated it."""
    text = inspect.cleandoc(vars(cls).get("__doc__") or "")
    return "" if text.startswith(f"{cls.__name__}(") else text.partition("\n\n")[0]


def _field_texts(cls: type) -> dict[str, str]:
    """Documentation by field, inherited fields included."""
    from docstring_parser import parse_from_object

    texts: dict[str, str] = {}
    for owner in reversed(cls.__mro__):
        if is_dataclass(owner):
            for parameter in parse_from_object(owner).params:
                if parameter.description:
                    texts[parameter.arg_name] = parameter.description
    return texts


def _indented(text: str, n: int) -> Iterator[str]:
    if text:
        yield fill(
            " ".join(text.split()),
            _WIDTH,
            initial_indent=" " * n,
            subsequent_indent=" " * n,
            break_long_words=False,
            break_on_hyphens=False,
        )


def _notes(plugin: Plugin, cls: type, unfillable: list[str]) -> tuple[str, ...]:
    notes = [
        f"option {name!r} has no default, and an experiment does not fill it in: "
        f"users must always give it (--option {name}=...)"
        for name in unfillable
    ]
    if find_spec("docstring_parser") is None:
        notes.append('documentation was not examined: this needs pip install "malfl-env[algos]"')
    else:
        notes += [
            f"option {option.name!r} has no documentation"
            for option in describe_options(cls)
            if not option.documentation
        ]
    if not _LABEL.fullmatch(plugin.name):
        notes.append(
            f"{plugin.name!r} cannot be the name of a folder (allowed: lower-case letters, digits, "
            "hyphens): users must give a label in YAML"
        )
    return tuple(notes)


def _unfillable_options(cls: Any) -> list[str]:
    """Options without a default that an experiment does not fill in."""
    signature = inspect.signature(cls)
    return [
        name
        for name, parameter in signature.parameters.items()
        if parameter.default is parameter.empty and name not in PIPELINE_OPTIONS
    ]
