"""The choice of how the learners of a history learn: exact or td, their step size, their share rho.

The evidence of the first stages decides. One improvement is not enough: its policies are known, so
that it is linear in the rewards, and rewards can make up for a wrong learner.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from malfl_algos.ma_lfl.history import HistoryData
from malfl_algos.ma_lfl.history_settings import climb
from malfl_algos.ma_lfl.learner_models import ExpectedTd

__all__ = ["STEP_SIZES", "rule_of", "searched"]

STEP_SIZES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.8)
FIRST_STEP = STEP_SIZES.index(0.1)
"""Step sizes beta to climb, and the place to start from."""


def searched(
    data: HistoryData,
    evidence: Callable[[HistoryData], float],
    compared: Callable[[HistoryData], float],
    *,
    learners: Sequence[ExpectedTd | None],
    step_sizes: Sequence[float],
    shares: Sequence[float],
) -> tuple[HistoryData, dict[str, Any]]:
    """The data with the learner of largest evidence.

    Args:
        data: what is given.
        evidence: log evidence of the data with a learner, by which its step size and share are
            chosen.
        compared: that by which learners are compared. Rewards made of few functions fit no learner,
            and then say little about which it is.
        learners: to choose from; None: they solve (5).
        step_sizes: ordered, to choose from for td learners; a single one is given.
        shares: of rho, likewise.

    Returns:
        The data, and the log evidence of what was tried, by setting: `rule` by name; `step_size`
        and `improvement` of the chosen rule as pairs.
    """
    found: dict[str, tuple[HistoryData, dict[str, Any]]] = {}
    for learner in learners:
        own, told = replace(data, td=learner, retained=shares[0]), {}
        if learner is not None and len(step_sizes) > 1:
            steps = [replace(own, td=replace(learner, step_size=step)) for step in step_sizes]
            own, told["step_size"] = _climbed(steps, step_sizes, evidence, FIRST_STEP)
        if len(shares) > 1:
            kept = [replace(own, retained=share) for share in shares]
            own, told["improvement"] = _climbed(kept, shares, evidence, 0)
        found[rule_of(own)] = own, told
    if len(found) == 1:
        return next(iter(found.values()))
    values = {rule: compared(own) for rule, (own, _) in found.items()}
    chosen, told = found[max(values, key=values.__getitem__)]
    return chosen, {"rule": values, **told}


def rule_of(data: HistoryData) -> str:
    """The name of the rule by which these learners evaluate policies."""
    return "exact" if data.td is None else data.td.name


def _climbed(
    made: Sequence[HistoryData],
    settings: Sequence[float],
    evidence: Callable[[HistoryData], float],
    start: int,
) -> tuple[HistoryData, list[list[float]]]:
    """The data with the setting of largest evidence, and what was tried."""
    places = range(len(made))
    place, tried = climb(lambda place: evidence(made[place]), places, start=start)
    return made[place], [[settings[own], value] for own, value in tried.items()]
