"""Any game, any batch: as many single games side by side."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from vector_cases import FORMS, choose_form, play_beside

from malfl_env import grid_world_v0
from malfl_env.observations import FORMS as OBSERVATIONS
from malfl_env.vector import AUTORESET_MODES, GridWorldVector


def near_agent_zero(positions: np.ndarray, agent_index: int) -> np.ndarray:
    return np.abs(positions[:, agent_index] - positions[:, 0]).sum(axis=-1) / 3.0


@st.composite
def games(draw: st.DrawFn) -> dict[str, Any]:
    """Keywords of a deterministic grid world, with rewards of every kind."""
    size, n_agents = draw(st.sampled_from([(2, 2), (2, 3), (3, 2), (3, 3), (4, 2), (5, 2)]))
    row = st.tuples(st.just(0), st.integers(0, size - 1))
    last = st.tuples(st.just(size - 1), st.integers(0, size - 1))
    walls = [(1, draw(st.integers(0, size - 1)))] if size > 2 else []
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    n_states = size ** (2 * n_agents)
    rewards: list[Any] = ["approach", "avoid", near_agent_zero, rng.standard_normal(n_states)]
    rewards.append(rng.standard_normal((n_states, *[5] * n_agents)))
    return {
        "size": size,
        "n_agents": n_agents,
        "starts": draw(st.lists(row, min_size=n_agents, max_size=n_agents)),
        "goals": draw(st.lists(last, min_size=n_agents, max_size=n_agents)),
        "walls": walls,
        "rewards": [draw(st.sampled_from(rewards)) for _ in range(n_agents)],
        "max_cycles": draw(st.integers(1, 6)),
        "observations": draw(st.sampled_from(OBSERVATIONS)),
    }


@pytest.mark.parametrize("form", FORMS)
@settings(max_examples=40)
@given(
    options=games(),
    n_games=st.integers(1, 4),
    mode=st.sampled_from(AUTORESET_MODES),
    copy=st.booleans(),
    seed=st.integers(0, 2**32),
)
def test_a_batch_is_its_games(
    form: str, options: dict[str, Any], n_games: int, mode: str, copy: bool, seed: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        choose_form(form, patch)
        batch = GridWorldVector(n_games, autoreset_mode=mode, copy=copy, **options)
        rng = np.random.default_rng(seed)
        actions = rng.integers(5, size=(25, n_games, options["n_agents"]))
        play_beside(batch, lambda: grid_world_v0.parallel_env(**options), actions)


@settings(max_examples=25)
@given(seed=st.integers(0, 2**40), slip=st.floats(0, 1), max_cycles=st.integers(1, 30))
def test_a_batch_of_one_slips_like_a_single_game(seed: int, slip: float, max_cycles: int) -> None:
    env = grid_world_v0.parallel_env(slip=slip, max_cycles=max_cycles)
    batch = GridWorldVector(1, slip=slip, max_cycles=max_cycles)
    env.reset(seed=seed)
    batch.reset(seed=seed)
    for actions in np.random.default_rng(seed).integers(5, size=(60, 2)):
        observations, rewards, _, truncations, _ = env.step(
            dict(zip(env.agents, actions, strict=True))
        )
        seen, gained, _, ended, infos = batch.step(actions[None])
        np.testing.assert_array_equal(gained[0], list(rewards.values()))
        last = infos["final_obs"] if ended[0] else seen
        np.testing.assert_array_equal(last[0], observations["agent_0"])
        assert ended[0] == truncations["agent_0"]
        if ended[0]:
            env.reset()
