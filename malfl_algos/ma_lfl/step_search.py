"""Step sizes chosen by evidence, alone or together with the power of their decay."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize, minimize_scalar

__all__ = ["CARRIED_STEP_SIZES", "choose_step_size", "choose_steps"]

FloatArray = NDArray[np.float64]

CARRIED_STEP_SIZES = (0.005, 1.0)
"""Bounds of the step size of learners that carry q over."""
SCANNED_STEPS = ((0.1, 0.0), (0.4, 0.3), (0.8, 0.6), (1.0, 0.9))
"""Step sizes and decays that are tried first."""
FIRST_STEPS = np.array([0.3, 0.1])
"""First step of their search, in the logarithm of the step size and in the decay."""
MOST_STEPS = 40
"""Largest number of step sizes and decays tried."""


def choose_step_size(
    evidence: Callable[[dict[str, Any]], float],
    settings: dict[str, Any],
    searches: dict[str, Any],
    bounds: tuple[float, float],
    tolerance: float,
) -> None:
    """Choose the step size, by a bounded search in its logarithm."""
    tried: dict[str, float] = {}
    low, high = np.log(bounds)

    def loss(log_size: float) -> float:
        size = float(np.exp(log_size))
        tried[f"{size:.4g}"] = evidence({**settings, "step_size": size})
        return -tried[f"{size:.4g}"]

    found = minimize_scalar(
        loss, bounds=(low, high), method="bounded", options={"xatol": tolerance}
    )
    settings["step_size"] = float(np.exp(found.x))
    searches["step_size"] = tried


def choose_steps(
    evidence: Callable[[dict[str, Any]], float],
    settings: dict[str, Any],
    searches: dict[str, Any],
    step_size: float | None,
    decay: float | None,
) -> None:
    """Choose the step size and the decay of learners that carry q over, if they are None.

    Both together by a Nelder-Mead search in the logarithm of the step size and in the decay, from
    the best of `SCANNED_STEPS`.
    """
    if decay is not None:
        if step_size is None:
            choose_step_size(evidence, settings, searches, CARRIED_STEP_SIZES, 0.003)
        return
    tried: dict[str, float] = {}
    low, high = np.array([np.log(CARRIED_STEP_SIZES), (0.0, 1.0)]).T

    def choice(point: FloatArray) -> dict[str, float]:
        size = float(np.exp(np.clip(point[0], low[0], high[0])))
        known = step_size if step_size is not None else size
        return {"step_size": known, "step_size_decay": float(np.clip(point[1], 0.0, 1.0))}

    def loss(point: FloatArray) -> float:
        one = choice(point)
        label = f"{one['step_size']:.4g} / k^{one['step_size_decay']:.4g}"
        if label not in tried:
            tried[label] = evidence({**settings, **one})
        return -tried[label]

    start = (np.log(settings["step_size"]), settings["step_size_decay"])
    scanned = np.array([start, *((np.log(size), power) for size, power in SCANNED_STEPS)])
    first = scanned[int(np.argmin([loss(point) for point in scanned]))]
    step = np.where(first + FIRST_STEPS > high, -FIRST_STEPS, FIRST_STEPS)
    found = minimize(
        loss,
        first,
        method="Nelder-Mead",
        bounds=list(zip(low, high, strict=True)),
        options={
            "initial_simplex": np.vstack([first, first + np.diag(step)]),
            "maxfev": MOST_STEPS,
            "xatol": 0.003,
            "fatol": 0.5,
        },
    )
    settings.update(choice(found.x))
    searches["step_size"] = tried
