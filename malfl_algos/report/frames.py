"""Recovered rewards as tables of pandas, and as posterior draws for ArviZ."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from malfl_algos.recovered import RecoveredRewards
from malfl_algos.report.values import Values, values_of
from malfl_algos.storage.extras import needed
from malfl_env.errors import InputError

__all__ = ["columns_of", "draws_of", "inference_data", "reward_frame"]


def reward_frame(result: RecoveredRewards) -> Any:
    """See `RecoveredRewards.to_dataframe`."""
    columns = columns_of(result)
    return needed("pandas", "to_dataframe").DataFrame(columns)


def columns_of(result: RecoveredRewards) -> dict[str, list[Any]]:
    """The columns of `RecoveredRewards.to_dataframe`, by name.

    Raises:
        InputError: if the result holds no table of rewards.
    """
    if not result.rewards:
        raise InputError(
            "the result holds no table of rewards: they are functions of observations, see "
            "RecoveredRewards.reward"
        )
    tables = [_columns(values_of(result, agent)) for agent in result.rewards]
    names = dict.fromkeys(name for table in tables for name in table)
    order = sorted(names, key=lambda name: name in _LAST)
    return {
        name: [entry for table in tables for entry in table.get(name, [None] * len(table["agent"]))]
        for name in order
    }


_LAST = ("reward", "sd", "low", "high", "visits", "visited")
"""The columns that follow those of states and actions."""


def _columns(values: Values) -> dict[str, list[Any]]:
    places = range(len(values.reward))
    labelled = values.source is not None and values.source.states is not None
    states = [values.state_name(place) for place in places] if labelled else values.states.tolist()
    columns: dict[str, list[Any]] = {"agent": [values.agent for _ in places], "state": states}
    for column in range(len(values.acting)):
        names = [values.action_name(column, place) for place in places]
        columns[f"action/{values.agent_name(column)}"] = names
    columns["reward"] = values.reward.tolist()
    if values.sd is not None:
        columns["sd"] = values.sd.tolist()
        columns["low"] = (values.reward - 2 * values.sd).tolist()
        columns["high"] = (values.reward + 2 * values.sd).tolist()
    if values.visits is not None:
        columns["visits"] = values.visits.tolist()
        columns["visited"] = (values.visits > 0).tolist()
    return columns


def inference_data(result: RecoveredRewards, *, n_draws: int, seed: int) -> Any:
    """See `RecoveredRewards.to_arviz`."""
    if n_draws < 1 or seed < 0:
        raise InputError(f"n_draws must be >= 1 and seed >= 0, got {n_draws} and {seed}")
    posterior, coords, dims = draws_of(result, n_draws=n_draws, seed=seed)
    arviz = needed("arviz", "to_arviz", extra="arviz")
    if hasattr(arviz, "InferenceData"):
        return arviz.from_dict(posterior=posterior, coords=coords, dims=dims)
    return arviz.from_dict({"posterior": posterior}, coords=coords, dims=dims)


def draws_of(
    result: RecoveredRewards, *, n_draws: int, seed: int
) -> tuple[dict[str, NDArray[np.float64]], dict[str, list[Any]], dict[str, list[str]]]:
    """Draws of the posterior of every agent's reward, with coordinates.

    Returns:
        Per agent the draws `(1, n_draws, *shape of the reward)`; the labels along every dimension;
        the names of the dimensions of every agent's reward.

    Raises:
        InputError: for a result without standard deviations.
    """
    spread = result.sd or {}
    missing = [agent for agent in result.rewards if agent not in spread]
    if missing or not spread:
        raise InputError(
            f"no standard deviations of {', '.join(map(str, missing)) or 'any agent'}, so there is "
            "no posterior to draw from: use ma-lfl-bellman or ma-lfl-replay"
        )
    rng = np.random.default_rng(seed)
    draws, coords, dims = {}, _coordinates(result), {}
    for agent, table in result.rewards.items():
        mean = np.asarray(table, dtype=np.float64)
        own = _draws(mean.ravel(), spread[agent].ravel(), _covariance(result, agent), n_draws, rng)
        draws[str(agent)] = own.reshape(1, n_draws, *mean.shape)
        dims[str(agent)] = list(coords)[: mean.ndim]
    return draws, coords, dims


def _covariance(result: RecoveredRewards, agent: str) -> NDArray[np.float64] | None:
    return None if result.covariance is None else result.covariance.get(agent)


def _draws(
    mean: NDArray[np.float64],
    sd: NDArray[np.float64],
    covariance: NDArray[np.float64] | None,
    n_draws: int,
    rng: np.random.Generator,
) -> NDArray[np.float64]:
    if covariance is None:
        return mean + sd * rng.standard_normal((n_draws, len(mean)))
    values, vectors = np.linalg.eigh(covariance)
    root = vectors * np.sqrt(np.maximum(values, 0.0))
    return np.asarray(mean + rng.standard_normal((n_draws, len(mean))) @ root.T)


def _coordinates(result: RecoveredRewards) -> dict[str, list[Any]]:
    """Labels of joint states, and of the actions of every agent."""
    source = result.source
    tables = [np.asarray(table) for table in result.rewards.values()]
    widest = max(tables, key=lambda table: table.ndim)
    if source is None:
        names = [f"action/agent_{index}" for index in range(widest.ndim - 1)]
        sizes = zip(["state", *names], widest.shape, strict=True)
        return {name: list(range(size)) for name, size in sizes}
    coords: dict[str, list[Any]] = {
        "state": [source.state_name(state) for state in range(len(widest))]
        if source.states is not None
        else list(range(len(widest)))
    }
    for index, agent in enumerate(source.agents if widest.ndim > 1 else ()):
        actions = range(source.n_actions[index])
        coords[f"action/{agent}"] = [source.action_name(index, action) for action in actions]
    return coords
