"""SuperSuit's observation wrappers on the forms of observations that are a Box."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pettingzoo.test import parallel_api_test

from malfl_env import grid_world_v0

supersuit = pytest.importorskip("supersuit", reason='needs supersuit: pip install ".[bench]"')

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*array is all zeros:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*Observation space:UserWarning"),
]

WRAPPERS: dict[str, dict[str, Any]] = {
    "agent_indicator_v0": {},
    "black_death_v3": {},
    "dtype_v0": {"dtype": np.float64},
    "flatten_v0": {},
    "frame_stack_v1": {"stack_size": 3},
    "normalize_obs_v0": {},
    "observation_lambda_v0": {"change_observation_fn": lambda seen, space: seen},
    "pad_observations_v0": {},
    "reshape_v0": {"shape": (2, -1)},
}


def wrapped(name: str, form: str) -> Any:
    game = grid_world_v0.parallel_env(observations=form, max_cycles=20)
    options = dict(WRAPPERS[name])
    if name == "reshape_v0":
        options["shape"] = (2, game.observation_space("agent_0").shape[0] // 2)
    return getattr(supersuit, name)(game, **options)


@pytest.mark.parametrize("form", ["one_hot", "coordinates"])
@pytest.mark.parametrize("name", WRAPPERS)
def test_wrappers_take_these_forms(name: str, form: str) -> None:
    parallel_api_test(wrapped(name, form), num_cycles=50)


@pytest.mark.parametrize("name", WRAPPERS)
def test_wrappers_reject_rows_and_columns(name: str) -> None:
    """Otherwise the advice of docs/integrations is out of date."""
    grid = grid_world_v0.parallel_env()
    with pytest.raises((AssertionError, AttributeError)):
        getattr(supersuit, name)(grid, **WRAPPERS[name]).reset(seed=0)


def test_the_script_of_the_documentation_runs(capsys: pytest.CaptureFixture[str]) -> None:
    script = Path(__file__).parents[2] / "docs" / "integrations" / "supersuit_wrappers.py"
    runpy.run_path(str(script))
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == list(WRAPPERS)
