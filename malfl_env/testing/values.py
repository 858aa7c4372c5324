"""Functions of values that an environment returns: copies, differences, inner arrays, fingerprints.

A returned value is any nesting of mappings, lists and tuples around arrays and scalars. Objects of
other types are not copied, and are compared by their own equality. An object without one, which
Python compares by identity, counts as equal.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any

import numpy as np

from malfl_env.checks import shown

__all__ = ["difference", "fingerprint", "overwrite", "pieces", "snapshot"]

# Types whose == returns a bool: a short cut for most comparisons.
_PLAIN = frozenset({bool, int, float, str, type(None)})


def snapshot(value: Any) -> Any:
    """A copy that shares no array and no container with `value`."""
    if isinstance(value, np.ndarray):
        return value.copy()
    if isinstance(value, Mapping):
        return {key: snapshot(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        items = [snapshot(item) for item in value]
        return items if isinstance(value, list) else tuple(items)
    return value


def difference(left: Any, right: Any, path: str = "") -> str | None:
    """Where two values first differ, as `path: left and right`; None if they are equal.

    Equality is exact; NaN equals NaN. A list equals the tuple of the same items.
    """
    if type(left) in _PLAIN and left == right:
        return None
    if isinstance(left, np.ndarray) and isinstance(right, np.ndarray):
        return _array_difference(left, right, path)
    if isinstance(left, Mapping) and isinstance(right, Mapping):
        if left.keys() != right.keys():
            return f"{path}: keys {shown(list(left))} and {shown(list(right))}"
        gaps = (difference(left[key], right[key], f"{path}[{key!r}]") for key in left)
        return next((gap for gap in gaps if gap), None)
    if isinstance(left, (list, tuple)) and isinstance(right, (list, tuple)):
        if len(left) != len(right):
            return f"{path}: {shown(left)} and {shown(right)}"
        items = enumerate(zip(left, right, strict=True))
        gaps = (difference(one, other, f"{path}[{index}]") for index, (one, other) in items)
        return next((gap for gap in gaps if gap), None)
    return None if _equal(left, right) else f"{path}: {shown(left)} and {shown(right)}"


def _array_difference(left: np.ndarray, right: np.ndarray, path: str) -> str | None:
    if left.shape != right.shape or left.dtype != right.dtype:
        return f"{path}: {left.dtype}{left.shape} and {right.dtype}{right.shape}"
    if left.dtype == object:
        return difference(left.tolist(), right.tolist(), path)
    unequal = left != right
    if left.dtype.kind in "fc":
        unequal &= ~(np.isnan(left) & np.isnan(right))
    if not unequal.any():
        return None
    index = tuple(int(axis[0]) for axis in np.nonzero(np.atleast_1d(unequal)))
    one, other = np.atleast_1d(left)[index], np.atleast_1d(right)[index]
    place = f"[{', '.join(map(str, index))}]" if left.ndim else ""
    return f"{path}{place}: {one} and {other}"


def _has_equality(value: Any) -> bool:
    return any("__eq__" in vars(kind) for kind in type(value).__mro__[:-1])


def _equal(left: Any, right: Any) -> bool:
    if type(left) is type(right) and not _has_equality(left):
        return True
    if isinstance(left, float) and isinstance(right, float) and math.isnan(left):
        return math.isnan(right)
    return bool(np.all(left == right))


def pieces(value: Any) -> Iterator[Any]:
    """The arrays, dicts and lists inside a value: everything that can be written to."""
    if isinstance(value, np.ndarray):
        yield value
    elif isinstance(value, Mapping):
        yield value
        yield from chain.from_iterable(map(pieces, value.values()))
    elif isinstance(value, (list, tuple)):
        if isinstance(value, list):
            yield value
        yield from chain.from_iterable(map(pieces, value))


def overwrite(value: Any) -> None:
    """Change every element of every writable number array inside a value."""
    for piece in pieces(value):
        if isinstance(piece, np.ndarray) and piece.flags.writeable:
            if piece.dtype.kind in "bui":
                np.bitwise_not(piece, out=piece)
            elif piece.dtype.kind == "f":
                piece[...] = np.where(np.isfinite(piece) & (piece != 0), -piece, 1)


def fingerprint(value: Any) -> str:
    """A short hash that is equal for equal values, in any process.

    Mappings are read in the order of their sorted keys. Objects that compare by identity contribute
    their type only.
    """
    digest = hashlib.sha256()
    for part in _parts(value):
        digest.update(part)
        digest.update(b"\0")
    return digest.hexdigest()[:16]


def _parts(value: Any) -> Iterator[bytes]:
    if isinstance(value, np.ndarray) and value.dtype != object:
        yield f"{value.dtype}{value.shape}".encode()
        yield value.tobytes()
    elif isinstance(value, Mapping):
        for key in sorted(value, key=repr):
            yield repr(key).encode()
            yield from _parts(value[key])
    elif isinstance(value, (list, tuple, np.ndarray)):
        yield str(len(value)).encode()
        yield from chain.from_iterable(map(_parts, value))
    elif not _has_equality(value):
        yield type(value).__name__.encode()
    else:
        yield repr(value).encode()
