"""Gaussian priors of a reward whose strength and smoothness the evidence chooses.

A prior covariance of a function of the state is

  V_iid I + sum_p V_p k_p(s, s') + flat,
  k_p = mean over sets c of p of  exp(-sum over groups g of c  |s_g - s'_g|^2 / (2 length_g^2)).

s_g are the coordinates of one group, for example the cell of one agent. The first part says nothing
about neighbouring states; the others say that states that are alike in some groups have similar
rewards (a Gaussian process with sums and products of squared exponentials, Rasmussen and Williams
2006, section 4.2; Duvenaud, Nickisch and Rasmussen 2011). The flat part leaves the mean of the
reward free.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from malfl_algos.ma_lfl.reward_models import feature_prior

__all__ = [
    "FLAT",
    "Alike",
    "RewardPrior",
    "Seen",
    "alike_states",
    "own_cells",
    "prior_of_alike_states",
    "prior_of_states",
    "prior_of_weights",
]

FloatArray = NDArray[np.float64]

_Sets = tuple[tuple[int, ...], ...]

FLAT = 1e3
"""Prior variance of the mean of the reward."""
LOG_IID, LOG_SMOOTH, LOG_LENGTH = (0.6, 3.0), (3.6, 3.0), (float(np.log(2.0)), 0.3)
"""Mean and standard deviation of the logarithms of V_iid, V_smooth and the length, in cells. The
evidence hardly tells the length where the data are few, so its prior is narrow.
"""
LOG_WEIGHTS = (0.0, 1.0)
"""The same for the variance of feature weights."""
LOG_PART, LOG_LENGTHS, SHARED_SD = (0.0, 1.0), (float(np.log(2.0)), 0.5), 3.0
"""The same for every V, in units of the temperature squared, and every length of
`prior_of_alike_states`; and what the V have in common. A part that the data do not tell thus gets
a variance like that of the others.
"""
BOUNDS, LENGTH_BOUNDS = (-9.0, 12.0), (float(np.log(0.3)), float(np.log(6.0)))
MOST_PAIRED = 6
"""Up to this many groups of unknown owners, there is a part for pairs of groups."""


@dataclass(frozen=True, eq=False)
class Alike:
    """How alike states are: squared distances by group, and the parts of the smooth covariance.

    Args:
        distances: |s_g - s'_g|^2, `(n_groups, n_states, n_states)`, or `(n_groups, n_states, k)`
            if states are compared with k of them.
        lengths: number of the length of every group.
        parts: of every part its sets of groups.
        part_names, length_names: in words, for diagnostics.
    """

    distances: FloatArray
    lengths: tuple[int, ...]
    parts: tuple[_Sets, ...]
    part_names: tuple[str, ...]
    length_names: tuple[str, ...]

    def part(
        self, number: int, log_variance: float, log_lengths: FloatArray
    ) -> tuple[FloatArray, list[FloatArray]]:
        """V_p k_p, `(n_states, n_states)`, and its derivatives by the logarithms of all lengths."""
        sets = self.parts[number]
        total = np.zeros(self.distances.shape[1:])
        slopes = [np.zeros_like(total) for _ in log_lengths]
        for groups in sets:
            scaled = [
                self.distances[group] / np.exp(2 * log_lengths[self.lengths[group]])
                for group in groups
            ]
            own = np.exp(log_variance - np.log(len(sets)) - sum(scaled) / 2)
            total += own
            for group, distance in zip(groups, scaled, strict=True):
                slopes[self.lengths[group]] += own * distance
        return total, slopes


@dataclass(frozen=True, eq=False)
class RewardPrior:
    """A prior covariance of n unknowns as a function of few hyper-parameters, all logarithms.

    Args:
        flat: its fixed part, `(n, n)`.
        iid: multiplies V_iid, `(n, n)`.
        alike: the smooth parts; None: there are none.
        means, sds: of the hyper-parameters' normal priors: log V_iid, then the logarithms of the V
            of every part and of every length.
        per_state: number of unknowns of a state; those of different ones are independent.
        hidden: projection onto the rewards that leave no trace, `(n, n)`. They are independent of
            the others, so that their posterior mean is 0. None: there are none.
        shared_sd: standard deviation of what the logarithms of all V have in common; `sds` are
            those of the rest.
    """

    flat: FloatArray
    iid: FloatArray
    alike: Alike | None
    means: FloatArray
    sds: FloatArray
    per_state: int = 1
    hidden: FloatArray | None = None
    shared_sd: float = 0.0

    @property
    def bounds(self) -> list[tuple[float, float]]:
        """Bounds of the search for every hyper-parameter."""
        n_lengths = 0 if self.alike is None else len(self.alike.length_names)
        return [BOUNDS] * (len(self.means) - n_lengths) + [LENGTH_BOUNDS] * n_lengths

    def covariance(self, settings: FloatArray) -> tuple[FloatArray, list[FloatArray]]:
        """The covariance, and its derivatives by every hyper-parameter."""
        iid = np.exp(settings[0]) * self.iid
        if self.alike is None:
            return iid + self.flat, [iid]
        n_parts = len(self.alike.parts)
        log_lengths = settings[1 + n_parts :]
        found = [
            self.alike.part(number, settings[1 + number], log_lengths) for number in range(n_parts)
        ]
        by_length = [np.sum(own, axis=0) for own in zip(*(own[1] for own in found), strict=True)]
        parts = [self._split(iid)]
        parts += [
            self._split(self._of_unknowns(own)) for own in [*(f[0] for f in found), *by_length]
        ]
        return sum(parts[1 : 1 + n_parts], parts[0]) + self.flat, parts

    def _of_unknowns(self, by_state: FloatArray) -> FloatArray:
        """A covariance of states as one of unknowns."""
        if self.per_state == 1:
            return by_state
        return np.asarray(np.kron(by_state, np.eye(self.per_state)), dtype=np.float64)

    def _split(self, part: FloatArray) -> FloatArray:
        """A covariance without that of hidden with visible rewards."""
        if self.hidden is None:
            return part
        seen = np.eye(len(part)) - self.hidden
        return np.asarray(seen @ part @ seen + self.hidden @ part @ self.hidden)

    def log_density(self, settings: FloatArray) -> tuple[float, FloatArray]:
        """Log prior density of the hyper-parameters relative to its largest value, and its
        gradient.
        """
        pull = (settings - self.means) / self.sds
        slope, value = -pull / self.sds, -float(pull @ pull) / 2
        if self.shared_sd:  # Woodbury: the covariance of the V is diag(sds^2) + shared_sd^2
            n_variances = 1 if self.alike is None else 1 + len(self.alike.parts)
            weights = np.where(np.arange(len(pull)) < n_variances, 1 / self.sds**2, 0.0)
            along = float((pull / self.sds)[:n_variances].sum())
            width = 1 / self.shared_sd**2 + float(weights.sum())
            value += along**2 / width / 2
            slope = slope + along / width * weights
        return value, slope


def prior_of_states(coordinates: NDArray[np.int64], per_state: int = 1) -> RewardPrior:
    """The prior of a reward of states, or of states and own actions, with one smooth part.

    Args:
        coordinates: of every state, int `(n_states, n_coordinates)`. One coordinate alone is a mere
            label: then there is no smooth part.
        per_state: unknowns per state; those of different actions are independent.
    """
    n = len(coordinates) * per_state
    parts, alike = [LOG_SMOOTH], None
    if coordinates.shape[1] > 1:
        parts = [LOG_IID, LOG_SMOOTH, LOG_LENGTH]
        distances = _squared_distances(coordinates)[None]
        alike = Alike(distances, (0,), (((0,),),), ("all",), ("length",))
    means, sds = np.array(parts).T
    return RewardPrior(np.full((n, n), FLAT / n), np.eye(n), alike, means, sds, per_state)


def prior_of_weights(features: FloatArray) -> RewardPrior:
    """The prior of independent feature weights with one variance, flat along the intercept.

    Args:
        features: `(n_unknowns, k)`, as `reward_models.with_intercept` returns them.
    """
    free = feature_prior(features)
    means, sds = np.array([LOG_WEIGHTS]).T
    return RewardPrior(FLAT * (np.eye(len(free)) - free), free, None, means, sds)


@dataclass(frozen=True, eq=False)
class Seen:
    """What the states are, in groups of coordinates.

    Args:
        names: of every group.
        coordinates: of every group, `(n_states, n_coordinates)`.
        owners: index of the agent that a group belongs to, -1: none; None: owners are unknown.
    """

    names: tuple[str, ...]
    coordinates: tuple[FloatArray, ...]
    owners: tuple[int, ...] | None


def alike_states(seen: Seen, agent_index: int, among: NDArray[np.int64] | None = None) -> Alike:
    """How alike states are to one agent.

    With known owners the parts are the agent's own group, one other group, the own group and one
    other, and, from three groups on, all groups; they have one length in common. With unknown
    owners the parts are single groups, pairs of groups (up to `MOST_PAIRED` groups), and all groups
    together; every group has its own length.

    Args:
        seen: what the states are.
        agent_index: the agent.
        among: states that all states are compared with, `(k,)`: the last axis of the distances;
            None: all.
    """
    n = len(seen.names)
    distances = np.stack([_squared_distances(own, among) for own in seen.coordinates])
    every: _Sets = (tuple(range(n)),)
    if seen.owners is None:
        parts: dict[str, _Sets] = {"single columns": tuple((own,) for own in range(n))}
        if 2 < n <= MOST_PAIRED:
            parts["pairs of columns"] = tuple(combinations(range(n), 2))
        if n > 1:
            parts["all columns together"] = every
        return Alike(
            distances, tuple(range(n)), tuple(parts.values()), tuple(parts), tuple(seen.names)
        )
    own = [group for group in range(n) if seen.owners[group] == agent_index]
    others = [group for group in range(n) if seen.owners[group] != agent_index]
    parts = {}
    if own:
        parts["own"] = (tuple(own),)
    if others:
        parts["others"] = tuple((other,) for other in others)
    if own and others:
        parts["own and others"] = tuple((*own, other) for other in others)
    if own and len(others) > 1:
        parts["all"] = every
    return Alike(distances, (0,) * n, tuple(parts.values()), tuple(parts), ("all",))


def own_cells(seen: Seen, agent_index: int) -> NDArray[np.int64] | None:
    """Number of an agent's own coordinates in every state, `(n_states,)`; None: owners are unknown,
    or the agent has none.
    """
    owned = zip(seen.owners or (), seen.coordinates, strict=False)
    own = [group for owner, group in owned if owner == agent_index]
    if not own:
        return None
    return np.asarray(np.unique(np.hstack(own), axis=0, return_inverse=True)[1]).ravel()


def prior_of_alike_states(alike: Alike, per_state: int = 1) -> RewardPrior:
    """The prior of unknowns in units of the temperature, without its flat part."""
    n = alike.distances.shape[1] * per_state
    of_lengths = [LOG_LENGTHS] * len(alike.length_names)
    means, sds = np.array([LOG_PART] * (1 + len(alike.parts)) + of_lengths).T
    flat = np.zeros((n, n))
    return RewardPrior(flat, np.eye(n), alike, means, sds, per_state, shared_sd=SHARED_SD)


def _squared_distances(
    coordinates: NDArray[Any], among: NDArray[np.int64] | None = None
) -> FloatArray:
    """|s - s'|^2, `(n_states, n_states)`, or `(n_states, k)` for k states s'."""
    steps = coordinates[:, None] - (coordinates if among is None else coordinates[among])[None]
    return np.asarray((steps**2).sum(axis=-1), dtype=np.float64)
