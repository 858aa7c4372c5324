"""Equation (12): the regression of the targets on a reward and one free potential per stage.

E[r(s, a)] + g_h(s) - gamma E[g_h(s')] = Y_h(s, a^i) for every stage h, joint state s and own action
a^i is linear in the unknowns. The rows of a state share the reward unknowns of that state and of no
other, so the reward is eliminated state by state, and what is left is a least-squares problem in
the potentials alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import scipy.linalg
import scipy.sparse as sp
from numpy.typing import NDArray

from malfl_env.checks import check_table_bytes

__all__ = [
    "Fit",
    "RewardModel",
    "design_matrix",
    "least_squares",
    "potential_matrix",
    "reward_blocks",
]

FloatArray = NDArray[np.float64]
RewardModel = Literal["joint", "own_action", "state"]

BLOCK_TOLERANCE = 1e-10
"""Singular values of a state's reward block below this share of its largest count as zero."""
POTENTIAL_TOLERANCE = 1e-11
"""Eigenvalues of the potentials' normal matrix count as zero below this share of its largest entry
before the rewards are eliminated."""


@dataclass(frozen=True, eq=False)
class Fit:
    """A least-squares solution of (12) and how much of it the data determine.

    Args:
        reward: `(n_states, n_unknowns per state)`: of all rewards that fit best, the one nearest to
            zero.
        potentials: g_h, `(n_improvements, n_states)`, that go with it.
        rank: how many directions of the reward are determined.
        residual: root mean square of the rows' residuals, in units of reward.
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
    """Coefficients of a state's reward unknowns in that state's rows.

    Args:
        model: `joint` r(s, a^1..a^n), `own_action` r(s, a^i) or `state` r(s).
        others: probabilities of the other agents' joint actions, `(n_improvements, n_states,
            n_others)`.
        n_actions: own actions.

    Returns:
        `(n_states, n_improvements, n_actions, n_unknowns)`; the unknowns of a state are numbered by
        own action, then by the others' joint action (`joint`), by own action, or are a single one.
    """
    n_improvements, n_states, _ = others.shape
    if model == "state":
        return np.ones((n_states, n_improvements, n_actions, 1))
    per_action = (
        np.moveaxis(others, 0, 1) if model == "joint" else np.ones((n_states, n_improvements, 1))
    )
    blocks = np.einsum("sho,ab->shabo", per_action, np.eye(n_actions))
    return np.asarray(blocks.reshape(n_states, n_improvements, n_actions, -1))


def potential_matrix(transitions: Sequence[sp.csr_array], *, discount: float) -> sp.csr_array:
    """Coefficients of the potentials: g_h(s) - gamma E[g_h(s')].

    Args:
        transitions: per improvement the `averaged_transition`, `(n_states * n_actions, n_states)`.
        discount: gamma in [0, 1).

    Returns:
        Sparse `(n_improvements * n_states * n_actions, n_improvements * n_states)`.
    """
    n_rows, n_states = transitions[0].shape
    own = sp.kron(sp.eye_array(n_states), np.ones((n_rows // n_states, 1)), format="csr")
    return sp.csr_array(
        sp.block_diag([own - discount * step for step in transitions], format="csr")
    )


def design_matrix(blocks: FloatArray, potentials: sp.csr_array) -> sp.csr_array:
    """All unknowns of (12) as one matrix: rewards by state, then potentials by improvement.

    Returns:
        Sparse `(n_improvements * n_states * n_actions, n_rewards + n_improvements * n_states)`.
    """
    stages = [sp.block_diag(list(blocks[:, h]), format="csr") for h in range(blocks.shape[1])]
    return sp.csr_array(sp.hstack([sp.vstack(stages), potentials], format="csr"))


def least_squares(
    blocks: FloatArray, potentials: sp.csr_array, targets: FloatArray, seen: NDArray[np.bool_]
) -> Fit:
    """Solve (12) by least squares, every row weighted alike.

    Args:
        blocks: `reward_blocks`, `(n_states, n_improvements, n_actions, n_unknowns)`.
        potentials: `potential_matrix`.
        targets: Y, `(n_improvements, n_states, n_actions)`.
        seen: `(n_improvements, n_states)`: whether the rows of a stage and state are used.

    Returns:
        The fit whose reward has the smallest norm of all that fit best; its rank counts directions
        of the reward that no potential can imitate.
    """
    n_states, n_improvements, n_actions, n_unknowns = blocks.shape
    check_table_bytes(
        3 * 8 * (n_improvements * n_states) ** 2,
        f"the regression (12) with {n_improvements} potentials over {n_states} joint states",
    )
    rows = _rows_by_state(n_states, n_improvements, n_actions)
    used = np.repeat(seen.T, n_actions, axis=1)
    design = blocks.reshape(n_states, -1, n_unknowns) * used[..., None]
    basis, inverse, block_rank = _factorise(design)
    keep = sp.diags_array(used.ravel().astype(np.float64))
    by_state = sp.csr_array(keep @ potentials[rows.ravel()])
    y = np.moveaxis(targets, 0, 1).reshape(n_states, -1) * used

    explained = sp.csr_array(basis.T @ by_state)
    gram = by_state.T @ by_state
    normal = (gram - explained.T @ explained).toarray()
    moment = by_state.T @ y.ravel() - explained.T @ (basis.T @ y.ravel())
    values, vectors = scipy.linalg.eigh(normal, overwrite_a=True)
    determined = values > POTENTIAL_TOLERANCE * gram.max()
    chosen = vectors[:, determined]
    g = chosen @ ((chosen.T @ moment) / values[determined])
    reward = inverse @ (y.ravel() - by_state @ g)

    loose = vectors[:, ~determined]
    imitated = -(inverse @ (by_state @ loose))
    mixture = scipy.linalg.lstsq(imitated, reward)[0] if loose.size else np.zeros(0)
    reward, g = reward - imitated @ mixture, g - loose @ mixture
    residual = (design @ reward.reshape(n_states, n_unknowns, 1))[..., 0].ravel()
    residual = residual + by_state @ g - y.ravel()
    return Fit(
        reward.reshape(n_states, n_unknowns),
        g.reshape(n_improvements, n_states),
        rank=block_rank + int(determined.sum()) - _rank_of_potentials(seen, potentials, n_actions),
        residual=float(np.sqrt(np.sum(residual**2) / max(int(used.sum()), 1))),
    )


def _rows_by_state(n_states: int, n_improvements: int, n_actions: int) -> NDArray[np.int64]:
    """Row numbers (h, s, a), ordered by state: `(n_states, n_improvements * n_actions)`."""
    rows = np.arange(n_improvements * n_states * n_actions)
    by_stage = rows.reshape(n_improvements, n_states, n_actions)
    return np.moveaxis(by_stage, 0, 1).reshape(n_states, -1)


def _factorise(design: FloatArray) -> tuple[sp.csr_array, sp.csr_array, int]:
    """Orthonormal basis of each block's range and its pseudo-inverse, as block-diagonal matrices.

    Args:
        design: `(n_blocks, n_rows, n_unknowns)`.

    Returns:
        Basis `(n_blocks * n_rows, rank)`, pseudo-inverse `(n_blocks * n_unknowns, n_blocks *
        n_rows)` and rank.
    """
    left, sizes, right = np.linalg.svd(design, full_matrices=False)
    kept = sizes > BLOCK_TOLERANCE * sizes[:, :1]
    inverse_sizes = np.where(kept, 1 / np.where(kept, sizes, 1), 0)
    inverse = np.einsum("bku,bk,brk->bur", right, inverse_sizes, left)
    basis = sp.csr_array(sp.block_diag(list(left), format="csr"))[:, kept.ravel()]
    return basis, sp.csr_array(sp.block_diag(list(inverse), format="csr")), int(kept.sum())


def _rank_of_potentials(seen: NDArray[np.bool_], potentials: sp.csr_array, n_actions: int) -> int:
    """Rank of the potentials' own columns over the used rows.

    A stage whose states are all seen has full rank, because I - gamma P is regular.
    """
    n_states = seen.shape[1]
    rank = 0
    for stage, states in enumerate(seen):
        if states.all():
            rank += n_states
            continue
        first = stage * n_states
        rows = (first + np.flatnonzero(states))[:, None] * n_actions + np.arange(n_actions)
        block = potentials[rows.ravel()][:, first : first + n_states].toarray()
        rank += int(np.linalg.matrix_rank(block)) if block.size else 0
    return rank
