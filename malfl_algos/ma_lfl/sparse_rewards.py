"""Rewards that are zero but for one cell of the agent, averaged with the reward of a fit.

On little data a single goal is far below the noise in every joint state. Independent or smooth
rewards then shrink to zero, although the sum over all joint states with the agent on its goal tells
it. The models here have one unknown: r(s) = level + w [the agent stands on cell c], w ~ N(0, V),
for every cell c and a few V. For given noise their evidence follows from the normal equations of
the fit. Fit and models are averaged with their posterior probabilities (Hoeting, Madigan, Raftery
and Volinsky 1999). Half of the prior probability is the fit's; the rest is shared by all cells and
V. A fit whose prior variance ended at its lower bound counts as a level alone: its mean depends on
that bound.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from malfl_algos.ma_lfl.posterior import PRIOR_BOUNDS, Posterior

__all__ = ["Averaged", "with_special_cell"]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

VARIANCES = (0.03, 0.3, 3.0)
"""V, in units of the temperature squared."""
LEAST_WEIGHT = 0.05
"""The fit stays as it is if the models have less than this posterior probability together."""


class Averaged(NamedTuple):
    """A posterior after averaging.

    Args:
        posterior: its mean and covariance are those of the average.
        probability: posterior probability that one cell is special.
        cell: the most probable of these cells.
        cell_probability: its posterior probability.
    """

    posterior: Posterior
    probability: float
    cell: int
    cell_probability: float

    def words(self) -> dict[str, Any]:
        """For diagnostics."""
        return {
            "probability": self.probability,
            "cell": self.cell,
            "cell_probability": self.cell_probability,
        }


def with_special_cell(posterior: Posterior, cells: IntArray, temperature: float) -> Averaged | None:
    """A posterior averaged with those of one special cell; None if these hardly count.

    Args:
        posterior: of one reward value per joint state.
        cells: number of the agent's cell in every joint state, `(n_states,)`.
        temperature: alpha, the unit of `VARIANCES`.
    """
    information, n = posterior.information, len(posterior.mean)
    moment, level = posterior.precision @ posterior.mean, np.ones(n)
    prior = posterior.precision - information
    # the level is integrated out with its nearly flat prior
    shown = information @ level
    size = float(level @ shown + level @ prior @ level)
    at_zero = moment - shown * (level @ moment) / size
    rest = information - np.outer(shown, shown) / size
    indicator = (cells[:, None] == np.unique(cells)).astype(np.float64)
    told = np.einsum("sc,st,tc->c", indicator, rest, indicator)
    pull = indicator.T @ at_zero
    variances = temperature**2 * np.array(VARIANCES)[:, None]
    height = pull / (told + 1 / variances)
    gains = (pull * height - np.log1p(variances * told)) / 2
    of_level = level @ moment / size * level
    own, gain = posterior.mean, _gain(posterior, moment, prior, size)
    if _shows_nothing(posterior, temperature):
        own, gain = of_level, 0.0
    logs = np.append(gains.ravel() - np.log(gains.size), gain)
    weights = np.exp(logs - logs.max())
    weights /= weights.sum()
    if weights[:-1].sum() < LEAST_WEIGHT:
        return None
    shapes = indicator - level[:, None] * (shown @ indicator) / size
    means = (shapes[:, None] * height).reshape(n, -1) + of_level[:, None]
    means = np.column_stack([means, own])
    mean = means @ weights
    sds = np.sqrt(1 / (told + 1 / variances)).ravel()
    along = np.tile(shapes, (1, len(VARIANCES))) * sds * np.sqrt(weights[:-1])
    spread = [(means - mean[:, None]) * np.sqrt(weights), along]
    if posterior.spread is not None:
        spread.append(posterior.spread)
    by_cell = weights[:-1].reshape(gains.shape).sum(axis=0)
    best = int(by_cell.argmax())
    return Averaged(
        replace(posterior, mean=mean, spread=np.column_stack(spread)),
        float(by_cell.sum()),
        int(np.unique(cells)[best]),
        float(by_cell[best]),
    )


def _shows_nothing(posterior: Posterior, temperature: float) -> bool:
    """Whether the prior variance of the fit ended at its lower bound."""
    at = posterior.evidence
    least = PRIOR_BOUNDS[0] * temperature**2
    return "prior_variance" in at.bounds_hit and at.prior_variance < 2 * least


def _gain(posterior: Posterior, moment: FloatArray, prior: FloatArray, size: float) -> float:
    """Log evidence of the posterior's prior minus that of a level alone."""
    level = np.ones(len(moment))
    value = float(moment @ posterior.mean) - float(level @ moment) ** 2 / size
    spread = _log_determinant(posterior.precision) - _log_determinant(prior)
    return float(value - spread + np.log(size) - np.log(level @ prior @ level)) / 2


def _log_determinant(matrix: FloatArray) -> float:
    return 2 * float(np.log(np.diag(scipy.linalg.cholesky(matrix, lower=True))).sum())
