"""The shape of a reward's prior covariance, chosen by the evidence for given normal equations.

With information A, moment b, prior covariance S (`RewardPrior`, in units of alpha squared, and a
nearly flat mean), posterior mean m and posterior covariance C, the log evidence is

  log Z = b' m / 2 - log |I + A S| / 2 + constant,    d log Z = (g' dS g - tr(B dS)) / 2,

g = b - A m, B = A - A C A (Rasmussen and Williams 2006, equation 5.9, for a precision that may be
singular). It is maximised together with the prior density of the logarithms of all variances and
lengths.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import scipy.linalg
from numpy.typing import NDArray
from scipy.linalg.lapack import dpotrf
from scipy.optimize import minimize

from malfl_algos.ma_lfl.posterior import MEAN_VARIANCE, Posterior
from malfl_algos.ma_lfl.reward_models import level_of, without_level
from malfl_algos.ma_lfl.reward_priors import RewardPrior

__all__ = [
    "LEAST_IID",
    "MARGIN",
    "Shape",
    "SmoothPriors",
    "best_shape",
    "chosen_shapes",
    "shape_evidence",
    "shape_precision",
    "shape_root",
    "shape_words",
]

FloatArray = NDArray[np.float64]

FIRST_STEPS, LATER_STEPS = 40, 15
"""Largest number of steps of a search that starts anew, and of one that starts from a choice."""
LEAST_IID = 1e-3
"""Smallest share of the part without neighbours. It keeps the covariance invertible."""


MARGIN = 3.0
"""A smooth prior must raise the log evidence of an independent one by more than this."""


@dataclass(frozen=True, eq=False)
class SmoothPriors:
    """The smooth priors that a fit may choose.

    Args:
        priors: of every agent's unknowns, in units of the temperature; None: that agent has none.
        margin: the log evidence must rise by more than this; -inf: they are chosen in any case.
        first: of every agent the shape of the first iteration; None: independent unknowns are
            fitted before.
        cells: of every agent its cell in every joint state, int `(n_states,)`, to average with
            rewards of one special cell (`malfl_algos.ma_lfl.sparse_rewards`); None: no averaging.
    """

    priors: Sequence[RewardPrior | None]
    margin: float = MARGIN
    first: Sequence[Shape | None] | None = None
    cells: Sequence[NDArray[np.int64] | None] | None = None


@dataclass(frozen=True, eq=False)
class Shape:
    """A chosen shape of the prior covariance.

    Args:
        settings: of the `RewardPrior`, in units of alpha squared.
        root: L, `(n, n)`, lower triangular: the covariance of the unknowns is V L L', and its
            average variance about the mean of all unknowns is V.
        variance: V that was chosen with the shape, in units of alpha squared.
        gain: rise of the log evidence over the independent prior of best variance, for the same
            data and noise, with the log density of the settings relative to its largest value.
    """

    settings: FloatArray
    root: FloatArray
    variance: float
    gain: float


def shape_root(prior: RewardPrior, settings: FloatArray) -> tuple[FloatArray, float]:
    """The root L of a shape, and V; see `Shape`."""
    covariance, _ = prior.covariance(settings)
    n = len(covariance)
    about = (np.trace(covariance) - covariance.sum() / n) / max(n - 1, 1)
    covariance = covariance / about
    covariance[np.diag_indices(n)] += LEAST_IID
    return np.asarray(scipy.linalg.cholesky(covariance, lower=True)), float(about)


def shape_evidence(
    prior: RewardPrior, settings: FloatArray, information: FloatArray, moment: FloatArray
) -> tuple[float, FloatArray]:
    """Log evidence up to a constant that depends on the data alone, and its gradient by the
    settings; -1e100 where a matrix is not positive definite in double precision.

    Args:
        prior, settings: the prior covariance.
        information, moment: of the unknowns, in units of alpha.
    """
    covariance, slopes = prior.covariance(settings)
    n = len(covariance)
    covariance = covariance + MEAN_VARIANCE / n
    root, indefinite = dpotrf(covariance, lower=1, clean=1)
    seen = information @ root
    factor, fault = dpotrf(np.eye(n) + root.T @ seen, lower=1, clean=1)
    if indefinite or fault:
        return -1e100, np.zeros(len(slopes))
    half = scipy.linalg.solve_triangular(factor, root.T @ moment, lower=True)
    value = float(half @ half) / 2 - float(np.log(np.diag(factor)).sum())
    mean = root @ scipy.linalg.solve_triangular(factor, half, lower=True, trans=1)
    pull = moment - information @ mean
    spread = scipy.linalg.solve_triangular(factor, seen.T, lower=True)
    curved = information - spread.T @ spread
    gradient = [float(pull @ part @ pull - (curved * part).sum()) / 2 for part in slopes]
    return value, np.array(gradient)


def best_shape(
    prior: RewardPrior, posterior: Posterior, alpha: float, *, start: Shape | None
) -> Shape:
    """The shape of largest evidence times prior density, for the data and noise of a posterior.

    Args:
        prior: of the unknowns, in units of the temperature.
        posterior: of the unknowns; its information and moment are used.
        alpha: the temperature.
        start: an earlier choice to start from.
    """
    information = alpha**2 * posterior.information
    moment = alpha * (posterior.precision @ posterior.mean)
    lows, highs = np.array(prior.bounds).T

    def loss(settings: FloatArray) -> tuple[float, FloatArray]:
        value, slope = shape_evidence(prior, settings, information, moment)
        density, pull = prior.log_density(settings)
        return -value - density, -slope - pull

    first, steps = prior.means, FIRST_STEPS
    if start is not None:
        first, steps = start.settings, LATER_STEPS
    found = minimize(
        loss,
        first,
        jac=True,
        method="L-BFGS-B",
        bounds=list(zip(lows, highs, strict=True)),
        options={"maxiter": steps, "maxfun": 2 * steps},
    )
    settings = np.asarray(found.x)
    root, variance = shape_root(prior, settings)
    gain = -float(found.fun) - _independent(prior, information, moment)
    return Shape(settings, root, variance, gain)


def chosen_shapes(
    smooth: SmoothPriors,
    posteriors: Sequence[Posterior],
    alpha: float,
    before: Sequence[Shape | None],
) -> list[Shape | None]:
    """The best shape of every agent's prior if it has one. Searches start from earlier choices."""
    return [
        None if prior is None else best_shape(prior, posterior, alpha, start=start)
        for prior, posterior, start in zip(smooth.priors, posteriors, before, strict=True)
    ]


