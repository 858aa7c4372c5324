"""The options of a plugin in words, for `--help`, read from its dataclass.

The documentation of a field is the text below it, or its entry in the `Args` section of the class.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import MISSING, Field, fields, is_dataclass
from textwrap import fill
from typing import Any, NamedTuple

from malfl_algos.plugins.checks import PIPELINE_OPTIONS
from malfl_algos.plugins.loading import Plugin, plugin_class
from malfl_algos.plugins.options import describe, option_hints

__all__ = ["Option", "describe_options", "option_help"]

_WIDTH = 100


class Option(NamedTuple):
    """One option of a plugin: its type in words; its default as Python writes it, None where there
    is none; its documentation in one line, empty where there is none.
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
        PluginError: where the plugin cannot be loaded.
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
        lines.append("  (it has none)")
    return "\n".join(lines)


def _default(field: Field[Any]) -> str | None:
    if field.default_factory is not MISSING:
        return repr(field.default_factory())
    return None if field.default is MISSING else repr(field.default)


def _origin(option: Option) -> str:
    """Where the value comes from when it is not given."""
    if option.name == "keep_transitions":
        return "default: as the observers need"
    if option.name in PIPELINE_OPTIONS:
        return "default: the experiment's"
    return "required" if option.default is None else f"default: {option.default}"


def _purpose(cls: type) -> str:
    """The first paragraph of the class's own docstring; dataclass makes one up where none is."""
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
