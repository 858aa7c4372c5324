"""Settings of a recovery that may be left open: the solver, chosen by size, and the learners'
discount, rule and step size, chosen by the evidence.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any, Literal

import numpy as np
from scipy.optimize import minimize_scalar

from malfl_env.checks import check_table_bytes

__all__ = [
    "SEARCH_PASSES",
    "SEARCH_STAGES",
    "Solver",
    "check_solver",
    "choose_settings",
    "choose_solver",
]

Solver = Literal["dense", "iterative"]

DENSE_UNKNOWNS = 1000
"""Above so many unknowns the iterative solver is the faster one."""
DISCOUNTS = (0.0, 0.3, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.925, 0.95, 0.97, 0.99)
"""Grid over which an unknown discount is profiled."""
STEP_SIZES = (0.005, 0.8)
"""Bounds of the search for an unknown step size."""
SEARCH_STAGES, SEARCH_PASSES = 4, 2
"""An unknown step size, discount or rule is chosen on the first stages, with few passes."""


def choose_solver(wanted: str, n_unknowns: int, *, given: bool) -> Solver:
    """The solver wanted, or for `auto` the iterative one where it is faster and possible.

    Args:
        wanted: `auto`, `dense` or `iterative`.
        n_unknowns: reward values.
        given: whether noise and prior are, or need not be: the iterative solver computes no
            evidence.
    """
    if wanted == "auto":
        return "iterative" if given and n_unknowns > DENSE_UNKNOWNS else "dense"
    return "dense" if wanted == "dense" else "iterative"


def check_solver(
    solver: Solver, n_formed: int, n_states: int, n_actions: tuple[int, ...], n_stages: int
) -> None:
    """Refuse what would not fit, before any memory is taken.

    Args:
        solver: which.
        n_formed: unknowns whose coefficients are formed, or weights of features in their place; 0
            for the iterative solver without features.
        n_states, n_actions, n_stages: of the trace.

    Raises:
        InputError: with the bytes it would take and what would fit.
    """
    rows = n_stages * n_states * max(n_actions)
    if solver == "dense":
        check_table_bytes(
            8 * rows * n_formed,
            f"the coefficients of {n_formed} reward unknowns over {n_states} joint states",
            "let ma-lfl-bellman do without them by giving it noise_variance and prior_variance, "
            "such as evidence chose on a smaller game of the kind",
        )
        return
    check_table_bytes(8 * rows, f"a value per stage, joint state and action ({rows} of them)")
    check_table_bytes(
        8 * n_states * prod(n_actions), f"the joint actions of {n_states} joint states"
    )
    check_table_bytes(
        8 * rows * n_formed,
        f"the coefficients of {n_formed} features over {n_states} joint states",
        "choose fewer features or a smaller game",
    )


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