def shape_precision(prior: RewardPrior, settings: FloatArray, variance: float) -> FloatArray:
    """Prior precision of the unknowns about their nearly flat mean, `(n, n)`.

    Args:
        prior, settings: the shape.
        variance: V, in units of the temperature squared.
    """
    root, _ = shape_root(prior, settings)
    free = without_level(level_of(root))
    of_weights = free / variance + (np.eye(len(free)) - free) / MEAN_VARIANCE
    half = scipy.linalg.solve_triangular(root, of_weights, lower=True, trans=1)
    return np.asarray(scipy.linalg.solve_triangular(root, half.T, lower=True, trans=1))


def _independent(prior: RewardPrior, information: FloatArray, moment: FloatArray) -> float:
    """The largest log evidence of independent unknowns of one variance."""
    alone = replace(prior, alike=None, means=prior.means[:1], sds=prior.sds[:1])

    def loss(log_variance: FloatArray) -> tuple[float, FloatArray]:
        value, slope = shape_evidence(alone, log_variance, information, moment)
        return -value, -slope

    found = minimize(
        loss, alone.means, jac=True, method="L-BFGS-B", bounds=alone.bounds, options={"maxiter": 20}
    )
    return -float(found.fun)


def shape_words(prior: RewardPrior, shape: Shape) -> dict[str, Any]:
    """The shape for diagnostics: shares of the variance, lengths, and the gain of evidence."""
    assert prior.alike is not None
    n_parts = len(prior.alike.parts)
    variances = np.exp(shape.settings[: 1 + n_parts])
    names = ("independent", *prior.alike.part_names)
    lengths = np.exp(shape.settings[1 + n_parts :])
    return {
        "shares": dict(zip(names, (variances / variances.sum()).tolist(), strict=True)),
        "lengths": dict(zip(prior.alike.length_names, lengths.tolist(), strict=True)),
        "settings": shape.settings.tolist(),
    }
