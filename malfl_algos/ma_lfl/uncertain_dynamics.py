"""Posterior deviations that hold where the dynamics were estimated from the same trace.

The posterior mean m of a fit solves A m = K' W y; K, the coefficients of the action values, depends
on the dynamics. If other dynamics move the predicted values by d = (K~ - K) m + b~ - b, then to
first order the mean moves by -A^-1 K' W d (the delta method). With d from draws of the posterior of
the dynamics, the mean square of these moves is added to the posterior covariance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from malfl_algos.ma_lfl.alternation import AgentFit, played_stages
from malfl_algos.ma_lfl.data_fit import coefficients_of, rows_of
from malfl_algos.ma_lfl.improvement import step_of
from malfl_algos.ma_lfl.posterior import Posterior
from malfl_algos.ma_lfl.rows import normal_equations
from malfl_algos.ma_lfl.stages import StageArrays
from malfl_env.markov_game import MarkovGame

__all__ = ["DRAWS", "with_uncertain_dynamics"]

FloatArray = NDArray[np.float64]

DRAWS = 20
"""Number of draws of the dynamics; the added deviations then have errors of about 16 percent."""


def with_uncertain_dynamics(
    fits: Sequence[AgentFit],
    stages: Sequence[StageArrays],
    games: Sequence[MarkovGame],
    *,
    features: Sequence[FloatArray | None],
) -> list[AgentFit]:
    """The fits with the uncertainty of the dynamics in their covariance.

    Args:
        fits: of all agents, with the game of most probable dynamics.
        stages: of the trace.
        games: draws of the game from its posterior.
        features: per agent as `malfl_algos.ma_lfl.alternation.alternate` takes them.

    Returns:
        Fits with `dynamics_draws` in their diagnostics: the number of draws, 0 for a fit whose
        posterior has no such form (policy gradients, epsilon-greedy choices, iterative solver); its
        covariance stays as it was.
    """
    policies = [fit.policies for fit in fits]
    return [
        _widened(fit, stages, policies, index, games, own)
        for index, (fit, own) in enumerate(zip(fits, features, strict=True))
    ]


def _widened(
    fit: AgentFit,
    stages: Sequence[StageArrays],
    policies: Sequence[FloatArray],
    index: int,
    games: Sequence[MarkovGame],
    features: FloatArray | None,
) -> AgentFit:
    data, found = fit.data, fit.posterior
    model: Any = fit.model
    if data is None or not isinstance(found, Posterior) or not hasattr(model, "game"):
        return replace(fit, further={**fit.further, "dynamics_draws": 0})
    at, played = found.evidence, played_stages(model, stages)
    joint = [[own[h] for own in policies] for h in range(len(played))]
    wide = fit.features is not None
    features = fit.features if wide else features
    k, offset = coefficients_of(model, played, joint, index, features, matrix_free=wide)
    rows = rows_of(k, offset, replace(data, retained=at.retained, searched=False), features, at)
    if rows.chain is not None:
        rows = replace(rows, chain=replace(rows.chain, previous=np.zeros(offset.shape)))
    scales: Any = 1.0
    if rows.stagewise is not None:
        rows = replace(rows, stagewise=replace(rows.stagewise, offset=np.zeros(offset.shape)))
        scales = np.reshape(at.scales, (-1, 1, 1))
    factor = scipy.linalg.cho_factor(found.precision)
    columns = []
    for game in games:
        moved_model = replace(model, game=game)
        other, away = coefficients_of(moved_model, played, joint, index, features, matrix_free=wide)
        moved = step_of(at.retained) * ((other - k) @ found.mean)
        moved = scales * (moved + (1 - at.retained) * (away - offset))
        moment = normal_equations(
            replace(rows, response=moved), at.noise_variance, at.noise_scale
        ).moment
        columns.append(-scipy.linalg.cho_solve(factor, moment / data.repeats))
    spread = np.column_stack(columns) / np.sqrt(len(columns))
    if found.spread is not None:
        spread = np.hstack([found.spread, spread])
    further = {**fit.further, "dynamics_draws": len(columns)}
    return replace(fit, posterior=replace(found, spread=spread), further=further)
