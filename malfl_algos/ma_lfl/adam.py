"""The fits of published codes: full-batch Adam with their numbers of steps and learning rates.

`ma-lfl-faithful` and `lfl` use it for the policies (10) and the regression (12), which is also here
as the published code of MA-LfL sets it up; `logel` for behavioural cloning.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.special import log_softmax

from malfl_algos.ma_lfl.recovery import Improvements
from malfl_env.errors import InputError

__all__ = [
    "adam",
    "adam_policy",
    "adam_regression",
    "cloned_policies",
    "policy_loss_gradient",
    "published_design",
]

FloatArray = NDArray[np.float64]


CLONING_EPOCHS, CLONING_RATE, CLONING_ENTROPY = 3, 0.5, 0.01
"""Behavioural cloning of LOGEL's published code: steps and learning rate of Adam, entropy bonus."""


def adam(
    gradient: Callable[[FloatArray], FloatArray],
    start: FloatArray,
    *,
    learning_rate: float,
    epochs: int,
) -> FloatArray:
    """Minimise by Adam (Kingma and Ba 2015) with decay rates 0.9 and 0.999 and epsilon 1e-8.

    Args:
        gradient: gradient of the loss; its result has the shape of its argument.
        start: the first point; it is not written to.
        learning_rate: step size, > 0.
        epochs: number of steps.

    Returns:
        The point after the last step. It need not be near a minimum.
    """
    point = np.array(start, dtype=np.float64)
    first, second = np.zeros_like(point), np.zeros_like(point)
    for epoch in range(1, epochs + 1):
        slope = gradient(point)
        first += 0.1 * (slope - first)
        second += 0.001 * (slope**2 - second)
        scale = np.sqrt(second / (1 - 0.999**epoch)) + 1e-8
        point -= (learning_rate / (1 - 0.9**epoch)) * first / scale
    return point


def adam_policy(
    counts: NDArray[np.int64],
    *,
    entropy_coefficient: float,
    learning_rate: float,
    epochs: int,
    rng: np.random.Generator,
) -> FloatArray:
    """Equation (10) by Adam on logits that start uniformly random in [0, 1).

    The loss is -sum_s (sum_a n(s, a) log pi(a | s) + lambda N(s) H(pi(s))).

    Args:
        counts: `(n_states, n_actions)`, >= 0.
        entropy_coefficient: lambda >= 0.
        learning_rate, epochs: learning rate and number of steps of Adam. The paper uses 0.1 and 10,
            which stops far from the maximum.
        rng: draws the first logits.

    Returns:
        `(n_states, n_actions)`, rows sum to 1.
    """
    gradient = policy_loss_gradient(counts, entropy_coefficient=entropy_coefficient)
    logits = adam(gradient, rng.random(counts.shape), learning_rate=learning_rate, epochs=epochs)
    return np.exp(log_softmax(logits, axis=-1))


def policy_loss_gradient(
    counts: NDArray[np.int64], *, entropy_coefficient: float
) -> Callable[[FloatArray], FloatArray]:
    """The gradient in logits of -sum_s (sum_a n(s, a) log pi(a | s) + lambda N(s) H(pi(s))).

    Args:
        counts: `(n_states, n_actions)`, >= 0.
        entropy_coefficient: lambda >= 0.

    Returns:
        A function of logits `(n_states, n_actions)`, with results of that shape.
    """
    visits = counts.sum(axis=-1, keepdims=True)

    def gradient(logits: FloatArray) -> FloatArray:
        log_policy = log_softmax(logits, axis=-1)
        policy = np.exp(log_policy)
        surprise = log_policy - (policy * log_policy).sum(axis=-1, keepdims=True)
        return np.asarray(visits * policy * (1 + entropy_coefficient * surprise) - counts)

    return gradient


def adam_regression(
    design: sp.csr_array, targets: FloatArray, *, learning_rate: float, epochs: int
) -> FloatArray:
    """Equation (12) by Adam on the sum of squared residuals, all unknowns from 0.

    Args:
        design: `(n_rows, n_unknowns)`.
        targets: `(n_rows,)`.
        learning_rate, epochs: learning rate and number of steps of Adam; the paper uses 0.01 and
            1000.

    Returns:
        `(n_unknowns,)`.
    """
    transposed = sp.csr_array(design.T)
    return adam(
        lambda unknowns: np.asarray(2 * (transposed @ (design @ unknowns - targets))),
        np.zeros(design.shape[1]),
        learning_rate=learning_rate,
        epochs=epochs,
    )


def published_design(improvements: Improvements) -> sp.csr_array:
    """Left side of (12) as the paper's published code sets it up; it explains the published
    numbers.

    It follows the source (github.com/melodiCyb/multiagent-learning-from-learners, malfl.py at
    commit 9c9d568), for two agents. The code departs from (12) in three places, each of them an
    index error when arrays are reshaped. Let there be n cells and A actions, and let x and y be the
    cells of agent 0 and agent 1:

    - the potential of state (x, y) is read at (x, (A y + a) mod n), so it depends on the action;
    - the potential of the next state is the same number again, not the one at the next state;
    - agent 1's reward is averaged with the other agent's probability of agent 1's own action.

    The unknowns are numbered as in `design_matrix`.

    Args:
        improvements: improvements of one of two agents that have the same cells and actions.

    Returns:
        Sparse `(n_improvements * n_states * n_actions, n_rewards + n_improvements * n_states)`.

    Raises:
        InputError: if the agents do not have the same cells and actions.
    """
    n_improvements, n_states, n_actions = improvements.targets.shape
    n_cells = int(np.sqrt(n_states))
    if improvements.others.shape[2] != n_actions or n_cells**2 != n_states:
        raise InputError(
            "design published_code needs two agents with the same cells and actions; this game has "
            f"{n_states} joint states, {n_actions} own actions and {improvements.others.shape[2]} "
            "joint actions of the others: use design equations"
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


def cloned_policies(counts: NDArray[np.int64], *, last_fixed: bool) -> FloatArray:
    """Log policies by behavioural cloning as in the published code of LOGEL (Ramponi et al. 2020).

    Each stage takes three steps of Adam up the likelihood of its actions, with a small entropy
    bonus, from the parameters of the stage before; the first stage from the uniform policy. So an
    estimate remembers earlier stages, and a state without visits keeps its policy.

    Args:
        counts: `(n_stages, n_states, n_actions)`, >= 0.
        last_fixed: whether the parameter of the last action is 0 in every state.

    Returns:
        `(n_stages, n_states, n_actions)`.
    """
    parameters, found = np.zeros(counts.shape[1:]), []
    for own in counts:
        slope = policy_loss_gradient(own, entropy_coefficient=CLONING_ENTROPY)

        def gradient(point: FloatArray, slope: Any = slope) -> FloatArray:
            ascent = np.array(slope(point))
            if last_fixed:
                ascent[:, -1] = 0.0
            return ascent

        parameters = adam(gradient, parameters, learning_rate=CLONING_RATE, epochs=CLONING_EPOCHS)
        found.append(parameters)
    return np.asarray(log_softmax(np.stack(found), axis=-1))
