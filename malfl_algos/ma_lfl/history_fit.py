"""Maximum a posteriori of a whole learning history, by Gauss-Newton steps over growing horizons.

The policies of the second stage are nearly linear in the rewards, those of late stages are not.
Rewards are therefore fitted to two stages first, then to three, and so on, each time from the last
estimate. At every estimate the history is linear in small changes of the rewards. These
derivatives serve further steps as long as the steps are short; the last ones are new.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from malfl_algos.ma_lfl.history import Followed, HistoryData, follow
from malfl_algos.ma_lfl.history_settings import NOISES, Prior, Setting, best_setting
from malfl_algos.ma_lfl.history_slopes import sensitivities
from malfl_algos.ma_lfl.low_rank_priors import Kernel
from malfl_algos.ma_lfl.posterior import Posterior
from malfl_algos.ma_lfl.rows import Rows, normal_equations
from malfl_algos.normal import Normal
from malfl_algos.work.telling import say
from malfl_env.markov_game import MarkovGame

__all__ = ["HistoryFit", "fit_history", "moves_of_dynamics", "split"]

FloatArray = NDArray[np.float64]

FIRST_NOISE = 0.01
"""Noise variance to start from, in units of alpha squared."""
FIRST_STEPS, STEPS, LAST_STEPS = 6, 4, 20
"""Largest number of Gauss-Newton steps of the first horizon, of one between, and of the last."""
GROWTH = 1.34
"""Factor from one horizon to the next."""
CONVERGED = 0.1
"""The rewards have converged when a step is shorter than this many posterior standard deviations,
root mean square; `NEAR` is enough for a horizon between.
"""
NEAR = 0.5
SHORT = 1.0
"""After a step of at most this many posterior standard deviations the derivatives are kept."""
LARGEST_CHANGE = 3.0
"""Largest factor by which noise and prior change between steps."""
HALVINGS = 7
BLOCK = 2**22
"""Number of derivatives in a block of rows."""


@dataclass(frozen=True, eq=False)
class HistoryFit:
    """All agents' rewards.

    Args:
        weights: of the functions of all agents, in the order of agents.
        posterior: of independent weights, whose products with the root of the kernel are `weights`.
        kernel: of the prior.
        setting: noise and kernel as the search goes on from them.
        history: under these rewards, of all stages followed.
        distance: length of the last step in posterior standard deviations.
        steps: number of Gauss-Newton steps.
    """

    weights: FloatArray
    posterior: Posterior
    setting: Setting
    history: Followed
    distance: float
    steps: int

    @property
    def kernel(self) -> Kernel:
        return self.setting.kernel

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


def fit_history(data: HistoryData, prior: Prior, *, horizon: int) -> HistoryFit:
    """Rewards, noise and prior of largest posterior and evidence.

    Args:
        data: what is given.
        prior: the functions that rewards are made of, and their kernels.
        horizon: number of stages to explain.
    """
    found: HistoryFit | None = None
    stages, first = 1, list[NDArray[np.float32]]()
    while stages < horizon or found is None:
        stages = min(max(stages + 1, int(GROWTH * stages)), horizon)
        found = _at_horizon(data, prior, stages, found, first, last=stages == horizon)
    return found


def moves_of_dynamics(
    data: HistoryData, prior: Prior, found: HistoryFit, games: Sequence[MarkovGame]
) -> FloatArray:
    """How the moment of the independent weights moves if the dynamics are others, to first order.

    With other dynamics the same rewards predict x + d instead of x, so that the data, which stay,
    show -d more of what the weights explain (the delta method).

    Args:
        data, prior, found: of the fit.
        games: the other dynamics.

    Returns:
        `(n_weights, n_games)`; the inverse precision times it are the moves of the weights.
    """
    functions = [prior.basis.functions] * prior.n_agents
    noise, horizon = found.posterior.evidence.noise_variance, len(found.history.stages) + 1
    rewards = split(functions, found.weights)
    slopes = sensitivities(data, found.history, functions, noise)
    rows = _rows(data, found.history, slopes, found.weights)
    columns = []
    for game in games:
        there = replace(data, game=game, td=data.td and replace(data.td, game=game))
        other = follow(there, rewards, noise, horizon=horizon, near=found.history)
        gaps = [
            np.pad(new.x - old.x, ((0, 0), (0, slopes.shape[1] - old.x.shape[1])))
            for stage, before in zip(other.stages, found.history.stages, strict=True)
            for new, old in zip(stage.predicted, before.predicted, strict=True)
        ]
        normal = _normal(replace(rows, response=-np.concatenate(gaps)[None]), noise)
        columns.append(prior.whitened(normal, found.kernel).moment)
    return np.column_stack(columns)


def _at_horizon(
    data: HistoryData,
    prior: Prior,
    horizon: int,
    start: HistoryFit | None,
    first: list[NDArray[np.float32]],
    *,
    last: bool,
) -> HistoryFit:
    """The fit to the first stages; noise and prior are chosen once the rewards have settled."""
    functions = [prior.basis.functions] * prior.n_agents
    weights = np.zeros(prior.n_agents * functions[0].shape[1]) if start is None else start.weights
    most = LAST_STEPS if last else FIRST_STEPS if start is None else STEPS
    enough = CONVERGED if last else NEAR
    found, slopes, followed = start, None, None
    for number in range(most):
        say(f"fit of the first {horizon} stages: step {number + 1} of at most {most}")
        noise = FIRST_NOISE * data.temperature**2
        if found is not None:
            noise = found.posterior.evidence.noise_variance
        if followed is None:
            before = None if found is None else found.history
            followed = follow(data, split(functions, weights), noise, horizon=horizon, near=before)
        new = slopes is None
        if slopes is None:
            slopes = sensitivities(data, followed, functions, noise, first=first)
        settled = number > 0 and found is not None and found.distance < SHORT
        free = found is None or horizon == 2 or settled
        rows = _rows(data, followed, slopes, weights)
        setting, posterior = _posterior(rows, prior, found, free=free)
        at = _moved(data, prior, weights, setting, posterior, followed)
        root = prior.root(setting.kernel)
        distance = posterior.distance(_whitened(root, at.weights - weights))
        weights, followed = at.weights, at.history
        steps = 1 if found is None else found.steps + 1
        found = HistoryFit(weights, posterior, setting, followed, distance, steps)
        if number and free and distance < enough and (new or not last or horizon == 2):
            break
        if distance > SHORT or (last and distance < enough):
            slopes = None
    assert found is not None
    return found


def _repeats(history: Followed, noise_variance: float) -> float:
    """Number of rows of a state that share noise, weighted by the share of noise in their variance.

    What the functions leave out of a reward is the same in every stage.
    """
    visits = np.concatenate([stage.states for stage in history.stages])
    stages_of_state = len(visits) / max(len(np.unique(visits)), 1)
    variances = np.concatenate(
        [one.response.variance.ravel() for stage in history.stages for one in stage.predicted]
    )
    noisy = float(np.mean(noise_variance / (noise_variance + variances)))
    return 1 + (stages_of_state - 1) * noisy


def split(functions: Sequence[FloatArray], weights: FloatArray) -> list[FloatArray]:
    """The reward of every agent, `(n_states,)`."""
    ends = np.cumsum([own.shape[1] for own in functions])[:-1]
    return [own @ part for own, part in zip(functions, np.split(weights, ends), strict=True)]


def _whitened(root: FloatArray, weights: FloatArray) -> FloatArray:
    """Independent weights whose products with the root are these, agent by agent."""
    parts = weights.reshape(-1, len(root)).T
    return np.asarray(scipy.linalg.solve_triangular(root, parts, lower=True).T.ravel())


def _rows(
    data: HistoryData, followed: Followed, slopes: NDArray[np.float32], weights: FloatArray
) -> Rows:
    """The linear rows of the history at these weights: response = slopes @ weights."""
    width, constant = slopes.shape[1], 0.0
    means, variances, noises = [], [], []
    for stage in followed.stages:
        for one in stage.predicted:
            missing = ((0, 0), (0, width - one.x.shape[1]))
            means.append(np.pad(one.response.mean - one.x, missing))
            variances.append(np.pad(one.response.variance, missing, constant_values=np.inf))
            noises.append(np.pad(one.variance, missing))
            constant += one.response.log_constant
    response = np.concatenate(means) + slopes @ weights.astype(np.float64)
    coefficients: Any = slopes[None]  # in single precision
    return Rows(
        coefficients=coefficients,
        response=response[None],
        response_variance=np.concatenate(variances)[None],
        model_variance=np.concatenate(noises)[None],
        prior=np.eye(len(weights)),
        log_constant=constant,
        temperature=data.temperature,
    )


def _normal(rows: Rows, noise: float) -> Normal:
    """Normal equations, formed from a few rows at a time."""
    width = rows.coefficients.shape[2] * rows.coefficients.shape[3]
    size, n_rows = max(1, BLOCK // width), rows.coefficients.shape[1]
    total: Normal | None = None
    for begin in range(0, n_rows, size):
        at = slice(begin, begin + size)
        part = replace(
            rows,
            coefficients=rows.coefficients[:, at],
            response=rows.response[:, at],
            response_variance=rows.response_variance[:, at],
            model_variance=rows.model_variance[:, at],
        )
        one = normal_equations(part, noise, 1.0)
        total = one if total is None else total + one
    assert total is not None
    return total


def _posterior(
    rows: Rows, prior: Prior, before: HistoryFit | None, *, free: bool
) -> tuple[Setting, Posterior]:
    """The posterior with noise and prior as they are, or chosen by the evidence near them."""
    normal = cache(lambda noise: _normal(rows, noise))
    if before is None:
        return best_setting(normal, rows, prior, None, free=True)
    at = before.posterior.evidence
    if not free:
        return best_setting(
            normal, rows, prior, before.setting, free=False, prior_variance=at.prior_variance
        )
    setting, found = best_setting(normal, rows, prior, before.setting, free=True)
    variance = found.evidence.prior_variance
    most, least = at.prior_variance * LARGEST_CHANGE, at.prior_variance / LARGEST_CHANGE
    near = float(np.clip(variance, least, most))
    noise = _near_noise(setting.noise, before.setting.noise)
    if (near, noise) == (variance, setting.noise) or setting.kernel != before.kernel:
        return setting, found
    return best_setting(
        normal, rows, prior, replace(setting, noise=noise), free=False, prior_variance=near
    )


def _near_noise(now: int, before: int) -> int:
    """The place of the new noise, limited to a change by `LARGEST_CHANGE`."""
    most = round(np.log(LARGEST_CHANGE) / np.log(NOISES[1] / NOISES[0]))
    return int(np.clip(now, before - most, before + most))


def _moved(
    data: HistoryData,
    prior: Prior,
    weights: FloatArray,
    setting: Setting,
    posterior: Posterior,
    followed: Followed,
) -> _Point:
    """The first better point, from the posterior mean on towards the weights."""
    at, root = posterior.evidence, prior.root(setting.kernel)
    horizon = len(followed.stages) + 1
    functions = [prior.basis.functions] * prior.n_agents
    mean = (posterior.mean.reshape(-1, len(root)) @ root.T).ravel()

    def point(share: float, known: Followed | None = None) -> _Point:
        there = weights + share * (mean - weights)
        rewards = split(functions, there)
        found = known or follow(
            data, rewards, at.noise_variance, horizon=horizon, near=followed, held=followed
        )
        independent = _whitened(root, there)
        loss = found.loss + float(independent @ independent) / (2 * at.prior_variance)
        return _Point(there, found, loss if np.isfinite(loss) else np.inf)

    same = at.noise_variance == followed.noise_variance
    start, share = point(0.0, followed if same else None), 1.0
    for _ in range(HALVINGS):
        tried = point(share)
        if tried.loss < start.loss:
            return _renewed(data, functions, tried, at.noise_variance)
        share /= 2
    return start


def _renewed(
    data: HistoryData, functions: Sequence[FloatArray], point: _Point, noise: float
) -> _Point:
    """The point with the variances of the learners' noise that its own rewards have."""
    if data.td is None:
        return point
    near, rewards = point.history, split(functions, point.weights)
    history = follow(data, rewards, noise, horizon=len(near.stages) + 1, near=near)
    return point._replace(history=history)
