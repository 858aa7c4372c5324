"""Action values as an affine function of the reward, applied without a matrix of coefficients.

For a large game the coefficients of `malfl_algos.ma_lfl.learner_models` would be a matrix of all
rows times all reward unknowns. Inference by conjugate gradients needs only two products:
coefficients times unknowns, and the transposed coefficients times weights of the rows. Both
products take several vectors side by side, along a last axis, at hardly more than the cost of one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.sparse.csgraph import connected_components

from malfl_algos.ma_lfl.expected_loops import aligned, copy_columns, update
from malfl_algos.soft import Transition, entropy
from malfl_algos.soft.iteration import iterated_sum
from malfl_algos.work.compilation import compiled
from malfl_env.markov_game import Factor, MarkovGame

__all__ = ["ExactValues", "Residual", "TdValues", "Values", "sweep", "unmoved"]

FloatArray = NDArray[np.float64]
Residual = float | FloatArray

OFFSET_RESIDUAL = 1e-12
"""Relative residual of the solve for the part of the action values that does not depend on the
reward.
"""


TINY = 1e-200
"""Shares that are kept are computed anew where they are smaller."""
BESIDE = 32
"""Number of vectors that a sweep takes side by side, so that they fit into the processor's cache.
"""


class Values(Protocol):
    """Action values of one agent in one stage as an operator, q = K theta + offset."""

    @property
    def transition(self) -> Transition:
        """P, `(n_states * n_actions, n_states)`, with the others averaged out."""
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
        """Index of what the agent's actions leave as it is, `(n_states,)`: the local states of all
        factors that it does not move, and of the others the set of local states that its actions
        link.
        """
        ...

    @property
    def discount(self) -> float:
        """gamma."""
        ...

    @property
    def offset(self) -> FloatArray:
        """q for a reward of 0, `(n_states, n_actions)`."""
        ...

    def apply(self, unknowns: FloatArray, *, residual: Residual) -> FloatArray:
        """K theta, `(n_unknowns, k) -> (n_states, n_actions, k)`; or a single vector without the
        last axis. Its solves reach the relative residual, one for all k vectors or one for each.
        """
        ...

    def adjoint(self, weights: FloatArray, *, residual: Residual) -> FloatArray:
        """K' w, `(n_states, n_actions, k) -> (n_unknowns, k)`, with arguments as `apply`."""
        ...


@dataclass(frozen=True, eq=False)
class ExactValues:
    """Action values of a learner that solves (5): K = R + gamma P (I - gamma P_pi)^-1 R_pi.

    Args:
        transition: P, `(n_states * n_actions, n_states)`, with the others averaged out.
        onward: P_pi, `(n_states, n_states)`.
        policy: the agent's own policy, `(n_states, n_actions)`.
        immediate: R, the expected reward of every state and action, `(n_states * n_actions,
            n_unknowns)`.
        discount: gamma in [0, 1).
        temperature: alpha > 0.
        others: index of what the agent's actions leave as it is, `(n_states,)`.
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

    def apply(self, unknowns: FloatArray, *, residual: Residual) -> FloatArray:
        direct = _by_state(self.immediate @ unknowns, self.policy)
        gain = np.einsum("sa,sa...->s...", self.policy, direct)
        return direct + self._ahead(gain, residual)

    def adjoint(self, weights: FloatArray, *, residual: Residual) -> FloatArray:
        arriving = self.discount * (self.transition.T @ _flat(weights))
        flow = iterated_sum(self.onward.T, arriving, discount=self.discount, residual=residual)
        paid = weights + np.einsum("sa,s...->sa...", self.policy, flow)
        return np.asarray(self.immediate.T @ _flat(paid))

    def _ahead(self, gain: FloatArray, residual: Residual) -> FloatArray:
        value = iterated_sum(self.onward, gain, discount=self.discount, residual=residual)
        return self.discount * _by_state(self.transition @ value, self.policy)


def _flat(table: FloatArray) -> FloatArray:
    """`(n_states, n_actions, ...) -> (n_states * n_actions, ...)`."""
    return table.reshape(-1, *table.shape[2:])


def _by_state(rows: FloatArray, policy: FloatArray) -> FloatArray:
    """`(n_states * n_actions, ...) -> (n_states, n_actions, ...)`."""
    return np.asarray(rows).reshape(*policy.shape, *rows.shape[1:])


@dataclass(frozen=True, eq=False)
class TdValues:
    """Action values of a td learner of which only the counts are known.

    See `malfl_algos.ma_lfl.learner_models.ExpectedTd`.

    Args:
        transition, policy, immediate, discount, temperature, others: as for `ExactValues`, with the
            others' actions averaged as they were played in each state and own action.
        onward: P_pi of this transition.
        log_kept: log of the share of its first value that a pair (s, a) keeps over the whole stage,
            <= 0, `(n_states, n_actions)`.
        parts: shares of the stage in time order, summing to 1.
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

    def apply(self, unknowns: FloatArray, *, residual: Residual) -> FloatArray:
        return self._swept(_by_state(self.immediate @ unknowns, self.policy))

    def adjoint(self, weights: FloatArray, *, residual: Residual) -> FloatArray:
        return np.asarray(self.immediate.T @ _flat(self._through(sweep_back, weights)))

    def _swept(self, direct: FloatArray) -> FloatArray:
        return self._through(sweep, direct)

    def _through(self, loop: Any, table: FloatArray) -> FloatArray:
        columns = _columns(table)
        through = [
            loop(
                self.transition.indptr,
                self.transition.indices,
                self.transition.data,
                self.log_kept,
                self.policy,
                np.ascontiguousarray(columns[..., begin : begin + BESIDE]),
                self.discount,
                self.parts,
            )
            for begin in range(0, columns.shape[-1], BESIDE)
        ]
        return np.concatenate(through, axis=-1).reshape(table.shape)


