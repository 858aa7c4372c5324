"""PettingZoo's own test suites on several games, every warning an error but the few named here."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
from pettingzoo.test import (
    api_test,
    max_cycles_test,
    parallel_api_test,
    parallel_seed_test,
    render_test,
    seed_test,
    state_test,
)

from malfl_env import grid_world_v0

ALLOWED = (
    # the top left cell is (0, 0): with everyone there an observation is all zeros, rightly
    "ignore:.*array is all zeros:UserWarning",
    # rows and columns are whole numbers below size: MultiDiscrete says so, Box could not
    "ignore:Observation space for each agent probably should be gymnasium.spaces.box:UserWarning",
    "ignore:State space for each environment probably should be gymnasium.spaces.box:UserWarning",
)
pytestmark = [
    pytest.mark.filterwarnings("error"),
    *(pytest.mark.filterwarnings(warning) for warning in ALLOWED),
]


def distance_reward(positions: np.ndarray, agent_index: int) -> np.ndarray:
    return -np.abs(positions - positions[:, agent_index, None]).max(axis=(1, 2))


CONFIGURATIONS = {
    "paper": {},
    "heterogeneous": {"rewards": "heterogeneous"},
    "slip": {"slip": 0.2, "max_cycles": 50},
    "maze": {"size": 5, "n_agents": 3, "walls": [(1, 1), (1, 2), (3, 3)], "slip": 0.1},
    "own-places": {"starts": [(0, 0), (2, 2)], "goals": [(2, 2), (0, 0)]},
    "own-rewards": {"rewards": [distance_reward, np.arange(81.0)]},
    "joint-rewards": {"rewards": [np.ones((81, 5, 5)), "avoid"]},
    "large": {"size": 40, "n_agents": 8},
    "one-hot": {"observations": "one_hot", "slip": 0.1},
    "coordinates": {"observations": "coordinates", "n_agents": 3, "size": 4},
}


@pytest.fixture(params=CONFIGURATIONS.values(), ids=CONFIGURATIONS.keys())
def options(request: pytest.FixtureRequest) -> dict[str, object]:
    return request.param


Make = Callable[..., object]


def test_parallel_api(options: dict[str, object]) -> None:
    parallel_api_test(grid_world_v0.parallel_env(**options), num_cycles=300)


def test_parallel_seed(options: dict[str, object]) -> None:
    parallel_seed_test(partial(grid_world_v0.parallel_env, **options), num_cycles=100)


@pytest.mark.parametrize("make", [grid_world_v0.raw_env, grid_world_v0.env])
def test_api(make: Make, options: dict[str, object]) -> None:
    api_test(make(**options), num_cycles=200)


@pytest.mark.parametrize("make", [grid_world_v0.raw_env, grid_world_v0.env])
def test_seed(make: Make, options: dict[str, object]) -> None:
    seed_test(partial(make, **options), num_cycles=100)


def test_state(options: dict[str, object]) -> None:
    state_test(grid_world_v0.env(**options), grid_world_v0.parallel_env(**options))


def test_render(options: dict[str, object], capsys: pytest.CaptureFixture[str]) -> None:
    is_board = {"ansi": lambda board: board.startswith("step ") and "+---" in board}
    render_test(partial(grid_world_v0.env, **options), custom_tests=is_board)
    assert "+---" in capsys.readouterr().out


def test_max_cycles(options: dict[str, object]) -> None:
    given = {key: value for key, value in options.items() if key != "max_cycles"}
    module = SimpleNamespace(
        parallel_env=partial(grid_world_v0.parallel_env, **given),
        env=partial(grid_world_v0.env, **given),
    )
    max_cycles_test(module)


def test_max_cycles_of_the_module() -> None:
    max_cycles_test(grid_world_v0)
