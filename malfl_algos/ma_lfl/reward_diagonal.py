"""An approximate inverse of the precision of a td learner's reward: the inverse of its diagonal.

The values of rarely visited states and actions stay near those of the rewards alone, so that the
precision is nearly diagonal. Its diagonal is estimated without forming it: for independent random
signs z the expectation of (K_h' C_h^(1/2) z)^2 is the diagonal of K_h' C_h K_h (Bekas, Kokiopoulou
and Saad 2007).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from malfl_algos.ma_lfl.matrix_free_values import TdValues, Values
from malfl_algos.ma_lfl.precision import (
    TIGHT,
    LogDet,
    Precision,
    Preconditioner,
    in_threads,
)

__all__ = ["can_probe", "probed_preconditioner"]

FloatArray = NDArray[np.float64]

USUAL = 4
"""Number of posterior samples that variances from the diagonal are worth."""
PROBES = 32
"""Number of vectors of random signs: the diagonal is known up to a quarter, and only the number of
iterations depends on it.
"""
PROBE_SEED = 20223


def can_probe(precision: Precision) -> bool:
    """Whether learners are td learners of which only counts are known, and rewards are of the
    state.
    """
    rows = precision.rows
    td = all(isinstance(values, TdValues) for values in rows.values)
    return td and rows.n_unknowns == rows.response.shape[1]


def probed_preconditioner(precision: Precision) -> Preconditioner:
    """The approximate inverse that is diagonal in the rewards."""
    streams = np.random.default_rng(PROBE_SEED).spawn(len(precision.rows.values))

    def stage(values: Values, weights: FloatArray, rng: np.random.Generator) -> FloatArray:
        signs = rng.choice([-1.0, 1.0], size=(*weights.shape, PROBES))
        root = np.sqrt(weights)
        total = np.maximum(weights.sum(axis=-1), 1e-300)
        shared = np.einsum("sa,sak->sk", root, signs) / total[:, None]
        seen = root[..., None] * (signs - root[..., None] * shared[:, None])
        return np.asarray(np.mean(values.adjoint(seen, residual=TIGHT) ** 2, axis=1))

    found = in_threads(stage, precision.rows.values, precision.weights, streams)
    shown = 1 / precision.prior_variance + np.sum(found, axis=0)
    log_det = LogDet(float(np.log(shown).sum()), 0.0)
    return Preconditioner(lambda x: x / shown[:, None], [1 / shown], USUAL, True, log_det)
