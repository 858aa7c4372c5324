"""Columns of pyarrow.

`to_numpy` and `pyarrow.array` import pandas wherever it is installed, which takes longer than
reading a million rows. Numbers are therefore taken from their buffers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow
from numpy.typing import NDArray
from pyarrow import compute, types

from malfl_algos.logs.column import MISSING, Column, of_labels, of_numbers
from malfl_env.errors import InputError

__all__ = ["read_arrow", "values_of"]


def read_arrow(name: str, raw: Any, row_name: Callable[[int], str]) -> Column | NDArray[Any]:
    """A column of a pyarrow table; one of lists, or of rare types, as an array.

    Args:
        name: of the column.
        raw: a pyarrow array, in chunks or not.
        row_name: names a row in messages.

    Raises:
        InputError: for lists of different lengths, and text that is not UTF-8.
    """
    array = _whole(raw)
    kind = array.type
    if types.is_dictionary(kind) and not _is_text(kind.value_type):
        array = array.cast(kind.value_type)
        kind = array.type
    if types.is_fixed_size_list(kind) or types.is_list(kind) or types.is_large_list(kind):
        return _lists(name, array, row_name)
    if _is_text(kind) or types.is_dictionary(kind):
        return _text(name, array)
    if array.null_count == len(array):
        return Column(name, np.array([], dtype=object), np.full(len(array), MISSING))
    if types.is_decimal(kind):
        array = array.cast(pyarrow.float64())
    missing = values_of(array.is_null())
    if array.null_count:
        array = array.fill_null(array.drop_null()[0])
    values = values_of(array)
    if values.dtype.kind == "f":
        missing = missing | np.isnan(values)
    if values.dtype.kind not in "biufMm":
        return values
    return of_numbers(name, values, missing, row_name)


def values_of(raw: Any) -> NDArray[Any]:
    """A pyarrow array, in chunks or not, as an array of NumPy."""
    array = _whole(raw)
    kind = array.type
    if array.null_count:
        return np.asarray(array.to_numpy(zero_copy_only=False))
    if types.is_boolean(kind):
        return values_of(array.cast(pyarrow.uint8())).astype(bool)
    if types.is_timestamp(kind) or types.is_duration(kind):
        letter = "M" if types.is_timestamp(kind) else "m"
        return values_of(array.cast(pyarrow.int64())).view(f"{letter}8[{kind.unit}]")
    if not (types.is_integer(kind) or types.is_floating(kind)):
        return np.asarray(array.to_numpy(zero_copy_only=False))
    dtype = np.dtype(kind.to_pandas_dtype())
    buffer = array.buffers()[1]
    if buffer is None:
        return np.array([], dtype=dtype)
    return np.frombuffer(buffer, dtype, len(array), array.offset * dtype.itemsize)


def _whole(raw: Any) -> Any:
    """The array in one chunk."""
    if not isinstance(raw, pyarrow.ChunkedArray):
        return raw
    if types.is_dictionary(raw.type):
        raw = raw.unify_dictionaries()
    if not raw.num_chunks:
        return pyarrow.array([], raw.type)
    array = raw.combine_chunks()
    return array.chunk(0) if isinstance(array, pyarrow.ChunkedArray) else array


def _is_text(kind: Any) -> bool:
    return bool(types.is_string(kind) or types.is_large_string(kind))


def _text(name: str, array: Any) -> Column:
    encoded = array if types.is_dictionary(array.type) else array.dictionary_encode()
    codes = values_of(encoded.indices.drop_null()).astype(np.int64)
    if encoded.null_count:
        known = ~values_of(encoded.indices.is_null())
        present, codes = codes, np.full(len(encoded), MISSING, dtype=np.int64)
        codes[known] = present
    try:
        return of_labels(name, encoded.dictionary.to_pylist(), codes).without_blanks()
    except UnicodeError as fault:
        raise InputError(f"column {name!r} holds text that is not UTF-8: {fault}") from fault


def _lists(name: str, array: Any, row_name: Callable[[int], str]) -> NDArray[Any]:
    lengths = values_of(compute.list_value_length(array).fill_null(-1))
    wrong = lengths != (lengths[0] if len(lengths) else 0)
    if wrong.any() or (len(lengths) and lengths[0] < 1):
        row = int(np.argmax(wrong))
        raise InputError(
            f"{row_name(row)}, column {name!r}: all lists must have one length >= 1, this one has "
            f"{max(lengths[row], 0)}, the first {max(lengths[0], 0)}"
        )
    return values_of(array.flatten()).reshape(len(lengths), -1)
