"""Normal equations: what is known of theta after linear rows with Gaussian errors.

`row_sums` and `rows` of `malfl_algos.ma_lfl` form them; its `posterior` and `malfl_algos.verdict`
use them. This module imports nothing of ours.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Normal"]

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Normal:
    """Normal equations: what rows y = K theta + a constant of their state say about theta.

    Their log density is log_norm - (theta' information theta - 2 moment' theta + squares) / 2.

    Args:
        information, moment, squares: K' W K, K' W y and y' W y of the projected rows.
        log_norm: logarithm of the Gaussian's constant.
        degrees: number of rows minus number of constants.
    """

    information: FloatArray
    moment: FloatArray
    squares: float
    log_norm: float
    degrees: int

    def __add__(self, other: Normal) -> Normal:
        """Normal equations of the rows of both."""
        return Normal(
            self.information + other.information,
            self.moment + other.moment,
            self.squares + other.squares,
            self.log_norm + other.log_norm,
            self.degrees + other.degrees,
        )

    def residual(self, theta: FloatArray) -> float:
        """Weighted sum of squares that theta leaves."""
        fitted = theta @ self.information @ theta - 2 * self.moment @ theta
        return max(float(self.squares + fitted), 0.0)

    def times(self, factor: float) -> Normal:
        """Normal equations of the same rows with all weights multiplied by a factor."""
        return Normal(
            factor * self.information,
            factor * self.moment,
            factor * self.squares,
            self.log_norm + self.degrees * float(np.log(factor)) / 2,
            self.degrees,
        )
