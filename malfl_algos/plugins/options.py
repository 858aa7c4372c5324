"""Checks of values from outside (YAML, the command line) against the annotations of a dataclass.

A frozen dataclass is the one place where the options of something stand; what is allowed is read
off its fields.
"""

from __future__ import annotations

import inspect
import sys
import types
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from difflib import get_close_matches
from math import isfinite
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from malfl_env.errors import InputError

__all__ = [
    "check_distinct",
    "check_keys",
    "check_plain",
    "coerce",
    "coerce_options",
    "naming",
    "nested_tuples",
    "option_hints",
    "shown",
    "suggestion",
]

_WORDS = {
    bool: "true or false",
    int: "a whole number",
    float: "a finite number",
    str: "text",
    type(None): "null",
}


_LONGEST = 200
_DEEPEST = 50


def shown(value: object) -> str:
    """A value for a message: in one line, and cut where it is long."""
    try:
        text = " ".join(repr(value).split())
    except (ValueError, RecursionError):  # a whole number of thousands of digits, or deep nesting
        text = f"a {type(value).__name__} too large to show"
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def check_plain(value: Any, *, where: str) -> None:
    """Refuse what neither YAML nor JSON gives back as it was.

    Raises:
        InputError: for numbers that are not finite, dates, bytes, keys that are not text, and what
            is nested more than 50 deep.
    """
    level = [value]
    for _ in range(_DEEPEST):
        inner: list[Any] = []
        for entry in level:
            if isinstance(entry, Mapping):
                inner += [*entry.keys(), *entry.values()]
                bad = next((key for key in entry if not isinstance(key, str)), None)
                if bad is not None:
                    raise InputError(f"{where}: a key must be text, got {shown(bad)}")
            elif isinstance(entry, (list, tuple)):
                inner += entry
            elif not _is_plain(entry):
                raise InputError(
                    f"{where}: values are text, finite numbers, true, false and null, and lists "
                    f"and mappings of these, got {shown(entry)}"
                )
        if not inner:
            return
        level = inner
    raise InputError(f"{where}: nested too deeply")


def check_distinct(key: str, values: Iterable[Any]) -> None:
    """Refuse an empty list, and a value that stands in it twice."""
    seen = set()
    for value in values:
        if value in seen:
            raise InputError(f"{key} must be distinct, {shown(value)} stands there twice")
        seen.add(value)
    if not seen:
        raise InputError(f"{key} must not be empty, got []")


def nested_tuples(value: Any) -> Any:
    """Lists as tuples, down to the innermost."""
    return tuple(map(nested_tuples, value)) if isinstance(value, (list, tuple)) else value


def suggestion(name: object, known: Iterable[str]) -> str:
    """`, did you mean 'x'?` for the nearest known name, or nothing where none is near."""
    near = get_close_matches(str(name), list(known), n=1) if len(shown(name)) < _LONGEST else []
    return f", did you mean {near[0]!r}?" if near else ""


def check_keys(given: Iterable[object], known: Iterable[str], *, where: str) -> None:
    """Refuse keys that are not known.

    Raises:
        InputError: naming the key, the nearest known one and all that are allowed.
    """
    allowed = list(known)
    for key in given:
        if key not in allowed:
            hint = suggestion(key, allowed) or ";"
            raise InputError(
                f"{where}: unknown key {shown(key)}{hint} allowed: {', '.join(allowed)}"
            )


def describe(hint: Any) -> str:
    """An annotation in plain words."""
    if get_origin(hint) is Literal:
        return "one of " + ", ".join(repr(value) for value in get_args(hint))
    if get_origin(hint) in (Union, types.UnionType):
        return " or ".join(describe(option) for option in get_args(hint))
    if get_origin(hint) is tuple:
        return f"a list, each entry {describe(get_args(hint)[0])}"
    if hint is Any:
        return "any value"
    return _WORDS.get(hint, f"{getattr(hint, '__name__', hint)}")


