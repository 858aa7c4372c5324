"""The unknowns of a reward: their numbering, rewards that are linear in features, and how many of
the unknowns the data determine.

An agent's reward is a function of the joint state (`state`), of the joint state that a step leads
to (`next_state`), of the joint state and its own action (`own_action`), or of the joint state and
everyone's action (`joint`).
"""

from __future__ import annotations

from math import prod
from typing import Any, Literal

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from malfl_env.errors import InputError

__all__ = [
    "OF_STATES",
    "RewardModel",
    "count_unknowns",
    "feature_maps",
    "feature_prior",
    "identification",
    "in_joint_order",
    "level_of",
    "with_intercept",
    "without_level",
]

FloatArray = NDArray[np.float64]
RewardModel = Literal["joint", "own_action", "state", "next_state"]
OF_STATES: tuple[RewardModel, ...] = ("state", "next_state")
"""Models with one reward value per joint state."""


def count_unknowns(model: RewardModel, n_states: int, n_actions: tuple[int, ...]) -> int:
    """Number of reward values of one agent under a model."""
    per_state = {"own_action": max(n_actions), "joint": prod(n_actions)}
    return n_states * per_state.get(model, 1)


def in_joint_order(
    reward: FloatArray, model: RewardModel, agent_index: int, n_actions: tuple[int, ...]
) -> FloatArray:
    """`(n_states,)` for models of states, else `(n_states, *n_actions)`, actions in agent order."""
    if model in OF_STATES:
        return reward[:, 0].copy()
    others = [n for index, n in enumerate(n_actions) if index != agent_index]
    own = n_actions[agent_index]
    sizes = others if model == "joint" else [1] * len(others)
    table = np.moveaxis(reward.reshape(len(reward), own, *sizes), 1, agent_index + 1)
    return np.broadcast_to(table, (len(reward), *n_actions)).copy()


def feature_maps(
    features: Any, n_states: int, n_actions: tuple[int, ...]
) -> tuple[RewardModel, list[FloatArray]]:
    """The reward model for these features, and each agent's map from weights to its unknowns.

    Args:
        features: phi, `(n_states, k)` or `(n_states, *n_actions, k)`, reward = phi . weights.
        n_states, n_actions: numbers of joint states and of each agent's actions.

    Returns:
        The reward model, `state` or `joint`, and per agent the map from weights to its unknowns,
        `(n_unknowns, k)`.

    Raises:
        InputError: if the shape is wrong, a value is not finite, or a column is a linear
            combination of others; the message names the columns.
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
            f"features must be linearly independent; columns {dependent} are linear combinations "
            "of the columns before them: leave these columns out"
        )
    if by_state:
        return "state", [flat] * len(n_actions)
    # the unknowns of `joint` are numbered by state, own action, the others' joint action
    own_first = [np.moveaxis(table, index + 1, 1) for index in range(len(n_actions))]
    return "joint", [maps.reshape(flat.shape) for maps in own_first]


def with_intercept(maps: FloatArray) -> FloatArray:
    """The map with a column of ones appended, unless its columns span one: `(n_unknowns, k)` or
    `(n_unknowns, k + 1)`.

    td learners start from q = 0, so the level of the reward shows in rarely played actions. A
    reward model that cannot have every level would wreck the fit.
    """
    level = np.ones((len(maps), 1))
    return maps if _dependent_columns(np.hstack([maps, level])) else np.hstack([maps, level])


def feature_prior(maps: FloatArray) -> FloatArray:
    """Prior precision of the weights for a prior variance of one, except along the intercept.

    Args:
        maps: `(n_unknowns, k)`, as `with_intercept` returns it.

    Returns:
        The projection `(k, k)` whose null space is the weights that give every unknown one value.
    """
    level = np.linalg.lstsq(maps, np.ones(len(maps)), rcond=None)[0]
    return without_level(np.asarray(level, dtype=np.float64))


def level_of(root: FloatArray) -> FloatArray:
    """The weights w for which all unknowns L w are 1, for a lower triangular L."""
    return np.asarray(scipy.linalg.solve_triangular(root, np.ones(len(root)), lower=True))


def without_level(level: FloatArray) -> FloatArray:
    """The projection whose null space is one vector."""
    return np.asarray(np.eye(len(level)) - np.outer(level, level) / (level @ level))


def _dependent_columns(table: FloatArray) -> list[int]:
    """Columns that are linear combinations of the columns before them."""
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


def identification(
    *,
    n_unknowns: int,
    rank: int,
    n_without_data: int,
    per_state: int,
    weak: int = 0,
    told: float | None = None,
) -> dict[str, Any]:
    """The diagnostics `rank`, `n_unidentified`, `n_without_data` and `identification` (in words).

    The reward value of a joint state without data is unknown for every method. Such values are
    counted separately from the unidentified directions among the values of visited states.

    Args:
        n_unknowns: number of values or weights of the reward.
        rank: number of directions of the reward that the data determine.
        n_without_data: number of unknowns of states without data.
        per_state: number of unknowns per state; 0 for weights of features.
        weak: number of directions with data along which the prior is stronger than the data.
        told: of a smooth prior, the share of its variance that lies along the other directions.
    """
    n_seen = n_unknowns - n_without_data
    free = n_seen - rank
    if free == 1 and per_state == 1 and weak <= 1:
        words = "identified up to one additive constant"
    elif free > (1 if per_state == 1 else 0):
        words = f"not identified: {free} of {n_seen} directions are unidentified"
    elif weak > 1:
        held = ""
        if told is not None:
            held = f", which hold {1 - told:.0%} of the variance of the smooth prior,"
        words = (
            f"partly identified: along {weak} of {n_seen} directions{held} the prior is stronger "
            "than the data"
        )
    else:
        words = "identified, except for the mean, which the data hardly determine"
    if n_without_data:
        words += f"; {n_without_data // per_state} joint states without data are not counted"
    return {
        "rank": rank,
        "n_unidentified": free,
        "n_without_data": n_without_data,
        "identification": words,
    }
