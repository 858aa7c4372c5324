"""Fit rewards of epsilon-greedy Q-learners whose policy moves, from single steps.

The counterpart of `greedy_fit`, for learners whose steps are all known, in order. Before every step
the replayed q of the state is affine in the reward, and the action tells which q was the greatest,
or was drawn evenly:

  P(a | s) = (1 - epsilon) softmax(q(s, .) / noise)(a) + epsilon / |A|.

The learner has no noise. That of the model stands for errors of the model and of the linearisation;
it falls from level to level as long as the evidence rises. The posterior of each level is a normal
one at the mode (Laplace's approximation), which Newton's method finds.

Chance makes rewards visible that no policy depends on. A reward that every action of a state earns
alike does not change what is best. But each action has its own sample of it, and the learner
follows that sample, which the replay knows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import pi
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit

from malfl_algos.ma_lfl.alternation import CONCENTRATION, CONVERGED, AgentFit
from malfl_algos.ma_lfl.chosen_steps import Chosen, chosen_steps, joined
from malfl_algos.ma_lfl.cut_stages import log_orders
from malfl_algos.ma_lfl.greedy_posterior import SETTINGS, prior_covariance
from malfl_algos.ma_lfl.held_out_steps import judged_steps
from malfl_algos.ma_lfl.policy_estimation import smoothed_policy
from malfl_algos.ma_lfl.posterior import Evidence, Posterior
from malfl_algos.ma_lfl.q_replay import ReplayedQ, Start
from malfl_algos.ma_lfl.reward_priors import RewardPrior
from malfl_algos.ma_lfl.stages import StageArrays, Steps
from malfl_algos.ma_lfl.step_likelihood import StepLikelihood, Sums

__all__ = ["MOST_UNKNOWNS", "fit_greedy_steps"]

FloatArray = NDArray[np.float64]

MOST_UNKNOWNS = 1500
"""Largest number of unknowns, of which matrices are formed."""
NOISES = tuple(0.5**k for k in range(6))
"""Noise by level, where the prior standard deviation of a reward value is 1."""
SEARCH_LEVELS = 4
"""Number of levels while settings are searched."""
LEVEL_PASSES = 2
"""Number of Newton steps of every level but the last."""
COARSE = 0.25
"""Above this noise, fewer steps are used, and the prior is not estimated anew."""
LEAST_STEPS = 20
"""Number of steps per unknown that are then used at least, if there are so many."""
PRIOR_EVALUATIONS = 20
"""Number of settings of the prior that are tried at a level, at most."""
REPEATED = 4.0
"""So many steps count as one in the posterior: the errors of the linearisation are much the same in
many steps. It was chosen so that 2 standard deviations cover what they should on the paper's game.
"""
FIXED = 1e3
"""Factor on the precision of the size of the reward, which stands for a known size."""
SCALE_REASON = (
    "epsilon-greedy choices show only which action is the best; the unit is such that the prior "
    "standard deviation of a reward value is the temperature, and standard deviations are those of "
    "the shape of the reward, at the size found"
)


@dataclass(frozen=True, eq=False)
class _Level:
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


def fit_greedy_steps(
    stages: Sequence[StageArrays],
    models: Sequence[ReplayedQ],
    priors: Sequence[RewardPrior],
    *,
    features: Sequence[FloatArray | None],
    temperature: float,
    passes: int,
    search: bool,
    changes: int | None = None,
) -> list[AgentFit]:
    """Fit every agent's reward.

    Args:
        stages: at least two, with steps.
        models: of each agent, greedy and moving.
        priors: of each agent's unknowns, or feature weights.
        features, temperature: as `malfl_algos.ma_lfl.alternation.alternate` takes them.
        passes: largest number of Newton steps at the last level.
        search: whether settings are searched: fewer steps are used, and the evidence is that of the
            actions after the first stage.
        changes: stage with which the rewards change. Those of the stages before are fitted first,
            and then taken as known. None: they do not change.

    Returns:
        One fit per agent, of the rewards after the change. The evidence is that of the counts, at
        the settings of largest posterior density.
    """
    shape = stages[0].joint_counts.shape
    if changes is not None:
        shared: dict[str, Any] = {"features": features, "temperature": temperature}
        shared |= {"passes": passes, "search": search}
        before = fit_greedy_steps(stages[:changes], models, priors, **shared)
        steps, _ = joined(stages[:changes])
        learners = [
            replace(model, start=_after(fit, steps, shape, index))
            for index, (model, fit) in enumerate(zip(models, before, strict=True))
        ]
        after = fit_greedy_steps(stages[changes:], learners, priors, **shared)
        return [
            replace(late, policies=np.concatenate([early.policies, late.policies]))
            for early, late in zip(before, after, strict=True)
        ]
    steps, ends = joined(stages)
    fits = []
    for index, (model, prior, own) in enumerate(zip(models, priors, features, strict=True)):
        width = len(prior.flat)
        chosen = chosen_steps(steps, ends, shape, index, width, search=search)
        task = StepLikelihood(model, prior, steps, shape, index, chosen, own)
        best = _levels(task, NOISES[:SEARCH_LEVELS] if search else NOISES, passes)
        orders = log_orders(stages[1:] if search else stages, index)
        fit = _agent_fit(task, best, stages, orders, temperature)
        fits.append(fit if search else _judged(fit, task, best))
    return fits


def _after(fit: AgentFit, steps: Steps, shape: tuple[int, ...], index: int) -> Start:
    """The learner after some stages, with the reward that was found."""
    assert isinstance(fit.model, ReplayedQ)
    return fit.model.after(steps, shape, index)


def _levels(task: StepLikelihood, noises: Sequence[float], passes: int) -> _Level:
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
) -> tuple[_Level, FloatArray]:
    """The mode at a noise after at most `most` Newton steps, halved where they lead downwards."""
    best: _Level | None = None
    for done in range(1, most + 1):
        sums = task.sums(theta, noise, epsilon, at=theta)
        level = _Level(noise, theta, sums, settings, precision, done, converged=False)
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


def _is_small(step: FloatArray, level: _Level) -> bool:
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


def _objective(level: _Level) -> float:
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


def _best_prior(prior: RewardPrior, level: _Level) -> dict[str, float]:
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


def _agent_fit(
    task: StepLikelihood,
    level: _Level,
    stages: Sequence[StageArrays],
    orders: float,
    temperature: float,
) -> AgentFit:
    """The fit in units of the temperature."""
    unit = temperature**2
    evidence = Evidence(
        level.sums.whole + level.occam + orders,
        pi**2 / 6 * level.noise**2 * unit,
        1.0,
        unit,
        (),
    )
    mean, prior = temperature * level.mean, level.precision / unit
    information = _of_shape(mean, level.sums.information / (REPEATED * unit), prior)
    posterior = Posterior(mean, information + prior, information, evidence)
    counts = np.stack([stage.action_counts(task.index) for stage in stages])
    return AgentFit(
        posterior,
        smoothed_policy(counts, pseudo_count=CONCENTRATION),
        task.model.linearised(task.reward(level.mean)),
        level.passes,
        level.converged,
        _further(task.chosen, level),
    )


def _judged(fit: AgentFit, task: StepLikelihood, level: _Level) -> AgentFit:
    """The fit with the numbers of a verdict."""

    def fitted(half: StepLikelihood) -> tuple[FloatArray, FloatArray]:
        theta, epsilon = level.mean, level.sums.epsilon
        for noise in (COARSE, level.noise):
            settings, precision = level.settings, level.precision
            found, epsilon = _settled(
                half, noise, theta, epsilon, settings, precision, LEVEL_PASSES
            )
            theta = found.mean
        return theta, epsilon

    assert isinstance(fit.posterior, Posterior)
    numbers = judged_steps(task, fit.posterior, fitted, level.noise)
    return replace(fit, further={**fit.further, "held_out": numbers})


def _of_shape(mean: FloatArray, information: FloatArray, prior: FloatArray) -> FloatArray:
    """The information with the size of the reward taken as known, for it is the unit."""
    reward = mean - mean.mean()
    variance = reward @ np.linalg.solve(information + prior, reward)
    return information + FIXED * np.outer(reward, reward) / max(float(variance), 1e-300)


def _further(chosen: Chosen, level: _Level) -> dict[str, Any]:
    """Diagnostics."""
    settings = level.settings
    prior = {}
    if settings:
        prior["iid_share"] = float(expit(settings["prior_iid"]))
        prior["length"] = float(np.exp(settings["prior_length"]))
    return {
        "scale": "open",
        "scale_reason": SCALE_REASON,
        "epsilon": chosen.by_stage(level.sums.epsilon),
        **({"prior": prior} if prior else {}),
        "steps_used": len(chosen.numbers),
        "explained_choices": level.sums.explained,
    }
