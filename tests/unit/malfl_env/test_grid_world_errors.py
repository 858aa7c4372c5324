"""Messages of the grid world for invalid actions, options, seeds and calls."""

from __future__ import annotations

import numpy as np
import pytest

from malfl_env import grid_world_v0

RIGHT, STAY = 3, 4


def both(first: object, second: object) -> dict[str, object]:
    return {"agent_0": first, "agent_1": second}


@pytest.mark.parametrize(
    ("actions", "message"),
    [
        ({"agent_0": 1}, r"actions lacks agent_1; agents are \['agent_0', 'agent_1'\]"),
        ({}, "actions lacks agent_0"),
        (both(5, 0), r"the action of agent_0 must be a whole number from 0 to 4 .* got 5"),
        (both(0, -1), "the action of agent_1 must be .* got -1"),
        (both(0, np.int64(7)), r"the action of agent_1 must be .* got .*7"),
        (both(2.0, 0), r"the action of agent_0 must be .* got 2\.0"),
        (both(0, None), "the action of agent_1 must be .* got None"),
        (both("0", 0), "the action of agent_0 must be .* got '0'"),
        (both(np.array([0, 1]), 0), r"the action of agent_0 must be .* got array"),
        ({**both(0, 0), "agent_2": 0}, r"actions has unknown agents \['agent_2'\]; agents are"),
        ([0, 0], r"actions must be a dictionary {agent: action}, got \[0, 0\]"),
        (None, "actions must be a dictionary"),
    ],
)
@pytest.mark.parametrize("slip", [0.0, 1.0])
def test_bad_actions_name_agent_and_value(actions: object, message: str, slip: float) -> None:
    env = grid_world_v0.parallel_env(slip=slip)
    env.reset(seed=0)
    with pytest.raises(ValueError, match=message):
        env.step(actions)
    assert env.state().tolist() == [0, 0, 0, 0]
    untouched = grid_world_v0.parallel_env(slip=slip)
    untouched.reset(seed=0)
    for _ in range(10):
        env.step(both(RIGHT, RIGHT))
        untouched.step(both(RIGHT, RIGHT))
        assert env.state().tolist() == untouched.state().tolist()


@pytest.mark.parametrize("action", [3, np.int64(3), np.int8(3), np.uint8(3), np.array(3)])
@pytest.mark.parametrize("slip", [0.0, 1e-300])
def test_any_whole_number_type_is_an_action(action: object, slip: float) -> None:
    env = grid_world_v0.parallel_env(slip=slip)
    env.reset(seed=0)
    assert env.step(both(action, action))[0]["agent_0"].tolist() == [0, 1, 0, 1]


def test_steps_outside_an_episode_are_rejected() -> None:
    env = grid_world_v0.parallel_env(max_cycles=1)
    with pytest.raises(RuntimeError, match="call reset"):
        env.step(both(0, 0))
    env.reset()
    env.step(both(0, 0))
    with pytest.raises(RuntimeError, match="call reset"):
        env.step(both(0, 0))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_cycles": 0}, "max_cycles must be a whole number >= 1, got 0"),
        ({"max_cycles": 10.0}, r"max_cycles .* got 10\.0"),
        ({"max_cycles": None}, "max_cycles .* got None"),
        ({"render_mode": "rgb_aray"}, r"render_mode .* \(did you mean 'rgb_array'\?\)"),
        ({"render_mode": 1}, "render_mode .* got 1"),
        ({"walls": [(0, 0)]}, "starts: agent_0"),
        ({"rewards": "hetrogeneous"}, "did you mean 'heterogeneous'"),
    ],
)
@pytest.mark.parametrize(
    "make", [grid_world_v0.parallel_env, grid_world_v0.raw_env, grid_world_v0.env]
)
def test_bad_options_are_rejected_by_every_factory(make, options, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(**options)


@pytest.mark.parametrize("seed", [-1, 1.0, True, "0"])
def test_bad_seeds_are_rejected(seed: object) -> None:
    with pytest.raises(ValueError, match="seed must be a whole number >= 0, got"):
        grid_world_v0.parallel_env().reset(seed=seed)


def test_rewards_that_fail_in_a_large_game_say_where() -> None:
    def bad_on_the_right(positions: np.ndarray, agent_index: int) -> np.ndarray:
        right = (positions[:, :, 1] == 1).any(axis=1) & (positions[:, :, 0] == 0).all(axis=1)
        return np.where(right, np.inf, 0.0)

    env = grid_world_v0.parallel_env(size=9, rewards=[bad_on_the_right, "avoid"])
    env.reset()
    with pytest.raises(ValueError, match=r"finite numbers, got inf .* \[\[0, 1\], \[0, 0\]\]"):
        env.step(both(RIGHT, STAY))
    assert env.state().tolist() == [0, 0, 0, 0]
