"""What to try where a verdict finds that the agents may learn by another rule."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from malfl_algos.contract import Observer
from malfl_algos.trace import LearningTrace

__all__ = ["NOT_TRIED", "other_rule", "unvisited"]

SELDOM = 20
"""Visits of a state in a stage below which they are few."""
NOT_TRIED = (
    "ma-lfl-bellman with learner q-learning, sarsa or expected-sarsa, if the agents carry action "
    "values over from stage to stage: such rules were left out"
)
_OURS = {"MaLflBellman": "ma-lfl-bellman", "MaLflReplay": "ma-lfl-replay"}
_CHOSEN = ("learner", "bootstrap", "policy", "choice")
"""Options of these observers that the evidence chooses if they are `auto`."""


def other_rule(
    trace: LearningTrace, discount: float | None, observer: Observer | None, used: str, rule: str
) -> str:
    """The observers or options to try next for a trace.

    Args:
        trace: the trace.
        discount: that was given; None: the observer estimated it.
        observer: the observer that was used, if it is at hand.
        used: name of its class.
        rule: learning rule that the rewards were judged under.
    """
    tries = []
    given = [name for name in _CHOSEN if getattr(observer, name, "auto") != "auto"]
    if used in _OURS and given:
        tries.append(f"{_OURS[used]} with {' and '.join(given)} auto")
    if used != "MaLflReplay" and _has_every_step(trace):
        tries.append("ma-lfl-replay, which follows every step of the log")
    if used != "MaLflHistory" and rule == "exact" and _seldom(trace):
        tries.append("ma-lfl-history, which needs few visits of a state")
    if used != "MaLflBellman":
        tries.append("ma-lfl-bellman with learner auto")
    if used in _OURS and discount is not None:
        tries.append("discount null, which estimates the discount")
    if not tries:
        return "log every step in order, so that ma-lfl-replay can follow the learners"
    return f"try {', or '.join(tries)}"


def _has_every_step(trace: LearningTrace) -> bool:
    """Whether `ma-lfl-replay` can follow the learners."""
    found = [stage.transitions for stage in trace.stages]
    return all(own is not None and own.complete and own.states is not None for own in found)


def unvisited(trace: LearningTrace) -> float:
    """Share of the states that are visited at all which a stage does not visit, on average."""
    return float(np.mean(_visits(trace) == 0))


def _seldom(trace: LearningTrace) -> bool:
    """Whether the states that are visited are mostly visited seldom, in a stage."""
    return float(np.median(_visits(trace))) < SELDOM


def _visits(trace: LearningTrace) -> NDArray[np.int64]:
    """Visits of the states that are visited at all, `(n_stages, n_visited)`."""
    visits = np.stack([stage.state_counts for stage in trace.stages])
    return np.asarray(visits[:, visits.any(axis=0)])
