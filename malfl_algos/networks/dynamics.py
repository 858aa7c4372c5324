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
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve

from malfl_algos.networks.gathering import Gathered

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
    features: FloatArray, here: IntArray, after: IntArray, weight: FloatArray, goes_on: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Return the sums of Z(o) Z(o)' and of Z(o) Z(o')' over weighted steps, each `(k, k)`."""
    rows, place = np.unique(here, return_inverse=True)
    shape = (len(rows), len(features))
    onward = sp.csr_array(sp.coo_array((weight * goes_on, (place, after)), shape=shape))
    own = features[rows]
    visits = np.bincount(place, weight, minlength=len(rows))
    return (own * visits[:, None]).T @ own, own.T @ np.asarray(onward @ features)


@dataclass(frozen=True, eq=False)
class _Regression:
    """The regressions Z(o) -> E[Z(o')] of several actions.

    Args:
        maps: `(n, k, k)`, expected next features = Z(o) @ map.
        inverse: `(n, k, k)`, of the sums of Z(o) Z(o)'.
    """

    maps: FloatArray
    inverse: FloatArray


def _regress(parts: Sequence[tuple[FloatArray, FloatArray]]) -> _Regression:
    """Fit a ridge regression per action; each shrinks towards the regression of all actions."""
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
        features: FloatArray,
        counts: Sequence[FloatArray],
        probabilities: Probabilities,
        *,
        joint: bool,
    ) -> None:
        self._gathered, self._features = gathered, features
        self._counts, self._probabilities, self._joint = counts, probabilities, joint
        self._fitted: tuple[int, _Regression] | None = None

    def onward(self, stage: int, rows: IntArray) -> FloatArray:
        """Return the expected features of the next observation, `(n, n_own, k)`; 0 at an end."""
        fit, features = self._fit(stage), self._features[rows]
        found = np.zeros((len(rows), self._gathered.n_own, features.shape[1]))
        for action, own, probability in self._actions(stage, rows):
            found[:, own] += probability[:, None] * (features @ fit.maps[action])
        return found

    def leverage(self, stage: int, rows: IntArray) -> FloatArray:
        """Return the variance of `onward` in units of a step's variance, `(n, n_own)`.

        For tabular features it is 1 / N at N visits.
        """
        fit, features = self._fit(stage), self._features[rows]
        found = np.zeros((len(rows), self._gathered.n_own))
        for action, own, probability in self._actions(stage, rows):
            spread = ((features @ fit.inverse[action]) * features).sum(axis=1)
            found[:, own] += probability**2 * spread
        return found

    def residual(self, stage: int, weights: FloatArray) -> float:
        """Return the variance of Z(o') . weights about its expectation, averaged over a stage."""
        steps, count = self._gathered.stages[stage], self._counts[stage]
        predicted = np.einsum("akl,l->ak", self._fit(stage).maps, weights)[self._numbers(stage)]
        value = self._features @ weights
        total = 0.0
        for part in parts_of(len(count)):
            expected = (self._features[steps.here[part]] * predicted[part]).sum(axis=1)
            gap = steps.goes_on[part] * value[steps.after[part]] - expected
            total += float((count[part] * gap**2).sum())
        return total / float(count.sum())

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