def coerce(value: Any, hint: Any, *, where: str) -> Any:
    """A value in the form that an annotation asks for.

    Args:
        value: what was given. A whole number is taken for a float, a list for a tuple; true is no
            number.
        hint: bool, int, float, str, None, Literal, a union of these, or `tuple[X, ...]`; any other
            annotation lets everything pass.
        where: name of the value, for the message.

    Raises:
        InputError: naming the value and what is allowed.
    """
    try:
        return _coerced(value, hint)
    except _Unfit:
        message = f"{where} must be {describe(hint)}, got {shown(value)}"
        if isinstance(value, str) and _is_number(value):
            message += (
                " (text, not a number: YAML wants a number without quotes, as 0.001 or 1.0e-3)"
            )
        raise InputError(message) from None


def option_hints(cls: type) -> dict[str, Any]:
    """Names and annotations of the options of a dataclass, in order.

    An annotation that cannot be evaluated (one that exists for the type checker only) counts as
    Any; those beside it hold.
    """
    hints: dict[str, Any] = {}
    for owner in reversed(cls.__mro__):
        for name, annotation in _annotations(owner).items():
            hints[name] = _evaluated(annotation, owner)
    return {field.name: hints.get(field.name, Any) for field in fields(cls) if field.init}


def coerce_options(cls: type, given: Mapping[str, Any], *, where: str) -> dict[str, Any]:
    """The given options of a dataclass, each checked against its field.

    Raises:
        InputError: for an unknown option or a value of the wrong type.
    """
    hints = option_hints(cls)
    check_keys(given, hints, where=where)
    return {key: coerce(value, hints[key], where=f"{where}: {key}") for key, value in given.items()}


def _annotations(owner: type) -> dict[str, Any]:
    try:
        return inspect.get_annotations(owner)
    except NameError:  # where annotations are not text, one that is not there spoils its class
        return {}


def _evaluated(annotation: Any, owner: type) -> Any:
    stand_in = types.SimpleNamespace(__annotations__={"it": annotation})
    module = sys.modules.get(owner.__module__)
    try:
        hints = get_type_hints(stand_in, vars(module) if module else {}, dict(vars(owner)))
    except Exception:
        return Any
    return hints["it"]


@contextmanager
def naming(where: str) -> Iterator[None]:
    """Put the name of the part at fault before the message of a `ValueError`."""
    try:
        yield
    except ValueError as fault:
        raise InputError(f"{where}: {fault}") from fault


class _Unfit(Exception):
    """The value does not fit the annotation."""


def _coerced(value: Any, hint: Any) -> Any:
    origin = get_origin(hint)
    if origin is Literal:
        for allowed in get_args(hint):
            if value == allowed and type(value) is type(allowed):
                return value
        raise _Unfit
    if origin in (Union, types.UnionType):
        return _coerced_to_any_of(value, get_args(hint))
    if origin is tuple and len(get_args(hint)) == 2 and get_args(hint)[1] is Ellipsis:
        if not isinstance(value, (list, tuple)):
            raise _Unfit
        return tuple(_coerced(entry, get_args(hint)[0]) for entry in value)
    if hint is float:
        return _finite(value)
    # bool is a subclass of int, hence the exact comparison
    if hint in _WORDS and type(value) is not hint:
        raise _Unfit
    return value


def _coerced_to_any_of(value: Any, hints: Iterable[Any]) -> Any:
    for hint in hints:
        try:
            return _coerced(value, hint)
        except _Unfit:
            continue
    raise _Unfit


def _finite(value: Any) -> float:
    if type(value) not in (int, float):
        raise _Unfit
    try:
        number = float(value)
    except OverflowError:
        raise _Unfit from None
    if not isfinite(number):
        raise _Unfit
    return number


def _is_plain(value: Any) -> bool:
    if type(value) is int:
        return value.bit_length() <= 1024  # as a float may be
    if isinstance(value, str):
        return not any("\ud800" <= letter <= "\udfff" for letter in value)
    return value is None or isinstance(value, bool) or (type(value) is float and isfinite(value))


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
