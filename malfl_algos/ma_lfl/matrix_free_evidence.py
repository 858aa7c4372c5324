"""The log evidence of a reward on a large game, with its error, without forming matrices.

With A the posterior precision and W^-1 the prior covariance,

  2 log evidence = 2 log norm - (y - K r)' C (y - K r) - r' W r - log det A - log det W^-1

at the posterior mean r. The preconditioner M is factorised, and nearly the inverse of A, so that
log det A = log det M^-1 + log det (M A) has a last term that few posterior samples tell.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from malfl_algos.ma_lfl.precision import LogDet, Precision, contrast

__all__ = ["log_det_of_stay", "log_evidence"]

FloatArray = NDArray[np.float64]

FORMED = 2000
"""Up to so many states, I - gamma P is factorised."""
PROBES = 32
"""Number of random vectors, otherwise."""
POWERS = 80
"""Number of powers of P whose traces are estimated; those of higher ones are taken to be equal."""


def log_det_of_stay(onward: sp.csr_array, discount: float, rng: np.random.Generator) -> LogDet:
    """log det (I - gamma P) = -sum_k gamma^k tr(P^k) / k.

    The first two traces are exact, others are estimated with vectors of random signs (Hutchinson
    1990).

    Args:
        onward: P, `(n_states, n_states)`.
        discount: gamma in [0, 1).
        rng: source of the signs.
    """
    n_states = onward.shape[0]
    if n_states <= FORMED:
        stay = np.eye(n_states) - discount * onward.toarray()
        return LogDet(float(np.linalg.slogdet(stay)[1]), 0.0)
    found = -discount * onward.diagonal().sum() - discount**2 / 2 * (onward * onward.T).sum()
    signs = rng.choice([-1.0, 1.0], size=(n_states, PROBES))
    power, rest = onward @ (onward @ signs), np.zeros(PROBES)
    weight = -np.log1p(-discount) - discount - discount**2 / 2
    trace = np.zeros(PROBES)
    for k in range(3, POWERS + 1):
        power = onward @ power
        trace = np.einsum("sk,sk->k", signs, power)
        rest -= discount**k / k * trace
        weight -= discount**k / k
    rest -= weight * trace
    return LogDet(float(found + rest.mean()), float(rest.std(ddof=1) / np.sqrt(PROBES)))


def log_evidence(precision: Precision, gap: FloatArray, mean: FloatArray, log_det: float) -> float:
    """Log density of the response.

    Args:
        precision: of the posterior.
        gap: response minus action values at the mean, `(n_stages, n_states, n_actions)`.
        mean: of the posterior.
        log_det: of the precision.
    """
    weights = precision.weights
    total = weights.sum(axis=-1)
    seen = weights > 0
    degrees = int(seen.sum()) - int((total > 0).sum())
    norm = np.log(weights[seen]).sum() - np.log(total[total > 0]).sum()
    gap = np.where(seen, gap, 0.0)
    misfit = sum(float((one * contrast(one, w)).sum()) for one, w in zip(gap, weights, strict=True))
    prior = float(mean @ precision.prior(mean))
    variances = (len(mean) - 1) * np.log(precision.prior_variance)
    variances += np.log(precision.mean_variance)
    found = norm - degrees * np.log(2 * np.pi) - misfit - prior - log_det - variances
    return float(found / 2)
