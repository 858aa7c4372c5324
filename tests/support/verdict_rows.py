"""Normal equations of single improvements, for tests of the verdict."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from malfl_algos.ma_lfl.row_sums import row_sums
from malfl_algos.normal import Normal
from malfl_algos.verdict.halves import Improvement


def sums_of(rows: Improvement, variance: NDArray[np.float64] | None = None) -> Normal:
    """The normal equations of an improvement under its own variances or other ones."""
    own = rows.counting + rows.learning if variance is None else variance
    return row_sums(rows.coefficients[None], rows.response[None], own[None])
