"""Action values of reward features for `malfl_algos.networks.moves`, by regression on steps.

Only differences between the agent's own actions matter. The expected features after an own action
are therefore one linear regression per action on the steps of all stages: the others' policies
change between stages, but shift all own actions alike.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from malfl_algos.networks.dynamics import RIDGE, parts_of
from malfl_algos.networks.gathering import Gathered, IntArray

__all__ = ["Onward", "action_differences", "onward", "rows_of", "successor_map"]

FloatArray = NDArray[np.float64]
Onward = FloatArray
"""Per own action, the map `(n_own, k, k + m)` from Z(o) to the expected (Z(o'), phi(o'))."""


def onward(
    gathered: Gathered, counts: Sequence[FloatArray], values: FloatArray, paid: FloatArray
) -> Onward:
    """Fit the expected value and reward features after every own action.

    Args:
        gathered: the steps.
        counts: per stage, counts of the distinct steps.
        values: Z of all observations, `(n_observations, k)`.
        paid: phi of all observations, `(n_observations, m)`.
    """
    k, width = values.shape[1], values.shape[1] + paid.shape[1]
    found = []
    for action in range(gathered.n_own):
        first, second = np.zeros((k, k)), np.zeros((k, width))
        for steps, count in zip(gathered.stages, counts, strict=True):
            chosen = np.flatnonzero(steps.joint_actions[:, gathered.agent_index] == action)
            for part in parts_of(len(chosen)):
                rows = chosen[part]
                own = values[steps.here[rows]]
                weighted = (own * count[rows, None]).T
                first += weighted @ own
                there = steps.after[rows]
                second[:, :k] += weighted @ (values[there] * steps.goes_on[rows, None])
                second[:, k:] += weighted @ paid[there]
        found.append(np.linalg.solve(_ridged(first), second))
    return np.stack(found)


def successor_map(
    gathered: Gathered,
    counts: FloatArray,
    stage: int,
    values: FloatArray,
    paid: FloatArray,
    *,
    discount: float,
    after: bool,
) -> FloatArray:
    """Return the map in V_h = Z(o) . map of the features phi, by LSTD on the steps of a stage.

    Args:
        gathered, values, paid: as in `onward`.
        counts: of the stage's distinct steps.
        stage: h.
        discount: gamma.
        after: whether phi of the next observation is paid.
    """
    steps, k = gathered.stages[stage], values.shape[1]
    first, second, gain = np.zeros((k, k)), np.zeros((k, k)), np.zeros((k, paid.shape[1]))
    for part in parts_of(len(counts)):
        here, there = steps.here[part], steps.after[part]
        own = values[here]
        weighted = (own * (counts[part, None] / counts.sum())).T
        first += weighted @ own
        second += weighted @ (values[there] * steps.goes_on[part, None])
        gain += weighted @ paid[there if after else here]
    return np.asarray(np.linalg.solve(_ridged(first) - discount * second, gain))


def action_differences(
    maps: Onward, successor: FloatArray, here: FloatArray, *, discount: float, after: bool
) -> FloatArray:
    """Return the action values of phi, up to a constant per observation, `(n, n_own, m)`.

    Args:
        maps: of `onward`.
        successor: of `successor_map`.
        here: Z of the observations `(n, k)`.
        discount, after: as in `successor_map`.
    """
    k = len(successor)
    found = [
        here @ (discount * own[:, :k] @ successor + (own[:, k:] if after else 0.0)) for own in maps
    ]
    return np.stack(found, axis=1)


def rows_of(gathered: Gathered, stage: int, most: int, rng: np.random.Generator) -> IntArray:
    """Return rows of observations of a stage, as visited: all, or `most` drawn ones."""
    here = gathered.stages[stage].here[gathered.stages[stage].which]
    return here if len(here) <= most else rng.choice(here, most, replace=False)


def _ridged(first: FloatArray) -> FloatArray:
    k = len(first)
    return first + 10 * RIDGE * max(float(np.trace(first)), 1e-300) / k * np.eye(k)
