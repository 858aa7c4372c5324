"""The forms in which agents observe a joint state of the grid world.

The *digits* of a joint state are the row and column of every agent, in agent order. The forms are

- "cells": the digits themselves, int64, in a `MultiDiscrete`;
- "one_hot": for every digit a block of zeros with a one at the digit, float32, in a `Box` from 0 to
  1. The blocks follow each other, as in `gymnasium.spaces.flatten` of the "cells";
- "coordinates": every digit divided by its largest value, float32, in a `Box` from 0 to 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any, TypeAlias

import numpy as np
from gymnasium.spaces import Box, MultiDiscrete
from numpy.typing import NDArray

from malfl_env.arguments import typed
from malfl_env.checks import shown
from malfl_env.errors import InputError

__all__ = ["FORMS", "observation_digits", "observation_space", "observations_of"]

IntArray = NDArray[np.int64]
FormArray: TypeAlias = NDArray[Any]

FORMS = ("cells", "one_hot", "coordinates")


@typed
def observation_space(form: str, shape: Sequence[int]) -> Any:
    """The space of the observations of one form.

    Args:
        form: one of `FORMS`.
        shape: number of values of every digit.
    """
    if form == "cells":
        return MultiDiscrete(list(shape))
    size = sum(shape) if form == "one_hot" else len(shape)
    return Box(0.0, 1.0, (size,), np.float32)


@typed
def observations_of(form: str, digits: IntArray, shape: Sequence[int]) -> FormArray:
    """Observations of joint states.

    Args:
        form: one of `FORMS`.
        digits: int64 `(..., n_digits)`, each below its entry of `shape`.
        shape: number of values of every digit.

    Returns:
        `(..., n_digits)`, for "one_hot" `(..., sum(shape))`; for "cells" the digits themselves.
    """
    if digits.shape[-1] != len(shape):
        raise InputError(f"shape must have {digits.shape[-1]} entries, one per digit; got {shape}")
    return _encoded(form, digits, shape)


def _encoded(form: str, digits: FormArray, shape: Sequence[int]) -> FormArray:
    if form == "cells":
        return digits
    if form == "coordinates":
        return (digits / _largest(shape)).astype(np.float32)
    encoded = np.zeros((*digits.shape[:-1], sum(shape)), dtype=np.float32)
    np.put_along_axis(encoded, digits + _offsets(shape), 1.0, axis=-1)
    return encoded


@typed
def observation_digits(form: str, observation: Any, shape: Sequence[int]) -> IntArray:
    """Digits of observations, the inverse of `observations_of`.

    Args:
        form: one of `FORMS`.
        observation: `(..., n)` of this form. Whole numbers `(..., n_digits)` of an integer type are
            digits in every form.
        shape: number of values of every digit.

    Raises:
        InputError: for anything that is not the observation of a joint state.
    """
    if not len(shape):
        raise InputError(f"shape must have an entry for each digit, got {shown(shape)}")
    try:
        given = np.asarray(observation)
    except ValueError:  # rows of different lengths
        given = np.asarray(None)
    whole = given.dtype.kind in "iu" and given.shape[-1:] == (len(shape),)
    digits = given if form == "cells" or whole else _decoded(form, given, shape)
    if digits is None or not _are_digits(digits, shape):
        raise InputError(
            f"an observation must be {_allowed(form, shape)}; got {shown(observation)}"
        )
    numbers: IntArray = digits.astype(np.int64)
    return numbers


def _decoded(form: str, given: FormArray, shape: Sequence[int]) -> FormArray | None:
    """The digits whose observations are exactly the given ones; None if there are none."""
    size = sum(shape) if form == "one_hot" else len(shape)
    if given.dtype.kind not in "iuf" or given.shape[-1:] != (size,):
        return None
    if form == "coordinates":
        nearest = np.rint(given * _largest(shape))
    else:
        blocks = np.split(given, _offsets(shape)[1:], axis=-1)
        nearest = np.stack([block.argmax(axis=-1) for block in blocks], axis=-1)
    again = _encoded(form, nearest, shape)
    return nearest if np.array_equal(again, given.astype(np.float32)) else None


def _are_digits(digits: FormArray, shape: Sequence[int]) -> bool:
    if digits.dtype.kind not in "iuf" or digits.shape[-1:] != (len(shape),):
        return False
    return bool(np.all((digits >= 0) & (digits < shape) & (digits == np.floor(digits))))


def _largest(shape: Sequence[int]) -> IntArray:
    """The largest value of every digit; 1 for a digit that has one value, 0."""
    return np.maximum(np.array(shape, dtype=np.int64) - 1, 1)


def _offsets(shape: Sequence[int]) -> IntArray:
    """Position at which the one-hot block of every digit begins."""
    return np.array([0, *accumulate(shape)][: len(shape)], dtype=np.int64)


def _allowed(form: str, shape: Sequence[int]) -> str:
    """What an observation may be, for a message."""
    values = shown(tuple(int(size) for size in shape))
    whole = f"{len(shape)} whole numbers >= 0 and below {values}"
    if form == "cells":
        return whole
    if form == "coordinates":
        return f"{whole}, or the same numbers, each divided by its largest value"
    return f"{whole}, or their one-hot blocks, {sum(shape)} numbers in all"
