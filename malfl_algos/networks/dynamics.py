"""The expected features after an action, learned by regression from steps.

No list of states is needed: with features Z(o), E[Z(o') | o, a] is a linear map of Z(o) for every
action, fitted in closed form. A regression of conditional means needs one next observation per
step. A squared residual of next-step values would need two.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve
from torch import Tensor

from malfl_algos.networks.gathering import Gathered
from malfl_algos.networks.tables import Table, fetched, like, solved, taken, zeros

__all__ = ["RIDGE", "Dynamics", "Probabilities", "moments", "parts_of"]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
Probabilities = Callable[[IntArray, int], Sequence[FloatArray]]
"""Maps rows of observations and a stage to every agent's action probabilities `(n, n_actions)`."""

RIDGE = 1e-6
"""Ridge relative to the mean variance of a feature; some features are combinations of others."""
_PIECE = 65536


def parts_of(n_rows: int) -> list[IntArray]:
    """Return row numbers in parts of about 65,000, so that tables of features fit into memory."""
    return np.array_split(np.arange(n_rows), n_rows // _PIECE + 1)


def moments(
    features: Table, here: IntArray, after: IntArray, weight: FloatArray, goes_on: FloatArray
) -> tuple[Table, Table]:
    """Return the sums of Z(o) Z(o)' and of Z(o) Z(o')' over weighted steps, each `(k, k)`."""
    if isinstance(features, Tensor):
        return _device_moments(features, here, after, weight, goes_on)
    rows, place = np.unique(here, return_inverse=True)
    shape = (len(rows), len(features))
    onward = sp.csr_array(sp.coo_array((weight * goes_on, (place, after)), shape=shape))
    own = features[rows]
    visits = np.bincount(place, weight, minlength=len(rows))
    return (own * visits[:, None]).T @ own, own.T @ np.asarray(onward @ features)


def _device_moments(
    features: Tensor, here: IntArray, after: IntArray, weight: FloatArray, goes_on: FloatArray
) -> tuple[Tensor, Tensor]:
    k = features.shape[1]
    first, second = zeros(features, (k, k)), zeros(features, (k, k))
    for part in parts_of(len(here)):
        own, weights = taken(features, here[part]), like(features, weight[part])
        weighted = (own * weights[:, None]).T
        onward = taken(features, after[part]) * like(features, goes_on[part])[:, None]
        first += weighted @ own
        second += weighted @ onward
    return first, second


@dataclass(frozen=True, eq=False)
class _Regression:
    """The regressions Z(o) -> E[Z(o')] of several actions.

    Args:
        maps: `(n, k, k)`, expected next features = Z(o) @ map.
        inverse: `(n, k, k)`, of the sums of Z(o) Z(o)'.
    """

    maps: Table
    inverse: Table


def _regress(parts: Sequence[tuple[Table, Table]]) -> _Regression:
    """Fit a ridge regression per action; each shrinks towards the regression of all actions."""
    first = sum((part[0] for part in parts), zeros(parts[0][0], parts[0][0].shape))
    second = sum((part[1] for part in parts), zeros(parts[0][1], parts[0][1].shape))
    k = len(first)
    ridge = like(first, RIDGE * max(float(first.trace()), 1e-300) / k * np.eye(k))
    pooled = solved(first + ridge, second)
    if isinstance(pooled, Tensor):
        firsts, seconds = (torch.stack(own) for own in zip(*parts, strict=True))
        factors = torch.linalg.cholesky(firsts + ridge / len(parts))
        gaps = torch.cholesky_solve(seconds - firsts @ pooled, factors)
        return _Regression(pooled + gaps, torch.cholesky_inverse(factors))
    maps, inverse = [], []
    for own_first, own_second in parts:
        factor = cho_factor(own_first + ridge / len(parts))
        maps.append(pooled + cho_solve(factor, own_second - own_first @ pooled))
        inverse.append(cho_solve(factor, np.eye(k)))
    return _Regression(np.stack(maps), np.stack(inverse))


class Dynamics:
    """The expected features after an agent's own action, given the others' policies in a stage.

    Args:
        gathered: the steps.
        features: Z of all observations, `(n_observations, k)`.
        counts: per stage, counts of the distinct steps.
        probabilities: the policies of all agents.
        joint: True: one regression per joint action on the steps of all stages, which share their
            dynamics. The others' actions are averaged over their policies. This suits games with
            few joint actions. False: one regression per own action on the steps of each stage.
    """

    def __init__(
        self,
        gathered: Gathered,
        features: Table,
        counts: Sequence[FloatArray],
        probabilities: Probabilities,
        *,
        joint: bool,
    ) -> None:
        self._gathered, self._features = gathered, features
        self._counts, self._probabilities, self._joint = counts, probabilities, joint
        self._fitted: tuple[int, _Regression] | None = None
        self._on_device: dict[int, list[Tensor]] = {}

    def onward(self, stage: int, rows: IntArray) -> Table:
        """Return the expected features of the next observation, `(n, n_own, k)`; 0 at an end."""
        fit, features = self._fit(stage), taken(self._features, rows)
        found = zeros(features, (len(rows), self._gathered.n_own, features.shape[1]))
        for action, own, probability in self._actions(stage, rows):
            weight = like(features, probability)
            found[:, own] += weight[:, None] * (features @ fit.maps[action])
        return found

    def leverage(self, stage: int, rows: IntArray) -> FloatArray:
        """Return the variance of `onward` in units of a step's variance, `(n, n_own)`.

        For tabular features it is 1 / N at N visits.
        """
        fit, features = self._fit(stage), taken(self._features, rows)
        found = zeros(features, (len(rows), self._gathered.n_own))
        for action, own, probability in self._actions(stage, rows):
            spread = ((features @ fit.inverse[action]) * features).sum(axis=1)
            found[:, own] += like(features, probability**2) * spread
        return fetched(found)

    def residual(self, stage: int, weights: FloatArray) -> float:
        """Return the variance of Z(o') . weights about its expectation, averaged over a stage."""
        steps, count = self._gathered.stages[stage], self._counts[stage]
        if isinstance(self._features, Tensor):
            return self._device_residual(stage, like(self._features, weights))
        predicted = np.einsum("akl,l->ak", self._fit(stage).maps, weights)[self._numbers(stage)]
        value = self._features @ weights
        total = 0.0
        for part in parts_of(len(count)):
            expected = (self._features[steps.here[part]] * predicted[part]).sum(axis=1)
            gap = steps.goes_on[part] * value[steps.after[part]] - expected
            total += float((count[part] * gap**2).sum())
        return total / float(count.sum())

    def _device_residual(self, stage: int, weights: Tensor) -> float:
        """Return `residual` from the expectations at all observations and actions."""
        if stage not in self._on_device:
            steps, count = self._gathered.stages[stage], self._counts[stage]
            columns = (steps.here, self._numbers(stage), steps.after, steps.goes_on, count)
            self._on_device[stage] = [like(weights, column) for column in columns]
        here, number, after, goes_on, count = self._on_device[stage]
        predicted = self._features @ (self._fit(stage).maps @ weights).T
        gap = goes_on * (self._features @ weights)[after] - predicted[here, number]
        return float((count * gap**2).sum() / count.sum())

    def _fit(self, stage: int) -> _Regression:
        """Return the regressions of a stage; only one stage's are kept, since they are large."""
        key = -1 if self._joint else stage
        if self._fitted is None or self._fitted[0] != key:
            stages = range(len(self._counts)) if self._joint else [stage]
            number = np.concatenate([self._numbers(h) for h in stages])
            weight = np.concatenate([self._counts[h] for h in stages])
            here, after, goes_on = (
                np.concatenate([getattr(self._gathered.stages[h], name) for h in stages])
                for name in ("here", "after", "goes_on")
            )
            sums = []
            for action in range(self._n_actions):
                of = number == action
                sums.append(moments(self._features, here[of], after[of], weight[of], goes_on[of]))
            self._fitted = key, _regress(sums)
        return self._fitted[1]

    @property
    def _n_actions(self) -> int:
        """Number of actions that have their own regression."""
        return prod(self._gathered.n_actions) if self._joint else self._gathered.n_own

    def _numbers(self, stage: int) -> IntArray:
        """Return the regression of every distinct step: its joint or own action's number."""
        gathered = self._gathered
        actions = gathered.stages[stage].joint_actions
        if not self._joint:
            return actions[:, gathered.agent_index]
        return np.asarray(np.ravel_multi_index(tuple(actions.T), gathered.n_actions), np.int64)

    def _actions(self, stage: int, rows: IntArray) -> list[tuple[int, int, FloatArray]]:
        """Return per regression: number, own action, probability of the others' actions."""
        gathered = self._gathered
        if not self._joint:
            return [(own, own, np.ones(len(rows))) for own in range(gathered.n_own)]
        policies = self._probabilities(rows, stage)
        found = []
        for number in range(self._n_actions):
            actions = np.unravel_index(number, gathered.n_actions)
            probability = np.ones(len(rows))
            for agent, action in enumerate(actions):
                if agent != gathered.agent_index:
                    probability = probability * policies[agent][:, action]
            found.append((number, int(actions[gathered.agent_index]), probability))
        return found
