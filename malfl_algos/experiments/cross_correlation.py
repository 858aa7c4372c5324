"""Whether a reward recovered from one family correlates most with that family's ground truth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations, product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from malfl_algos.scores.correlation import pearson
from malfl_algos.scores.means import mean_of_rows

__all__ = ["in_order", "verdicts"]

Rows = Sequence[Mapping[str, Any]]
Truths = Mapping[str, Mapping[str, NDArray[np.float64]]]


def verdicts(rows: Rows, truths: Truths, states: NDArray[np.bool_]) -> list[dict[str, Any]]:
    """One verdict per observer and agent.

    Args:
        rows: of the cross-correlation table.
        truths: ground-truth rewards by family and agent id.
        states: bool `(n_states,)`: the joint states that count.

    Returns:
        Rows `observer, agent`; `distinct`: whether correlation can tell any two families' true
        rewards of this agent apart; `right_pairing_wins`: whether the mean Pearson correlation over
        seeds is highest with the own family's truth, for every recovered family and every other
        truth that differs (null where none differs or a value is missing);
        `means[recovered_family][true_family]`.
    """
    found = []
    observers = dict.fromkeys(row["observer"] for row in rows)
    for observer, agent in product(observers, in_order(rows)):
        own = [row for row in rows if (row["observer"], row["agent"]) == (observer, agent)]
        means = {a: {b: _mean(own, a, b) for b in truths} for a in truths}
        differing = _differing({f: truth[agent] for f, truth in truths.items()}, states)
        found.append(
            {
                "observer": observer,
                "agent": agent,
                "distinct": bool(differing),
                "right_pairing_wins": _wins(means, differing),
                "means": means,
            }
        )
    return found


def in_order(rows: Rows) -> list[str]:
    """The agents of a table in agent order, in which their rows need not stand."""
    return sorted({row["agent"] for row in rows}, key=lambda agent: (len(agent), agent))


def _mean(rows: Rows, recovered: str, true: str) -> float | None:
    pairs = (recovered, true)
    own = [row for row in rows if (row["recovered_family"], row["true_family"]) == pairs]
    return mean_of_rows(own, "pearson").mean


def _differing(
    truths: Mapping[str, NDArray[np.float64]], states: NDArray[np.bool_]
) -> list[tuple[str, str]]:
    """Pairs of families, both ways round, whose ground-truth rewards do not correlate at 1."""
    pairs = []
    for one, other in combinations(truths, 2):
        likeness = pearson(truths[one], truths[other], states=states).value
        if likeness is not None and likeness < 1 - 1e-9:
            pairs += [(one, other), (other, one)]
    return pairs


def _wins(
    means: Mapping[str, Mapping[str, float | None]], differing: Sequence[tuple[str, str]]
) -> bool | None:
    compared = [(means[own][own], means[own][other]) for own, other in differing]
    if not compared or any(value is None for pair in compared for value in pair):
        return None
    return all(
        right > wrong for right, wrong in compared if right is not None and wrong is not None
    )
