"""Which solver a game of some size gets, and what memory it would take."""

from __future__ import annotations

from math import prod
from typing import Literal

from malfl_env.checks import check_table_bytes

__all__ = ["Solver", "check_solver", "choose_solver", "count_unknowns"]

Solver = Literal["dense", "iterative"]

DENSE_UNKNOWNS = 1000
"""Above so many unknowns the iterative solver is the faster one."""


def count_unknowns(model: str, n_states: int, n_actions: tuple[int, ...]) -> int:
    """Number of reward values of one agent under the models `state`, `own_action`, `joint`."""
    per_state = {"state": 1, "own_action": max(n_actions), "joint": prod(n_actions)}
    return n_states * per_state[model]


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
