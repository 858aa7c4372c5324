"""The paper's own fits: full-batch Adam, for the number of steps and the rates that its code
uses.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.special import log_softmax

__all__ = ["adam", "adam_policy", "adam_regression"]

FloatArray = NDArray[np.float64]


def adam(
    gradient: Callable[[FloatArray], FloatArray],
    start: FloatArray,
    *,
    learning_rate: float,
    epochs: int,
) -> FloatArray:
    """Minimise by Adam (Kingma and Ba 2015) with decay rates 0.9 and 0.999 and epsilon 1e-8.

    Args:
        gradient: of the loss, in the shape of its argument.
        start: the first point; not written to.
        learning_rate: step size, > 0.
        epochs: number of steps.

    Returns:
        The point after the last step: no promise that it is near a minimum.
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
        learning_rate, epochs: of Adam; the paper has 0.1 and 10, which stops far from the maximum.
        rng: draws the first logits.

    Returns:
        `(n_states, n_actions)`, rows sum to 1.
    """
    visits = counts.sum(axis=-1, keepdims=True)

    def gradient(logits: FloatArray) -> FloatArray:
        log_policy = log_softmax(logits, axis=-1)
        policy = np.exp(log_policy)
        surprise = log_policy - (policy * log_policy).sum(axis=-1, keepdims=True)
        return np.asarray(visits * policy * (1 + entropy_coefficient * surprise) - counts)

    logits = adam(gradient, rng.random(counts.shape), learning_rate=learning_rate, epochs=epochs)
    return np.exp(log_softmax(logits, axis=-1))


def adam_regression(
    design: sp.csr_array, targets: FloatArray, *, learning_rate: float, epochs: int
) -> FloatArray:
    """Equation (12) by Adam on the sum of squared residuals, all unknowns from 0.

    Args:
        design: `(n_rows, n_unknowns)`.
        targets: `(n_rows,)`.
        learning_rate, epochs: of Adam; the paper has 0.01 and 1000.

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
