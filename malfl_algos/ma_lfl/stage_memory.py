"""Arrays that were computed from a stage and are needed again, kept as long as the stage lives.

Every fit starts from the policies that the counts tell, and the recoveries of a trend from the
first 2, 3, ... stages repeat what shorter ones did, so the same arrays are asked for many times.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from hashlib import blake2b
from threading import Lock
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from malfl_algos.ma_lfl.stages import StageArrays

__all__ = ["MOST_KEPT", "digest", "kept"]

Made = TypeVar("Made")

MOST_KEPT = 2**20
"""Up to so many numbers are kept of a stage; those that were not used for longest are dropped."""
_Kept = OrderedDict[Hashable, tuple[int, Any]]
_kept: WeakKeyDictionary[StageArrays, _Kept] = WeakKeyDictionary()
_lock = Lock()


def kept(
    stage: StageArrays, key: Hashable, make: Callable[[], Made], size: Callable[[Made], int]
) -> Made:
    """What `make` returns, made once for a stage and key as long as it is remembered.

    Args:
        stage: what it is computed from.
        key: whatever else it depends on.
        make: makes it.
        size: its number of entries. If less than three others would find room beside it, it is not
            kept.

    Returns:
        What was made; it may not be modified.
    """
    with _lock:
        known = _kept.setdefault(stage, OrderedDict())
        if key in known:
            known.move_to_end(key)
            found: Made = known[key][1]
            return found
    found = make()
    n_numbers = size(found)
    if 4 * n_numbers > MOST_KEPT:
        return found
    with _lock:
        known[key] = n_numbers, found
        while sum(own for own, _ in known.values()) > MOST_KEPT:
            known.popitem(last=False)
    return found


def digest(arrays: Sequence[NDArray[Any]]) -> bytes:
    """A hash of the contents of arrays of known shapes."""
    found = blake2b(digest_size=16)
    for array in arrays:
        found.update(np.ascontiguousarray(array).tobytes())
    return found.digest()
