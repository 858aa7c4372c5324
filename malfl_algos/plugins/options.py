"""Check values from YAML and the command line against the annotations of a dataclass.

The fields of a frozen dataclass define the options and their allowed values. pydantic compares
values with annotations, strictly: neither text nor true is a number, and numbers are finite. The
messages are ours: those of pydantic have several lines and do not suggest the nearest key. pydantic
is imported when the first value is checked, not before.
"""

from __future__ import annotations

import json
import sys
import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import Field, fields, is_dataclass
from difflib import get_close_matches
from enum import Enum
from functools import cache
from math import isfinite
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from malfl_env.arguments import unaliased
from malfl_env.checks import LONGEST_SHOWN, shown
from malfl_env.errors import InputError

__all__ = [
    "check_distinct",
    "check_keys",
    "check_plain",
    "coerce",
    "coerce_options",
    "describe",
    "naming",
    "nested_tuples",
    "option_hints",
    "suggestion",
]

_WORDS = {
    bool: "true or false",
    int: "a whole number",
    float: "a finite number",
    str: "text",
    type(None): "null",
    Path: "a path",
    Any: "any value",
}
_DEEPEST = 50


def option_hints(cls: type) -> dict[str, Any]:
    """Names and annotations of the options of a dataclass, in order.

    Raises:
        InputError: naming an option whose annotation cannot be evaluated (such as a name that is
            imported for type checkers only) or is not a type. The message continues the name of
            the class.
    """
    return {field.name: _evaluated(field, cls) for field in fields(cls) if field.init}


def coerce_options(cls: type, given: Mapping[str, Any], *, where: str) -> dict[str, Any]:
    """Check the given options of a dataclass, each against the annotation of its field.

    Raises:
        InputError: for an unknown option or a value of the wrong type.
    """
    models = _models(cls)
    check_keys(given, models, where=where)
    return {key: _coerced(value, *models[key], f"{where}: {key}") for key, value in given.items()}


def coerce(value: Any, hint: Any, *, where: str) -> Any:
    """Check a value against an annotation and convert it to the type of the annotation.

    Args:
        value: the given value. Allowed conversions: a whole number to a float, a list to a tuple,
            text to a path, a value to its member of an `Enum`, and a mapping to a dataclass; true
            is not a number.
        hint: any annotation that pydantic knows; for another class, only its instances are allowed.
        where: name of the value, for the message.

    Raises:
        InputError: naming the value and what is allowed.
    """
    return _coerced(value, hint, _cached_model(hint), where)


def describe(hint: Any) -> str:
    """The values that an annotation allows, in words."""
    hint = unaliased(hint)
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return describe(arguments[0])
    if origin is Literal:
        return "one of " + ", ".join(map(repr, arguments))
    if isinstance(hint, type) and issubclass(hint, Enum):
        return "one of " + ", ".join(repr(member.value) for member in hint)
    if origin in (Union, types.UnionType):
        return " or ".join(map(describe, arguments))
    if origin is tuple and arguments[-1:] != (Ellipsis,):
        return f"a list of {len(arguments)}: " + ", ".join(map(describe, arguments))
    if origin in (tuple, list):
        return f"a list, each entry {describe(arguments[0])}"
    if is_dataclass(hint):
        return "a mapping with " + ", ".join(field.name for field in fields(hint) if field.init)
    return _WORDS.get(hint, f"{getattr(hint, '__name__', hint)}")


def check_plain(value: Any, *, where: str, depth: int = 0) -> None:
    """Reject values that YAML or JSON would change.

    Raises:
        InputError: for numbers that are not finite, dates, bytes, keys that are not text, and more
            than 50 levels of nesting.
    """
    if depth == _DEEPEST:
        raise InputError(f"{where}: nested too deeply")
    inner: list[Any] = []
    if isinstance(value, Mapping):
        inner = [*value.keys(), *value.values()]
        for key in value:
            if not isinstance(key, str):
                raise InputError(f"{where}: a key must be text, got {shown(key)}")
    elif isinstance(value, (list, tuple)):
        inner = list(value)
    elif not _is_plain(value):
        raise InputError(
            f"{where}: values are text, finite numbers, true, false and null, and lists "
            f"and mappings of these, got {shown(value)}"
        )
    for entry in inner:
        check_plain(entry, where=where, depth=depth + 1)


def check_distinct(key: str, values: Iterable[Any]) -> None:
    """Reject an empty list and duplicate values."""
    seen = set()
    for value in values:
        if value in seen:
            raise InputError(f"{key} must be distinct, duplicate value {shown(value)}")
        seen.add(value)
    if not seen:
        raise InputError(f"{key} must not be empty, got []")


def nested_tuples(value: Any) -> Any:
    """Turn lists into tuples at every level."""
    return tuple(map(nested_tuples, value)) if isinstance(value, (list, tuple)) else value


def suggestion(name: object, known: Iterable[str]) -> str:
    """`, did you mean 'x'?` with the nearest known name; empty if no name is near."""
    near = (
        get_close_matches(str(name), list(known), n=1) if len(shown(name)) < LONGEST_SHOWN else []
    )
    return f", did you mean {near[0]!r}?" if near else ""


