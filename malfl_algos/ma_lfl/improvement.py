"""Learners that keep a share rho of their log policy from one stage to the next.

With x_h = alpha log pi_h, up to a constant per state, an improvement is

  x_{h+1}(s, a) = rho x_h(s, a) + (1 - rho) q_h(s, a) + c_h(s) + noise.

rho = 0 is soft policy iteration, 0 < rho < 1 natural policy gradient with an entropy bonus (Cen,
Cheng, Chen, Wei, Chi 2022), and rho = 1 mirror descent without one (Geist, Scherrer, Pietquin
2019). The left side minus rho x_h is affine in the reward, so rho is one more setting that the
evidence can choose.

Counts tell x_h with errors. An error of x_h enters the row of stage h - 1 with the factor 1 and the
row of stage h with the factor -rho. So the rows of a state and action are correlated along the
stages, with a tridiagonal covariance. `whitening` factorises its inverse exactly, by the recursions
of the Kalman filter, and then removes the constants. `joint_response` expands the likelihood of the
counts about the joint mode of x_0, ..., x_H.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax

from malfl_algos.ma_lfl.policy_estimation import Response, response_at

__all__ = [
    "OPEN",
    "Whitening",
    "joint_response",
    "step_of",
    "whitening",
]

FloatArray = NDArray[np.float64]

OPEN = 0.98
"""Above this share only the product of reward and step 1 - rho is known. The reward is then that of
mirror descent with step 1: x_{h+1} = rho x_h + q_h.
"""
NEWTON_STEPS = 60
HALVINGS = 40


def step_of(retained: float) -> float:
    """Weight of the reward in an improvement: 1 - rho, or 1 where the scale is open."""
    return 1 - retained if retained <= OPEN else 1.0


@dataclass(frozen=True, eq=False)
class Whitening:
    """A root of the precision of the rows with a constant per stage and state integrated out.

    Args:
        root: `(n_states, n_rows, n_rows)` with rows ordered by stage, then action: the precision of
            a state's rows is root' root.
        log_norm: logarithm of the norm of the density, without the factor of the residual.
        degrees: number of rows minus number of constants.
    """

    root: FloatArray
    log_norm: float
    degrees: int


def whitening(
    row_variance: FloatArray, response_variance: FloatArray, retained: float
) -> Whitening:
    """Whiten the rows z_h = y_{h+1} - rho y_h, whose errors are correlated along the stages.

    y_h = x_h + error, with a flat constant per stage h >= 1 and state. The prior of x_0 is part of
    its error.

    Args:
        row_variance: variance of x_{h+1} given x_h, `(n_rows, n_states, n_actions)`.
        response_variance: variance of the error of y_h, `(n_rows + 1, n_states, n_actions)`;
            infinite where nothing was observed.
        retained: rho.
    """
    n_rows, n_states, n_actions = row_variance.shape
    lower = np.zeros((n_rows, n_rows, n_states, n_actions))
    weight = np.zeros(row_variance.shape)
    gains = np.zeros((n_rows + 1, n_states, n_actions))
    known = response_variance[0]
    for h in range(n_rows):
        predicted = row_variance[h] + retained**2 * known
        weight[h] = 1 / (predicted + response_variance[h + 1])
        precision = 1 / predicted + 1 / response_variance[h + 1]
        uninformed = precision == 0
        known = np.where(uninformed, np.inf, 1 / np.where(uninformed, 1, precision))
        gains[h + 1] = np.where(uninformed, 1, known / np.where(uninformed, 1, predicted))
        lower[h, h] = 1
        if h:
            lower[h, :h] = retained * gains[h] * lower[h - 1, :h]
    scaled = np.sqrt(weight)[:, None] * lower
    shared = scaled.copy()  # of the constant of y_{j+1}: 1 in row j, -rho in row j + 1
    shared[:, :-1] -= retained * scaled[:, 1:]
    columns = shared.transpose(2, 0, 3, 1).reshape(n_states, n_rows * n_actions, n_rows)
    observed = np.asarray(np.isfinite(response_variance[1:]).any(axis=-1)).T
    columns *= observed[:, None]
    gram = columns.transpose(0, 2, 1) @ columns
    factor = np.linalg.cholesky(gram + np.eye(n_rows) * ~observed[:, None])
    constants = np.linalg.solve(factor, columns.transpose(0, 2, 1))
    spaced = np.zeros((n_states, n_rows, n_actions, n_rows, n_actions))
    every = np.arange(n_actions)
    spaced[:, :, every, :, every] = scaled.transpose(3, 2, 0, 1)
    root = spaced.reshape(n_states, n_rows * n_actions, n_rows * n_actions)
    root = root - constants.transpose(0, 2, 1) @ (constants @ root)
    seen = weight > 0
    spread = 2 * np.log(np.diagonal(factor, axis1=1, axis2=2))[observed].sum()
    degrees = int(seen.sum()) - int(observed.sum())
    log_norm = (np.log(weight[seen]).sum() - spread - degrees * np.log(2 * np.pi)) / 2
    return Whitening(root, float(log_norm), degrees)


def by_state(rows: FloatArray) -> FloatArray:
    """`(n_rows, n_states, n_actions, ...) -> (n_states, n_rows * n_actions, ...)`."""
    moved = np.moveaxis(rows, 1, 0)
    return np.ascontiguousarray(moved).reshape(len(moved), -1, *rows.shape[3:])


def joint_response(
    drift: FloatArray,
    row_variance: FloatArray,
    counts: FloatArray,
    *,
    first_counts: FloatArray,
    start: FloatArray,
    retained: float,
    temperature: float,
) -> tuple[Response, FloatArray]:
    """The working response of all stages at their joint mode.

    Maximises, for every state, the log density of x_0 given its counts, plus the log likelihood of
    the counts of the later stages, minus sum_h (x_{h+1} - rho x_h - drift_h)^2 / (2 v_h). Newton's
    method with step halving; the objective is strictly concave and its Hessian block tridiagonal.

    Args:
        drift: (1 - rho) q_h, `(n_rows, n_states, n_actions)`.
        row_variance: v > 0, same shape.
        counts: n_h for h >= 1, same shape, >= 0.
        first_counts: counts of the first stage plus pseudo-counts, > 0, `(n_states, n_actions)`.
            x_0 has their Dirichlet distribution.
        start: x to start from, `(n_rows + 1, n_states, n_actions)`.
        retained: rho.
        temperature: alpha > 0.

    Returns:
        The response, `(n_rows + 1, n_states, n_actions)`, and the mode's policies. The constant of
        the response makes the evidence that of the counts after the first stage given those of the
        first stage, so it is comparable between all rho.
    """
    first_total = first_counts.sum(axis=-1, keepdims=True)
    unit = temperature

    def first_expected(x: FloatArray) -> FloatArray:
        return np.asarray(first_total * np.exp(np.minimum(x / unit, 500.0)))

    def objective(x: FloatArray) -> FloatArray:
        gap = x[1:] - retained * x[:-1] - drift
        fit = (counts * log_softmax(x[1:] / unit, axis=-1) - gap**2 / row_variance / 2).sum((0, 2))
        return np.asarray(fit + (first_counts * x[0] / unit - first_expected(x[0])).sum(axis=-1))

    x = np.array(start)
    x[0] = unit * log_softmax(x[0] / unit, axis=-1)
    reached = objective(x)
    for _ in range(NEWTON_STEPS):
        step = _newton_step(x, drift, row_variance, counts, first_counts, retained, unit)
        size = np.ones_like(reached)
        for _ in range(HALVINGS):
            candidate = objective(x + size[:, None] * step)
            worse = ~(candidate >= reached - 1e-12 * np.abs(reached))
            if not worse.any():
                break
            size = np.where(worse, size / 2, size)
        x = x + size[:, None] * step
        reached = objective(x)
        if np.abs(size[:, None] * step).max(initial=0) < 1e-9 * unit:
            break
    later, policies = response_at(x[1:], counts, temperature=unit)
    expected = np.maximum(first_expected(x[0]), 1e-12)
    variance = unit**2 / expected
    excess = unit * (first_counts - expected) / expected
    constant = first_counts * np.log(expected) - expected + excess**2 / variance / 2
    # relative to the same expansion at the mode of the first counts alone, whose integral is 1
    constant -= first_counts * np.log(first_counts) - first_counts
    constant += np.log(first_counts / expected) / 2
    response = Response(
        np.concatenate([(x[0] + excess)[None], later.mean]),
        np.concatenate([variance[None], later.variance]),
        later.log_constant + float(constant.sum()),
    )
    first = np.exp(log_softmax(x[0] / unit, axis=-1))
    return response, np.concatenate([first[None], policies])


def _newton_step(
    x: FloatArray,
    drift: FloatArray,
    row_variance: FloatArray,
    counts: FloatArray,
    first_counts: FloatArray,
    retained: float,
    unit: float,
) -> FloatArray:
    """One Newton step, by elimination of one stage after the other."""
    n_stages, n_actions = len(x), x.shape[-1]
    expected = np.empty_like(x)
    policy = np.exp(log_softmax(x[1:] / unit, axis=-1))
    total = counts.sum(axis=-1, keepdims=True)
    expected[0] = first_counts.sum(axis=-1, keepdims=True) * np.exp(np.minimum(x[0] / unit, 500.0))
    expected[1:] = total * policy
    pull = (x[1:] - retained * x[:-1] - drift) / row_variance
    slope = np.concatenate([first_counts[None], counts]) - expected
    slope = slope / unit
    slope[1:] -= pull
    slope[:-1] += retained * pull
    diagonal = expected / unit**2
    diagonal[1:] += 1 / row_variance
    diagonal[:-1] += retained**2 / row_variance
    across = -retained / row_variance
    inverses: list[FloatArray] = []
    rest = slope
    block = diagonal[0][:, :, None] * np.eye(n_actions)
    for h in range(n_stages):
        if h:
            block = diagonal[h][:, :, None] * np.eye(n_actions)
            shared = policy[h - 1] * np.sqrt(total[h - 1]) / unit
            block -= shared[:, :, None] * shared[:, None]
            before, o = inverses[-1], across[h - 1]
            block -= o[:, :, None] * before * o[:, None]
            rest[h] -= o * np.einsum("sab,sb->sa", before, rest[h - 1])
        inverses.append(np.linalg.inv(block))
    step = np.empty_like(x)
    for h in reversed(range(n_stages)):
        right = rest[h] if h == n_stages - 1 else rest[h] - across[h] * step[h + 1]
        step[h] = np.einsum("sab,sb->sa", inverses[h], right)
    return step
