"""The share rho of its log policy that a learner keeps, chosen by the evidence for networks.

The evidence of the first improvements is compared between rho = 0, with every learner's rule, and
rho > 0. The policies of the first stage, from which the others follow, are taken as estimated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import minimize_scalar

from malfl_algos.ma_lfl.improvement import OPEN
from malfl_algos.ma_lfl.settings import RETAINING_MARGIN
from malfl_algos.networks.action_values import (
    StageRows,
    ValueModel,
    drawn_rows,
    kept_rows,
    soft_rows,
    stage_values,
)
from malfl_algos.networks.last_layer import fit_last_layer

__all__ = ["Kept", "search_kept"]

SEARCH_MOVES = 3
"""Number of improvements from which rho is chosen."""
SHARES = (0.1, 0.3, 0.5, 0.7, 0.9, 0.97)
"""Shares tried first."""
BOUNDS = (0.01, OPEN)
DIFFERENCE = 0.01
"""Step of the second difference that gives the standard deviation of rho."""


@dataclass(frozen=True)
class Kept:
    """The share rho.

    Args:
        retained: rho.
        sd: its standard deviation; None where it was not searched.
        searched: log evidence of every rho that was tried; None where it was not searched.
    """

    retained: float
    sd: float | None = None
    searched: dict[str, float] | None = None

    def details(self) -> dict[str, Any]:
        """The share, an interval of 2 standard deviations, and the search, as JSON values."""
        interval = None
        if self.sd is not None:
            ends = self.retained - 2 * self.sd, self.retained + 2 * self.sd
            interval = [max(ends[0], 0.0), min(ends[1], 1.0)]
        return {
            "improvement": self.retained,
            "improvement_interval": interval,
            "improvement_search": self.searched,
            "scale": "open" if self.retained > OPEN else "temperature",
        }


def search_kept(
    model: ValueModel,
    rules: Sequence[float | None],
    *,
    temperature: float,
    max_rows: int,
    seed: np.random.SeedSequence,
) -> Kept:
    """Choose rho by evidence; rho = 0 unless another is better by more than `RETAINING_MARGIN`.

    Args:
        model: the inputs of the action values.
        rules: the learners' rules for rho = 0, see `fit_last_layer`.
        temperature: alpha.
        max_rows: largest number of observations per stage.
        seed: of their choice.
    """
    n_moves = min(SEARCH_MOVES, model.n_moves)
    if n_moves < 2:  # a single improvement does not show what was kept
        return Kept(0.0)

    def evidence(rows: Sequence[StageRows], rule: float | None) -> float:
        layer = fit_last_layer(rows, model.dynamics, temperature=temperature, step_size=rule)
        return layer.evidence.log_evidence or -np.inf

    shared: dict[str, Any] = {"max_rows": max_rows, "rng": np.random.default_rng(seed)}
    drawn = drawn_rows(model, n_moves, **shared)
    values = list(stage_values(model, drawn, temperature=temperature))
    shared["rng"] = np.random.default_rng(seed)  # the same observations
    soft = soft_rows(model, temperature=temperature, **shared)[:n_moves]
    tried = {0.0: max(evidence(soft, rule) for rule in rules)}

    def value(retained: float) -> float:
        if retained not in tried:
            rows = kept_rows(model, drawn, values, retained=retained, temperature=temperature)
            tried[retained] = evidence(rows, None)
        return tried[retained]

    best = max(SHARES, key=value)
    told = {"0": tried[0.0], f"{best}": tried[best]}
    if tried[best] <= tried[0.0] + RETAINING_MARGIN:
        return Kept(0.0, 0.0, told)
    inside = max(best - 0.15, BOUNDS[0]), min(best + 0.15, BOUNDS[1])
    found = minimize_scalar(
        lambda x: -value(float(x)), bounds=inside, method="bounded", options={"maxiter": 8}
    )
    best = max(float(found.x), best, key=value)
    ends = max(best - DIFFERENCE, BOUNDS[0]), min(best + DIFFERENCE, BOUNDS[1])
    falls = [2 * (value(best) - value(end)) / (best - end) ** 2 for end in ends if end != best]
    sd = float(1 / np.sqrt(max(float(np.mean(falls)), 1.0)))
    return Kept(best, sd, {**told, f"{best:.4g}": value(best)})
