"""Equation (12): the regression of the targets on a reward and one free potential per stage.

E[r(s, a)] + g_h(s) - gamma E[g_h(s')] = Y_h(s, a^i), for every stage h, joint state s and own
action a^i, is linear in the unknowns. Its rows fall into groups, by state or by state and own
action, and every reward unknown belongs to one group. The reward is therefore eliminated group by
group, which leaves a least-squares problem in the potentials alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.linalg import cho_solve, solve_triangular
from scipy.linalg.lapack import dpstrf

from malfl_algos.ma_lfl.reward_models import RewardModel
from malfl_env.checks import check_table_bytes

__all__ = [
    "Fit",
    "check_size",
    "design_matrix",
    "least_squares",
    "potential_matrix",
    "reward_blocks",
]

FloatArray = NDArray[np.float64]

BLOCK_TOLERANCE = 1e-10
"""Singular values of a group's reward block below this share of its largest count as zero."""
PIVOT_TOLERANCE = 1e-11
"""Pivots of the normal matrix below this count as zero; columns of potentials have length one."""


@dataclass(frozen=True, eq=False)
class Fit:
    """A least-squares solution of (12) and the number of directions that the data determine.

    Args:
        reward: `(n_states, n_unknowns per state)`; of all rewards with the smallest residual, the
            one of smallest norm.
        potentials: g_h of this solution, `(n_improvements, n_states)`.
        rank: number of directions of the reward that the data determine.
        residual: root mean square of the residuals of the rows, in units of reward.
    """

    reward: FloatArray
    potentials: FloatArray
    rank: int
    residual: float

    @property
    def n_unidentified(self) -> int:
        """Dimension of the space of rewards that fit equally well."""
        return self.reward.size - self.rank


def reward_blocks(model: RewardModel, others: FloatArray, n_actions: int) -> FloatArray:
    """Coefficients of the reward unknowns in the rows of (12), by group of rows.

    Args:
        model: `joint` r(s, a^1..a^n), `own_action` r(s, a^i) or `state` r(s).
        others: probabilities of the other agents' joint actions, `(n_improvements, n_states,
            n_others)`.
        n_actions: number of own actions.

    Returns:
        `(n_states, n_groups, n_improvements, n_actions // n_groups, n_unknowns)`, read-only. For
        `state` there is one group per state with one unknown. Otherwise there is one group per
        state and own action, with one unknown (`own_action`) or one unknown for each of the others'
        joint actions (`joint`).
    """
    n_improvements, n_states, n_others = others.shape
    if model == "state":
        return np.broadcast_to(1.0, (n_states, 1, n_improvements, n_actions, 1))
    if model == "own_action":
        return np.broadcast_to(1.0, (n_states, n_actions, n_improvements, 1, 1))
    by_state = np.moveaxis(others, 0, 1)[:, None, :, None, :]
    return np.broadcast_to(by_state, (n_states, n_actions, n_improvements, 1, n_others))


