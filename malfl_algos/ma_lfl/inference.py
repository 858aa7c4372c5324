"""Gaussian inference of a reward: the search for noise, prior, rho and stagewise factors.

A learner model states the action values of stage h as q_h = K_h theta + b_h + noise, where theta
holds the unknown reward values or feature weights. The next policy is exp(q_h / alpha) up to a
constant per state, or keeps a share of the last policy (`improvement`). Observed log policies are
therefore linear in theta up to that constant, which is integrated out. Posterior, evidence and
search are the same for every learner model.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize, minimize_scalar

from malfl_algos.ma_lfl.improvement import OPEN
from malfl_algos.ma_lfl.noise_search import noise_fit, searched_noise
from malfl_algos.ma_lfl.posterior import (
    NOISE_BOUNDS,
    PRIOR_BOUNDS,
    SCALE_BOUNDS,
    Evidence,
    Given,
    Posterior,
    best_prior,
    evidence_of,
    posterior,
    posterior_of,
    prior_precision,
)
from malfl_algos.ma_lfl.rows import (
    Rows,
    has_gradients,
    normal_equations,
    normal_equations_of,
    retained_of,
    with_retained,
)
from malfl_algos.ma_lfl.stagewise import (
    StageKind,
    fitted_stages,
    stage_gain,
    stage_uncertainty,
)

__all__ = ["fit"]

FloatArray = NDArray[np.float64]

SCANNED_NOISE = (1e-5, 1e-3, 1e-2, 0.1)
"""Noise variances tried first when the search has no earlier choice to start from."""
FIRST_STEP = 1.5
"""First step of the search for the noise, in the logarithm."""
SCANNED_WITH = (1e-4, 1e-2)
"""Noise variances at which these shares are tried."""
SCANNED_RETAINED = (0.1, 0.25, 0.4, 0.55, 0.7, 0.8, 0.9, 0.97)
"""Shares rho tried first when the search has no earlier choice to start from."""
RETAINED_BOUNDS = (0.005, 1.0)
"""Bounds of the search for rho."""
RETAINED_STEP = 0.1
"""Largest change of rho in one search."""


def fit(
    rows: Rows,
    *,
    start: Evidence | None,
    evaluations: int,
    scaled: bool,
    given: Given | None = None,
    stages: StageKind = "same",
    measured: bool = False,
) -> Posterior:
    """Posterior of theta with noise, prior and, where they are searched, share rho and stagewise
    factors of largest evidence.

    Args:
        rows: the data.
        start: an earlier choice to start from; None: there is no earlier choice.
        evaluations: largest number of noise settings to try in a search.
        scaled: whether the model's variance is used and its factor searched; otherwise all rows
            share one variance.
        given: noise and prior to use without a search.
        stages: the stagewise factors to search, if the rows have them.
        measured: whether to compute the standard deviation of a searched rho, and what stagewise
            factors would gain if the rows have none.

    Raises:
        InputError: if the precision is indefinite in double precision.
    """
    rows, found = _fit_retained(
        rows,
        start=start,
        evaluations=evaluations,
        scaled=scaled,
        given=given,
        measured=measured,
    )
    if rows.stagewise is not None:
        return _with_stages(rows, found, stages, given=given)
    if measured and (start is None or start.gain is None):
        at = found.evidence
        gain = stage_gain(rows, at.noise_variance, at.noise_scale, prior_precision(rows, at))
        return replace(found, evidence=replace(at, gain=gain))
    if start is not None and start.gain is not None:
        return replace(found, evidence=replace(found.evidence, gain=start.gain))
    return found


def _fit_retained(
    rows: Rows,
    *,
    start: Evidence | None,
    evaluations: int,
    scaled: bool,
    given: Given | None,
    measured: bool,
) -> tuple[Rows, Posterior]:
    """The rows at the chosen share rho, and the posterior; see `fit`."""
    if rows.chain is None or not rows.chain.searched:
        return rows, _fit_noise(
            rows, start=start, evaluations=evaluations, scaled=scaled, given=given
        )
    if start is None:
        rows, start = _scanned(rows, scaled=scaled, given=given)
    rows = refined(rows, start)
    found = _fit_noise(rows, start=start, evaluations=evaluations, scaled=scaled, given=given)
    if not measured:
        return rows, found
    rows = refined(rows, found.evidence)
    return rows, _with_uncertain_retained(rows, found.evidence)


def _with_stages(
    rows: Rows, found: Posterior, stages: StageKind, *, given: Given | None
) -> Posterior:
    """The posterior with steps and noises of the stages, and their uncertainty."""
    at = found.evidence
    setting = at.noise_variance, at.noise_scale
    rows = fitted_stages(rows, *setting, prior_precision(rows, at), stages)
    normal = normal_equations(rows, *setting)
    prior_variance = at.prior_variance
    if given is None:
        log_evidence, prior_variance = best_prior(normal, rows)
    else:
        log_evidence = evidence_of(normal, rows)(float(np.log(prior_variance)))
    assert rows.stagewise is not None
    chosen = replace(
        at,
        prior_variance=prior_variance,
        scales=tuple(map(float, rows.stagewise.scales)),
        noises=tuple(map(float, rows.stagewise.noises)),
    )
    added, root = stage_uncertainty(rows, *setting, prior_precision(rows, chosen), stages)
    chosen = replace(chosen, log_evidence=log_evidence + added + rows.log_constant)
    spread = root if found.spread is None else np.hstack([found.spread, root])
    return replace(posterior_of(normal, rows, chosen), spread=spread)


def _scanned(rows: Rows, *, scaled: bool, given: Given | None) -> tuple[Rows, Evidence]:
    """The rows with the share of largest evidence on a grid, and the noise and prior there."""
    unit, scale = rows.temperature**2, 1.0 if scaled else 0.0
    noises = [(noise * unit, scale) for noise in SCANNED_WITH]
    if given is not None:
        noises = [(given.noise_variance, given.noise_scale)]
    best: tuple[float, float, Evidence] | None = None
    for retained in SCANNED_RETAINED:
        at = with_retained(rows, retained)
        for noise, factor in noises:
            log_evidence, prior = best_prior(normal_equations(at, noise, factor), at)
            if best is None or log_evidence > best[0]:
                best = log_evidence, retained, Evidence(log_evidence, noise, factor, prior, ())
    assert best is not None
    return with_retained(rows, best[1]), best[2]


def refined(rows: Rows, at: Evidence) -> Rows:
    """The rows with the share of largest evidence near the present one.

    The noise is held fixed, the prior variance is searched for every share.
    """
    now, (lowest, highest) = retained_of(rows), RETAINED_BOUNDS
    value = _over_retained(rows, at)
    found = minimize_scalar(
        lambda x: -value(x),
        bounds=(max(now - RETAINED_STEP, lowest), min(now + RETAINED_STEP, highest)),
        method="bounded",
        options={"xatol": 3e-4, "maxiter": 9},
    )
    return with_retained(rows, float(found.x))


def _over_retained(rows: Rows, at: Evidence) -> Callable[[float], float]:
    def value(retained: float) -> float:
        there = with_retained(rows, retained)
        return best_prior(normal_equations(there, at.noise_variance, at.noise_scale), there)[0]

    return value


def _curvature_sd(value: Callable[[float], float], best: float, peak: float) -> float:
    """1 / sqrt(-second derivative) at a maximum, measured where the value has fallen by about 1."""
    lowest, highest = RETAINED_BOUNDS
    width, sd = RETAINED_STEP / 10, RETAINED_STEP
    for _ in range(4):
        sides = [-min(width, best - lowest), min(width, highest - best)]
        falls = [2 * (peak - value(best + side)) / side**2 for side in sides if abs(side) > 1e-6]
        sd = float(1 / np.sqrt(max(float(np.mean(falls)), 1.0)))
        if width / 3 < sd < 3 * width:
            break
        width = min(max(sd, 1e-4), RETAINED_STEP)
    return sd


def _with_uncertain_retained(rows: Rows, found: Evidence) -> Posterior:
    """The posterior at the chosen share, with the uncertainty of that share in its covariance."""
    best = retained_of(rows)
    value = _over_retained(rows, found)
    sd = _curvature_sd(value, best, value(best))
    evidence = replace(found, retained=best, retained_sd=sd)
    central = posterior(rows, evidence)
    side_of_scale = (RETAINED_BOUNDS[0], OPEN) if best <= OPEN else (OPEN + 1e-9, 1.0)
    ends = [float(np.clip(best + side * sd, *side_of_scale)) for side in (-1, 1)]
    low, high = (posterior(with_retained(rows, end), evidence).mean for end in ends)
    slope = (high - low) / (ends[1] - ends[0])
    return replace(central, spread=sd * slope[:, None])


def _fit_noise(
    rows: Rows,
    *,
    start: Evidence | None,
    evaluations: int,
    scaled: bool,
    given: Given | None = None,
) -> Posterior:
    """Posterior of theta with noise and prior of largest evidence; see `fit`.

    The search starts from an earlier choice. It starts from a coarse scan if there is no earlier
    choice, or if that choice lies on a bound.
    """
    if given is not None:
        return _at_given(rows, given, scaled=scaled)
    unit = rows.temperature**2
    bounds = {
        "noise_variance": (NOISE_BOUNDS[0] * unit, NOISE_BOUNDS[1] * unit),
        "noise_scale": SCALE_BOUNDS,
        "prior_variance": (PRIOR_BOUNDS[0] * unit, PRIOR_BOUNDS[1] * unit),
    }
    if not scaled:
        del bounds["noise_scale"]
    low, high = np.log(list(bounds.values())).T
    places = []
    if start is not None:
        places.append([start.noise_variance, start.noise_scale or 1.0])
    if start is None or {"noise_variance", "noise_scale"} & set(start.bounds_hit):
        places += [[noise * unit, 1.0] for noise in SCANNED_NOISE]
    starts = np.clip(np.log(places)[:, : len(low) - 1], low[:-1], high[:-1])
    search = _by_gradients if has_gradients(rows) else _by_evaluations
    logs, found = search(rows, starts, start, (low, high), evaluations)
    noise, *scale, prior_variance = (float(x) for x in np.exp(logs))
    hit = tuple(
        name
        for name, x in zip(bounds, np.exp(logs), strict=True)
        if x <= bounds[name][0] * 1.05 or x >= bounds[name][1] / 1.05
    )
    evidence = Evidence(
        found.log_evidence + rows.log_constant,
        noise,
        scale[0] if scaled else 0.0,
        prior_variance,
        hit,
        retained_of(rows),
    )
    return found.posterior(evidence)


def _at_given(rows: Rows, given: Given, *, scaled: bool) -> Posterior:
    """Posterior of theta with given noise and prior."""
    choice = given.noise_variance, given.noise_scale, given.prior_variance
    if has_gradients(rows):
        with np.errstate(divide="ignore"):  # the noise may be 0
            logs = np.log([choice[0], *([choice[1]] if scaled and choice[1] else []), choice[2]])
        at = noise_fit(rows, logs)
        evidence = Evidence(at.log_evidence + rows.log_constant, *choice, (), retained_of(rows))
        return Posterior(at.mean, at.precision, at.sums.information, evidence)
    chosen = normal_equations_of(rows)(*choice[:2])
    log_evidence = evidence_of(chosen, rows)(float(np.log(choice[2]))) + rows.log_constant
    return posterior_of(chosen, rows, Evidence(log_evidence, *choice, (), retained_of(rows)))


class _Found(NamedTuple):
    """The end of a search for noise and prior: its log evidence, and the posterior there."""

    log_evidence: float
    posterior: Callable[[Evidence], Posterior]


_Bounds = tuple[FloatArray, FloatArray]
"""Smallest and largest logarithms of noise, scale if it is searched, and prior variance."""


def _by_gradients(
    rows: Rows, starts: FloatArray, earlier: Evidence | None, bounds: _Bounds, evaluations: int
) -> tuple[FloatArray, _Found]:
    """The search by `malfl_algos.ma_lfl.noise_search`, from the best of the starts.

    Args:
        rows: with independent errors.
        starts: logarithms of noise and scale, `(n_starts, n_logs)`.
        earlier: the choice that is the only start; otherwise not used.
        bounds: of the search.
        evaluations: largest number of settings to try.
    """
    if earlier is not None and len(starts) == 1:
        first = np.append(starts[0], np.log(earlier.prior_variance))
    else:
        values = [
            best_prior(normal_equations(rows, *_noise_and_scale(logs)), rows) for logs in starts
        ]
        best = max(range(len(starts)), key=lambda one: values[one][0])
        first = np.append(starts[best], np.log(values[best][1]))
    found = searched_noise(rows, first, bounds, evaluations=evaluations)

    def posterior(evidence: Evidence) -> Posterior:
        return Posterior(found.mean, found.precision, found.sums.information, evidence)

    return found.logs, _Found(found.log_evidence, posterior)


def _by_evaluations(
    rows: Rows, starts: FloatArray, earlier: Evidence | None, bounds: _Bounds, evaluations: int
) -> tuple[FloatArray, _Found]:
    """A bounded Nelder-Mead search of noise and scale, with the prior variance searched for every
    choice of them; see `_by_gradients`.
    """
    normal = normal_equations_of(rows)
    low, high = (own[:-1] for own in bounds)
    tried: dict[tuple[float, float], tuple[float, float]] = {}

    def loss(logs: FloatArray) -> float:
        setting = _noise_and_scale(np.clip(logs, low, high))
        if setting not in tried:
            tried[setting] = best_prior(normal(*setting), rows)
        return -tried[setting][0]

    first = starts[int(np.argmin([loss(logs) for logs in starts]))]
    step = np.where(first + FIRST_STEP > high, -FIRST_STEP, FIRST_STEP)
    minimize(
        loss,
        first,
        method="Nelder-Mead",
        bounds=list(zip(low, high, strict=True)),
        options={
            "initial_simplex": np.vstack([first, first + np.diag(step)]),
            "maxfev": evaluations,
            "xatol": 0.05,
            "fatol": 0.05,
        },
    )
    best = max(tried, key=lambda setting: tried[setting][0])
    log_evidence, prior_variance = tried[best]
    logs = np.log([*best[: len(low)], prior_variance])
    return logs, _Found(log_evidence, lambda at: posterior_of(normal(*best), rows, at))


def _noise_and_scale(logs: FloatArray) -> tuple[float, float]:
    noise, *scale = (float(x) for x in np.exp(logs))
    return noise, scale[0] if scale else 0.0
