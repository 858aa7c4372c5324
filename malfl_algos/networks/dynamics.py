"""What features are to be expected after an action, learned by regression from steps.

Nothing here knows states: with features Z(o), E[Z(o') | o, a] is a linear map of Z(o) for every
action, fitted in closed form. A regression of conditional means needs one next observation per step
where a squared residual of next-step values would need two.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Protocol

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve

from malfl_algos.networks.gathering import Gathered

__all__ = ["Dynamics", "JointDynamics", "OwnDynamics", "joint_numbers", "moments"]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
Chances = Callable[[IntArray, int], Sequence[FloatArray]]
"""Everyone's action probabilities `(n, n_actions)` at rows of observations in a stage."""

RIDGE = 1e-6
"""Relative to the mean variance of a feature: for features that are combinations of others."""


class Dynamics(Protocol):
    """What follows an agent's own action when the others play as they do in a stage."""

    def onward(self, stage: int, rows: IntArray) -> FloatArray:
        """Expected features of the next observation, `(n, n_own, k)`, 0 where nothing follows."""
        ...

    def leverage(self, stage: int, rows: IntArray) -> FloatArray:
        """Variance of that expectation in units of a step's, `(n, n_own)`: in a table, 1 / N."""
        ...

    def residual(self, stage: int, weights: FloatArray) -> float:
        """Variance of Z(o') . weights about its expectation, mean over a stage's steps."""
        ...


def moments(
    features: FloatArray, here: IntArray, after: IntArray, weight: FloatArray, goes_on: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Sums of Z(o) Z(o)' and of Z(o) Z(o')' over weighted steps, each `(k, k)`."""
    rows, place = np.unique(here, return_inverse=True)
    shape = (len(rows), len(features))
    onward = sp.csr_array(sp.coo_array((weight * goes_on, (place, after)), shape=shape))
    own = features[rows]
    visits = np.bincount(place, weight, minlength=len(rows))
    return (own * visits[:, None]).T @ own, own.T @ np.asarray(onward @ features)


@dataclass(frozen=True, eq=False)
class _Regression:
    """Z(o) -> E[Z(o')], for some actions.

    Args:
        maps: `(n, k, k)`, expected next features = Z(o) @ map.
        inverse: `(n, k, k)`, of the sums of Z(o) Z(o)'.
    """

    maps: FloatArray
    inverse: FloatArray


def _regress(parts: Sequence[tuple[FloatArray, FloatArray]]) -> _Regression:
    """Ridge regressions for several actions, each drawn towards the one for all of them."""
    first = sum((part[0] for part in parts), np.zeros_like(parts[0][0]))
    second = sum((part[1] for part in parts), np.zeros_like(parts[0][1]))
    k = len(first)
    ridge = RIDGE * max(float(np.trace(first)), 1e-300) / k * np.eye(k)
    pooled = np.linalg.solve(first + ridge, second)
    maps, inverse = [], []
    for own_first, own_second in parts:
        factor = cho_factor(own_first + ridge / len(parts))
        maps.append(pooled + cho_solve(factor, own_second - own_first @ pooled))
        inverse.append(cho_solve(factor, np.eye(k)))
    return _Regression(np.stack(maps), np.stack(inverse))


def _leverage(features: FloatArray, inverse: FloatArray) -> FloatArray:
    return np.asarray(((features @ inverse) * features).sum(axis=1))


def joint_numbers(gathered: Gathered, stage: int) -> IntArray:
    """Joint actions of a stage's distinct steps as numbers, agent 0 most significant."""
    actions = gathered.stages[stage].joint_actions
    return np.asarray(np.ravel_multi_index(tuple(actions.T), gathered.n_actions), dtype=np.int64)


