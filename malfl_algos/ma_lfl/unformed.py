"""Action values as an affine function of the reward, applied without forming its coefficients.

On a large game the coefficients of `malfl_algos.ma_lfl.learner_models` would be a matrix of all
rows times all reward unknowns. What inference by conjugate gradients needs of them is two products:
coefficients times unknowns, and their transpose times weights of the rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numba
import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from malfl_algos.soft import Transition, entropy, iterated_sum

__all__ = ["ExactValues", "TdValues", "Values"]

FloatArray = NDArray[np.float64]

OFFSET_RESIDUAL = 1e-12
"""Relative residual of the part of the action values that does not depend on the reward."""


class Values(Protocol):
    """Action values of one agent in one stage, q = K theta + offset."""

    @property
    def transition(self) -> Transition:
        """P, `(n_states * n_actions, n_states)`, the others averaged out."""
        ...

    @property
    def onward(self) -> Transition:
        """P_pi, `(n_states, n_states)`."""
        ...

    @property
    def immediate(self) -> sp.csr_array:
        """Expected reward of every state and action, `(n_states * n_actions, n_unknowns)`."""
        ...

    @property
    def others(self) -> NDArray[np.int64]:
        """Number of the position of everything that the agent does not move, `(n_states,)`."""
        ...

    @property
    def discount(self) -> float:
        """gamma."""
        ...

    @property
    def offset(self) -> FloatArray:
        """What q would be without a reward, `(n_states, n_actions)`."""
        ...

    def apply(self, unknowns: FloatArray, *, residual: float) -> FloatArray:
        """K theta, `(n_unknowns,) -> (n_states, n_actions)`, its solves to a relative residual."""
        ...

    def adjoint(self, weights: FloatArray, *, residual: float) -> FloatArray:
        """K' w, `(n_states, n_actions) -> (n_unknowns,)`, its solves to a relative residual."""
        ...


@dataclass(frozen=True, eq=False)
class ExactValues:
    """Of a learner that solves (5): K = R + gamma P (I - gamma P_pi)^-1 R_pi.

    Args:
        transition: P, `(n_states * n_actions, n_states)`, the others averaged out.
        onward: P_pi, `(n_states, n_states)`.
        policy: the agent's own, `(n_states, n_actions)`.
        immediate: R, the expected reward of every state and action, `(n_states * n_actions,
            n_unknowns)`.
        discount: gamma in [0, 1).
        temperature: alpha > 0.
        others: number of the position of everything that the agent does not move, `(n_states,)`.
    """

    transition: Transition
    onward: Transition
    policy: FloatArray
    immediate: sp.csr_array
    discount: float
    temperature: float
    others: NDArray[np.int64]

    @property
    def offset(self) -> FloatArray:
        return self._ahead(self.temperature * entropy(self.policy), OFFSET_RESIDUAL)

    def apply(self, unknowns: FloatArray, *, residual: float) -> FloatArray:
        direct = np.asarray(self.immediate @ unknowns).reshape(self.policy.shape)
        return direct + self._ahead((self.policy * direct).sum(axis=1), residual)

    def adjoint(self, weights: FloatArray, *, residual: float) -> FloatArray:
        arriving = self.discount * (self.transition.T @ weights.ravel())
        flow = iterated_sum(self.onward.T, arriving, discount=self.discount, residual=residual)
        paid = weights + self.policy * flow[:, None]
        return np.asarray(self.immediate.T @ paid.ravel())

    def _ahead(self, gain: FloatArray, residual: float) -> FloatArray:
        value = iterated_sum(self.onward, gain, discount=self.discount, residual=residual)
        return self.discount * np.asarray(self.transition @ value).reshape(self.policy.shape)


