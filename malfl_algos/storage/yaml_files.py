"""Strict YAML: plain values of YAML 1.2, no duplicate keys, bounded aliases.

PyYAML parses the text, and this module builds the values from its events. PyYAML's constructors
follow YAML 1.1 (`010` is 8, `1:30` is 90, `no` is false, `1e-3` is text), keep the last of
duplicate keys, expand aliases without a bound, and need a minute for some megabytes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from math import isinf
from pathlib import Path
from typing import Any

import yaml

from malfl_env.errors import InputError

__all__ = ["parse_yaml", "read_mapping", "yaml_text"]

MAX_BYTES = 4 * 2**20
"""Largest size of a YAML file."""
_MAX_REPEATED = 100_000  # largest number of values that all aliases together stand for
_MAX_DEPTH = 50
_MAX_DIGITS = 400

_PARSER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_TEXT_TAG = "tag:yaml.org,2002:str"
_TAGS = (None, "!", _TEXT_TAG, "tag:yaml.org,2002:seq", "tag:yaml.org,2002:map")
_INF = ("inf", "Inf", "INF")
_WORDS: dict[str, bool | float | None] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **{f"{sign}.{word}": float(f"{sign}inf") for sign in ("", "+", "-") for word in _INF},
    **dict.fromkeys((".nan", ".NaN", ".NAN"), float("nan")),
}
_WHOLE = re.compile(r"[-+]?(0|[1-9][0-9]*)")
_HEXADECIMAL = re.compile(r"0x[0-9a-fA-F]+")
_REAL = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_AMBIGUOUS = re.compile(  # numbers that YAML 1.1, YAML 1.2 and people read differently
    r"[-+]?(0[0-9_]+|0[oO][0-7_]+|0[bB][01_]+|0[xX][0-9a-fA-F_]+|[1-9][0-9_]*"
    r"|[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?"
    r"|([0-9][0-9_]*\.|\.[0-9])[0-9_]*([eE][-+]?[0-9]+)?)"
)


def parse_yaml(text: str) -> Any:
    """The value of a YAML text: mappings, lists, and scalars of YAML 1.2's core schema.

    Texts such as `yes`, `off` and `2001-01-01` are strings, as YAML 1.2 has them. Merge keys (`<<`)
    work.

    Raises:
        InputError: if the text is not YAML, has a duplicate key, is nested more than 50 levels
            deep, has too many aliases or a tag, or has an ambiguous number (010, 0o10, 1:30,
            1_000).
    """
    try:
        return _Builder(text).document()
    except (yaml.YAMLError, UnicodeError) as fault:
        raise InputError(" ".join(str(fault).split())[:500]) from fault


def read_mapping(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file.

    Raises:
        InputError: if the file cannot be read, is empty, not YAML, or not a mapping; the message
            names the file.
    """
    try:
        with path.open("rb") as stream:
            content = stream.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise InputError(f"larger than {MAX_BYTES} bytes")
        value = parse_yaml(content.decode("utf-8"))
    except OSError as fault:
        raise InputError(f"{path}: cannot be read: {fault.strerror}") from fault
    except (InputError, UnicodeError) as fault:
        raise InputError(f"{path}: not valid YAML: {fault}") from fault
    if value is None:
        raise InputError(f"{path}: the file is empty, expected a mapping of keys to values")
    if not isinstance(value, dict):
        raise InputError(
            f"{path}: expected a mapping of keys to values, got {type(value).__name__}"
        )
    return value


class _Dumper(yaml.SafeDumper):
    """Quotes every string that `parse_yaml` would not read as text."""


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    plain = not (text in _WORDS or _REAL.fullmatch(text) or _AMBIGUOUS.fullmatch(text))
    return dumper.represent_scalar(_TEXT_TAG, text, style=None if plain else "'")


_Dumper.add_representer(str, _represent_text)


