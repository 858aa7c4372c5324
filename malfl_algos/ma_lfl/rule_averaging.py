"""Posterior deviations that hold where the evidence does not settle a learner's rule.

With weights w_j of the rules, chosen rule included, the second moment about the chosen mean m is
sum_j w_j (C_j + (m_j - m)(m_j - m)'). It is the covariance of Bayesian model averaging (Hoeting et
al. 1999, Statistical Science 14) plus the square of the distance of both means. C_j is taken to be
the chosen rule's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from malfl_algos.ma_lfl.alternation import AgentFit
from malfl_algos.ma_lfl.carried_rules import choice_of
from malfl_algos.ma_lfl.posterior import Posterior
from malfl_algos.ma_lfl.settings import GRADIENT, prior_log_odds

__all__ = ["close_rivals", "decided"]

CLOSE = 10.0
"""Rules are compared on all stages if their log evidence in the search is lower by at most this."""
MOST_RIVALS = 3
LEAST_WEIGHT = 1e-3


def close_rivals(
    tried: Sequence[tuple[Mapping[str, Any], float]], chosen: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """The settings that the search left about as probable as the chosen ones, at most three.

    Args:
        tried: settings and their log evidence in the search.
        chosen: the chosen settings; rivals differ in rule or rho, each with its best discount.
            Other discounts under the chosen rule are for `discount_profile`.
    """
    scores = {
        tuple(settings.items()): value + prior_log_odds(settings)
        for settings, value in tried
        if _comparable(settings, chosen)
    }
    own = scores.pop(tuple(chosen.items()), None)
    if own is None:
        return []
    rivals: dict[tuple[Any, Any], tuple[tuple[str, Any], ...]] = {}
    for name in sorted(scores, key=scores.__getitem__):
        if scores[name] > own - CLOSE:
            rivals[_rule_of(dict(name))] = name
    rivals.pop(_rule_of(chosen), None)
    close = sorted(rivals.values(), key=scores.__getitem__)
    return [dict(name) for name in close[: -MOST_RIVALS - 1 : -1]]


def _rule_of(settings: Mapping[str, Any]) -> tuple[Any, Any]:
    return settings["rule"], settings["improvement"]


def _comparable(settings: Mapping[str, Any], chosen: Mapping[str, Any]) -> bool:
    steps = all(settings[name] == chosen[name] for name in ("step_size", "step_size_decay"))
    soft = all(
        one["rule"] != GRADIENT and choice_of(one["rule"]) == "soft" for one in (settings, chosen)
    )
    return steps and soft


def decided(
    candidates: Sequence[Mapping[str, Any]], fit: Callable[[Mapping[str, Any]], list[AgentFit]]
) -> tuple[dict[str, Any], list[AgentFit], list[dict[str, Any]]]:
    """The most probable of a few settings, and its fits with the uncertainty of the rule.

    Args:
        candidates: settings; a single one is not compared.
        fit: the fits of all agents under such settings, of the same data.

    Returns:
        The settings, the fits, and the settings and weight of every rule that counts, the most
        probable first; none if no other rule does.
    """
    fits = [fit(settings) for settings in candidates]
    if any(one.posterior.evidence.log_evidence is None for own in fits for one in own):
        return dict(candidates[0]), fits[0], []  # without matrices there is nothing to compare
    scores = [
        sum(one.posterior.evidence.log_evidence or 0.0 for one in own) + prior_log_odds(settings)
        for settings, own in zip(candidates, fits, strict=True)
    ]
    order = sorted(range(len(scores)), key=lambda number: -scores[number])
    best = order[0]
    weights = np.exp(np.array(scores) - scores[best])
    weights /= weights.sum()
    counted = [number for number in order if weights[number] >= LEAST_WEIGHT]
    if len(counted) == 1:
        return dict(candidates[best]), fits[best], []
    wide = [
        _with_spread(one, [(weights[number], fits[number][agent]) for number in counted[1:]])
        for agent, one in enumerate(fits[best])
    ]
    names = ("rule", "improvement", "discount")
    said = [
        {name: candidates[number][name] for name in names} | {"weight": float(weights[number])}
        for number in counted
    ]
    return dict(candidates[best]), wide, said


def _with_spread(fit: AgentFit, others: Sequence[tuple[float, AgentFit]]) -> AgentFit:
    own = fit.posterior
    if not isinstance(own, Posterior):
        return fit
    columns = [np.sqrt(weight) * (other.posterior.mean - own.mean) for weight, other in others]
    if own.spread is not None:
        columns = [*own.spread.T, *columns]
    return replace(fit, posterior=replace(own, spread=np.column_stack(columns)))
