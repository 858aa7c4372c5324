"""The forms of observations: one game, seen as rows and columns, one-hot blocks or coordinates."""

from __future__ import annotations

from functools import partial
from typing import Any

import gymnasium
import numpy as np
import pettingzoo
import pytest
from gymnasium.spaces import flatten
from hypothesis import given
from hypothesis import strategies as st

from malfl_env import grid_world_v0, markov_game, single_agent_env
from malfl_env.observations import FORMS, observation_digits, observation_space, observations_of
from malfl_env.testing import check_parallel_env
from malfl_env.vector import GridWorldVector, SingleAgentVector

WALK = np.random.default_rng(0).integers(5, size=(30, 2))
LEFT, STAY = 2, 4


@pytest.mark.parametrize("form", FORMS)
@given(
    shape=st.lists(st.integers(1, 40), min_size=1, max_size=6),
    leading=st.lists(st.integers(0, 3), max_size=2),
    seed=st.integers(0, 2**32),
)
def test_digits_come_back_from_every_form(
    form: str, shape: list[int], leading: list[int], seed: int
) -> None:
    digits = np.random.default_rng(seed).integers(shape, size=(*leading, len(shape)))
    seen = observations_of(form, digits, shape)
    space = observation_space(form, shape)
    assert seen.shape == (*leading, *space.shape)
    assert all(row in space for row in seen.reshape(-1, *space.shape))
    np.testing.assert_array_equal(observation_digits(form, seen, shape), digits)
    np.testing.assert_array_equal(observation_digits(form, digits, shape), digits)


@given(shape=st.lists(st.integers(1, 9), min_size=1, max_size=6), seed=st.integers(0, 2**32))
def test_one_hot_is_gymnasiums_flattening(shape: list[int], seed: int) -> None:
    digits = np.random.default_rng(seed).integers(shape)
    expected = flatten(observation_space("cells", shape), digits)
    np.testing.assert_array_equal(observations_of("one_hot", digits, shape), expected)


def test_values_of_each_form() -> None:
    digits, shape = np.array([0, 1, 2]), (3, 3, 3)
    assert observations_of("cells", digits, shape) is digits
    assert observations_of("one_hot", digits, shape).tolist() == [1, 0, 0, 0, 1, 0, 0, 0, 1]
    assert observations_of("coordinates", digits, shape).tolist() == [0, 0.5, 1]
    for form in ("one_hot", "coordinates"):
        assert observations_of(form, digits, shape).dtype == np.float32


@pytest.mark.parametrize(
    ("form", "observation"),
    [
        ("one_hot", np.zeros(12, np.float32)),
        ("one_hot", np.full(12, 1.0, np.float32)),
        ("one_hot", np.full(12, np.nan)),
        ("one_hot", [0.0, 1.0, 2.0, 0.0]),
        ("one_hot", np.eye(12)[0]),
        ("one_hot", [3, 0, 0, 0]),
        ("coordinates", [0.0, 0.4, 1.0, 1.0]),
        ("coordinates", [0.0, 0.5, 1.0, 1.5]),
        ("coordinates", [0.0, -0.5, 1.0, 1.0]),
        ("coordinates", [0.0, np.nan, 1.0, 1.0]),
        ("coordinates", [0.0, 2.0, 1.0, 1.0]),
        ("coordinates", np.zeros(3)),
        ("coordinates", ["0"] * 4),
    ],
)
def test_what_no_agent_can_observe_is_rejected(form: str, observation: Any) -> None:
    game = markov_game(grid_world_v0.parallel_env(observations=form))
    with pytest.raises(ValueError, match=r"an observation must be 4 whole numbers .*; got "):
        game.state_index(observation)


def test_an_unknown_form_is_rejected() -> None:
    for make in (grid_world_v0.parallel_env, grid_world_v0.env, grid_world_v0.raw_env):
        with pytest.raises(
            ValueError, match=r"observations must be one of 'cells', 'one_hot'.*got"
        ):
            make(observations="onehot")


@pytest.mark.parametrize("form", FORMS)
def test_the_game_does_not_depend_on_the_form(form: str) -> None:
    options: dict[str, Any] = {"slip": 0.3, "rewards": "heterogeneous", "size": 4}
    env, plain = (
        grid_world_v0.parallel_env(observations=observations, **options)
        for observations in (form, "cells")
    )
    game, plain_game = markov_game(env), markov_game(plain)
    assert game.observation_form == form
    assert game.without_rewards().observation_form == form
    assert (game.observation(77) == plain_game.observation(77)).all()
    np.testing.assert_array_equal(game.reward(0), plain_game.reward(0))
    seen, _ = env.reset(seed=3)
    expected, _ = plain.reset(seed=3)
    for actions in WALK:
        given = dict(zip(env.agents, actions, strict=True))
        assert env.state() in env.state_space
        np.testing.assert_array_equal(env.state(), seen["agent_1"])
        state = plain_game.state_index(expected["agent_0"])
        assert game.state_index(seen["agent_0"]) == state
        assert game.state_index(expected["agent_0"]) == state
        seen, rewards, *_ = env.step(given)
        expected, same, *_ = plain.step(given)
        assert rewards == same


