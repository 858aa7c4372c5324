"""Whether to believe a reward that was recovered from moves (`form: moves` of `ma-lfl-network`).

What can be said without ground truth: of how much of the reward the moves say anything, whether the
reward of the other stages predicts the direction of a stage's move, what the posterior expects, and
whether rewards of odd and of even moves agree as it expects. The words begin at the same values as
in `malfl_algos.verdict.deciding`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from malfl_algos.verdict.deciding import Check, decide
from malfl_algos.verdict.words import Verdict

__all__ = ["MOVE_CHECKS", "judge_moves"]

_MORE = "gather more stages, or let the agents learn from more steps per update"
_EXPECTED = (
    "Pearson r with what the features can show of the ground truth is expected to be {expected:.2f}"
)
_PREDICTED = (
    "the reward of the other stages predicts the direction of a stage's move {value:.1f} standard "
    "errors better than no reward (mean correlation {agreement:.2f})"
)
_HALVES = (
    "rewards from odd and from even moves correlate at {halves:.2f}, expected {halves_expected:.2f}"
)

_IDENTIFIED = (
    "the moves say more than the prior about {value:.0%} of the directions of the reward; what an "
    "agent's own actions do not change stays open"
)

MOVE_CHECKS = (
    Check("identified", 0.5, 0.1, True, _IDENTIFIED, _MORE, carries=_IDENTIFIED),
    Check("predicted", 2.0, 0.0, True, _PREDICTED, _MORE, carries=_PREDICTED),
    Check("expected", 0.85, 0.6, True, _EXPECTED, _MORE, carries=_EXPECTED),
    Check("halves_shortfall", 0.2, 0.4, False, _HALVES, _MORE, carries=_HALVES),
    Check(
        "at_bound",
        0.5,
        None,
        False,
        "no ridge within the range is best",
        "check that the features are distinct, and that the agents learned",
        needed=False,
    ),
)


def judge_moves(diagnostics: Mapping[str, Any]) -> Verdict:
    """Return the verdict on one agent's reward.

    Args:
        diagnostics: of the agent, with `agreement`, `identified`, `expected`, `halves`,
            `halves_expected` and `members`, as `ma-lfl-network` returns them with `form: moves`.
    """
    agreement = np.asarray(diagnostics["agreement"], dtype=np.float64)
    error = float(agreement.std(ddof=1)) / np.sqrt(len(agreement))
    halves, halves_expected = diagnostics["halves"], float(diagnostics["halves_expected"])
    return decide(
        {
            "agreement": float(agreement.mean()),
            "predicted": float(agreement.mean()) / max(error, 1e-12),
            "identified": float(diagnostics["identified"]),
            "expected": float(diagnostics["expected"]),
            "halves": halves,
            "halves_expected": halves_expected,
            "halves_shortfall": None if halves is None else halves_expected - halves,
            "at_bound": int(bool(diagnostics["members"][0]["bounds_hit"])),
            "missing": {"halves_shortfall": "at least four moves are needed to compare halves"},
        },
        MOVE_CHECKS,
    )
