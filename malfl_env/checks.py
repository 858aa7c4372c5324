"""Checks of arguments.

Each check returns the plain Python value, or raises an `InputError` that names the option, the
value and what is allowed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal
from difflib import get_close_matches
from math import inf
from numbers import Real
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import NDArray

from malfl_env.errors import InputError

__all__ = [
    "LONGEST_SHOWN",
    "MAX_TABLE_BYTES",
    "TEMPERATURES",
    "check_choice",
    "check_count",
    "check_fraction",
    "check_numbers",
    "check_table_bytes",
    "is_sequence",
    "is_whole",
    "shown",
]

MAX_TABLE_BYTES = 2 * 2**30
"""Largest joint table, in bytes, that is built: 2 GiB on every machine, so that all machines accept
the same games. Assign another number to change the limit."""
TEMPERATURES = (1e-50, 1e50)
"""Least and largest temperature whose powers and quotients double precision holds."""
LONGEST_SHOWN = 200
"""Characters of a value that a message shows."""


def shown(value: object) -> str:
    """A value as one line of a message, at most `LONGEST_SHOWN` characters of it."""
    try:
        text = " ".join(repr(value).split())
    except (ValueError, RecursionError):  # a whole number of thousands of digits, or deep nesting
        text = f"a {type(value).__name__} too large to show"
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}..."


def is_whole(value: object) -> TypeGuard[int]:
    """Whether a value is a whole number: a Python or NumPy integer, but not a boolean."""
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def is_sequence(value: object) -> TypeGuard[Sequence[Any]]:
    """Whether a value is a list, a tuple or an array with at least one axis."""
    return isinstance(value, (list, tuple)) or (isinstance(value, np.ndarray) and value.ndim > 0)


def check_count(name: str, value: object, *, minimum: int) -> int:
    """A whole number that is at least `minimum`, as an int.

    Raises:
        InputError: for any other value, also for booleans and for floats such as 3.0.
    """
    if not is_whole(value) or value < minimum:
        raise InputError(f"{name} must be a whole number >= {minimum}, got {shown(value)}")
    return int(value)


def check_fraction(name: str, value: object) -> float:
    """A number in [0, 1], as a float.

    Raises:
        InputError: for any other value, also for NaN and booleans.
    """
    if isinstance(value, Real) and not isinstance(value, bool):
        try:
            number = float(value)
        except OverflowError:  # a whole number too large for a float
            number = inf
        if 0.0 <= number <= 1.0:
            return number
    raise InputError(f"{name} must be a number from 0 to 1, got {shown(value)}")


def check_choice(name: str, value: object, choices: Iterable[str]) -> str:
    """One of the given strings.

    Raises:
        InputError: for any other value; it lists the choices and suggests the nearest one.
    """
    known = list(choices)
    if isinstance(value, str) and value in known:
        return value
    near = get_close_matches(value, known, n=1) if isinstance(value, str) else []
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    allowed = ", ".join(repr(choice) for choice in known)
    raise InputError(f"{name} must be one of {allowed}; got {shown(value)}{hint}")


def check_numbers(name: str, values: object, *, allowed: str) -> NDArray[np.float64]:
    """A float64 copy of an array of whole or real numbers.

    Raises:
        InputError: for anything else (strings, booleans, complex numbers, one number alone, rows of
            different lengths). The message quotes `allowed`.
    """
    try:
        array = np.asarray(values)
    except ValueError:  # rows of different lengths
        array = np.asarray(None)
    if array.dtype.kind not in "iuf" or array.ndim == 0:
        raise InputError(f"{name} must be {allowed}, got {shown(values)}")
    return array.astype(np.float64)


def check_table_bytes(n_bytes: int, what: str, advice: str = "choose a smaller game") -> None:
    """Reject a joint table that is too large, before memory is allocated for it.

    Args:
        n_bytes: size of the table in bytes.
        what: name of the table.
        advice: what the user can do instead of raising the limit.

    Raises:
        InputError: if the table needs more than `MAX_TABLE_BYTES`; the message states its size.
    """
    if n_bytes > MAX_TABLE_BYTES:
        raise InputError(
            f"{what} would take {_readable(n_bytes)} of memory, the limit is "
            f"{_readable(MAX_TABLE_BYTES)}; {advice}, or raise "
            f"malfl_env.checks.MAX_TABLE_BYTES if this machine has the memory"
        )


def _readable(n_bytes: int) -> str:
    """A number of bytes in a suitable unit; the number may have any length."""
    if n_bytes < 2**20:
        return f"{n_bytes} bytes"
    if n_bytes < 2**60:
        return f"{n_bytes / 2**30:.3g} GiB ({n_bytes} bytes)"
    return f"{Decimal(n_bytes):.1e} bytes"
