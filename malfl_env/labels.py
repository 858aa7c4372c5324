"""Labels of states and actions: what they may be, and their form in JSON."""

from __future__ import annotations

from collections.abc import Iterable
from math import isfinite
from typing import Any, TypeAlias

from malfl_env.checks import shown
from malfl_env.errors import InputError

__all__ = ["Label", "check_labels", "label_key", "label_text", "labels_from_json", "labels_to_json"]

Label: TypeAlias = "str | int | float | bool | tuple[str | int | float | bool, ...]"


def check_labels(what: str, given: Any, size: int) -> tuple[Label, ...]:
    """The labels as a tuple.

    Args:
        what: what is labelled, in messages.
        given: text, finite numbers, true or false, or tuples of these; all distinct.
        size: how many there must be.

    Raises:
        InputError: for anything else.
    """
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise InputError(f"{what} must be a list of labels, got {shown(given)}")
    labels = tuple(given)
    if len(labels) != size:
        raise InputError(f"{what} must have {size} labels, got {len(labels)}")
    wrong = next((own for own in labels if not _is_label(own)), None)
    if wrong is not None or None in labels:
        raise InputError(
            f"{what} must be text, finite numbers, true or false, or tuples of these; got "
            f"{shown(wrong)}"
        )
    seen = set()
    for label in labels:
        if label in seen:
            raise InputError(f"{what} must be distinct, got {shown(label)} twice")
        seen.add(label)
    return labels


def label_text(label: Label) -> str:
    """A label as text; the values of a tuple are joined by commas."""
    return ",".join(map(str, label)) if isinstance(label, tuple) else str(label)


def label_key(label: Label) -> str:
    """Text under which labels are compared: numbers by value, so that 1.20 is 1.2."""
    return ",".join(map(_key_of_part, label_text(label).split(",")))


def _key_of_part(text: str) -> str:
    try:
        number = float(text)
    except ValueError:
        return text.strip()
    return repr(number) if isfinite(number) else text.strip()


def labels_to_json(labels: Iterable[Label]) -> list[Any]:
    """Labels as JSON values: a tuple is a list."""
    return [list(own) if isinstance(own, tuple) else own for own in labels]


def labels_from_json(given: Any) -> Any:
    """The inverse of `labels_to_json`; `check_labels` checks the result."""
    if not isinstance(given, list):
        return given
    return tuple(tuple(own) if isinstance(own, list) else own for own in given)


def _is_label(value: Any) -> bool:
    if isinstance(value, tuple):
        return all(type(own) in _SCALARS and _is_label(own) for own in value)
    return type(value) in _SCALARS and not (type(value) is float and not isfinite(value))


_SCALARS = (str, int, float, bool)
