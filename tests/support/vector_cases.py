"""One `GridWorld` per game beside a batch, compared step by step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from malfl_env import vector_games, vector_tables
from malfl_env.grid_world import GridWorld
from malfl_env.vector import GridWorldVector

FORMS = ("joint", "cells", "cells, rewards computed")


def choose_form(form: str, patch: pytest.MonkeyPatch) -> None:
    """Use one of the forms for every game that is created from now on."""
    if form != "joint":
        patch.setattr(vector_games, "JOINT_ENTRIES", 0)
    if form == "cells, rewards computed":
        patch.setattr(vector_tables, "REWARD_STATES", 0)


def play_beside(batch: GridWorldVector, make: Callable[[], GridWorld], actions: np.ndarray) -> None:
    """Compare every number of a deterministic batch with single games, over its autoresets.

    `actions` is `(n_steps, n_games, n_agents)`.
    """
    envs = [make() for _ in range(batch.n_games)]
    observations, infos = batch.reset()
    starts = [rows(env.reset()[0]) for env in envs]
    np.testing.assert_array_equal(observations, starts)
    assert infos == {}
    over = np.zeros(batch.n_games, dtype=bool)
    for row in actions:
        if batch.autoreset_mode == "Disabled" and over.any():
            observations, infos = batch.reset(options={"reset_mask": over})
            again = [env.reset()[0] for env, ended in zip(envs, over, strict=True) if ended]
            np.testing.assert_array_equal(observations[over], [rows(one) for one in again])
            assert infos == {}
            over[:] = False
        singles = [_single(env, *pair) for env, *pair in zip(envs, row, over, strict=True)]
        seen, rewards, truncations = (np.array(column) for column in zip(*singles, strict=True))
        final = seen.copy()
        if batch.autoreset_mode == "SameStep":
            for game in np.flatnonzero(truncations):
                seen[game] = rows(envs[game].reset()[0])
        results = batch.step(row)
        kind = envs[0].state_space.dtype
        _same(results[0], seen, kind)
        _same(results[1], rewards, np.float64)
        _same(results[2], np.zeros(batch.n_games, bool), np.bool_)
        _same(results[3], truncations, np.bool_)
        _same(batch.observations(), seen, kind)
        if batch.autoreset_mode == "SameStep" and truncations.any():
            assert set(results[4]) == {"final_obs", "_final_obs"}
            _same(results[4]["_final_obs"], truncations, np.bool_)
            _same(results[4]["final_obs"][truncations], final[truncations], kind)
        else:
            assert results[4] == {}
        over = truncations if batch.autoreset_mode != "SameStep" else over


def rows(observations: dict[str, Any]) -> np.ndarray:
    """The one observation that all agents share."""
    first, *others = observations.values()
    for other in others:
        np.testing.assert_array_equal(first, other)
    return first


def _single(env: GridWorld, actions: np.ndarray, over: bool) -> tuple[Any, Any, bool]:
    """Observation, rewards and truncation of one game; one that is over begins anew."""
    agents = env.possible_agents
    if over:
        return rows(env.reset()[0]), np.zeros(len(agents)), False
    results = env.step(dict(zip(agents, actions, strict=True)))
    assert not any(results[2].values())
    (truncated,) = set(results[3].values())
    return rows(results[0]), [results[1][agent] for agent in agents], truncated


def _same(found: np.ndarray, expected: np.ndarray, dtype: np.typing.DTypeLike) -> None:
    assert found.dtype == dtype
    assert found.flags.c_contiguous
    np.testing.assert_array_equal(found, expected)
