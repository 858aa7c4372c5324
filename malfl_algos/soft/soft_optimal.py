"""Softly optimal policies of one agent, and the reward that makes observed actions most likely.

All quantities are in units of the temperature: reward, value and q are divided by alpha, so that
pi = exp(q - V). The transition is that of one agent, with the others averaged out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.linalg
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import logsumexp

from malfl_algos.soft.evaluation import discounted_sum, expected_next, policy_transition
from malfl_env.checks import check_table_bytes

__all__ = ["MaxEntFit", "fit_reward", "identified_rank", "log_posterior", "soft_optimal"]

FloatArray = NDArray[np.float64]

BELLMAN_TOLERANCE = 1e-10
"""Largest residual of the soft Bellman equation, relative to the largest value."""
NEWTON_STEPS = 100
GRADIENT_GOAL = 1e-8
"""The maximisation stops at this largest entry of the gradient of the log posterior per visit."""
GRADIENT_TOLERANCE = 1e-6
"""If rounding stops the maximisation earlier, the gradient must be at most this."""
ITERATIONS = 20_000
RANK_TOLERANCE = 1e-11
"""Eigenvalues of the normal matrix count as zero below this share of the largest."""


@dataclass(frozen=True, eq=False)
class MaxEntFit:
    """The maximum of the posterior.

    Args:
        reward: `(n_states,)`, in units of the temperature, mean 0.
        log_policy: log of the softly optimal policy of this reward, `(n_states, n_actions)`.
        gradient: largest entry of the remaining gradient of the log posterior per visit.
        iterations: number of iterations of L-BFGS.
    """

    reward: FloatArray
    log_policy: FloatArray
    gradient: float
    iterations: int


def soft_optimal(
    transition: sp.csr_array,
    reward: FloatArray,
    *,
    discount: float,
    start: FloatArray | None = None,
) -> tuple[FloatArray, FloatArray]:
    """Solve V(s) = log sum_a exp q(s, a), q(s, a) = r(s) + gamma E[V(s')] by Newton's method.

    A Newton step evaluates the policy exp(q - V). This is soft policy iteration, which converges
    from any start, and quadratically near the solution.

    Args:
        transition: `averaged_transition`, `(n_states * n_actions, n_states)`.
        reward: `(n_states,)`, in units of the temperature.
        discount: gamma in [0, 1).
        start: first V; None: 0.

    Returns:
        log pi = q - V, `(n_states, n_actions)`, and V, `(n_states,)`, to a residual of 1e-10
        relative to the largest value.

    Raises:
        ArithmeticError: if this residual is not reached; the message states the one reached.
    """
    value = np.zeros(len(reward)) if start is None else start
    for _ in range(NEWTON_STEPS):
        q = reward[:, None] + discount * expected_next(transition, value)
        backup = logsumexp(q, axis=1)
        log_policy = q - backup[:, None]
        residual = float(np.abs(backup - value).max())
        if residual <= BELLMAN_TOLERANCE * max(1.0, float(np.abs(backup).max())):
            return log_policy, backup
        policy = np.exp(log_policy)
        gain = reward - (policy * log_policy).sum(axis=1)
        value = discounted_sum(policy_transition(transition, policy), gain, discount=discount)
    raise ArithmeticError(
        f"the soft Bellman equation has a residual of {residual:.1e} after {NEWTON_STEPS} Newton "
        f"steps at discount {discount}"
    )


def log_posterior(
    transition: sp.csr_array,
    weights: FloatArray,
    reward: FloatArray,
    *,
    discount: float,
    prior_variance: float,
    start: FloatArray | None = None,
) -> tuple[float, FloatArray, FloatArray]:
    """Log posterior of a reward per visit, up to a constant, and its gradient.

    It is sum_{s, a} n(s, a) log pi_r(a | s) - |r|^2 / (2 tau), divided by N = sum n. The derivative
    of V is (I - gamma P_pi)^-1. With d = n(s, a) - N(s) pi(a | s) the gradient of the first sum is
    therefore gamma (I - gamma P_pi)^-T P^T d, which needs one adjoint solve.

    Args:
        transition: `averaged_transition`, `(n_states * n_actions, n_states)`.
        weights: n(s, a) >= 0, `(n_states, n_actions)`; their sum is positive.
        reward: r `(n_states,)`, in units of the temperature.
        discount: gamma in [0, 1).
        prior_variance: tau > 0, in units of the temperature squared.
        start: first V of Newton's method; None: 0.

    Returns:
        The log posterior, its gradient `(n_states,)`, and V `(n_states,)`.

    Raises:
        ArithmeticError: as in `soft_optimal`.
    """
    log_policy, value = soft_optimal(transition, reward, discount=discount, start=start)
    policy = np.exp(log_policy)
    total = weights.sum()
    surplus = weights - weights.sum(axis=1, keepdims=True) * policy
    adjoint = sp.csr_array(policy_transition(transition, policy).T)
    flow = discounted_sum(adjoint, transition.T @ surplus.ravel(), discount=discount)
    objective = (weights * log_policy).sum() - reward @ reward / (2 * prior_variance)
    return float(objective / total), (discount * flow - reward / prior_variance) / total, value


def fit_reward(
    transition: sp.csr_array, weights: FloatArray, *, discount: float, prior_variance: float
) -> MaxEntFit:
    """Maximise `log_posterior` over the reward by L-BFGS, starting from 0.

    Adding a constant to the reward does not change the likelihood, so the maximum has mean 0. The
    likelihood is not concave in general: the result is a local maximum.

    Args:
        transition, weights, discount, prior_variance: as for `log_posterior`.

    Raises:
        ArithmeticError: if the gradient per visit stays above 1e-6; the message states it.
    """
    value = np.zeros(len(weights))

    def loss(reward: FloatArray) -> tuple[float, FloatArray]:
        nonlocal value
        objective, slope, value = log_posterior(
            transition,
            weights,
            reward,
            discount=discount,
            prior_variance=prior_variance,
            start=value,
        )
        return -objective, -slope

    found = minimize(
        loss,
        np.zeros(len(weights)),
        jac=True,
        method="L-BFGS-B",
        options={
            "maxiter": ITERATIONS,
            "maxfun": 2 * ITERATIONS,
            "gtol": GRADIENT_GOAL,
            "ftol": 0,
            "maxcor": 30,
            "maxls": 50,
        },
    )
    gradient = float(np.abs(found.jac).max())
    if not gradient <= GRADIENT_TOLERANCE:
        raise ArithmeticError(
            f"the most likely reward was not found: the gradient per visit is {gradient:.1e} after "
            f"{found.nit} iterations (allowed: {GRADIENT_TOLERANCE}); a prior_variance smaller "
            f"than {prior_variance} makes the problem better conditioned"
        )
    reward = np.asarray(found.x - found.x.mean())
    log_policy, _ = soft_optimal(transition, reward, discount=discount, start=value)
    return MaxEntFit(reward, log_policy, gradient, int(found.nit))


def identified_rank(transition: sp.csr_array, informed: NDArray[np.bool_]) -> int:
    """Number of directions of a reward of the state that softly optimal actions determine.

    In a state, log pi(a) - log pi(b) = gamma (E[V(s') | a] - E[V(s') | b]), and V and r determine
    each other. The rank is therefore that of the differences between the rows of the transition in
    the states with data. It does not depend on the reward or on the discount (> 0).

    Args:
        transition: `averaged_transition`, `(n_states * n_actions, n_states)`.
        informed: states in which actions were observed, bool `(n_states,)`.

    Returns:
        At most `n_states - 1`: a constant is never determined.
    """
    n_rows, n_states = transition.shape
    n_actions = n_rows // n_states
    check_table_bytes(2 * 8 * n_states**2, f"the rank over {n_states} joint states")
    centring = np.eye(n_actions) - 1 / n_actions
    kept = sp.diags_array(informed.astype(np.float64))
    differences = sp.csr_array(sp.kron(kept, centring, format="csr") @ transition)
    sizes = scipy.linalg.eigvalsh((differences.T @ differences).toarray())
    return int((sizes > RANK_TOLERANCE * max(sizes[-1], 1e-300)).sum())