def check_keys(given: Iterable[object], known: Iterable[str], *, where: str) -> None:
    """Reject unknown keys.

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


@contextmanager
def naming(where: str) -> Iterator[None]:
    """Begin the message of an `InputError` with the name of the input that is wrong."""
    try:
        yield
    except InputError as fault:
        raise InputError(f"{where}: {fault}") from fault


def _evaluated(field: Field[Any], cls: type) -> Any:
    """The annotation of a field, evaluated in the namespace of the class that defines it."""
    owner = next((c for c in cls.__mro__ if field.name in vars(c).get("__annotations__", {})), cls)
    names = getattr(sys.modules.get(owner.__module__), "__dict__", {})
    annotated: Any = types.SimpleNamespace(__annotations__={"it": field.type})
    try:
        hint = get_type_hints(annotated, names, dict(vars(owner)), include_extras=True)["it"]
    except Exception as fault:
        raise InputError(
            f"has an option {field.name!r} whose annotation {field.type!r} cannot be evaluated: "
            f"{type(fault).__name__}: {fault}"
        ) from fault
    if not _is_type(hint):
        raise InputError(
            f"has an option {field.name!r} whose annotation {field.type!r} is not a type"
        )
    return hint


def _is_type(hint: Any) -> bool:
    """Whether an annotation, its arguments included, is a type; pydantic accepts any object."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is None:
        return isinstance(hint, type) or hint is Ellipsis or type(hint).__module__ == "typing"
    if origin in (Literal, Callable):
        return True
    return all(map(_is_type, arguments[:1] if origin is Annotated else arguments))


def _model(hint: Any) -> Any:
    """A pydantic model with the one field `it`."""
    from pydantic import ConfigDict, create_model

    config = ConfigDict(
        strict=True, extra="forbid", allow_inf_nan=False, arbitrary_types_allowed=True
    )
    return create_model("Option", __config__=config, it=(hint, ...))


_cached_model = cache(_model)


@cache
def _models(cls: type) -> dict[str, tuple[Any, Any]]:
    """Annotation and model of every option; rejects an annotation that pydantic cannot check."""
    from pydantic import PydanticUserError

    models = {}
    for name, hint in option_hints(cls).items():
        try:
            models[name] = (hint, _model(hint))
        except (PydanticUserError, NameError, TypeError) as fault:
            raise InputError(
                f"{cls.__name__}: option {name!r} has the annotation {hint}, which pydantic cannot "
                f"check: {shown(fault)}"
            ) from fault
    return models


def _coerced(value: Any, hint: Any, model: Any, where: str) -> Any:
    from pydantic import ValidationError

    try:
        taken = _validated(value, model)
    except ValidationError as fault:
        raise InputError(
            _complaint(value, hint, fault.errors(include_url=False)[0], where)
        ) from None
    _check_booleans(value, taken, hint, where)
    return taken


def _validated(value: Any, model: Any) -> Any:
    """Validate a value as it is, a list as a tuple, or as JSON (with text for paths and enums)."""
    from pydantic import ValidationError

    for attempt in [value, tuple(value)] if isinstance(value, list) else [value]:
        with suppress(ValidationError):
            return model.model_validate({"it": attempt}).it
    try:
        text = json.dumps({"it": value})
    except (TypeError, ValueError, RecursionError):  # it contains objects
        return model.model_validate({"it": value}).it
    return model.model_validate_json(text).it


def _check_booleans(value: Any, taken: Any, hint: Any, where: str) -> None:
    """Reject true for 1, 1 for true and 1.0 for 1, which pydantic takes for an equal literal."""
    if is_dataclass(taken) and isinstance(value, Mapping):
        hints = option_hints(type(taken))
        for key, own in value.items():
            _check_booleans(own, getattr(taken, key), hints[key], f"{where}.{key}")
    elif not _same_kind(value, taken):
        raise InputError(f"{where} must be {describe(hint)}, got {shown(value)}")


def _same_kind(value: Any, taken: Any) -> bool:
    if isinstance(value, Mapping):
        own = vars(taken) if is_dataclass(taken) else taken
        return all(_same_kind(value[key], own[key]) for key in value)
    if isinstance(value, (list, tuple)):
        return all(map(_same_kind, value, taken))
    if isinstance(taken, Enum) and not isinstance(value, Enum):
        taken = taken.value
    return type(taken) not in (bool, int) or type(value) is type(taken)


def _complaint(value: Any, hint: Any, error: Mapping[str, Any], where: str) -> str:
    nested = [part for part in _parts(hint) if is_dataclass(part)]
    *inside, key = [where, *map(str, error["loc"][1:])] if nested else ["", where]
    name = ".".join(filter(None, [*inside, key]))
    if error["type"] == "unexpected_keyword_argument":
        allowed = [field.name for part in nested for field in fields(part) if field.init]
        hint_at = suggestion(key, allowed) or ";"
        return f"{'.'.join(inside)}: unknown key {key!r}{hint_at} allowed: {', '.join(allowed)}"
    if error["type"] in ("value_error", "assertion_error"):  # from __post_init__
        return f"{name}: {error['ctx']['error']}"
    if nested or any(get_origin(part) is Annotated for part in _parts(hint)):
        words = error["msg"].replace("Input should", "must")
        return f"{name} {words[0].lower()}{words[1:]}, got {shown(error['input'])}"
    message = f"{name} must be {describe(hint)}, got {shown(value)}"
    if isinstance(value, str) and _is_number(value):
        message += " (this is text: write the number without quotes, for example 0.001 or 1e-3)"
    return message


def _parts(hint: Any) -> Iterator[Any]:
    """An annotation and, recursively, its arguments."""
    hint = unaliased(hint)
    yield hint
    for argument in () if get_origin(hint) is Literal else get_args(hint):
        yield from _parts(argument)


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
