"""The posterior of `malfl_algos.ma_lfl.inference` on large games, by conjugate gradients.

The precision of the reward, A = sum over stages of K' C K + prior, is never formed: every product
with it takes two solves for soft values per stage. Two things keep their number small. In the
coordinates V = (I - gamma P)^-1 r the information is nearly that of differences between
neighbouring states, and its diagonal is known. And what is left of small eigenvalues belongs to
rewards that depend on the other agents' positions alone, which an agent's own choices hardly show:
on those the information is formed, and solved exactly.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple, dataclass
from typing import Any

import numba
import numpy as np
import scipy.linalg
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.optimize import minimize

from malfl_algos.averaging import AveragedDynamics, contrast_diagonal
from malfl_algos.ma_lfl.inference import MEAN_VARIANCE, Evidence, Given
from malfl_algos.ma_lfl.unformed import Values

__all__ = ["UnformedPosterior", "UnformedRows", "unformed_posterior"]

FloatArray = NDArray[np.float64]
Apply = Callable[[FloatArray], FloatArray]

TOLERANCE = 0.05
"""Distance of mean and samples from the exact ones, in posterior deviations, root mean square."""
SAMPLES, USUAL = 4, 4
"""Samples of the posterior for its deviations, and how many more the preconditioner counts for."""
DELAY = 10
"""Iterations over which the distance is estimated (Hestenes and Stiefel's lower bound)."""
MAX_ITERATIONS = 3000
TIGHT, INNER, LOOSEST = 1e-12, 1e-10, 1e-3
"""Relative residuals of the solves: where it matters most, in a first iteration, and at most."""
MAX_ROUNDS = 5
"""How often the residual is computed anew."""
COARSE_BYTES = 2**29
"""Functions of the other agents' positions are treated apart up to so many bytes of them."""
COARSE_BACKUPS = 12
"""Backups that stand for the soft value there: an approximation, which costs iterations at most."""
COARSE_ROWS = 2000
SAMPLE_SEED = 20221


@dataclass(frozen=True, eq=False)
class UnformedRows:
    """As `inference.Rows`, with operators in place of coefficients.

    Args:
        values: of every stage.
        response, response_variance, model_variance: `(n_stages, n_states, n_actions)`; the response
            is alpha log pi, the values' offset not taken off.
        temperature: alpha.
    """

    values: Sequence[Values]
    response: FloatArray
    response_variance: FloatArray
    model_variance: FloatArray
    temperature: float

    @property
    def n_unknowns(self) -> int:
        """Number of reward values."""
        return int(self.values[0].immediate.shape[1])


class Precision:
    """The precision of the reward's posterior, applied.

    Args:
        rows: the data.
        weights: 1 / variance of every row, `(n_stages, n_states, n_actions)`.
        prior_variance: of a reward value about the mean of all.
    """

    def __init__(self, rows: UnformedRows, weights: FloatArray, prior_variance: float) -> None:
        self.rows, self.weights, self.prior_variance = rows, weights, prior_variance
        self.mean_variance = MEAN_VARIANCE * rows.temperature**2

    def __call__(self, x: FloatArray, *, residual: float = TIGHT) -> FloatArray:
        def stage(values: Values, weights: FloatArray) -> FloatArray:
            seen = _contrast(values.apply(x, residual=residual), weights)
            return values.adjoint(seen, residual=residual)

        return self.prior(x) + sum(_in_threads(stage, self.rows.values, self.weights))

    def prior(self, x: FloatArray) -> FloatArray:
        """Its part that does not come from the data."""
        return (x - x.mean()) / self.prior_variance + x.mean() / self.mean_variance

    def moment(self, response: FloatArray) -> FloatArray:
        """Sum over stages of K' C response."""

        def stage(values: Values, weights: FloatArray, y: FloatArray) -> FloatArray:
            return values.adjoint(_contrast(y, weights), residual=TIGHT)

        return np.asarray(sum(_in_threads(stage, self.rows.values, self.weights, response)))

    def noise(self, rng: np.random.Generator) -> FloatArray:
        """A right side for which the solution is a sample of the posterior about its mean."""
        root = np.sqrt(self.weights)
        total = np.maximum(self.weights.sum(axis=-1, keepdims=True), 1e-300)
        draws = rng.standard_normal(root.shape)
        draws = root * (draws - root * (root * draws).sum(axis=-1, keepdims=True) / total)

        def stage(values: Values, y: FloatArray) -> FloatArray:
            return values.adjoint(y, residual=TIGHT)

        prior = rng.standard_normal(self.rows.n_unknowns)
        level = np.sqrt(self.rows.n_unknowns / self.mean_variance) * prior.mean()
        prior = (prior - prior.mean()) / np.sqrt(self.prior_variance) + level / np.sqrt(
            self.rows.n_unknowns
        )
        return np.asarray(prior + sum(_in_threads(stage, self.rows.values, draws)))


@dataclass(frozen=True, eq=False)
class UnformedPosterior:
    """Posterior of the reward values.

    Args:
        mean: `(n_unknowns,)`.
        sd: of the mean-removed reward, approximately: what the preconditioner, an approximate
            inverse of the precision, has on its diagonal, scaled as one sample of the posterior
            asks for.
        evidence: the noise and prior used; its log evidence is not known.
        q: action values at the mean, `(n_stages, n_states, n_actions)`.
        precision: of the reward, as an operator.
        iterations: of the mean and of the sample.
        accuracy: distance of the mean from the exact one, estimated, in posterior deviations.
        effective_parameters: how many the data determine, from the sample.
    """

    mean: FloatArray
    sd: FloatArray
    evidence: Evidence
    q: FloatArray
    precision: Precision
    iterations: tuple[int, int]
    accuracy: float
    effective_parameters: float

    def distance(self, moved: FloatArray) -> float:
        """Length of a change of the mean in posterior deviations, root mean square."""
        return float(np.sqrt(moved @ self.precision(moved) / len(moved)))


def unformed_posterior(rows: UnformedRows, given: Given) -> UnformedPosterior:
    """Posterior of the reward for given noise and prior.

    Raises:
        ArithmeticError: if conjugate gradients do not get within a twentieth of a posterior
            deviation of the mean, or a soft value does not converge; with the residual reached.
    """
    variance = given.noise_variance + given.noise_scale * rows.model_variance
    precision = Precision(rows, 1 / (variance + rows.response_variance), given.prior_variance)
    offsets = np.stack(_in_threads(lambda values: values.offset, rows.values))
    precondition, spread = preconditioner(precision)
    right = precision.moment(rows.response - offsets)
    mean, steps, distance = conjugate_gradients(precision, right, precondition)
    rng = np.random.default_rng(SAMPLE_SEED)
    found = [
        conjugate_gradients(precision, precision.noise(rng), precondition) for _ in range(SAMPLES)
    ]
    squares = np.mean([(sample - sample.mean()) ** 2 for sample, _, _ in found], axis=0)
    usual = _calibrated(spread, squares)
    q = _in_threads(lambda values: values.apply(mean, residual=TIGHT), rows.values)
    return UnformedPosterior(
        mean,
        np.sqrt((USUAL * usual + SAMPLES * squares) / (USUAL + SAMPLES)),
        Evidence(None, *astuple(given), bounds_hit=()),
        np.stack(q) + offsets,
        precision,
        (steps, sum(further for _, further, _ in found)),
        distance,
        rows.n_unknowns - float(squares.sum()) / given.prior_variance,
    )


def _calibrated(parts: Sequence[FloatArray], squares: FloatArray) -> FloatArray:
    """The non-negative combination of variances under which squares of samples are most likely."""
    usual = [float(np.mean(squares / part)) for part in parts]

    def loss(logs: FloatArray) -> float:
        variance = sum(np.exp(log) * part for log, part in zip(logs, parts, strict=True))
        return float(np.mean(np.log(variance) + squares / variance))

    found = minimize(loss, np.log(usual) - np.log(len(parts)), method="Nelder-Mead")
    return np.asarray(sum(np.exp(log) * part for log, part in zip(found.x, parts, strict=True)))


def conjugate_gradients(
    precision: Precision, right: FloatArray, precondition: Apply
) -> tuple[FloatArray, int, float]:
    """Solve precision x = right to within `TOLERANCE` of a posterior deviation.

    The distance that is left, in the metric of the precision, is estimated by what the last steps
    gained. Solves within a product may be the rougher the smaller the residual is (Simoncini and
    Szyld 2003); since the residual that is carried along then drifts, it is computed anew at the
    end, and the solution is good when it needs no more than the steps of the estimate.

    Returns:
        x, how many iterations it took, and the distance reached, estimated.

    Raises:
        ArithmeticError: if it is not reached; the message has what was.
    """
    x, total, distance = np.zeros_like(right), 0, np.inf
    for _ in range(MAX_ROUNDS):
        residual = right - precision(x) if total else right.copy()
        change, steps, distance = _descend(
            precision, residual, precondition, MAX_ITERATIONS - total
        )
        x, fresh, total = x + change, total == 0, total + steps
        if distance > TOLERANCE:
            break
        if not fresh and steps <= DELAY:
            return x, total, distance
    raise ArithmeticError(
        f"the posterior did not converge: after {total} iterations it was still about "
        f"{distance:.1e} posterior deviations away, wanted {TOLERANCE}; a larger noise_variance or "
        "a smaller prior_variance makes the problem better conditioned"
    )


def _descend(
    precision: Precision, residual: FloatArray, precondition: Apply, most: int
) -> tuple[FloatArray, int, float]:
    """Steps of conjugate gradients from zero until the distance is small, or no more is gained."""
    x = np.zeros_like(residual)
    direction, size, first, distance = x, np.inf, 0.0, np.inf
    gains = deque[float](maxlen=DELAY)
    for step in range(most):
        ready = precondition(residual)
        before, size = size, float(residual @ ready)
        if size <= 0 or not np.isfinite(size):
            return x, step, 0.0 if size == 0 else distance
        direction = ready + size / before * direction
        first = first or size
        rough = min(INNER * np.sqrt(first / size), LOOSEST)
        along = precision(direction, residual=max(rough, TIGHT))
        length = size / float(direction @ along)
        x = x + length * direction
        residual = residual - length * along
        gains.append(length * size)
        distance = float(np.sqrt(sum(gains) / len(x)))
        if len(gains) == DELAY and distance <= TOLERANCE:
            return x, step + 1, distance
    return x, most, distance


def preconditioner(precision: Precision) -> tuple[Apply, list[FloatArray]]:
    """An approximate inverse of the precision, and the parts of its diagonal, the mean removed."""
    rows, weights = precision.rows, precision.weights
    shown = np.full(rows.n_unknowns, 1 / precision.prior_variance)
    if rows.n_unknowns != rows.response.shape[1]:  # of actions, too: their own share leads
        for values, w in zip(rows.values, weights, strict=True):
            own = w - w**2 / np.maximum(w.sum(axis=-1, keepdims=True), 1e-300)
            shown += values.immediate.power(2).T @ own.ravel()
        return lambda x: x / shown, [1 / shown]
    for values, w in zip(rows.values, weights, strict=True):
        shown += values.discount**2 * contrast_diagonal(values.transition, w)
    last = rows.values[-1]
    onward = last.onward.sparse() if isinstance(last.onward, AveragedDynamics) else last.onward
    forward = sp.csr_array(sp.eye_array(rows.n_unknowns) - last.discount * onward)
    back = sp.csr_array(forward.T)
    parts = [forward.power(2) @ (1 / shown)]
    groups = last.others
    n_groups = int(groups.max()) + 1
    small = 8 * n_groups * len(groups) <= COARSE_BYTES
    if n_groups == 1 or not small or isinstance(last.transition, AveragedDynamics):
        return lambda x: forward @ ((back @ x) / shown), parts
    sizes = np.bincount(groups)
    unit = sp.csr_array((1 / np.sqrt(sizes[groups]), groups, np.arange(len(groups) + 1)))
    inverse = _coarse_inverse(precision, unit)
    shared = inverse / np.sqrt(np.outer(sizes, sizes))
    mean = shared @ sizes / len(groups)
    parts.append((np.diag(shared) - 2 * mean + mean @ sizes / len(groups))[groups])
    return lambda x: forward @ ((back @ x) / shown) + unit @ (inverse @ (unit.T @ x)), parts


def _coarse_inverse(precision: Precision, unit: sp.csr_array) -> FloatArray:
    """Inverse of the precision on functions of the groups, its soft values cut short.

    Args:
        unit: the functions, of length one and orthogonal, `(n_states, n_groups)`.
    """

    def stage(values: Values, weights: FloatArray) -> FloatArray:
        start = unit.toarray()
        ahead = start
        for _ in range(COARSE_BACKUPS):
            ahead = start + values.discount * (values.onward @ ahead)
        n_states, n_actions = weights.shape
        information = np.zeros((start.shape[1], start.shape[1]))
        for begin in range(0, n_states, COARSE_ROWS):
            w = weights[begin : begin + COARSE_ROWS]
            few = values.transition[begin * n_actions : (begin + len(w)) * n_actions]
            k = (few @ ahead).reshape(*w.shape, -1)
            share = w / np.maximum(w.sum(axis=-1, keepdims=True), 1e-300)
            k -= np.einsum("sa,sak->sk", share, k)[:, None]
            k *= np.sqrt(w)[..., None]
            flat = k.reshape(-1, k.shape[-1])
            information += flat.T @ flat
        return values.discount**2 * information

    means = np.asarray(unit.sum(axis=0)) / unit.shape[0]
    levels = unit.shape[0] * np.outer(means, means)
    matrix = (np.eye(len(means)) - levels) / precision.prior_variance
    matrix += levels / precision.mean_variance
    matrix += sum(_in_threads(stage, precision.rows.values, precision.weights))
    sizes, vectors = scipy.linalg.eigh(matrix)
    return np.asarray((vectors / np.maximum(sizes, 1e-14 * sizes[-1])) @ vectors.T)


def _contrast(q: FloatArray, weights: FloatArray) -> FloatArray:
    """C q with C = diag(w) - w w' / sum(w): a constant per state integrated out."""
    total = np.maximum(weights.sum(axis=-1, keepdims=True), 1e-300)
    return weights * (q - (weights * q).sum(axis=-1, keepdims=True) / total)


def _in_threads(stage: Callable[..., FloatArray], *arguments: Sequence[Any]) -> list[FloatArray]:
    """One result per stage, in their order whatever the number of threads."""
    with ThreadPoolExecutor(numba.config.NUMBA_NUM_THREADS) as pool:
        return list(pool.map(stage, *arguments))
