"""Gymnasium's own checker on the single-agent view, every warning an error."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from malfl_env import grid_world_v0, single_agent_env

pytestmark = [
    pytest.mark.filterwarnings("error"),
    # what the checker says of any view that was not made through Gymnasium's registry
    pytest.mark.filterwarnings("ignore:.*Not able to test alternative render modes:UserWarning"),
]

CONFIGURATIONS = {
    "paper": {},
    "second-agent": {"agent": "agent_1", "rewards": "heterogeneous"},
    "slip": {"slip": 0.3},
    "three": {"n_agents": 3, "size": 4, "walls": [(1, 1)]},
    "table": {"policies": {"agent_1": np.full((81, 5), 0.2)}, "slip": 0.1},
    "one-hot": {"observations": "one_hot", "policies": {"agent_1": np.full((81, 5), 0.2)}},
    "coordinates": {"observations": "coordinates", "slip": 0.2},
    "callable": {"policies": {"agent_1": lambda observation, rng: rng.integers(5)}},
}


@pytest.fixture(params=CONFIGURATIONS.values(), ids=CONFIGURATIONS.keys())
def options(request: pytest.FixtureRequest) -> dict[str, object]:
    return request.param


def test_check_env(options: dict[str, object]) -> None:
    check_env(single_agent_env(**options))


def test_check_env_with_every_render_mode(options: dict[str, object], capsys) -> None:
    name = "test_malfl/view-v0"
    gymnasium.register(name, entry_point=single_agent_env, kwargs=options)
    try:
        check_env(gymnasium.make(name, disable_env_checker=True).unwrapped)
    finally:
        del gymnasium.registry[name]
    assert "step 0 of 1000" in capsys.readouterr().out


def test_check_env_of_the_registered_id(options: dict[str, object], capsys) -> None:
    name = grid_world_v0.ENVIRONMENT_ID
    check_env(gymnasium.make(name, disable_env_checker=True, **options).unwrapped)
    assert "step 0 of 1000" in capsys.readouterr().out