def _columns(table: FloatArray) -> FloatArray:
    """The table with a last axis for vectors side by side, added if it is missing."""
    return np.ascontiguousarray(table if table.ndim == 3 else table[..., None])


def unmoved(game: MarkovGame, agent_index: int) -> NDArray[np.int64]:
    """Index of what the agent's actions leave as it is, `(n_states,)`: the local states of all
    factors that it does not move, and of the others the set of local states that its actions link.
    """
    local = game.local_states(np.arange(game.n_states))
    number = np.zeros(game.n_states, dtype=np.int64)
    for position, factor in enumerate(game.factors):
        n_values, values = factor.n_local, np.arange(factor.n_local)
        if agent_index in factor.agents:
            n_values, values = _linked(factor)
        number = number * n_values + values[local[:, position]]
    return number


def _linked(factor: Factor) -> tuple[int, NDArray[np.int64]]:
    """Sets of local states: successors of one local state are in one set.

    Returns:
        The number of sets, and the set of every local state.
    """
    flat = factor.successors.reshape(factor.n_local, -1)
    possible = factor.probabilities.reshape(flat.shape) > 0
    first = flat[np.arange(len(flat)), possible.argmax(axis=1)]
    sources = np.broadcast_to(first[:, None], flat.shape)[possible]
    links = sp.coo_array(
        (np.ones(len(sources)), (sources, flat[possible])), shape=(len(flat), len(flat))
    )
    n_sets, found = connected_components(links, directed=False)
    return int(n_sets), found.astype(np.int64)


@compiled()
def sweep(  # noqa: PLR0917 - a compiled loop over plain arrays
    pointers: Any,
    columns: Any,
    probabilities: Any,
    log_kept: Any,
    policy: Any,
    immediate: Any,
    discount: Any,
    parts: Any,
) -> Any:  # pragma: no cover
    """Action values after all parts, `(n_states, n_actions, width)`, for `width` rewards.

    Parts of a stage, two or more, grow by equal steps, so the shares that they keep are powers of
    one number.
    """
    n_states, n_actions, width = immediate.shape
    q = aligned(n_states, n_actions, width)
    direct = aligned(n_states, n_actions, width)
    copy_columns(immediate, direct)
    value, after = aligned(1, n_states, width)[0], aligned(1, n_states, width)[0]
    kept = np.exp(log_kept * parts[0])
    ratio = np.exp(log_kept * (parts[1] - parts[0]))
    share = np.zeros((n_states, n_actions))
    for _ in range(len(parts)):
        for s in range(n_states):
            for a in range(n_actions):
                share[s, a] = 1.0 - kept[s, a]
                kept[s, a] *= ratio[s, a]
        update(q, (pointers, columns, probabilities), share, direct, value, discount, policy, after)
        value, after = after, value
    if q.shape[2] == width:
        return q
    found = np.empty((n_states, n_actions, width))
    copy_columns(q, found)
    return found


@compiled()
def sweep_back(  # noqa: C901, PLR0917 - a compiled loop over plain arrays
    pointers: Any,
    columns: Any,
    probabilities: Any,
    log_kept: Any,
    policy: Any,
    weights: Any,
    discount: Any,
    parts: Any,
) -> Any:  # pragma: no cover
    """The transpose of `sweep`: from weights of final action values to weights of immediate
    rewards, both `(n_states, n_actions, width)`.

    What a part keeps follows from the part after it, unless that keeps next to nothing.
    """
    n_states, n_actions, width = weights.shape
    w = weights.copy()
    paid = np.zeros((n_states, n_actions, width))
    arriving = np.zeros((n_states, width))
    share = np.zeros(width)
    kept = np.exp(log_kept * parts[-1])
    ratio = np.exp(log_kept * (parts[1] - parts[0]))
    for part in parts[::-1]:
        arriving[:] = 0.0
        for s in range(n_states):
            for a in range(n_actions):
                if log_kept[s, a] == 0.0:
                    continue
                if kept[s, a] < TINY:
                    kept[s, a] = np.exp(log_kept[s, a] * part)
                replaced = 1.0 - kept[s, a]
                kept[s, a] = kept[s, a] / ratio[s, a] if ratio[s, a] > TINY else 0.0
                for k in range(width):
                    share[k] = replaced * w[s, a, k]
                    paid[s, a, k] += share[k]
                    w[s, a, k] -= share[k]
                for entry in range(pointers[s * n_actions + a], pointers[s * n_actions + a + 1]):
                    p, t = discount * probabilities[entry], columns[entry]
                    for k in range(width):
                        arriving[t, k] += share[k] * p
        for s in range(n_states):
            for a in range(n_actions):
                for k in range(width):
                    w[s, a, k] += policy[s, a] * arriving[s, k]
    return paid
