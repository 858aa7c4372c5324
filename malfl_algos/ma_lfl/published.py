"""The regression as the paper's published code sets it up, kept to explain its published numbers.

Read off the source (github.com/melodiCyb/multiagent-learning-from-learners, malfl.py at commit
9c9d568), for two agents. It departs from (12) in three places, all of them index slips in the
reshaping of arrays. With n cells and A actions, x and y the cells of agent 0 and 1:

- the potential of state (x, y) is read at (x, (A y + a) mod n), so it depends on the action;
- the potential of the next state is that same number again, not the one at the next state;
- agent 1's reward is averaged with the other agent's probability of agent 1's own action.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from malfl_algos.ma_lfl.recovery import Improvements
from malfl_env.errors import InputError

__all__ = ["published_design"]


def published_design(improvements: Improvements) -> sp.csr_array:
    """Left side of the published regression, with unknowns numbered as in `design_matrix`.

    Args:
        improvements: of one of two agents with as many actions each and one cell apiece.

    Returns:
        Sparse `(n_improvements * n_states * n_actions, n_rewards + n_improvements * n_states)`.

    Raises:
        InputError: for a game of another form.
    """
    n_improvements, n_states, n_actions = improvements.targets.shape
    n_cells = int(np.sqrt(n_states))
    if improvements.others.shape[2] != n_actions or n_cells**2 != n_states:
        raise InputError(
            "the published code knows games of two agents with the same cells and actions only; "
            f"this one has {n_states} joint states, {n_actions} own and "
            f"{improvements.others.shape[2]} other joint actions"
        )
    other = improvements.others
    x, y = np.divmod(np.arange(n_states), n_cells)
    read_at = x[:, None] * n_cells + (n_actions * y[:, None] + np.arange(n_actions)) % n_cells
    read = sp.csr_array(np.eye(n_states)[read_at].reshape(-1, n_states))
    spread = sp.kron(sp.eye_array(n_states), np.ones((n_actions, n_actions)), format="csr")
    stages, potentials = [], []
    for h in range(n_improvements):
        if improvements.agent_index == 0:
            weights = np.einsum("so,ab->sabo", other[h], np.eye(n_actions))
            next_read = read
        else:
            weights = np.einsum("sa,ab,o->sabo", other[h], np.eye(n_actions), np.ones(n_actions))
            next_read = sp.csr_array(sp.diags_array(other[h].ravel()) @ spread @ read)
        blocks = weights.reshape(n_states, n_actions, n_actions**2)
        stages.append(sp.block_diag(list(blocks), format="csr"))
        potentials.append(read - improvements.discount * next_read)
    rewards = sp.vstack(stages)
    return sp.csr_array(sp.hstack([rewards, sp.block_diag(potentials)], format="csr"))
