"""Types of arguments, checked against the annotations of a function or constructor.

Public functions that have no checks of their own are decorated with `typed`, so that an argument of
a wrong type is an `InputError` with the name of the argument, and no exception from the depths of
NumPy. Values of the right type pass unchanged, except that lists become the arrays or tuples that
the annotation asks for.
"""

from __future__ import annotations

import os
import typing
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache, wraps
from inspect import Parameter, signature
from math import inf, isfinite
from numbers import Real
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeAlias, TypeVar, Union, get_args, get_origin
from typing import get_type_hints as hints_of

import numpy as np

from malfl_env.checks import is_sequence, is_whole, shown
from malfl_env.errors import InputError

__all__ = ["Count", "Discount", "Index", "Temperature", "Within", "typed", "unaliased"]

Target = TypeVar("Target", bound=Callable[..., Any])


@dataclass(frozen=True)
class Within:
    """The range of a number: lowest <= number < highest."""

    lowest: float
    highest: float = inf

    def __str__(self) -> str:
        if self.highest == inf:
            return f">= {self.lowest:g}"
        return f"in [{self.lowest:g}, {self.highest:g})"


_ALIASES: tuple[Any, ...] = tuple(
    getattr(typing, name) for name in ("TypeAliasType",) if hasattr(typing, name)
)
"""The type of `type X = ...`, which Python has since version 3.12."""

Discount: TypeAlias = Annotated[float, Within(0, 1)]
Temperature: TypeAlias = Annotated[float, Within(0)]
Index: TypeAlias = Annotated[int, Within(0)]
Count: TypeAlias = Annotated[int, Within(1)]


class _Unfit(Exception):
    """A value is not of a kind."""


@dataclass(frozen=True)
class _Kind:
    """The values that an annotation allows.

    Args:
        words: for a message.
        read: returns the value in the form of the annotation, or raises `_Unfit`.
    """

    words: str
    read: Callable[[Any], Any]


def typed(target: Target) -> Target:
    """Check the arguments of a function, or of a class's constructor, against its annotations.

    Annotations are resolved at the first call. `Any`, type variables and protocols that cannot be
    checked allow every value. Numbers are finite, and booleans are no numbers.

    Raises:
        InputError: at a call, for a value that its annotation does not allow; the message has the
            name of the argument, what is allowed, and the value.
    """
    function: Callable[..., Any] = target.__init__ if isinstance(target, type) else target  # type: ignore[misc]
    parameters = list(signature(function).parameters.values())
    names = [own.name for own in parameters if own.kind is not Parameter.KEYWORD_ONLY]

    @cache
    def kinds() -> Mapping[str, _Kind]:
        found = hints_of(function, include_extras=True)
        fixed = {own.name for own in parameters if own.kind is not Parameter.VAR_KEYWORD}
        return {name: _kind(found[name]) for name in fixed & set(found)}

    @wraps(function)
    def checked(*args: Any, **kwargs: Any) -> Any:
        known = kinds()
        given = [
            _read(name, value, known[name]) if name in known else value
            for name, value in zip(names, args, strict=False)
        ]
        named = {
            name: _read(name, value, known[name]) if name in known else value
            for name, value in kwargs.items()
        }
        return function(*given, *args[len(given) :], **named)

    if not isinstance(target, type):
        return checked  # type: ignore[return-value]
    target.__init__ = checked  # type: ignore[misc]
    return target


def _read(name: str, value: Any, kind: _Kind) -> Any:
    try:
        return kind.read(value)
    except _Unfit:
        raise InputError(f"{name} must be {kind.words}, got {shown(value)}") from None


def unaliased(hint: Any) -> Any:
    """The hint behind names that `type X = ...` gives, such as `NDArray` since NumPy 2.5."""
    alias, arguments = get_origin(hint) or hint, get_args(hint)
    if not isinstance(alias, _ALIASES):
        return hint
    return unaliased(alias.__value__[arguments] if arguments else alias.__value__)


def _kind(hint: Any) -> _Kind:
    hint = unaliased(hint)
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return _ranged(_kind(inner[0]), inner[1])
    if origin in (Union, UnionType):
        return _any_of([_kind(own) for own in inner])
    if origin is Literal:
        return _literal(inner)
    if origin is np.ndarray:
        return _array(inner[1])
    if origin is not None and issubclass(origin, Mapping):
        return _mapping(_kind(inner[1]))
    if origin is tuple and inner[-1] is not ...:
        return _instance(tuple)
    if origin is not None and issubclass(origin, Iterable):
        return _entries(origin, _kind(inner[0]))
    return _plain(Callable if origin is Callable else hint)


