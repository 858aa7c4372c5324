"""Rewards that are linear in features: the map from weights to the unknowns of a learner model."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from malfl_algos.ma_lfl.regression import RewardModel
from malfl_env.errors import InputError

__all__ = ["feature_maps"]

FloatArray = NDArray[np.float64]


def feature_maps(
    features: Any, n_states: int, n_actions: tuple[int, ...]
) -> tuple[RewardModel, list[FloatArray]]:
    """Which unknowns a learner model has for these features, and each agent's map onto them.

    Args:
        features: phi, `(n_states, k)` or `(n_states, *n_actions, k)`, reward = phi . weights.
        n_states, n_actions: of the game.

    Returns:
        The reward model, `state` or `joint`, and per agent the map from weights to its unknowns,
        `(n_unknowns, k)`.

    Raises:
        InputError: for another shape, values that are not finite, or columns that are combinations
            of others; the message names them.
    """
    table = np.asarray(features, dtype=np.float64)
    by_state = table.ndim == 2 and len(table) == n_states
    by_action = table.shape[:-1] == (n_states, *n_actions)
    if not (by_state or by_action) or table.shape[-1] == 0:
        raise InputError(
            f"features must have shape ({n_states}, k) or "
            f"({n_states}, {', '.join(map(str, n_actions))}, k), got {table.shape}"
        )
    if not np.all(np.isfinite(table)):
        raise InputError("features must be finite")
    flat = table.reshape(-1, table.shape[-1])
    dependent = _dependent_columns(flat)
    if dependent:
        raise InputError(
            f"features must be linearly independent; column(s) {dependent} are combinations of "
            "those before: leave them out"
        )
    if by_state:
        return "state", [flat] * len(n_actions)
    # the unknowns of `joint` are numbered by state, own action, the others' joint action
    own_first = [np.moveaxis(table, index + 1, 1) for index in range(len(n_actions))]
    return "joint", [maps.reshape(flat.shape) for maps in own_first]


def _dependent_columns(table: FloatArray) -> list[int]:
    """Columns that are combinations of those before them."""
    dependent: list[int] = []
    basis = np.zeros((len(table), 0))
    for number, column in enumerate(table.T):
        rest = column - basis @ (basis.T @ column)
        rest = rest - basis @ (basis.T @ rest)
        if np.linalg.norm(rest) <= 1e-10 * max(float(np.linalg.norm(column)), 1e-300):
            dependent.append(number)
        else:
            basis = np.column_stack([basis, rest / np.linalg.norm(rest)])
    return dependent