@pytest.mark.parametrize("form", ["one_hot", "coordinates"])
def test_spaces_of_the_modules_forms_and_of_the_registries(form: str) -> None:
    options = {"observations": form, "n_agents": 3, "size": 4}
    space = observation_space(form, (4,) * 6)
    envs = [make(**options) for make in (grid_world_v0.parallel_env, grid_world_v0.env)]
    if hasattr(pettingzoo, "make"):
        name = grid_world_v0.ENVIRONMENT_ID
        envs += [pettingzoo.make(kind, name, **options) for kind in ("parallel", "aec")]
    for env in envs:
        assert [env.observation_space(agent) for agent in env.possible_agents] == [space] * 3
        assert env.unwrapped.state_space == space
        env.reset(seed=0)
        assert env.state() in space
    assert len({id(envs[0].observation_space(agent)) for agent in envs[0].agents}) == 3


@pytest.mark.parametrize("form", ["one_hot", "coordinates"])
def test_the_conformance_check_passes(form: str) -> None:
    check_parallel_env(partial(grid_world_v0.parallel_env, observations=form, slip=0.2))


@pytest.mark.parametrize("form", FORMS)
def test_tables_of_partners_are_read_by_state(form: str) -> None:
    chosen = np.random.default_rng(0).integers(5, size=81)
    parallel = grid_world_v0.parallel_env(observations=form)
    game = markov_game(parallel)
    view = single_agent_env(parallel, policies={"agent_1": np.eye(5)[chosen]})
    observation, _ = view.reset(seed=0)
    for action in WALK[:, 0]:
        state = game.state_index(observation)
        observation = view.step(action)[0]
        assert game.state_index(observation) == game.next_states[state, action, chosen[state]]


@pytest.mark.parametrize("backend", ["numpy", "numba"])
@pytest.mark.parametrize("mode", ["SameStep", "NextStep", "Disabled"])
@pytest.mark.parametrize("form", ["one_hot", "coordinates"])
def test_vectors_in_every_form(form: str, mode: str, backend: str) -> None:
    if backend == "numba":
        pytest.importorskip("numba")
    batch, plain = (
        SingleAgentVector(
            5,
            observations=own,
            slip=0.2,
            max_cycles=7,
            autoreset_mode=mode,
            copy=False,
            backend=own_backend,
        )
        for own, own_backend in ((form, backend), ("cells", "numpy"))
    )
    shape = (3,) * 4
    seen, _ = batch.reset(seed=1)
    expected, _ = plain.reset(seed=1)
    for step, actions in enumerate(np.random.default_rng(2).integers(5, size=(7, 5))):
        assert seen in batch.observation_space
        np.testing.assert_array_equal(seen, observations_of(form, expected, shape))
        seen, _, _, ended, infos = batch.step(actions)
        expected, *_, plain_infos = plain.step(actions)
        assert ended.all() == (step == 6)
    if mode == "SameStep":
        last = observations_of(form, np.stack(plain_infos["final_obs"]), shape)
        np.testing.assert_array_equal(np.stack(infos["final_obs"]), last)


def test_a_batch_too_large_in_this_form_is_rejected_before_memory_is_taken() -> None:
    options: dict[str, Any] = {"size": 100, "n_agents": 2}
    with pytest.raises(ValueError, match="a batch of 1000000 games would take"):
        GridWorldVector(10**6, observations="one_hot", **options)


def test_the_gymnasium_id() -> None:
    name = grid_world_v0.ENVIRONMENT_ID
    env = gymnasium.make(name, observations="one_hot", agent="agent_1", max_episode_steps=2)
    env.reset(seed=0)
    assert [env.step(STAY)[3] for _ in range(2)] == [False, True]
    many = gymnasium.make_vec(name, num_envs=3, observations="one_hot", max_episode_steps=2)
    assert isinstance(many, SingleAgentVector)
    assert many.reset(seed=0)[0].shape == (3, 12)
    assert [many.step(np.full(3, STAY))[3].all() for _ in range(2)] == [False, True]
    with pytest.raises(ValueError, match=r"max_episode_steps \(if not None\) must be .* got 0"):
        SingleAgentVector(3, max_episode_steps=0)


def test_a_longer_limit_does_not_lengthen_episodes() -> None:
    env = SingleAgentVector(1, max_cycles=2, max_episode_steps=9)
    env.reset(seed=0)
    assert [env.step(np.array([LEFT]))[3].item() for _ in range(4)] == [False, True] * 2


def test_no_actions_after_the_end_give_five_empty_dictionaries() -> None:
    env = grid_world_v0.parallel_env(max_cycles=1)
    with pytest.raises(RuntimeError, match="call reset"):
        env.step({})
    env.reset(seed=0)
    env.step({"agent_0": STAY, "agent_1": STAY})
    assert env.step({}) == ({}, {}, {}, {}, {})
    assert env.step({}) == ({}, {}, {}, {}, {})
    with pytest.raises(RuntimeError, match="call reset"):
        env.step({"agent_0": STAY, "agent_1": STAY})