def _plain(hint: Any) -> _Kind:
    """A kind without type arguments."""
    kinds: dict[Any, _Kind] = {
        NoneType: _Kind("None", _if(lambda value: value is None)),
        bool: _Kind("true or false", _if(lambda value: isinstance(value, (bool, np.bool_)))),
        int: _Kind("a whole number", _if(is_whole)),
        float: _Kind("a number", _if(_is_number)),
        str: _Kind("text", _if(lambda value: isinstance(value, str))),
        Path: _Kind("a path", _if(lambda value: isinstance(value, os.PathLike))),
        Callable: _Kind("a function", _if(callable)),
        Hashable: _Kind("hashable", _if(lambda value: isinstance(value, Hashable))),
    }
    if hint in kinds:
        return kinds[hint]
    protocol = getattr(hint, "_is_protocol", False)
    if (
        hint is not Any
        and isinstance(hint, type)
        and (not protocol or getattr(hint, "_is_runtime_protocol", False))
    ):
        return _instance(hint)
    return _Kind("anything", lambda value: value)


def _if(fits: Callable[[Any], bool]) -> Callable[[Any], Any]:
    def read(value: Any) -> Any:
        if not fits(value):
            raise _Unfit
        return value

    return read


def _is_number(value: Any) -> bool:
    if not isinstance(value, Real) or isinstance(value, bool):
        return False
    try:
        return isfinite(value)
    except OverflowError:  # a whole number too large for a float
        return False


def _instance(cls: type) -> _Kind:
    return _Kind(f"a {cls.__name__}", _if(lambda value: isinstance(value, cls)))


def _ranged(kind: _Kind, limits: Any) -> _Kind:
    if not isinstance(limits, Within):
        return kind

    def read(value: Any) -> Any:
        if not limits.lowest <= kind.read(value) < limits.highest:
            raise _Unfit
        return value

    return _Kind(f"{kind.words} {limits}", read)


def _any_of(kinds: list[_Kind]) -> _Kind:
    def read(value: Any) -> Any:
        for kind in kinds:
            try:
                return kind.read(value)
            except _Unfit:
                continue
        raise _Unfit

    return _Kind(" or ".join(kind.words for kind in kinds), read)


def _literal(values: tuple[Any, ...]) -> _Kind:
    words = "one of " + ", ".join(map(repr, values))
    return _Kind(words, _if(lambda value: isinstance(value, str) and value in values))


def _array(dtype: Any) -> _Kind:
    """An array of numbers, or lists of them; `dtype` as in `NDArray[...]`."""
    number = next(iter(get_args(dtype)), Any)
    kinds, words = "biuf", "numbers"
    if isinstance(number, type) and issubclass(number, np.bool_):
        kinds, words = "b", "true and false"
    elif isinstance(number, type) and issubclass(number, np.integer):
        kinds, words = "iu", "whole numbers"
    elif isinstance(number, type) and issubclass(number, np.floating):
        kinds = "iuf"

    def read(value: Any) -> Any:
        if not isinstance(value, np.ndarray):
            if not is_sequence(value):
                raise _Unfit
            try:
                value = np.asarray(value)
            except ValueError:  # rows of different lengths
                raise _Unfit from None
        if value.ndim == 0 or value.dtype.kind not in kinds:
            raise _Unfit
        return value

    return _Kind(f"an array of {words}", read)


def _mapping(kind: _Kind) -> _Kind:
    def read(value: Any) -> Any:
        if not isinstance(value, Mapping):
            raise _Unfit
        found = {name: kind.read(own) for name, own in value.items()}
        return value if all(found[name] is own for name, own in value.items()) else found

    return _Kind(f"a mapping to {kind.words}", read)


def _entries(container: type, kind: _Kind) -> _Kind:
    """A list, a tuple or an array; for `Iterable`, anything that can be iterated over but text."""

    def read(value: Any) -> Any:
        if is_sequence(value):
            found = [kind.read(own) for own in value]
            form = tuple if container is tuple else (list, tuple)
            unchanged = isinstance(value, form) and all(map(_same, found, value))
            return value if unchanged else tuple(found) if container is tuple else found
        iterable = container is Iterable and isinstance(value, Iterable)
        if not iterable or isinstance(value, (str, bytes, Mapping, np.ndarray)):
            raise _Unfit
        return [kind.read(own) for own in value]

    return _Kind(f"a list of {kind.words}", read)


def _same(one: Any, other: Any) -> bool:
    return one is other
