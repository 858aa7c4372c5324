"""The numbers of a verdict on one agent's reward."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from malfl_algos.observers.judged_rows import AgentFit, AgentRows, learners_noise, rows_of
from malfl_algos.verdict.agreement import Agreement, agreement, correlation
from malfl_algos.verdict.halves import (
    HeldOut,
    Improvement,
    determined,
    halves,
    held_out,
    log_evidence,
    mean,
    sums_of,
    total,
)

__all__ = ["DISCOUNTS", "NEEDS_IMPROVEMENTS", "numbers_of", "numbers_of_halves"]

FloatArray = NDArray[np.float64]

DISCOUNTS = (0.5, 0.7, 0.8, 0.9, 0.95, 0.98)
"""Discounts whose evidence is compared with that of the given one."""
SHARED_NOISE = tuple(10.0 ** np.arange(-5, 1))
"""Noise variances tried for rules and discounts that are compared."""
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
) -> dict[str, Any]:
    """The numbers of `malfl_algos.verdict.deciding` on one agent's reward.

    Args:
        fit: the fit to judge under.
        reward: the judged reward at the compared states; None: it is the fit's own.
        compared: maps the unknowns to the reward at the compared states.
        rules: further rules to compare the evidence with.
        n_seen: number of unknowns that the data touch.
    """
    if len(fit.stages) < 3:
        why = f"it needs two improvements (3 stages), the trace has {len(fit.stages)} stages"
        return {"missing": dict.fromkeys(NEEDS_IMPROVEMENTS, why)}
    rows = rows_of(fit, fit.settings)
    unknown = rows.coefficients[0].shape[-1]
    prior = fit.prior(unknown)
    learning, predicted = learners_noise(fit, rows, prior)
    improvements = rows.with_noise(learning, predicted)
    parts = [sums_of(own) for own in improvements]
    predicted_well = held_out(improvements, prior)
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
        "identified": determined(whole, prior) / max(n_seen - 1, 1),
    }
    if reward is not None:
        centre = mean(whole, prior)
        numbers["agrees_with_posterior_mean"] = correlation(compared(centre), reward)
    numbers |= _compared(fit, scored, degrees, "discount", DISCOUNTS)
    return numbers | _compared(fit, scored, degrees, "rule", rules)


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
    tried = [[factor * own + 1e-9 for own in learning] for factor in FACTORS]
    tried += [[np.full(own.shape, noise) for own in learning] for noise in SHARED_NOISE]
    unknown = len(prior)
    sums = [rows.sums(one) for one in tried]
    rough = [log_evidence(one, prior) for one in sums]
    best = sums[int(np.argmax(rough))]
    return max(log_evidence(best, fit.prior(unknown, factor)) for factor in PRIORS)


def _compared(
    fit: AgentFit, scored: float, degrees: int, name: str, choices: Sequence[Any]
) -> dict[str, Any]:
    """The best other choice of a setting by evidence, and by how much per row it is better."""
    own = fit.settings.get(name)
    found = {}
    for choice in choices:
        if choice == own:
            continue
        settings = {**fit.settings, name: choice}
        if name == "rule" and choice not in ("td", "exact"):
            settings["improvement"] = 0.0  # such a learner chooses by q alone
        rows = rows_of(fit, settings)
        prior = fit.prior(rows.coefficients[0].shape[-1])
        learning, _ = learners_noise(fit, rows, prior)
        found[choice] = _best_evidence(fit, rows, learning, prior)
    if not found:
        return {}
    best = max(found, key=lambda choice: found[choice])
    return {f"best_{name}": best, f"{name}_deficit": (found[best] - scored) / max(degrees, 1)}


def _no_reward(fit: AgentFit) -> float:
    """Log evidence of policies that drift: log pi_{h+1} = log pi_h + noise; the largest of all."""
    said = fit.responses()
    changes = [
        (after - before, doubt_before, doubt)
        for (before, doubt_before), (after, doubt) in pairwise(said)
    ]

    def evidence(drift: float) -> float:
        found = 0.0
        for change, doubt_before, doubt in changes:
            free = np.zeros((*change.shape, 1))
            step = np.full(change.shape, drift) + np.minimum(doubt_before, 1 / 0.3)
            sums = sums_of(Improvement(free, change, doubt, step, step))
            found += sums.log_norm - sums.squares / 2
        return found

    return max(map(evidence, DRIFTS))