def yaml_text(value: Any) -> str:
    """Plain values as YAML, mappings in their order."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False)


class _Builder:
    """Values from the events of PyYAML's parser."""

    def __init__(self, text: str) -> None:
        self._events: Iterator[Any] = yaml.parse(text, Loader=_PARSER)
        self._anchors: dict[str, tuple[Any, int]] = {}
        self._count = 0  # values so far, including those that aliases stand for
        self._repeated = 0

    def document(self) -> Any:
        """The value of the only document; None if there is no document."""
        next(self._events)  # the start of the stream
        if isinstance(next(self._events), yaml.StreamEndEvent):
            return None
        value = self._value(next(self._events), 1)
        next(self._events)  # the end of the document
        after = next(self._events)
        if not isinstance(after, yaml.StreamEndEvent):
            raise _error("more than one document", after)
        return value

    def _value(self, event: Any, depth: int) -> Any:
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event)
        if event.tag not in _TAGS:
            raise _error(f"the tag {event.tag!r} is not allowed, only plain values are", event)
        if depth > _MAX_DEPTH:
            raise _error("nested too deeply", event)
        before = self._count
        self._count += 1
        if isinstance(event, yaml.ScalarEvent):
            value = _scalar(event)
        elif isinstance(event, yaml.SequenceStartEvent):
            value = [self._value(entry, depth + 1) for entry in self._until(yaml.SequenceEndEvent)]
        else:
            value = self._mapping(depth)
        if event.anchor is not None:
            self._anchors[event.anchor] = value, self._count - before
        return value

    def _until(self, end: type) -> Iterator[Any]:
        """The events up to the end of a list or mapping; the caller consumes nested events."""
        while not isinstance(event := next(self._events), end):
            yield event

    def _mapping(self, depth: int) -> dict[Any, Any]:
        own: dict[Any, Any] = {}
        merged: dict[Any, Any] | None = None
        for event in self._until(yaml.MappingEndEvent):
            merge = isinstance(event, yaml.ScalarEvent) and _is_merge_key(event)
            key = self._value(event, depth + 1)
            value = self._value(next(self._events), depth + 1)
            if isinstance(key, (list, dict)):
                raise _error(f"a key must be text, got {key!r}", event)
            if key in own or (merge and merged is not None):
                raise _error(f"duplicate key {key!r}", event)
            if merge:
                merged = _merged(value, event)
            else:
                own[key] = value
        return own if merged is None else {**merged, **own}

    def _alias(self, event: Any) -> Any:
        if event.anchor not in self._anchors:
            raise _error(f"the alias *{event.anchor} has no anchor that ends before it", event)
        value, count = self._anchors[event.anchor]
        self._count += count
        self._repeated += count
        if self._repeated > _MAX_REPEATED:
            raise _error(f"aliases stand for more than {_MAX_REPEATED} values", event)
        return value


def _error(words: str, event: Any) -> yaml.YAMLError:
    return yaml.YAMLError(f"{words}, line {event.start_mark.line + 1}")


def _is_merge_key(event: Any) -> bool:
    return bool(event.value == "<<" and event.implicit[0])


def _merged(value: Any, event: Any) -> dict[Any, Any]:
    """The entries that a merge key adds; an earlier mapping overrides a later one."""
    result: dict[Any, Any] = {}
    for mapping in value if isinstance(value, list) else [value]:
        if not isinstance(mapping, dict):
            raise _error("the merge key << needs a mapping, or a list of mappings", event)
        result = {**mapping, **result}
    return result


def _scalar(event: Any) -> Any:
    """The value of a scalar; if it is quoted or tagged as text, it is text."""
    text: str = event.value
    if not event.implicit[0] or event.tag == _TEXT_TAG:
        return text
    if text in _WORDS:
        return _WORDS[text]
    base = 10 if _WHOLE.fullmatch(text) else 16 if _HEXADECIMAL.fullmatch(text) else None
    if base is not None:
        if len(text) > _MAX_DIGITS:
            raise _error(f"a number of {len(text)} digits, at most {_MAX_DIGITS} are read", event)
        return int(text, base)
    if _AMBIGUOUS.fullmatch(text) and not (_REAL.fullmatch(text) and "." in text):
        raise _error(
            f"the number {text} is ambiguous: write it as a plain decimal number, or in quotes if "
            "it is text",
            event,
        )
    if _REAL.fullmatch(text):
        number = float(text)
        if isinf(number):
            raise _error(f"the number {text} is too large for a float", event)
        return number
    return text