class JointDynamics:
    """One regression per joint action on the steps of all stages, whose dynamics are the same; the
    others' actions are averaged over their policies. For few joint actions.
    """

    def __init__(
        self,
        gathered: Gathered,
        features: FloatArray,
        counts: Sequence[FloatArray],
        chances: Chances,
    ) -> None:
        self._gathered, self._features = gathered, features
        self._counts, self._chances = counts, chances
        numbers = [joint_numbers(gathered, h) for h in range(len(counts))]
        number, weight = np.concatenate(numbers), np.concatenate(counts)
        here, after, goes_on = (
            np.concatenate([getattr(steps, name) for steps in gathered.stages])
            for name in ("here", "after", "goes_on")
        )
        parts = []
        for joint in range(prod(gathered.n_actions)):
            of = number == joint
            parts.append(moments(features, here[of], after[of], weight[of], goes_on[of]))
        self._fit = _regress(parts)

    def onward(self, stage: int, rows: IntArray) -> FloatArray:
        features = self._features[rows]
        found = np.zeros((len(rows), self._gathered.n_own, features.shape[1]))
        for joint, own, chance in self._others(stage, rows):
            found[:, own] += chance[:, None] * (features @ self._fit.maps[joint])
        return found

    def leverage(self, stage: int, rows: IntArray) -> FloatArray:
        features = self._features[rows]
        found = np.zeros((len(rows), self._gathered.n_own))
        for joint, own, chance in self._others(stage, rows):
            found[:, own] += chance**2 * _leverage(features, self._fit.inverse[joint])
        return found

    def residual(self, stage: int, weights: FloatArray) -> float:
        numbers = joint_numbers(self._gathered, stage)
        predicted = np.einsum("jkl,l->jk", self._fit.maps, weights)
        return _residual(
            self._gathered, stage, self._features, self._counts, weights, predicted[numbers]
        )

    def _others(self, stage: int, rows: IntArray) -> list[tuple[int, int, FloatArray]]:
        """Every joint action: its number, the own action in it, the chance of the others'."""
        gathered, chances = self._gathered, self._chances(rows, stage)
        found = []
        for joint in range(prod(gathered.n_actions)):
            actions = np.unravel_index(joint, gathered.n_actions)
            chance = np.ones(len(rows))
            for agent, action in enumerate(actions):
                if agent != gathered.agent_index:
                    chance = chance * chances[agent][:, action]
            found.append((joint, int(actions[gathered.agent_index]), chance))
        return found


class OwnDynamics:
    """One regression per own action on each stage's steps, in which the others play as they do."""

    def __init__(
        self, gathered: Gathered, features: FloatArray, counts: Sequence[FloatArray]
    ) -> None:
        self._gathered, self._features, self._counts = gathered, features, counts
        self._fits: dict[int, _Regression] = {}

    def _fit(self, stage: int) -> _Regression:
        if stage not in self._fits:
            steps, weight = self._gathered.stages[stage], self._counts[stage]
            own = steps.joint_actions[:, self._gathered.agent_index]
            parts = []
            for action in range(self._gathered.n_own):
                of = own == action
                parts.append(
                    moments(
                        self._features,
                        steps.here[of],
                        steps.after[of],
                        weight[of],
                        steps.goes_on[of],
                    )
                )
            self._fits = {stage: _regress(parts)}  # one stage at a time: they are large
        return self._fits[stage]

    def onward(self, stage: int, rows: IntArray) -> FloatArray:
        return np.stack([self._features[rows] @ own for own in self._fit(stage).maps], axis=1)

    def leverage(self, stage: int, rows: IntArray) -> FloatArray:
        features = self._features[rows]
        return np.stack([_leverage(features, own) for own in self._fit(stage).inverse], axis=1)

    def residual(self, stage: int, weights: FloatArray) -> float:
        own = self._gathered.stages[stage].joint_actions[:, self._gathered.agent_index]
        predicted = np.einsum("akl,l->ak", self._fit(stage).maps, weights)
        return _residual(
            self._gathered, stage, self._features, self._counts, weights, predicted[own]
        )


def _residual(
    gathered: Gathered,
    stage: int,
    features: FloatArray,
    counts: Sequence[FloatArray],
    weights: FloatArray,
    predicted: FloatArray,
) -> float:
    """Mean square of Z(o') . weights - Z(o) . predicted, `predicted` a row per distinct step."""
    steps, count = gathered.stages[stage], counts[stage]
    value = features @ weights
    total = 0.0
    for piece in np.array_split(np.arange(len(count)), len(count) // 65536 + 1):
        expected = (features[steps.here[piece]] * predicted[piece]).sum(axis=1)
        gap = steps.goes_on[piece] * value[steps.after[piece]] - expected
        total += float((count[piece] * gap**2).sum())
    return total / float(count.sum())
