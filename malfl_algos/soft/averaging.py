"""Transitions of one agent with the other agents averaged out, applied without a large matrix.

The factors of a game move independently, so an expectation over joint next states is computed one
factor at a time. Policies are first averaged into the probabilities of a factor's few successors;
then only combinations of successors are visited. Memory is proportional to joint states times
successors of one factor, and time to joint states times combinations of successors. If moves are
deterministic, there are at most as many combinations as joint actions.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.sparse.linalg import LinearOperator

from malfl_env.markov_game import Factor, MarkovGame

__all__ = [
    "AveragedDynamics",
    "average_out",
    "averaged_dynamics",
    "contrast_diagonal",
    "sparse_bytes",
]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
JointPolicy = Sequence[FloatArray]


def _loops() -> ModuleType:
    """The compiled loops; importing them on first use delays the import of numba."""
    from malfl_algos.soft import averaging_loops

    return averaging_loops


class AveragedDynamics(LinearOperator):
    """Probabilities of next states: the product of those of the own factor and of the other
    factors.

    Row `s * n_rows + r` holds P(s' | s, r). Here r is the agent's own action (`averaged_dynamics`),
    or r = 0 with `n_rows` = 1 under a policy (`under`). `@` maps values, `(n_states,)` or
    `(n_states, k)`, to their expectations; `.T @` maps weights of rows to weights of next states.

    Args:
        local: local states of the own factor and then of the other factors,
            `(n_states, n_factors)`.
        targets: per factor, in the same order, the term of each successor in the index of the next
            joint state, `(n_factors, largest n_local, largest width)`.
        widths: number of successors of every local state, `(n_factors, largest n_local)`.
        own: probabilities of the own factor's successors, `(n_states, n_rows, width)`.
        others: probabilities of the other factors' successors,
            `(n_factors - 1, n_states, width)`.
    """

    def __init__(
        self,
        local: IntArray,
        targets: IntArray,
        widths: IntArray,
        own: FloatArray,
        others: FloatArray,
    ) -> None:
        self.local, self.targets, self.widths, self.own, self.others = (
            local,
            targets,
            widths,
            own,
            others,
        )
        super().__init__(np.dtype(np.float64), (own.shape[0] * own.shape[1], own.shape[0]))  # type: ignore[call-arg]

    def under(self, policy: FloatArray) -> AveragedDynamics:
        """State-to-state transition under the agent's own policy, `(n_states, n_actions)`."""
        own = np.einsum("sa,saj->sj", policy, self.own)[:, None, :]
        return AveragedDynamics(self.local, self.targets, self.widths, own, self.others)

    def sparse(self) -> sp.csr_array:
        """The same transition as a sparse matrix, which is several times faster to apply and far
        larger.
        """
        tables = self.local, self.targets, self.widths, self.own, self.others
        pointers = np.zeros(self.shape[0] + 1, dtype=np.int64)
        empty = np.zeros(0, dtype=np.int32), np.zeros(0)
        _loops().list_entries(*tables, pointers[1:], *empty)
        np.cumsum(pointers, out=pointers)
        columns = np.empty(pointers[-1], dtype=np.int32)
        probabilities = np.empty(pointers[-1])
        _loops().list_entries(*tables, pointers[:-1].copy(), columns, probabilities)
        if pointers[-1] < np.iinfo(np.int32).max:
            pointers = pointers.astype(np.int32)
        return sp.csr_array((probabilities, columns, pointers), shape=self.shape)

    def contrast_diagonal(self, weights: FloatArray) -> FloatArray:
        """See the function `contrast_diagonal`."""
        total = np.maximum(weights.sum(axis=1), 1e-300)
        mean = np.einsum("sr,srj->sj", weights, self.own)
        variance = np.einsum("sr,srj->sj", weights, self.own**2) - mean**2 / total[:, None]
        variance = np.ascontiguousarray(np.maximum(variance, 0)[:, None, :])
        out = np.zeros((len(weights), 1))
        tables = self.local, self.targets, self.widths, variance, self.others**2
        _loops().spread(np.ones((len(weights), 1)), *tables, out)
        return out[:, 0]

    def _matmat(self, values: FloatArray) -> FloatArray:
        n_rows = self.own.shape[1]
        out = np.zeros((len(values) * n_rows, values.shape[1]))
        values = np.ascontiguousarray(values, dtype=np.float64)
        _loops().expect(values, self.local, self.targets, self.widths, self.own, self.others, out)
        return out

    def _rmatmat(self, weights: FloatArray) -> FloatArray:
        out = np.zeros((self.shape[1], weights.shape[1]))
        weights = np.ascontiguousarray(weights, dtype=np.float64)
        _loops().spread(weights, self.local, self.targets, self.widths, self.own, self.others, out)
        return out

    def _matvec(self, values: FloatArray) -> FloatArray:
        return self._matmat(values.reshape(-1, 1))

    def _rmatvec(self, weights: FloatArray) -> FloatArray:
        return self._rmatmat(weights.reshape(-1, 1))

    def _transpose(self) -> LinearOperator:
        return self._adjoint()


def averaged_dynamics(
    game: MarkovGame, joint_policy: JointPolicy, agent_index: int
) -> AveragedDynamics:
    """P^i(s' | s, a^i) = E over a^-i ~ pi^-i(s) of P(s' | s, a), as an operator.

    Equal, up to rounding, to the matrix of `malfl_algos.soft.evaluation.averaged_transition`.

    Args:
        game: the dynamics.
        joint_policy: `(n_states, n_actions)` per agent; the agent's own entry is not read.
        agent_index: i.
    """
    factors = game.factors
    order = sorted(range(len(factors)), key=lambda f: agent_index not in factors[f].agents)
    local = game.local_states(np.arange(game.n_states))
    supports = [_support(factors[f]) for f in order]
    largest = max(factor.n_local for factor in factors), max(s.shape[1] for s, _, _ in supports)
    targets = np.zeros((len(order), *largest), dtype=np.int64)
    widths = np.zeros((len(order), largest[0]), dtype=np.int64)
    others = np.zeros((len(order) - 1, game.n_states, largest[1]))
    own = np.zeros(0)
    for position, (f, (successors, probabilities, width)) in enumerate(
        zip(order, supports, strict=True)
    ):
        stride = int(np.prod(game.n_local[f + 1 :]))
        targets[position, : len(successors), : successors.shape[1]] = successors * stride
        widths[position, : len(successors)] = width
        averaged = average_out(
            probabilities[local[:, f]], factors[f].agents, joint_policy, keep=agent_index
        )
        if position == 0:
            own = np.ascontiguousarray(averaged)
        else:
            others[position - 1, :, : averaged.shape[2]] = averaged[:, 0]
    return AveragedDynamics(np.ascontiguousarray(local[:, order]), targets, widths, own, others)


def sparse_bytes(game: MarkovGame, agent_index: int) -> int:
    """Upper bound on the bytes of two sparse matrices: the averaged transition of one agent, and
    the transition under its policy.
    """
    entries, under = 1, 1
    for factor in game.factors:
        _, probabilities, widths = _support(factor)
        reached = int(widths.sum())
        if factor.agents == (agent_index,):
            entries *= int((probabilities > 0).sum())
        else:
            entries *= reached * (
                game.n_actions[agent_index] if agent_index in factor.agents else 1
            )
        under *= reached
    pointers = game.n_states * (game.n_actions[agent_index] + 1) + 2
    return 12 * (entries + under) + 8 * pointers


def contrast_diagonal(
    transition: sp.csr_array | AveragedDynamics, weights: FloatArray
) -> FloatArray:
    """Diagonal of P' C P, where C = diag(w) - w w' / sum(w) within the rows of every state.

    Args:
        transition: P, `(n_states * n_rows, n_states)`.
        weights: w >= 0, `(n_states, n_rows)`.

    Returns:
        `(n_states,)`.
    """
    if isinstance(transition, AveragedDynamics):
        return transition.contrast_diagonal(weights)
    total = np.maximum(weights.sum(axis=1), 1e-300)
    pointers = np.arange(len(weights) + 1) * weights.shape[1]
    weighing = sp.csr_array((weights.ravel(), np.arange(weights.size), pointers))
    mean = sp.csr_array(weighing @ transition)
    return np.asarray(transition.power(2).T @ weights.ravel() - mean.power(2).T @ (1 / total))


def average_out(
    table: FloatArray, agents: tuple[int, ...], joint_policy: JointPolicy, *, keep: int
) -> FloatArray:
    """Average a table `(n_states, *actions of agents, m)` over the policies of all agents but
    `keep`.

    Returns `(n_states, n_actions[keep], m)`, or `(n_states, 1, m)` if `keep` is not in `agents`.
    """
    for axis in reversed(range(len(agents))):
        if agents[axis] == keep:
            continue
        moved = np.moveaxis(table, axis + 1, -1)
        shape = (len(table), *([1] * (moved.ndim - 2)), moved.shape[-1])
        table = (moved * joint_policy[agents[axis]].reshape(shape)).sum(axis=-1)
    return table if table.ndim == 3 else table[:, None, :]


def _support(factor: Factor) -> tuple[IntArray, FloatArray, IntArray]:
    """A factor's possible next local states, and their probabilities for every action.

    Returns successors `(n_local, width)`, probabilities `(n_local, *n_actions, width)`, and the
    number of the `width` places that each local state uses; the other places are padded with next
    state 0 at probability 0.
    """
    flat = factor.successors.reshape(factor.n_local, -1)
    order = np.argsort(flat, axis=1, kind="stable")
    ranked = np.take_along_axis(flat, order, axis=1)
    slot_in_order = np.cumsum(np.diff(ranked, axis=1, prepend=ranked[:, :1]) > 0, axis=1)
    slots = np.empty_like(flat)
    np.put_along_axis(slots, order, slot_in_order, axis=1)
    width = int(slots.max()) + 1
    rows = np.arange(factor.n_local)[:, None]
    successors = np.zeros((factor.n_local, width), dtype=np.int64)
    successors[rows, slots] = flat
    probabilities = np.zeros((*factor.successors.shape[:-1], width))
    grid = np.indices(factor.successors.shape)[:-1]
    np.add.at(probabilities, (*grid, slots.reshape(factor.successors.shape)), factor.probabilities)
    return successors, probabilities, slots.max(axis=1) + 1
