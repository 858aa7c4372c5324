"""Fit rewards of epsilon-greedy Q-learners whose policy moves, from single steps.

The counterpart of `greedy_fit`, for learners whose steps are all known, in order. Before every step
the replayed q of the state is affine in the reward, and the action tells which q was the greatest,
or was drawn evenly:

  P(a | s) = (1 - epsilon) softmax(q(s, .) / noise)(a) + epsilon / |A|.

The noise falls level by level; see `step_levels`.

Chance makes rewards visible that no policy depends on. A reward that every action of a state earns
alike does not change what is best. But each action has its own sample of it, and the learner
follows that sample, which the replay knows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from math import pi
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from malfl_algos.ma_lfl.alternation import AgentFit
from malfl_algos.ma_lfl.chosen_steps import Chosen, chosen_steps, joined
from malfl_algos.ma_lfl.cut_stages import log_orders
from malfl_algos.ma_lfl.held_out_steps import judged_steps
from malfl_algos.ma_lfl.policy_estimation import CONCENTRATION, smoothed_policy
from malfl_algos.ma_lfl.posterior import Evidence, Posterior
from malfl_algos.ma_lfl.q_replay import ReplayedQ, Start
from malfl_algos.ma_lfl.reward_priors import RewardPrior
from malfl_algos.ma_lfl.stages import StageArrays, Steps
from malfl_algos.ma_lfl.step_levels import NOISES, REPEATED, Level, best_level, held_out_fit
from malfl_algos.ma_lfl.step_likelihood import StepLikelihood

__all__ = ["MOST_UNKNOWNS", "fit_greedy_steps"]

FloatArray = NDArray[np.float64]

MOST_UNKNOWNS = 1500
"""Largest number of unknowns, of which matrices are formed."""
SEARCH_LEVELS = 4
"""Number of levels of noise while settings are searched."""
FIXED = 1e3
"""Factor on the precision of the size of the reward, which stands for a known size."""
SCALE_REASON = (
    "epsilon-greedy choices show only which action is the best; the unit is such that the prior "
    "standard deviation of a reward value is the temperature, and standard deviations are those of "
    "the shape of the reward, at the size found"
)


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
    judged: bool = True,
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
            and then taken as known. None: they do not change. For a verdict, a change one stage
            earlier and later is fitted, too.
        judged: whether the numbers of a verdict are wanted; never while settings are searched.

    Returns:
        One fit per agent, of the rewards after the change. The evidence is that of the counts, at
        the settings of largest posterior density.
    """
    shape = stages[0].joint_counts.shape
    if changes is not None:
        shared: dict[str, Any] = {"features": features, "temperature": temperature}
        shared |= {"passes": passes, "search": search}
        before, after = _two_periods(stages, changes, models, priors, judged=judged, **shared)
        fits = [_following(*own) for own in zip(before, after, strict=True)]
        if search or not judged:
            return fits
        found = _evidence_of(before, after)
        others = {
            other: _evidence_of(
                *_two_periods(stages, other, models, priors, judged=False, **shared)
            )
            for other in (changes - 1, changes + 1)
            if 0 < other < len(stages)
        }
        return _compared(fits, changes, found, others, len(joined(stages)[0].states))
    steps, ends = joined(stages)
    fits = []
    for index, (model, prior, own) in enumerate(zip(models, priors, features, strict=True)):
        width = len(prior.flat)
        chosen = chosen_steps(steps, ends, shape, index, width, search=search)
        task = StepLikelihood(model, prior, steps, shape, index, chosen, own)
        best = best_level(task, NOISES[:SEARCH_LEVELS] if search else NOISES, passes)
        orders = log_orders(stages[1:] if search else stages, index)
        fit = _agent_fit(task, best, stages, orders, temperature)
        fits.append(_judged(fit, task, best, passes) if judged and not search else fit)
    return fits


def _two_periods(
    stages: Sequence[StageArrays],
    changes: int,
    models: Sequence[ReplayedQ],
    priors: Sequence[RewardPrior],
    **shared: Any,
) -> tuple[list[AgentFit], list[AgentFit]]:
    """The fits of the stages before a change of rewards, and from it on."""
    shape = stages[0].joint_counts.shape
    before = fit_greedy_steps(stages[:changes], models, priors, **shared)
    steps, _ = joined(stages[:changes])
    learners = [
        replace(model, start=_after(fit, steps, shape, index))
        for index, (model, fit) in enumerate(zip(models, before, strict=True))
    ]
    return before, fit_greedy_steps(stages[changes:], learners, priors, **shared)


def _evidence_of(*periods: Sequence[AgentFit]) -> float:
    """Log evidence of all agents' actions in all periods."""
    return sum(fit.posterior.evidence.log_evidence or 0.0 for own in periods for fit in own)


def _compared(
    fits: Sequence[AgentFit],
    changes: int,
    found: float,
    others: Mapping[int, float],
    n_steps: int,
) -> list[AgentFit]:
    """The fits with what a change one stage earlier or later would gain, for a verdict."""
    if not others:
        return list(fits)
    best = max(others, key=lambda other: others[other])
    numbers: dict[str, Any] = {
        "changes_deficit": (others[best] - found) / n_steps,
        "changes": changes,
        "best_changes": best,
    }
    return [
        replace(fit, further={**fit.further, "held_out": {**fit.further["held_out"], **numbers}})
        for fit in fits
    ]


def _following(early: AgentFit, late: AgentFit) -> AgentFit:
    """The later fit, with the policies of all stages; a verdict needs the numbers of both."""
    further = dict(late.further)
    if "held_out" in early.further:
        numbers = early.further["held_out"]
        unsettled = {"unsettled": int(not early.converged), "passes": early.passes}
        further["before_changes"] = {**numbers, **unsettled}
        start = {name: numbers[name] for name in ("start_deficit",) if name in numbers}
        further["held_out"] = {**further["held_out"], **start}
    policies = np.concatenate([early.policies, late.policies])
    return replace(late, policies=policies, further=further)


def _after(fit: AgentFit, steps: Steps, shape: tuple[int, ...], index: int) -> Start:
    """The learner after some stages, with the reward that was found."""
    assert isinstance(fit.model, ReplayedQ)
    return fit.model.after(steps, shape, index)


def _agent_fit(
    task: StepLikelihood,
    level: Level,
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


def _judged(fit: AgentFit, task: StepLikelihood, level: Level, passes: int) -> AgentFit:
    """The fit with the numbers of a verdict."""
    assert isinstance(fit.posterior, Posterior)
    numbers = judged_steps(task, fit.posterior, partial(held_out_fit, level=level), level.noise)
    if task.model.uniform_others is not None and task.model.start is None:
        from_zero = replace(task, model=replace(task.model, uniform_others=None))
        other = best_level(from_zero, NOISES, passes)
        numbers["start_deficit"] = other.log_evidence - level.log_evidence
    return replace(fit, further={**fit.further, "held_out": numbers})


def _of_shape(mean: FloatArray, information: FloatArray, prior: FloatArray) -> FloatArray:
    """The information with the size of the reward taken as known, for it is the unit."""
    reward = mean - mean.mean()
    variance = reward @ np.linalg.solve(information + prior, reward)
    return information + FIXED * np.outer(reward, reward) / max(float(variance), 1e-300)


def _further(chosen: Chosen, level: Level) -> dict[str, Any]:
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
