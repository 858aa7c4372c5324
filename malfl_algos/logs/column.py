"""A column of a log: its distinct values, and which of them each row has."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from malfl_env.errors import InputError

__all__ = ["MISSING", "Column", "Frame", "of_labels", "of_numbers"]

MISSING = -1
"""Code of a cell without a value."""
_KINDS = {
    "i": "whole numbers",
    "f": "numbers",
    "b": "true or false",
    "M": "times",
    "m": "durations",
    "O": "text",
}


@dataclass(frozen=True, eq=False)
class Column:
    """A column by its distinct values.

    Args:
        name: of the column.
        values: `(n_values,)`, sorted and distinct: int64, finite float64, bool, datetime64, or an
            object array of text.
        codes: int `(n_rows,)`: index of the row's value, -1 for a missing value.
        mixed: a row whose value is a number, if the column mixes numbers and text; else None. The
            values of such a column are text.
    """

    name: str
    values: NDArray[Any]
    codes: NDArray[Any]
    mixed: int | None = None

    @property
    def is_whole(self) -> bool:
        """Whether all values are whole numbers."""
        return self.values.dtype.kind == "i"

    @property
    def is_text(self) -> bool:
        """Whether the values are text."""
        return self.values.dtype.kind == "O"

    @property
    def kind(self) -> str:
        """What the values are, for messages."""
        return _KINDS[self.values.dtype.kind]

    @property
    def missing(self) -> NDArray[np.bool_]:
        """Rows without a value."""
        return np.asarray(self.codes == MISSING)

    def labels(self) -> list[Any]:
        """The distinct values as plain Python values that JSON can hold."""
        if self.values.dtype.kind in "Mm":
            return [str(value) for value in self.values]
        return list(self.values.tolist())

    def used(self) -> Column:
        """The column with those values only that a row has."""
        seen = np.unique(self.codes[~self.missing])
        codes = np.searchsorted(seen, self.codes)
        codes[self.missing] = MISSING
        return Column(self.name, self.values[seen], codes, self.mixed)

    def without_blanks(self) -> Column:
        """The column, in which text that is empty or blank is a missing value."""
        blank = np.array([self.is_text and not value.strip() for value in self.values], dtype=bool)
        if not blank.any():
            return self
        codes = np.where(np.append(blank, False)[self.codes], MISSING, self.codes)
        return Column(self.name, self.values, codes, self.mixed).used()

    def taken(self, rows: NDArray[Any]) -> Column:
        """The column of some rows."""
        return Column(self.name, self.values, self.codes[rows], self.mixed)


@dataclass(frozen=True, eq=False)
class Frame:
    """A table with the names of its columns and of its rows.

    Args:
        names: of the columns, in order.
        get: the column of a name.
        row_name: how messages name a row, by its index from 0.
        parse: turns a column that was read as text into numbers where all its values are numbers;
            None: the types of the columns are those of the frame.
    """

    names: tuple[str, ...]
    get: Callable[[str], Any]
    row_name: Callable[[int], str] = field(default=lambda index: f"row {index}")
    parse: Callable[[str, Any], Column] | None = None


def of_numbers(
    name: str,
    array: NDArray[Any],
    missing: NDArray[np.bool_] | None,
    row_name: Callable[[int], str],
) -> Column:
    """A column of numbers, booleans or times.

    Args:
        name: of the column.
        array: `(n_rows,)`.
        missing: `(n_rows,)`, cells without a value; None: those that are NaN or not a time.
        row_name: names a row in messages.

    Raises:
        InputError: for infinite numbers, and whole numbers beyond 64 bits.
    """
    if missing is None:
        known = array.dtype.kind in "fMm"
        missing = np.isnan(array) if known else np.zeros(len(array), dtype=bool)
    present = array if not missing.any() else array[~missing]
    if array.dtype.kind == "f":
        endless = ~missing & ~np.isfinite(array)
        if endless.any():
            row = int(np.argmax(endless))
            raise InputError(
                f"{row_name(row)}, column {name!r}: {array[row]} is not a finite number"
            )
        whole = np.all(np.abs(present) < 2.0**53) and np.all(present == np.rint(present))
        present = present.astype(np.int64 if whole else np.float64)
    elif array.dtype.kind in "iu":
        if present.size and int(present.max()) >= 2**63:
            raise InputError(f"column {name!r}: {present.max()} is too large, at most 2**63 - 1")
        present = present.astype(np.int64)
    values, inverse = _distinct(present)
    codes = inverse
    if len(present) != len(array):
        codes = np.full(len(array), MISSING, dtype=np.int64)
        codes[~missing] = inverse
    return Column(name, values, codes)


def _distinct(present: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Sorted distinct values and their index; small whole numbers are counted, not sorted."""
    if present.dtype == np.int64 and present.size:
        lowest, highest = int(present.min()), int(present.max())
        if highest - lowest <= 4 * len(present):
            shifted = present - lowest
            seen = np.bincount(shifted) > 0
            place = np.cumsum(seen) - 1
            return np.flatnonzero(seen) + lowest, place[shifted]
    values, inverse = np.unique(present, return_inverse=True)
    return values, np.asarray(inverse, dtype=np.int64).reshape(-1)


def of_labels(name: str, texts: Iterable[str], codes: NDArray[Any]) -> Column:
    """A column of text, from distinct texts in any order and the index of each row's text."""
    given = np.array(list(texts), dtype=object)
    values, place = np.unique(given, return_inverse=True)
    if not len(given):
        return Column(name, values, codes)
    sorted_codes = np.asarray(place).reshape(-1)[codes]
    sorted_codes[codes == MISSING] = MISSING
    return Column(name, values, sorted_codes)
