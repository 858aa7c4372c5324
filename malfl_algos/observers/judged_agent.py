"""The numbers of a verdict on one agent's reward."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from malfl_algos.ma_lfl.carried_rules import Carried, follows_q
from malfl_algos.ma_lfl.policy_estimation import CONCENTRATION
from malfl_algos.ma_lfl.row_sums import row_sums
from malfl_algos.normal import Normal
from malfl_algos.observers.judged_rows import AgentFit, AgentRows, learners_noise, rows_of
from malfl_algos.scores.prediction import estimated_policy
from malfl_algos.verdict.agreement import Agreement, agreement, correlation
from malfl_algos.verdict.drawn import calibration, half_rewards, predicted_log_policies
from malfl_algos.verdict.halves import (
    HeldOut,
    Improvement,
    determined,
    halves,
    held_out,
    log_evidence,
    mean,
    told_variance,
    total,
)

__all__ = [
    "DISCOUNTS",
    "NEEDS_IMPROVEMENTS",
    "arrays_of",
    "calibrations",
    "climbed",
    "deficit",
    "numbers_of",
    "numbers_of_halves",
    "other_discounts",
]

FloatArray = NDArray[np.float64]

DISCOUNTS = (0.5, 0.7, 0.8, 0.9, 0.95, 0.98)
"""Discounts whose evidence is compared with that of the given one."""
FAR = (0.7, 0.95)
"""Those of them that are always tried; others only near the best."""
SHARED_NOISE = tuple(10.0 ** np.arange(-5, 1))
"""Noise variances tried for rules and discounts that are compared."""
SLIGHT = 3.0
"""Difference of log evidence up to which one choice is as good as another (Kass and Raftery 1995:
strong from 3 on)."""
FACTORS = (0.3, 1.0, 3.0, 10.0, 30.0)
"""Factors tried on the noise of the fit, for the same."""
PRIORS = (0.25, 1.0, 4.0)
"""Factors tried on the prior variance, for the same."""
DRIFTS = tuple(10.0 ** np.arange(-7, 1.1, 0.5))
"""Variances of the change of log pi between stages if there is no reward."""
NEEDS_IMPROVEMENTS = (
    "explained",
    "misfit",
    "halves_shortfall",
    "expected",
    "expected_low",
    "gain_over_no_change",
    "identified",
)
"""Numbers that need two improvements."""


def numbers_of(
    fit: AgentFit,
    reward: FloatArray | None,
    compared: Callable[[FloatArray], FloatArray],
    rules: Sequence[str],
    n_seen: int,
) -> tuple[dict[str, Any], dict[str, FloatArray]]:
    """The numbers of `malfl_algos.verdict.deciding` on one agent's reward, and what is drawn.

    Args:
        fit: the fit to judge under.
        reward: the judged reward at the compared states; None: it is the fit's own.
        compared: maps the unknowns to the reward at the compared states.
        rules: further rules to compare the evidence with.
        n_seen: number of unknowns that the data touch.

    Returns:
        The numbers, and the arrays of `malfl_algos.verdict.Verdict` but for `states`.
    """
    if len(fit.stages) < 3:
        why = f"it needs two improvements (3 stages), the trace has {len(fit.stages)} stages"
        return {"missing": dict.fromkeys(NEEDS_IMPROVEMENTS, why)}, {}
    rows = rows_of(fit, fit.settings)
    unknown = rows.coefficients[0].shape[-1]
    prior = fit.prior(unknown)
    learning, predicted = learners_noise(fit, rows, prior)
    improvements = rows.with_noise(learning, predicted)
    parts = rows.parts(learning)
    predicted_well = held_out(improvements, prior, parts)
    whole = rows.whole(learning)
    agreed = agreement(halves(parts), whole, prior, reward, compared)
    evidence, degrees = log_evidence(total(parts), prior), whole.degrees
    scored = _best_evidence(fit, rows, learning, prior)
    noises = fit.by_stage("stage_noises")
    numbers = {
        "rule": fit.settings.get("rule"),
        "discount": fit.settings["discount"],
        "improvement": fit.retained,
        **numbers_of_halves(predicted_well, agreed),
        "gain_over_no_change": (evidence - _no_reward(fit)) / max(degrees, 1),
        "rows": degrees,
        "stage_noises_spread": float(np.max(noises) / np.median(noises)),
        "identified": _identified(fit, whole, prior, n_seen),
    }
    if reward is not None:
        centre = mean(whole, prior)
        numbers["agrees_with_posterior_mean"] = correlation(compared(centre), reward)
    discounts = other_discounts(
        fit.settings["discount"], scored, lambda one: _evidence_under(fit, "discount", one)
    )
    others = {
        rule: _evidence_under(fit, "rule", rule) for rule in rules if rule != fit.settings["rule"]
    }
    found = deficit("discount", discounts, scored, degrees)
    if _moves(fit.settings["rule"]):  # its expected updates are an approximation: discounts blur
        found["moving_discount_deficit"] = found.pop("discount_deficit")
    numbers |= found
    drawn = arrays_of(fit, improvements, prior, parts, compared)
    return numbers | deficit("rule", others, scored, degrees), drawn


def arrays_of(
    fit: AgentFit,
    rows: Sequence[Improvement],
    prior: FloatArray,
    parts: Sequence[Normal],
    compared: Callable[[FloatArray], FloatArray],
) -> dict[str, FloatArray]:
    """What the figures of a verdict show, by name.

    Args:
        fit: the fit.
        rows, parts: all improvements, and their sums.
        prior: prior precision.
        compared: maps the unknowns to the reward at the compared states.
    """
    logs = [log for log, _ in fit.responses()[1:]]
    counts = np.stack([own.action_counts(fit.index) for own in fit.stages])
    predicted = predicted_log_policies(rows, logs, prior, parts)
    return {
        **calibrations(counts, predicted),
        "halves": half_rewards(parts, prior, compared),
    }


def calibrations(counts: NDArray[np.int64], predicted: FloatArray) -> dict[str, FloatArray]:
    """Calibration and divergence of predictions, and of the estimated policy of the stage before.

    Args:
        counts: of all stages, `(n_stages, n_states, n_actions)`.
        predicted: log policies of all stages but the first.
    """
    unchanged = np.log(np.stack([estimated_policy(own) for own in counts[:-1]]))
    found = [calibration(counts[1:].astype(float), own) for own in (predicted, unchanged)]
    return {
        "calibration": np.stack([bins for bins, _ in found]),
        "divergence": np.array([divergence for _, divergence in found]),
    }


def _identified(fit: AgentFit, whole: Normal, prior: FloatArray, n_seen: int) -> float:
    """Share of the directions of the reward of visited states about which the data say more than
    the prior; of a smooth prior the share of its variance.
    """
    if fit.smooth is None:
        return determined(whole, prior) / max(n_seen - 1, 1)
    visited = np.sum([stage.action_counts(fit.index) for stage in fit.stages], axis=(0, 2)) > 0
    seen = np.ones(len(prior), dtype=bool)  # of low rank: every unknown stands for many states
    if fit.features is None:
        seen = np.repeat(visited, len(prior) // len(visited))
    return told_variance(whole.information, prior, seen)


def numbers_of_halves(predicted: HeldOut, agreed: Agreement) -> dict[str, float]:
    """What one half of the improvements says of the other, and the posterior of the reward."""
    return {
        "explained": predicted.explained,
        "misfit": predicted.misfit,
        "p_value": predicted.p_value,
        "halves": agreed.halves,
        "halves_expected": agreed.halves_expected,
        "halves_p_value": agreed.p_value,
        "halves_shortfall": agreed.halves_expected - agreed.halves,
        "expected": agreed.expected,
        "expected_low": agreed.low,
    }


def _best_evidence(
    fit: AgentFit, rows: AgentRows, learning: Sequence[FloatArray], prior: FloatArray
) -> float:
    """Largest log evidence over a grid of noises and priors."""
    sums: dict[int, Normal] = {}

    def evidence(number: int, noise: Sequence[FloatArray]) -> float:
        sums[number] = rows.sums(noise)
        return log_evidence(sums[number], prior)

    found = climbed(
        len(FACTORS),
        [FACTORS.index(1.0)],
        lambda one: evidence(one, [FACTORS[one] * own + 1e-9 for own in learning]),
    )
    typical = float(np.median([np.median(own) for own in learning]))
    shared = climbed(
        len(SHARED_NOISE),
        [int(np.argmin(np.abs(np.log(SHARED_NOISE) - np.log(max(typical, 1e-9)))))],
        lambda one: evidence(
            one + len(FACTORS), [np.full(own.shape, SHARED_NOISE[one]) for own in learning]
        ),
    )
    found |= {one + len(FACTORS): value for one, value in shared.items()}
    best = sums[max(found, key=lambda one: found[one])]
    return max(log_evidence(best, fit.prior(len(prior), factor)) for factor in PRIORS)


def climbed(
    n_points: int, starts: Sequence[int], value: Callable[[int], float]
) -> dict[int, float]:
    """Values of a function of 0..n_points-1 with few peaks, up to its highest.

    Returns:
        The values at `starts`, at the neighbours of the best of them, and on while it rises.
    """
    found = {one: value(one) for one in starts}
    tried = list(starts)
    while tried:
        best = max(found, key=lambda one: found[one])
        tried = [one for one in (best - 1, best + 1) if 0 <= one < n_points and one not in found]
        found |= {one: value(one) for one in tried}
    return found


def other_discounts(
    own: float, scored: float, evidence: Callable[[float], float]
) -> dict[float, float]:
    """Log evidence of other discounts than `own`, whose evidence is `scored`, up to the best."""
    points = sorted({*DISCOUNTS, own})
    values = climbed(
        len(points),
        sorted({points.index(one) for one in (own, *FAR)}),
        lambda one: scored if points[one] == own else evidence(points[one]),
    )
    return {points[one]: value for one, value in values.items() if points[one] != own}


def _moves(rule: str) -> bool:
    return follows_q(rule) and Carried.named(rule).policy == "moving"


def _evidence_under(fit: AgentFit, name: str, choice: Any) -> float:
    """Log evidence with another choice of a setting, the largest over noises and priors."""
    settings = {**fit.settings, name: choice}
    if name == "rule" and choice not in ("td", "exact"):
        settings["improvement"] = 0.0  # such a learner chooses by q alone
    rows = rows_of(fit, settings)
    prior = fit.prior(rows.coefficients[0].shape[-1])
    learning, _ = learners_noise(fit, rows, prior)
    return _best_evidence(fit, rows, learning, prior)


def deficit(name: str, others: Mapping[Any, float], scored: float, degrees: int) -> dict[str, Any]:
    """The best other choice of a setting by evidence, and by how much per row it is better.

    It is 0 for a choice that is better by less than `SLIGHT`.
    """
    if not others:
        return {}
    best = max(others, key=lambda choice: others[choice])
    more = others[best] - scored
    more = 0.0 if 0 < more < SLIGHT else more
    return {f"best_{name}": best, f"{name}_deficit": more / max(degrees, 1)}


def _no_reward(fit: AgentFit) -> float:
    """Log evidence of policies that drift: log pi_{h+1} = log pi_h + noise; the largest of all."""
    said = fit.responses()
    changes = np.concatenate([after - before for (before, _), (after, _) in pairwise(said)])
    doubts = np.concatenate([doubt for _, doubt in said[1:]])
    before = np.minimum(np.concatenate([doubt for _, doubt in said[:-1]]), 1 / CONCENTRATION)
    free = np.zeros((*changes.shape, 1))

    def evidence(number: int) -> float:
        step = DRIFTS[number] + before
        sums = row_sums(free[None], changes[None], (doubts + step)[None])
        return sums.log_norm - sums.squares / 2

    return max(climbed(len(DRIFTS), [len(DRIFTS) // 2], evidence).values())