def potential_matrix(transitions: Sequence[sp.csr_array], *, discount: float) -> sp.csr_array:
    """Coefficients of the potentials: g_h(s) - gamma E[g_h(s')].

    Args:
        transitions: per improvement the `averaged_transition`, `(n_states * n_actions, n_states)`.
        discount: gamma in [0, 1).

    Returns:
        Sparse `(n_improvements * n_states * n_actions, n_improvements * n_states)`.
    """
    n_rows, n_states = transitions[0].shape
    here = sp.eye_array(len(transitions) * n_states)
    own = sp.kron(here, np.ones((n_rows // n_states, 1)), format="csr")
    return sp.csr_array(own - discount * sp.block_diag(transitions, format="csr"))


def design_matrix(blocks: FloatArray, potentials: sp.csr_array) -> sp.csr_array:
    """Left side of (12) as one matrix. Columns are rewards by state and group, then potentials by
    improvement.

    Returns:
        Sparse `(n_improvements * n_states * n_actions, n_rewards + n_improvements * n_states)`.
    """
    rows = _rows_by_group(blocks)
    rewards = _scatter(blocks.reshape(*rows.shape, -1), rows)
    return sp.csr_array(sp.hstack([rewards, potentials], format="csr"))


def check_size(n_improvements: int, n_states: int) -> None:
    """Reject a regression whose dense matrices over all potentials would not fit into memory.

    Raises:
        InputError: the message states the memory that the regression needs.
    """
    check_table_bytes(
        6 * 8 * (n_improvements * n_states) ** 2,
        f"the regression (12) with {n_improvements} potentials over {n_states} joint states",
    )


def least_squares(
    blocks: FloatArray, potentials: sp.csr_array, targets: FloatArray, seen: NDArray[np.bool_]
) -> Fit:
    """Solve (12) by least squares, with equal weights for all rows.

    Args:
        blocks: `reward_blocks`.
        potentials: `potential_matrix`.
        targets: Y, `(n_improvements, n_states, n_actions)`.
        seen: `(n_improvements, n_states)`: whether the rows of a stage and state are used.

    Returns:
        The best fit whose reward has the smallest norm. Its rank counts the directions of the
        reward that no potential can imitate.
    """
    n_improvements, n_states, n_actions = targets.shape
    check_size(n_improvements, n_states)
    rows = _rows_by_group(blocks)
    used = np.repeat(seen.ravel(), n_actions).astype(np.float64)
    rewards = blocks.reshape(*rows.shape, -1) * used[rows][..., None]
    design, lengths = _unit_columns(sp.csr_array(sp.diags_array(used) @ potentials))
    y = targets.ravel() * used

    basis, inverse, block_rank = _factorise(rewards, rows)
    unexplained = design - basis @ (basis.T @ design)
    solve, loose = _semidefinite((design.T @ unexplained).toarray())
    # one step of iterative refinement, because forming the normal matrix lost digits
    loose = loose - solve(unexplained.T @ (unexplained @ loose))
    g = solve(unexplained.T @ y)
    reward = inverse @ (y - design @ g)

    imitated = -(inverse @ (design @ loose))
    mix, _ = _semidefinite(imitated.T @ imitated)
    for _ in range(2):  # the second step is iterative refinement
        mixture = mix(imitated.T @ reward)
        reward, g = reward - imitated @ mixture, g - loose @ mixture
    residual = _scatter(rewards, rows) @ reward + design @ g - y
    rank = block_rank + g.size - loose.shape[1] - _rank_of_potentials(design, seen)
    return Fit(
        reward.reshape(n_states, -1),
        (g / lengths).reshape(n_improvements, n_states),
        rank=rank,
        residual=float(np.sqrt(np.sum(residual**2) / max(used.sum(), 1))),
    )


def _rows_by_group(blocks: FloatArray) -> NDArray[np.int64]:
    """Row numbers (h, s, a) of every group: `(n_states * n_groups, rows of a group)`."""
    n_states, n_groups, n_improvements, n_own, _ = blocks.shape
    rows = np.arange(n_improvements * n_states * n_groups * n_own)
    by_stage = rows.reshape(n_improvements, n_states, n_groups, n_own)
    return np.moveaxis(by_stage, 0, 2).reshape(n_states * n_groups, -1)


def _scatter(blocks: FloatArray, rows: NDArray[np.int64]) -> sp.csr_array:
    """Sparse matrix of blocks `(n_blocks, n_rows, n_columns)`: columns by block, rows as given.

    Args:
        rows: row numbers of the blocks, `(n_blocks, n_rows)`; each row of the matrix occurs once.
    """
    n_blocks, _, n_columns = blocks.shape
    columns = np.arange(n_blocks * n_columns).reshape(n_blocks, 1, n_columns)
    places = np.broadcast_arrays(rows[..., None], columns)
    shape = (rows.size, n_blocks * n_columns)
    indices = tuple(place.ravel() for place in places)
    return sp.csr_array(sp.coo_array((blocks.ravel(), indices), shape=shape))


def _factorise(
    blocks: FloatArray, rows: NDArray[np.int64]
) -> tuple[sp.csr_array, sp.csr_array, int]:
    """Orthonormal basis of the range, pseudo-inverse and rank of a matrix given by blocks.

    Args:
        blocks, rows: as for `_scatter`.

    Returns:
        The basis, whose columns beyond the rank are 0; the pseudo-inverse, `(n_columns, n_rows)`;
        and the rank.
    """
    left, sizes, right = np.linalg.svd(blocks, full_matrices=False)
    kept = sizes > BLOCK_TOLERANCE * sizes[:, :1]
    basis = left * kept[:, None, :]
    shrunk = right * np.where(kept, 1 / np.where(kept, sizes, 1), 0)[..., None]
    inverse = _scatter(basis @ shrunk, rows)
    return _scatter(basis, rows), sp.csr_array(inverse.T), int(kept.sum())


def _unit_columns(matrix: sp.csr_array) -> tuple[sp.csr_array, FloatArray]:
    """The matrix with its nonzero columns scaled to length one, and the original lengths.

    The weight of a potential must not depend on the probability that its state is entered.
    """
    lengths = np.sqrt(np.asarray((matrix * matrix).sum(axis=0)))
    lengths[lengths == 0] = 1.0
    return sp.csr_array(matrix @ sp.diags_array(1 / lengths)), lengths


def _semidefinite(matrix: FloatArray) -> tuple[Callable[[FloatArray], FloatArray], FloatArray]:
    """Solver and null space of a positive semidefinite matrix `(n, n)`, by pivoted Cholesky.

    Returns:
        A function from the right side, `(n,)` or `(n, k)`, of a consistent system to a solution;
        and a basis of the null space, `(n, nullity)`, which is not orthogonal.
    """
    rank, order, factor = 0, np.arange(len(matrix)), matrix
    if matrix.diagonal().max(initial=0) > PIVOT_TOLERANCE:  # LAPACK does not test the first pivot
        factor, order, rank, _ = dpstrf(matrix, tol=PIVOT_TOLERANCE, lower=1)
        order = order - 1
    bound, triangle = order[:rank], factor[:rank, :rank]

    def solve(right: FloatArray) -> FloatArray:
        solution = np.zeros_like(right)
        if rank:
            solution[bound] = cho_solve((triangle, True), right[bound])
        return solution

    free = order[rank:]
    null = np.zeros((len(order), len(free)))
    null[free, np.arange(len(free))] = 1.0
    if rank:
        below = factor[rank:, :rank].T
        null[bound] = -solve_triangular(triangle, below, lower=True, trans="T")
    return solve, null


def _rank_of_potentials(design: sp.csr_array, seen: NDArray[np.bool_]) -> int:
    """Rank of the columns of the potentials, stage by stage.

    A stage in which all states are seen has full rank, because I - gamma P is regular.
    """
    n_improvements, n_states = seen.shape
    n_rows = design.shape[0] // n_improvements
    rank = 0
    for stage, states in enumerate(seen):
        if states.all():
            rank += n_states
            continue
        block = design[stage * n_rows : (stage + 1) * n_rows]
        block = block[:, stage * n_states : (stage + 1) * n_states]
        rank += int(np.linalg.matrix_rank(block.toarray()))
    return rank
