"""Arithmetic of the pictures: bands over seeds with missing values, and standardised maps.

A correlation is missing where it is not defined (a constant truth, a constant estimate): files of a
run write null or nothing, arrays here carry NaN.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from malfl_algos.scores import mean_interval

__all__ = ["standardise", "student_band"]

FloatArray = NDArray[np.float64]


def student_band(values: FloatArray) -> FloatArray:
    """Mean over seeds, and its 95 % Student t interval.

    Args:
        values: `(n_seeds, ...)`; NaN = missing.

    Returns:
        `(3, ...)`: lower end, mean, upper end. A mean is NaN where no seed has a value, an end
        where fewer than two have one.
    """
    columns = values.reshape(len(values), -1).T
    band = np.full((3, len(columns)), np.nan)
    for position, column in enumerate(columns):
        present = {seed: [float(v)] for seed, v in enumerate(column) if not np.isnan(v)}
        result = mean_interval(present)
        if result.mean is not None:
            band[1, position] = result.mean
        if result.interval is not None:
            band[[0, 2], position] = result.interval
    return band.reshape(3, *values.shape[1:])


def standardise(values: FloatArray) -> FloatArray:
    """Values, any shape, with mean 0 and standard deviation 1; what is not finite becomes NaN.

    A constant becomes 0.
    """
    finite = np.isfinite(values)
    present = values[finite]
    if not present.size:
        return np.full(values.shape, np.nan)
    spread = present.std()
    if spread <= 1e-12 * np.abs(present).max():
        spread = np.inf
    return np.where(finite, (np.where(finite, values, 0.0) - present.mean()) / spread, np.nan)
