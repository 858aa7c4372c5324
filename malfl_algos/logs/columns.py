"""The columns of any frame.

A frame is anything with columns: a mapping of names to arrays or lists, and the tables of pandas,
polars and pyarrow. None of these packages is imported, except pyarrow for a column of pyarrow.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import timezone
from decimal import Decimal
from difflib import get_close_matches
from typing import Any

import numpy as np
from numpy.typing import NDArray

from malfl_algos.logs.column import MISSING, Column, Frame, of_labels, of_numbers
from malfl_env.checks import shown
from malfl_env.errors import InputError

__all__ = ["as_frame", "read_column", "read_columns"]


def as_frame(frame: Any) -> Frame:
    """A `Frame` of anything with columns.

    Raises:
        InputError: for anything else.
    """
    if isinstance(frame, Frame):
        return frame
    names = getattr(frame, "column_names", None)  # pyarrow
    if names is None:
        names = getattr(frame, "columns", None)  # pandas, polars
    if names is None and isinstance(frame, Mapping):
        names = frame.keys()
    if names is None:
        names = getattr(getattr(frame, "dtype", None), "names", None)  # a structured array
    if names is None or isinstance(names, str) or not isinstance(names, Iterable):
        raise InputError(
            "frame must have columns (a mapping of names to arrays, or a table of pandas, polars "
            f"or pyarrow), got {shown(frame)}"
        )
    keys = {str(name): name for name in names}
    return Frame(tuple(map(str, names)), lambda name: frame[keys[name]])


def read_column(frame: Frame, name: str, what: str) -> Column:
    """One column of a frame.

    Args:
        frame: the table.
        name: of the column.
        what: what the column is for, in messages.

    Raises:
        InputError: for a column that is missing or named twice, or whose values are neither
            numbers, text, true and false, nor times.
    """
    columns = read_columns(frame, name, what)
    if len(columns) != 1:
        raise InputError(f"{what}: column {name!r} holds lists of {len(columns)} values, not one")
    return columns[0]


def read_columns(frame: Frame, name: str, what: str) -> list[Column]:
    """The columns that one column of a frame stands for: several if it holds lists.

    Errors as in `read_column`; all lists must have one length.
    """
    if not isinstance(name, str):
        raise InputError(f"{what} must be the name of a column, got {shown(name)}")
    count = frame.names.count(name)
    if count != 1:
        fault = "there is no column" if count == 0 else f"{count} columns are named"
        near = get_close_matches(name, frame.names, n=1)
        hint = f", did you mean {near[0]!r}?" if near and not count else ""
        raise InputError(
            f"{what}: {fault} {name!r}{hint} (columns: {', '.join(map(repr, frame.names[:30]))})"
        )
    try:
        raw = frame.get(name)
    except Exception as fault:  # of any type, for example for a table that is not computed yet
        words = " ".join(str(fault).split())[:200]
        raise InputError(f"column {name!r} cannot be read: {words}") from fault
    if frame.parse is not None:
        return [frame.parse(name, raw)]
    if type(raw).__module__.split(".")[0] == "pyarrow":
        from malfl_algos.logs.arrow_columns import read_arrow

        found = read_arrow(name, raw, frame.row_name)
        return [found] if isinstance(found, Column) else _of_array(frame, name, found)
    return _of_array(frame, name, _as_array(name, raw))


def _as_array(name: str, raw: Any) -> NDArray[Any]:
    to_numpy = getattr(raw, "to_numpy", None)
    try:
        array = to_numpy() if callable(to_numpy) else np.asarray(_plain(raw))
    except ValueError:  # lists of different lengths
        array = np.empty(len(raw), dtype=object)
        array[:] = list(raw)
    if not isinstance(array, np.ndarray) or array.ndim not in (1, 2):
        raise InputError(f"column {name!r} must be (n_rows,) or (n_rows, n), got {shown(raw)}")
    return array


def _plain(raw: Any) -> Any:
    """A list that NumPy must not turn into text: `[1, "a"]` stays what it is."""
    if not isinstance(raw, (list, tuple)):
        return raw
    kinds = {type(value) for value in raw}
    if kinds <= {int} or kinds <= {float} or kinds <= {bool}:
        return raw
    array = np.empty(len(raw), dtype=object)
    array[:] = raw
    return array


def _of_array(frame: Frame, name: str, array: NDArray[Any]) -> list[Column]:
    if array.dtype == object and array.ndim == 1:
        array = _of_lists(frame, name, array)
    if array.ndim == 2:
        return [
            _of_array(frame, f"{name}[{index}]", array[:, index])[0]
            for index in range(array.shape[1])
        ]
    if array.dtype.kind == "S":
        array = np.char.decode(array, "utf-8", "replace")
    if array.dtype.kind == "U":
        array = array.astype(object)
    if array.dtype == object:
        return [_of_objects(frame, name, array)]
    if array.dtype.kind not in "biufMm":
        raise InputError(
            f"column {name!r} must hold numbers, text, true and false, or times, got {array.dtype}"
        )
    return [of_numbers(name, array, None, frame.row_name)]


def _of_lists(frame: Frame, name: str, array: NDArray[Any]) -> NDArray[Any]:
    """An object array of lists of one length as an array of two axes; any other unchanged."""
    first = next((value for value in array if value is not None), None)
    if not isinstance(first, (list, tuple, np.ndarray)):
        return array
    for row, value in enumerate(array):
        if not isinstance(value, (list, tuple, np.ndarray)) or len(value) != len(first):
            raise InputError(
                f"{frame.row_name(row)}, column {name!r}: {shown(value)} is not a list of "
                f"{len(first)} values, as the first one is"
            )
    found = np.empty((len(array), len(first)), dtype=object)
    for row, value in enumerate(array):
        found[row] = value
    return found


def _of_objects(frame: Frame, name: str, array: NDArray[Any]) -> Column:
    """A column of Python values; numbers among text are text, and the column is `mixed`."""
    index: dict[Any, int] = {}
    try:
        codes = np.array([index.setdefault(value, len(index)) for value in array], dtype=np.int64)
    except TypeError:
        row, value = next((r, v) for r, v in enumerate(array) if not _hashable(v))
        raise InputError(
            f"{frame.row_name(row)}, column {name!r}: {shown(value)} is no number and no text"
        ) from None
    kinds = [_kind(value) for value in index]
    for place, kind in enumerate(kinds):
        if kind == "?":
            row = int(np.argmax(codes == place))
            raise InputError(
                f"{frame.row_name(row)}, column {name!r}: {shown(array[row])} is no number, text, "
                "true, false or time"
            )
    present = {kind for kind in kinds if kind}
    if present <= {"i", "f"} or present in ({"b"}, {"M"}):
        return _of_plain(frame, name, list(index), kinds, codes)
    texts = [str(value) for value in index]
    distinct = {text: place for place, text in enumerate(dict.fromkeys(texts))}
    turned = np.array([distinct[t] if k else MISSING for t, k in zip(texts, kinds, strict=True)])
    own = turned[codes]
    unused = [text for text, kind in zip(texts, kinds, strict=True) if not kind]
    column = of_labels(name, distinct, own)
    column = column.used() if unused else column
    if present == {"O"}:
        return column
    numbers = np.array([kind in ("i", "f") for kind in kinds])
    return Column(name, column.values, column.codes, int(np.argmax(numbers[codes])))


def _of_plain(
    frame: Frame, name: str, values: list[Any], kinds: list[str], codes: NDArray[Any]
) -> Column:
    """A column of values of one kind; whole and real numbers are one kind."""
    missing = np.array([not kind for kind in kinds], dtype=bool)
    filler = next((v for v, kind in zip(values, kinds, strict=True) if kind), 0)
    plain = [filler if gone else value for value, gone in zip(values, missing, strict=True)]
    if kinds and "M" in kinds:
        array = np.array([_time(value) for value in plain])
    else:
        array = np.array([float(own) if isinstance(own, Decimal) else own for own in plain])
    if array.dtype == object:
        raise InputError(f"column {name!r}: {shown(plain[0])} is too large, at most 2**63 - 1")
    return of_numbers(name, array[codes], missing[codes], frame.row_name)


def _kind(value: Any) -> str:
    """The kind of a Python value as of an array; "?" for others.

    It is empty for a missing value: None, NaN, blank text.
    """
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return ""
    if isinstance(value, (bool, np.bool_)):
        return "b"
    if isinstance(value, (int, np.integer)):
        return "i"
    if isinstance(value, (float, np.floating, Decimal)):
        return "" if value != value else "f"
    if isinstance(value, str):
        return "O" if value.strip() else ""
    if hasattr(value, "isoformat"):
        return "M"
    return "?"


def _time(value: Any) -> np.datetime64:
    """A date or a time, in UTC if it has a zone."""
    if getattr(value, "tzinfo", None) is not None:
        value = value.astimezone(timezone.utc).replace(tzinfo=None)
    return np.datetime64(value, "us")


def _hashable(value: Any) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True
