"""The normal approximation of a posterior from single steps, at noises that fall level by level.

The learner has no noise. That of the model stands for errors of the model and of the linearisation;
it falls as long as the evidence rises. The posterior of each level is a normal one at the mode
(Laplace's approximation), which Newton's method finds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from malfl_algos.ma_lfl.alternation import CONVERGED
from malfl_algos.ma_lfl.greedy_posterior import SETTINGS, prior_covariance
from malfl_algos.ma_lfl.reward_priors import RewardPrior
from malfl_algos.ma_lfl.step_likelihood import StepLikelihood, Sums

__all__ = ["NOISES", "REPEATED", "Level", "best_level", "held_out_fit"]

FloatArray = NDArray[np.float64]

NOISES = tuple(0.5**k for k in range(6))
"""Noise by level, where the prior standard deviation of a reward value is 1."""
LEVEL_PASSES = 2
"""Number of Newton steps of every level but the last."""
COARSE = 0.25
"""Above this noise, fewer steps are used, and the prior is not estimated anew."""
LEAST_STEPS = 20
"""Number of steps per unknown that are then used at least, if there are so many."""
PRIOR_EVALUATIONS = 20
"""Number of settings of the prior that are tried at a level, at most."""
LAST_PASSES = 4
"""The same of the last level, for rewards that are to predict held-out steps."""
REPEATED = 4.0
"""So many steps count as one in the posterior: the errors of the linearisation are much the same in
many steps. It was chosen so that 2 standard deviations cover what they should on the paper's game.
"""


@dataclass(frozen=True, eq=False)
class Level:
    """The normal approximation of the posterior at some noise.

    Args:
        noise: of the level.
        theta: where the likelihood is expanded; reward, or feature weights.
        sums: the likelihood there.
        settings: of the prior.
        precision: of the prior.
        passes: number of Newton steps so far.
        converged: whether the last one was small.
    """

    noise: float
    theta: FloatArray
    sums: Sums
    settings: dict[str, float]
    precision: FloatArray
    passes: int
    converged: bool

    @property
    def mean(self) -> FloatArray:
        """The posterior mean."""
        return self.theta + _newton(self.theta, self.sums, self.precision)

    @property
    def log_evidence(self) -> float:
        """Log evidence of the chosen steps."""
        return self.sums.log_likelihood + self.occam

    @property
    def occam(self) -> float:
        """What prior and posterior add to the log likelihood at `theta`."""
        return _log_occam(self.theta, self.sums, self.precision)


def best_level(task: StepLikelihood, noises: Sequence[float], passes: int) -> Level:
    """The level of largest evidence."""
    names = ["prior_iid", "prior_length"] if task.prior.alike is not None else []
    settings = {name: SETTINGS[name].mean for name in names}
    precision = _prior_precision(task.prior, settings)
    theta, epsilon = np.zeros(len(precision)), task.chosen.epsilon
    few = replace(task, chosen=task.chosen.thinned(LEAST_STEPS * len(theta)))
    for _ in range(LEVEL_PASSES):
        sums = few.sums(theta, noises[0], epsilon, at=None)
        theta = theta + _newton(theta, sums, precision)
    best = None
    for noise in noises:
        most = passes if noise == noises[-1] else LEVEL_PASSES
        coarse = noise > COARSE
        used = few if coarse else task
        level, epsilon = _settled(used, noise, theta, epsilon, settings, precision, most)
        if best is not None and not coarse and level.log_evidence < best.log_evidence:
            break
        best, theta = None if coarse else level, level.mean
        if not coarse:
            settings = _best_prior(task.prior, level)
            precision = _prior_precision(task.prior, settings)
    assert best is not None
    return best


def _settled(
    task: StepLikelihood,
    noise: float,
    theta: FloatArray,
    epsilon: FloatArray,
    settings: dict[str, float],
    precision: FloatArray,
    most: int,
) -> tuple[Level, FloatArray]:
    """The mode at a noise after at most `most` Newton steps, halved where they lead downwards."""
    best: Level | None = None
    for done in range(1, most + 1):
        sums = task.sums(theta, noise, epsilon, at=theta)
        level = Level(noise, theta, sums, settings, precision, done, converged=False)
        if best is not None and _objective(level) < _objective(best) - 1e-3:
            theta = (theta + best.theta) / 2
            best = replace(best, converged=_is_small(theta - best.theta, best))
            if best.converged:
                break
            continue
        step = _newton(theta, sums, precision)
        best = replace(level, converged=_is_small(step, level))
        epsilon = sums.epsilon
        if best.converged:
            break
        theta = theta + step
    assert best is not None
    return best, epsilon


def _is_small(step: FloatArray, level: Level) -> bool:
    """Whether a step changes the shape of the reward by less than `CONVERGED` of its posterior
    standard deviation, both root mean square. Mean and size are not claimed, so they do not count.
    """
    centred, theta = step - step.mean(), level.theta - level.theta.mean()
    shape = centred - theta * (theta @ centred) / max(float(theta @ theta), 1e-300)
    covariance = np.linalg.inv(level.sums.information / REPEATED + level.precision)
    variance = np.trace(covariance) / len(step) - covariance.mean()
    return bool(shape @ shape / len(step) < CONVERGED**2 * variance)


def _prior_precision(prior: RewardPrior, settings: dict[str, float]) -> FloatArray:
    return np.asarray(np.linalg.inv(prior_covariance(prior, settings)))


def _objective(level: Level) -> float:
    return level.sums.log_likelihood - float(level.theta @ level.precision @ level.theta) / 2


def _newton(theta: FloatArray, sums: Sums, precision: FloatArray) -> FloatArray:
    force = sums.gradient - precision @ theta
    return np.asarray(np.linalg.solve(sums.information + precision, force))


def _log_occam(theta: FloatArray, sums: Sums, precision: FloatArray) -> float:
    """Log evidence of the likelihood expanded at theta, minus the log likelihood there."""
    both = sums.information + precision
    moment = sums.gradient + sums.information @ theta
    inner = moment @ np.linalg.solve(both, moment) - theta @ sums.information @ theta
    volume = np.linalg.slogdet(precision)[1] - np.linalg.slogdet(both)[1]
    return float(inner / 2 - sums.gradient @ theta + volume / 2)


def _best_prior(prior: RewardPrior, level: Level) -> dict[str, float]:
    """The settings of the prior with the largest evidence at a level, times their own prior."""
    names = list(level.settings)
    if not names:
        return {}

    def loss(numbers: FloatArray) -> float:
        settings = _clipped(names, numbers)
        precision = _prior_precision(prior, settings)
        pulls = [(settings[name] - SETTINGS[name].mean) / SETTINGS[name].sd for name in names]
        return sum(pull**2 for pull in pulls) / 2 - _log_occam(level.theta, level.sums, precision)

    first = np.array([level.settings[name] for name in names])
    found = minimize(
        loss,
        first,
        method="Nelder-Mead",
        options={
            "initial_simplex": np.vstack(
                [first, first + np.diag([SETTINGS[name].step for name in names])]
            ),
            "maxfev": PRIOR_EVALUATIONS,
        },
    )
    return _clipped(names, found.x)


def _clipped(names: Sequence[str], numbers: FloatArray) -> dict[str, float]:
    return {
        name: float(np.clip(number, SETTINGS[name].least, SETTINGS[name].most))
        for name, number in zip(names, numbers, strict=True)
    }


def held_out_fit(half: StepLikelihood, level: Level) -> tuple[FloatArray, FloatArray]:
    """The mode of a part of the steps, and its epsilon, at the noise and the prior of a level.

    Args:
        half: the likelihood of the part.
        level: of all steps; the search starts from its mean, at the noise `COARSE`.
    """
    theta, epsilon = level.mean, level.sums.epsilon
    given = level.settings, level.precision
    for noise in NOISES:
        if level.noise <= noise <= COARSE:
            last = noise == level.noise
            most = LAST_PASSES if last else LEVEL_PASSES
            found, epsilon = _settled(half, noise, theta, epsilon, *given, most)
            theta = found.theta if last else found.mean
    return theta, epsilon