@dataclass(frozen=True, eq=False)
class TdValues:
    """Of a td learner known by its counts alone; see `learner_models.ExpectedTd`.

    Args:
        transition, policy, immediate, discount, temperature, others: as `ExactValues` takes them,
            with the others' actions as they were played beside each state and action.
        onward: P_pi under these.
        log_kept: log of what a pair keeps of its first value in the whole stage, <= 0,
            `(n_states, n_actions)`.
        parts: shares of the stage, one after the other, summing to 1.
    """

    transition: sp.csr_array
    onward: Transition
    policy: FloatArray
    immediate: sp.csr_array
    discount: float
    temperature: float
    others: NDArray[np.int64]
    log_kept: FloatArray
    parts: FloatArray

    @property
    def offset(self) -> FloatArray:
        bonus = self.temperature * np.asarray(self.transition @ entropy(self.policy))
        return self._swept(self.discount * bonus.reshape(self.policy.shape))

    def apply(self, unknowns: FloatArray, *, residual: float) -> FloatArray:
        return self._swept(np.asarray(self.immediate @ unknowns).reshape(self.policy.shape))

    def adjoint(self, weights: FloatArray, *, residual: float) -> FloatArray:
        paid = sweep_back(
            self.transition.indptr,
            self.transition.indices,
            self.transition.data,
            self.log_kept,
            self.policy,
            np.ascontiguousarray(weights),
            self.discount,
            self.parts,
        )
        return np.asarray(self.immediate.T @ paid.ravel())

    def _swept(self, direct: FloatArray) -> FloatArray:
        swept = sweep(
            self.transition.indptr,
            self.transition.indices,
            self.transition.data,
            self.log_kept,
            self.policy,
            direct[..., None],
            self.discount,
            self.parts,
        )
        return np.asarray(swept[..., 0])


@numba.njit(cache=True, nogil=True)
def sweep(  # noqa: C901, PLR0917 - a compiled loop over plain arrays
    pointers: Any,
    columns: Any,
    chances: Any,
    log_kept: Any,
    policy: Any,
    immediate: Any,
    discount: Any,
    parts: Any,
) -> Any:  # pragma: no cover
    """Action values after all parts, `(n_states, n_actions, width)`, for `width` rewards at
    once.
    """
    n_states, n_actions, width = immediate.shape
    q = np.zeros((n_states, n_actions, width))
    value = np.zeros((n_states, width))
    for part in parts:
        for s in range(n_states):
            value[s] = 0.0
            for a in range(n_actions):
                for k in range(width):
                    value[s, k] += policy[s, a] * q[s, a, k]
        for s in range(n_states):
            for a in range(n_actions):
                share = -np.expm1(log_kept[s, a] * part)
                if share == 0.0:
                    continue
                for k in range(width):
                    q[s, a, k] += share * (immediate[s, a, k] - q[s, a, k])
                for entry in range(pointers[s * n_actions + a], pointers[s * n_actions + a + 1]):
                    w = share * discount * chances[entry]
                    t = columns[entry]
                    for k in range(width):
                        q[s, a, k] += w * value[t, k]
    return q


@numba.njit(cache=True, nogil=True)
def sweep_back(  # noqa: PLR0917 - a compiled loop over plain arrays
    pointers: Any,
    columns: Any,
    chances: Any,
    log_kept: Any,
    policy: Any,
    weights: Any,
    discount: Any,
    parts: Any,
) -> Any:  # pragma: no cover
    """The transpose of `sweep`: weights of final action values to weights of immediate rewards."""
    n_states, n_actions = weights.shape
    w = weights.copy()
    paid = np.zeros((n_states, n_actions))
    arriving = np.zeros(n_states)
    for k in range(len(parts) - 1, -1, -1):
        arriving[:] = 0.0
        for s in range(n_states):
            for a in range(n_actions):
                share = -np.expm1(log_kept[s, a] * parts[k]) * w[s, a]
                paid[s, a] += share
                w[s, a] -= share
                for entry in range(pointers[s * n_actions + a], pointers[s * n_actions + a + 1]):
                    arriving[columns[entry]] += share * discount * chances[entry]
        for s in range(n_states):
            for a in range(n_actions):
                w[s, a] += policy[s, a] * arriving[s]
    return paid
