"""Maximum a posteriori of a whole learning history, by Gauss-Newton steps over growing horizons.

The policies of the second stage are nearly linear in the rewards, those of late stages are not.
Rewards are therefore fitted to two stages first, then to three, and so on, each time from the last
estimate. At every estimate the history is linear in small changes of the rewards, so that
posterior, evidence and the choice of noise and prior are those of `inference`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from malfl_algos.ma_lfl.history import Followed, HistoryData, follow, sensitivities
from malfl_algos.ma_lfl.inference import fit
from malfl_algos.ma_lfl.posterior import Evidence, Given, Posterior
from malfl_algos.ma_lfl.rows import Rows

__all__ = ["HistoryFit", "fit_history"]

FloatArray = NDArray[np.float64]

FIRST_NOISE = 0.01
"""Noise variance to start from, in units of alpha squared."""
FIRST_STEPS, STEPS, LAST_STEPS = 6, 4, 10
"""Largest number of Gauss-Newton steps of the first horizon, of one between, and of the last."""
GROWTH = 1.34
"""Factor from one horizon to the next."""
CONVERGED = 0.1
"""The rewards have converged when a step is shorter than this many posterior standard deviations,
root mean square; `NEAR` is enough for a horizon between.
"""
NEAR = 0.5
LARGEST_CHANGE = 3.0
"""Largest factor by which noise and prior change between horizons."""
HALVINGS = 7
NOISE_SETTINGS = 12


@dataclass(frozen=True, eq=False)
class HistoryFit:
    """All agents' rewards.

    Args:
        weights: of the features of all agents, in the order of agents.
        posterior: of the weights, at the last linearisation.
        history: under these rewards, of all stages followed.
        distance: length of the last step in posterior standard deviations.
        steps: number of Gauss-Newton steps.
    """

    weights: FloatArray
    posterior: Posterior
    history: Followed
    distance: float
    steps: int

    @property
    def converged(self) -> bool:
        return self.distance < CONVERGED

    @property
    def repeats(self) -> float:
        """Number of rows that count as one if noise repeats from stage to stage."""
        return _repeats(self.history, self.posterior.evidence.noise_variance)

    @property
    def log_evidence(self) -> float:
        return float(self.posterior.evidence.log_evidence or 0.0)


class _Point(NamedTuple):
    """Weights, their history, and minus its log posterior up to a constant."""

    weights: FloatArray
    history: Followed
    loss: float


def fit_history(
    data: HistoryData,
    features: Sequence[FloatArray],
    *,
    horizon: int,
) -> HistoryFit:
    """Rewards, noise and prior variance of largest posterior and evidence.

    Args:
        data: what is given.
        features: per agent `(n_states, n_weights)`; their weights are independent, with one prior
            variance.
        horizon: number of stages to explain.
    """
    found: HistoryFit | None = None
    stages = 1
    while stages < horizon or found is None:
        stages = min(max(stages + 1, int(GROWTH * stages)), horizon)
        found = _at_horizon(data, features, stages, found, last=stages == horizon)
    return found


def _at_horizon(
    data: HistoryData,
    features: Sequence[FloatArray],
    horizon: int,
    start: HistoryFit | None,
    *,
    last: bool,
) -> HistoryFit:
    """The fit to the first stages; noise and prior are chosen once the rewards have settled."""
    n_weights = sum(own.shape[1] for own in features)
    weights = np.zeros(n_weights) if start is None else start.weights
    chosen = None if start is None else start.posterior.evidence
    steps = 0 if start is None else start.steps
    most = LAST_STEPS if last else FIRST_STEPS if start is None else STEPS
    found: HistoryFit | None = None
    followed: Followed | None = None
    for number in range(most):
        noise = FIRST_NOISE * data.temperature**2 if chosen is None else chosen.noise_variance
        if followed is None:
            followed = follow(data, split(features, weights), noise, horizon=horizon)
        rows = _rows(data, followed, features, weights, noise)
        free = chosen is None or horizon == 2 or (found is not None and found.distance < 1)
        posterior = _posterior(rows, chosen, free=free)
        chosen = posterior.evidence
        at = _moved(data, features, weights, posterior, horizon)
        moved, weights, followed = at.weights - weights, at.weights, at.history
        steps += 1
        found = HistoryFit(
            weights,
            posterior,
            at.history,
            posterior.distance(moved),
            steps,
        )
        if number and free and found.distance < (CONVERGED if last else NEAR):
            break
    assert found is not None
    return found


def _repeats(history: Followed, noise_variance: float) -> float:
    """Number of rows of a state that share noise, weighted by the share of noise in their variance.

    What the features leave out of a reward is the same in every stage.
    """
    visits = np.concatenate([stage.states for stage in history.stages])
    stages_of_state = len(visits) / max(len(np.unique(visits)), 1)
    variances = np.concatenate(
        [one.response.variance.ravel() for stage in history.stages for one in stage.predicted]
    )
    noisy = float(np.mean(noise_variance / (noise_variance + variances)))
    return 1 + (stages_of_state - 1) * noisy


def split(features: Sequence[FloatArray], weights: FloatArray) -> list[FloatArray]:
    """The reward of every agent, `(n_states,)`."""
    ends = np.cumsum([own.shape[1] for own in features])[:-1]
    return [own @ part for own, part in zip(features, np.split(weights, ends), strict=True)]


def _rows(
    data: HistoryData,
    followed: Followed,
    features: Sequence[FloatArray],
    weights: FloatArray,
    noise: float,
) -> Rows:
    """The linear rows of the history at these weights: response = coefficients @ weights."""
    coefficients = sensitivities(data, followed, features, noise)
    width, constant = coefficients.shape[1], 0.0
    means, variances = [], []
    for stage in followed.stages:
        for one in stage.predicted:
            missing = ((0, 0), (0, width - one.x.shape[1]))
            means.append(np.pad(one.response.mean - one.x, missing))
            variances.append(np.pad(one.response.variance, missing, constant_values=np.inf))
            constant += one.response.log_constant
    response = np.concatenate(means) + coefficients @ weights
    variance = np.concatenate(variances)
    return Rows(
        coefficients=coefficients[None],
        response=response[None],
        response_variance=variance[None],
        model_variance=np.zeros((1, *variance.shape)),
        prior=np.eye(len(weights)),
        log_constant=constant,
        temperature=data.temperature,
    )


def _posterior(rows: Rows, chosen: Evidence | None, *, free: bool) -> Posterior:
    """The posterior with noise and prior as they are, or chosen by the evidence near them."""
    if chosen is None:
        return fit(rows, start=None, evaluations=NOISE_SETTINGS, scaled=False)
    if free:
        found = fit(rows, start=chosen, evaluations=NOISE_SETTINGS, scaled=False)
        near = _near(found.evidence, chosen)
        if near is None:
            return found
        chosen = near
    given = Given(chosen.noise_variance, 0.0, chosen.prior_variance)
    found = fit(rows, start=None, evaluations=1, scaled=False, given=given)
    return replace(found, evidence=replace(found.evidence, bounds_hit=chosen.bounds_hit))


def _near(found: Evidence, before: Evidence) -> Evidence | None:
    """The new choice, limited to `LARGEST_CHANGE`; None if it is within."""

    def limited(now: float, then: float) -> float:
        return float(np.clip(now, then / LARGEST_CHANGE, then * LARGEST_CHANGE))

    noise = limited(found.noise_variance, before.noise_variance)
    prior = limited(found.prior_variance, before.prior_variance)
    if (noise, prior) == (found.noise_variance, found.prior_variance):
        return None
    return replace(found, noise_variance=noise, prior_variance=prior)


def _moved(
    data: HistoryData,
    features: Sequence[FloatArray],
    weights: FloatArray,
    posterior: Posterior,
    horizon: int,
) -> _Point:
    """The best point on the way from the weights to the posterior mean."""
    at = posterior.evidence

    def point(share: float) -> _Point:
        there = weights + share * (posterior.mean - weights)
        rewards = split(features, there)
        history = follow(data, rewards, at.noise_variance, horizon=horizon)
        loss = history.loss + float(there @ there) / (2 * at.prior_variance)
        return _Point(there, history, loss if np.isfinite(loss) else np.inf)

    start = point(0.0)
    best, share = start, 1.0
    for _ in range(HALVINGS):
        tried = point(share)
        if tried.loss < best.loss:
            best = tried
        elif best is not start:
            break
        share /= 2
    return best
