"""The share rho of its log policy that a learner keeps, chosen by the evidence for networks.

The evidence of the first improvements is compared between rho = 0, with every learner's rule, and
rho > 0. If rho > 0 wins, the evidence of all improvements chooses its value. The policies of the
first stage, from which the others follow, are taken as estimated.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
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
REACH, REFINED_ROWS = 0.25, 300
"""All improvements then choose rho within this distance, from at most so many observations each."""
DIFFERENCE = 0.01
"""Step of the second difference that gives the standard deviation of rho."""


@dataclass(frozen=True)
class Kept:
    """The share rho.

    Args:
        retained: rho.
        sd: its standard deviation; None where it was not searched.
        searched: log evidence of the first improvements for rho = 0 and for the best rho on a
            grid; None where it was not searched.
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

    def over_kept(n_moves: int, most: int) -> Callable[[float], float]:
        rng = np.random.default_rng(seed)
        drawn = drawn_rows(model, n_moves, max_rows=most, rng=rng)
        values = list(stage_values(model, drawn, temperature=temperature))

        @cache
        def value(retained: float) -> float:
            shared = {"retained": retained, "temperature": temperature}
            return evidence(kept_rows(model, drawn, values, **shared), None)

        return value

    rng = np.random.default_rng(seed)  # the same observations as of `over_kept`
    soft = soft_rows(model, temperature=temperature, max_rows=max_rows, rng=rng)[:n_moves]
    nothing = max(evidence(soft, rule) for rule in rules)
    first = over_kept(n_moves, max_rows)
    best = max(SHARES, key=first)
    told = {"0": nothing, f"{best}": first(best)}
    if first(best) <= nothing + RETAINING_MARGIN:
        return Kept(0.0, 0.0, told)
    value = over_kept(model.n_moves, min(max_rows, REFINED_ROWS))
    inside = max(best - REACH, BOUNDS[0]), min(best + REACH, BOUNDS[1])
    found = minimize_scalar(
        lambda x: -value(float(x)), bounds=inside, method="bounded", options={"maxiter": 9}
    )
    best = float(found.x)
    ends = max(best - DIFFERENCE, BOUNDS[0]), min(best + DIFFERENCE, BOUNDS[1])
    falls = [2 * (value(best) - value(end)) / (best - end) ** 2 for end in ends if end != best]
    return Kept(best, float(1 / np.sqrt(max(float(np.mean(falls)), 1.0))), told)
