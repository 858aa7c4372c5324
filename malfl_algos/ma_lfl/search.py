"""Settings of the learners that are not known, chosen by the evidence of what was observed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from scipy.optimize import minimize_scalar

__all__ = ["SEARCH_PASSES", "SEARCH_STAGES", "choose_settings"]

DISCOUNTS = (0.0, 0.3, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.925, 0.95, 0.97, 0.99)
"""Grid over which an unknown discount is profiled."""
STEP_SIZES = (0.005, 0.8)
"""Bounds of the search for an unknown step size."""
SEARCH_STAGES, SEARCH_PASSES = 4, 2
"""An unknown step size, discount or rule is chosen on the first stages, with few passes."""


def choose_settings(
    evidence: Callable[[dict[str, Any]], float],
    rules: Sequence[str],
    *,
    rule: str | None,
    discount: float | None,
    step_size: float | None,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Fill in what is None, one setting after the other, each by largest evidence.

    Args:
        evidence: log evidence of the settings `discount`, `rule`, `step_size`.
        rules: what the learners' rule may be; the first stands in until it is chosen.
        rule, discount, step_size: what is known of the learners.

    Returns:
        The settings, and by name of a setting the evidence of every choice that was tried.
    """
    settings: dict[str, Any] = {
        "discount": 0.9 if discount is None else discount,
        "rule": rules[0] if rule is None else rule,
        "step_size": 0.1 if step_size is None else step_size,
    }
    searches: dict[str, Any] = {}
    for name, choices, known in [("rule", rules, rule), ("discount", DISCOUNTS, discount)]:
        if known is None:
            table = {choice: evidence({**settings, name: choice}) for choice in choices}
            settings[name] = max(table, key=table.__getitem__)
            searches[name] = {str(choice): value for choice, value in table.items()}
    if step_size is None and settings["rule"] != "exact":
        tried: dict[str, float] = {}
        low, high = np.log(STEP_SIZES)

        def loss(log_size: float) -> float:
            size = float(np.exp(log_size))
            tried[f"{size:.4g}"] = evidence({**settings, "step_size": size})
            return -tried[f"{size:.4g}"]

        found = minimize_scalar(loss, bounds=(low, high), method="bounded", options={"xatol": 0.05})
        settings["step_size"] = float(np.exp(found.x))
        searches["step_size"] = tried
    return settings, searches
