"""Which rows of an array are alike: numbers for distinct observations and steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from malfl_algos.play.spaces import AnySpace, discrete_range
from malfl_env.errors import InputError

__all__ = ["distinct_observations", "number_columns"]

IntArray = NDArray[np.int64]

_TABLE = 1 << 24
"""Keys below this are numbered through a table, larger ones by sorting."""
_LARGEST = 1 << 62


def number_columns(columns: Sequence[NDArray[Any]], sizes: Sequence[int]) -> tuple[IntArray, ...]:
    """Number the distinct rows of whole numbers.

    Args:
        columns: each `(n,)`, whole numbers in `0..size - 1`.
        sizes: of each column.

    Returns:
        Where each distinct row is found first `(n_distinct,)`, in the order of the rows as digits,
        and the number of every row's `(n,)`.
    """
    key, bound = np.zeros(len(columns[0]), dtype=np.int64), 1
    for column, size in zip(columns, sizes, strict=True):
        if bound * size > _LARGEST:
            places, key = _number(key, bound)
            bound = len(places)
        key, bound = key * size + column, bound * size
    return _number(key, bound)


def distinct_observations(
    arrays: Sequence[NDArray[Any]], space: AnySpace
) -> tuple[NDArray[Any], list[IntArray]]:
    """Distinct observations in some arrays `(n, ...)` of one space.

    Returns:
        The observations `(n_distinct, ...)`, and for each array the number of every observation's.
    """
    if isinstance(space, (spaces.Discrete, spaces.MultiDiscrete)):
        starts, sizes = discrete_range(space)
        keyed = [
            _digits(array.reshape(len(array), -1).astype(np.int64) - starts, sizes)
            for array in arrays
        ]
    else:
        keyed = [[_hashed(array)] for array in arrays]
        sizes = np.array([_LARGEST])
    lengths = np.cumsum([0, *(len(array) for array in arrays)])
    # arrays first, so that no more than one of them is held as keys of 64 bits per digit
    partial = [number_columns(columns, sizes.tolist()) for columns in keyed]
    firsts = [array[places] for array, (places, _) in zip(arrays, partial, strict=True)]
    heads = [
        [column[places] for column in columns]
        for columns, (places, _) in zip(keyed, partial, strict=True)
    ]
    joined = [np.concatenate(columns) for columns in zip(*heads, strict=True)]
    places, number = number_columns(joined, sizes.tolist())
    lengths = np.cumsum([0, *(len(first) for first in firsts)])
    numbers = [
        number[begin:end][which]
        for begin, end, (_, which) in zip(lengths[:-1], lengths[1:], partial, strict=True)
    ]
    return np.concatenate(firsts)[places], numbers


def _digits(digits: IntArray, sizes: NDArray[np.int64]) -> list[IntArray]:
    if digits.size and not np.all((digits >= 0) & (digits < sizes)):
        raise InputError("observations are not of their space: some digits are out of range")
    return list(digits.T)


def _number(key: IntArray, bound: int) -> tuple[IntArray, IntArray]:
    """Places of the distinct keys, sorted by key, and the number of every key's."""
    if bound > max(_TABLE, 4 * len(key)):
        _, places, which = np.unique(key, return_index=True, return_inverse=True)
        return places.astype(np.int64), which.astype(np.int64)
    first = np.full(bound, -1, dtype=np.int64)
    first[key[::-1]] = np.arange(len(key))[::-1]
    there = first >= 0
    return first[there], (np.cumsum(there) - 1)[key]


def _hashed(array: NDArray[Any]) -> IntArray:
    """A key of 62 bits for the bytes of every row; two distinct rows share one in 1e18 pairs."""
    rows = np.ascontiguousarray(array.reshape(len(array), -1))
    if rows.dtype.kind == "f":
        rows = rows + 0.0  # the two zeros are one number
    words = rows.view(np.uint8).reshape(len(rows), -1)
    words = np.pad(words, ((0, 0), (0, -words.shape[1] % 8)))
    key = np.zeros(len(rows), dtype=np.uint64)
    for column in np.ascontiguousarray(words).view(np.uint64).T:
        key = (key ^ column) * np.uint64(0x9E3779B97F4A7C15)
        key ^= key >> np.uint64(29)
    return (key >> np.uint64(2)).astype(np.int64)
