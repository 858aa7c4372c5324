"""Gaussian priors of a reward whose strength and smoothness the evidence chooses.

A prior covariance of a function of the state's coordinates (the digits of the observation) is

  V_iid I + V_smooth k(s, s'; length) + flat,   k = exp(-|s - s'|^2 / (2 length^2)).

The first part says nothing about neighbouring states; the second says that they have similar
rewards (a Gaussian process, Rasmussen and Williams 2006, section 4.2). The flat part leaves the
mean of the reward free.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from malfl_algos.ma_lfl.reward_models import feature_prior

__all__ = ["FLAT", "RewardPrior", "prior_of_states", "prior_of_weights"]

FloatArray = NDArray[np.float64]

FLAT = 1e3
"""Prior variance of the mean of the reward."""
LOG_IID, LOG_SMOOTH, LOG_LENGTH = (0.6, 3.0), (3.6, 3.0), (float(np.log(2.0)), 0.3)
"""Mean and standard deviation of the logarithms of V_iid, V_smooth and the length, in cells. The
evidence hardly tells the length where the data are few, so its prior is narrow.
"""
LOG_WEIGHTS = (0.0, 1.0)
"""The same for the variance of feature weights."""
BOUNDS = ((-9.0, 12.0), (-9.0, 12.0), (float(np.log(0.3)), float(np.log(6.0))))


@dataclass(frozen=True, eq=False)
class RewardPrior:
    """A prior covariance of n unknowns as a function of few hyper-parameters, all logarithms.

    Args:
        flat: its fixed part, `(n, n)`.
        iid: multiplies V_iid, `(n, n)`.
        squared_distance: |s - s'|^2 of the unknowns, `(n, n)`; infinite between unknowns that have
            nothing to do with one another. None: no smooth part.
        means, sds: of the hyper-parameters' normal priors.
        hidden: projection onto the rewards that leave no trace, `(n, n)`. They are independent of
            the others, so that their posterior mean is 0. None: there are none.
    """

    flat: FloatArray
    iid: FloatArray
    squared_distance: FloatArray | None
    means: FloatArray
    sds: FloatArray
    hidden: FloatArray | None = None

    @property
    def bounds(self) -> list[tuple[float, float]]:
        """Bounds of the search for every hyper-parameter."""
        return list(BOUNDS[: len(self.means)])

    def covariance(self, settings: FloatArray) -> tuple[FloatArray, list[FloatArray]]:
        """The covariance, and its derivatives by every hyper-parameter."""
        iid = np.exp(settings[0]) * self.iid
        if self.squared_distance is None:
            return iid + self.flat, [iid]
        scaled = self.squared_distance / np.exp(2 * settings[2])
        smooth = np.exp(settings[1] - scaled / 2)
        by_length = smooth * np.where(np.isfinite(scaled), scaled, 0.0)
        parts = [self._split(part) for part in (iid, smooth, by_length)]
        return parts[0] + parts[1] + self.flat, parts

    def _split(self, part: FloatArray) -> FloatArray:
        """A covariance without that of hidden with visible rewards."""
        if self.hidden is None:
            return part
        seen = np.eye(len(part)) - self.hidden
        return np.asarray(seen @ part @ seen + self.hidden @ part @ self.hidden)

    def log_density(self, settings: FloatArray) -> tuple[float, FloatArray]:
        """Log prior density of the hyper-parameters up to a constant, and its gradient."""
        pull = (settings - self.means) / self.sds
        return -float(pull @ pull) / 2, -pull / self.sds


def prior_of_states(coordinates: NDArray[np.int64], per_state: int = 1) -> RewardPrior:
    """The prior of a reward of states, or of states and own actions.

    Args:
        coordinates: of every state, int `(n_states, n_coordinates)`. One coordinate alone is a mere
            label: then there is no smooth part.
        per_state: unknowns per state; those of different actions are independent.
    """
    n = len(coordinates) * per_state
    parts = [LOG_IID, LOG_SMOOTH, LOG_LENGTH]
    distance = None
    if coordinates.shape[1] > 1:
        states = ((coordinates[:, None] - coordinates[None]) ** 2).sum(axis=-1).astype(float)
        other = ~np.eye(per_state, dtype=bool)
        distance = np.repeat(np.repeat(states, per_state, axis=0), per_state, axis=1)
        distance = np.where(np.tile(other, (len(states), len(states))), np.inf, distance)
    else:
        parts = [LOG_SMOOTH]
    means, sds = np.array(parts).T
    return RewardPrior(np.full((n, n), FLAT / n), np.eye(n), distance, means, sds)


def prior_of_weights(features: FloatArray) -> RewardPrior:
    """The prior of independent feature weights with one variance, flat along the intercept.

    Args:
        features: `(n_unknowns, k)`, as `reward_models.with_intercept` returns them.
    """
    free = feature_prior(features)
    means, sds = np.array([LOG_WEIGHTS]).T
    return RewardPrior(FLAT * (np.eye(len(free)) - free), free, None, means, sds)
