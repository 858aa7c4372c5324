"""The posterior of a reward from the actions that were greedy, and the search for its settings.

If action g of a state was greedy, then q(g) + noise > q(a) + noise for every other action a. The
settings are the shares and the length of the prior, the noise that every action value has, and a
factor on the noise that the learner model predicts. They are at the maximum of the evidence times
their prior. The scale of the reward is open, and the prior fixes it: its variance is 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import log_expit

from malfl_algos.ma_lfl.halfspaces import (
    HalfspacePosterior,
    Halfspaces,
    Sites,
    halfspace_posterior,
)
from malfl_algos.ma_lfl.reward_priors import RewardPrior

__all__ = ["SETTINGS", "GreedyPosterior", "Pairs", "fit_pairs", "prior_covariance"]

FloatArray = NDArray[np.float64]


class _Setting(NamedTuple):
    """A setting that is searched: mean and standard deviation of its normal prior, its bounds, and
    the first step of the search."""

    mean: float
    sd: float
    least: float
    most: float
    step: float


SETTINGS = {
    "prior_iid": _Setting(-3.0, 3.0, -9.0, 6.0, 2.0),
    "prior_length": _Setting(float(np.log(2)), 0.3, float(np.log(0.3)), float(np.log(6)), 0.4),
    "noise_variance": _Setting(-7.0, 3.0, -14.0, 1.0, 2.0),
    "noise_scale": _Setting(0.0, 0.5, float(np.log(0.1)), float(np.log(10)), 0.5),
}
"""`prior_iid`: log odds of the part of the prior variance that says nothing about neighbours.
The others are logarithms; the noise variance is relative to the prior variance.
"""
FIRST_EVALUATIONS, LATER_EVALUATIONS = 40, 20
"""Number of settings that the first search and each later one tries, at most."""
LARGE = 1e8
"""A posterior costs pairs x unknowns squared; above this cost a quarter as many are tried."""
TOLERANCE = 0.05
"""Of the search, in the settings and in the log evidence."""


class Pairs(NamedTuple):
    """Pairs of a greedy action and another one: differences of action values, and what they mean.

    Args:
        rows: coefficients of q(g) - q(a), `(n, n_unknowns)`.
        offsets: its constant, `(n,)`.
        noise: variance of the learner's noise in q(g) - q(a), `(n,)`.
        lapses: probability of the counts if a were greedy, relative to g, `(n,)`.
        weights: number of draws in which g was greedy, `(n,)`.
    """

    rows: FloatArray
    offsets: FloatArray
    noise: FloatArray
    lapses: FloatArray
    weights: FloatArray


class GreedyPosterior(NamedTuple):
    """The posterior at the chosen settings.

    Args:
        posterior: of the unknowns.
        prior: their prior covariance.
        settings: by name.
        log_evidence: log probability that the greedy actions are greedy, plus the log prior of the
            settings relative to its largest value.
    """

    posterior: HalfspacePosterior
    prior: FloatArray
    settings: dict[str, float]
    log_evidence: float

    @property
    def bounds_hit(self) -> tuple[str, ...]:
        """Names of the settings at a bound."""
        return tuple(
            name
            for name, value in self.settings.items()
            if not SETTINGS[name].least + TOLERANCE < value < SETTINGS[name].most - TOLERANCE
        )


def fit_pairs(
    pairs: Pairs, prior: RewardPrior, *, start: GreedyPosterior | None
) -> GreedyPosterior:
    """Choose the settings by the evidence and return the posterior there.

    Args:
        pairs: the data.
        prior: of the unknowns; its variance is 1, its shares and its length are searched.
        start: an earlier choice to start from.
    """
    names = ["prior_iid", "prior_length"] if prior.alike is not None else []
    names += ["noise_variance", *(["noise_scale"] if pairs.noise.any() else [])]
    known = {} if start is None else start.settings
    first = np.array([known.get(name, SETTINGS[name].mean) for name in names])
    lows = [SETTINGS[name].least for name in names]
    highs = [SETTINGS[name].most for name in names]
    tried: dict[tuple[float, ...], GreedyPosterior] = {}
    sites = None if start is None else start.posterior.sites

    def loss(numbers: FloatArray) -> float:
        nonlocal sites
        key = tuple(np.clip(numbers, lows, highs).tolist())
        if key not in tried:
            tried[key] = _at(pairs, prior, dict(zip(names, key, strict=True)), sites)
            sites = tried[key].posterior.sites
        return -tried[key].log_evidence

    evaluations = FIRST_EVALUATIONS if start is None else LATER_EVALUATIONS
    if len(pairs.rows) * pairs.rows.shape[1] ** 2 > LARGE:
        evaluations //= 4
    steps = np.diag([SETTINGS[name].step for name in names])
    minimize(
        loss,
        first,
        method="Nelder-Mead",
        options={
            "initial_simplex": np.vstack([first, first + steps]),
            "maxfev": evaluations,
            "xatol": TOLERANCE,
            "fatol": TOLERANCE,
        },
    )
    return max(tried.values(), key=lambda one: one.log_evidence)


def prior_covariance(prior: RewardPrior, settings: Mapping[str, float]) -> FloatArray:
    """The prior covariance of variance 1 with the shares and the length of the settings."""
    logs = np.zeros(1)
    if prior.alike is not None:
        odds = settings["prior_iid"]
        logs = np.append(log_expit(np.array([odds, -odds])), settings["prior_length"])
    return prior.covariance(logs)[0]


def _at(
    pairs: Pairs,
    prior: RewardPrior,
    settings: dict[str, float],
    sites: Sites | None,
) -> GreedyPosterior:
    """The posterior at some settings."""
    variance = np.exp(settings["noise_variance"])
    variance = variance + np.exp(settings.get("noise_scale", 0.0)) * pairs.noise
    factors = Halfspaces(pairs.rows, pairs.offsets, np.sqrt(variance), *pairs[3:])
    covariance = prior_covariance(prior, settings)
    found = halfspace_posterior(covariance, factors, start=sites)
    pulls = [(value - SETTINGS[name].mean) / SETTINGS[name].sd for name, value in settings.items()]
    density = -sum(pull**2 for pull in pulls) / 2
    return GreedyPosterior(found, covariance, settings, found.log_evidence + density)
