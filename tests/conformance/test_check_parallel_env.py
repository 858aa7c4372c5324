"""`check_parallel_env` names the fault of every broken environment and passes the sound ones."""

from __future__ import annotations

import importlib
import random
import re
import sys
import warnings
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pettingzoo.test import (
    parallel_api_test,
    parallel_seed_test,
)
from pettingzoo.utils import parallel_to_aec, turn_based_aec_to_parallel

from malfl_env.testing import check_parallel_env
from malfl_env.testing.values import difference, fingerprint, overwrite

# Other processes import the zoo by name too (PYTHONHASHSEED), so its folder must be on the path.
sys.path.insert(0, str(Path(__file__).parent))
import broken_envs as zoo
from broken_envs.chance import AlternatingStart, NumpyGlobalFromStepTwo, SeedsTheGlobal
from broken_envs.order import SetOrder, only_at_home
from broken_envs.sound import Deterministic, NoisyReward


@pytest.mark.parametrize("env_class", zoo.SOUND)
def test_sound_environments_pass(env_class: Any) -> None:
    check_parallel_env(env_class)


@pytest.mark.parametrize(("env_class", "fault"), zoo.FAULTS)
def test_each_fault_is_named(env_class: Any, fault: str) -> None:
    with pytest.raises(AssertionError, match=re.escape(fault)):
        check_parallel_env(env_class)


def test_every_broken_environment_of_the_zoo_is_listed() -> None:
    modules = [module for name, module in sys.modules.items() if name.startswith("broken_envs")]
    items = [item for module in modules for item in vars(module).values()]
    defined = {item for item in items if isinstance(item, type) and issubclass(item, zoo.Line)}
    listed = {SetOrder, *zoo.SOUND, *(env_class for env_class, _ in zoo.FAULTS)}
    assert defined == listed


@pytest.mark.parametrize("env_class", [*zoo.PASS_API_TEST, *zoo.PASS_BOTH_TESTS])
def test_the_official_api_test_lets_these_through(env_class: Any) -> None:
    assert env_class in dict(zoo.FAULTS)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        parallel_api_test(env_class(), num_cycles=50)


@pytest.mark.parametrize("env_class", zoo.PASS_BOTH_TESTS)
def test_the_official_seed_test_lets_these_through(env_class: Any) -> None:
    parallel_seed_test(env_class, num_cycles=50)


def test_hash_seed_dependence_shows_between_processes_only() -> None:
    check_parallel_env(SetOrder)
    with pytest.raises(AssertionError, match="PYTHONHASHSEED changes the results: hash seeds 0"):
        check_parallel_env(SetOrder, hash_seeds=(0, 1))


def test_hash_seed_independence() -> None:
    check_parallel_env(zoo.Line, hash_seeds=(0, 1))


def test_a_failure_in_another_process_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONHASHSEED", "0")
    with pytest.raises(
        AssertionError,
        match=r"another process failed: .*no other processes .*\(PYTHONHASHSEED=5\)",
    ):
        check_parallel_env(only_at_home, hash_seeds=(0, 5))


def test_hash_seeds_need_an_importable_factory() -> None:
    with pytest.raises(ValueError, match="another process can import"):
        check_parallel_env(partial(zoo.Line), hash_seeds=(0, 1))


def test_a_factory_must_make_new_environments() -> None:
    env = zoo.Line()
    with pytest.raises(AssertionError, match="factory returned one object twice"):
        check_parallel_env(lambda: env)


def test_an_aec_environment_is_sent_to_the_converter() -> None:
    env = zoo.Line()
    env.render_mode = None
    with pytest.raises(AssertionError, match=r"not a parallel environment: .*aec_to_parallel"):
        check_parallel_env(lambda: parallel_to_aec(env))
    with pytest.raises(
        AssertionError, match="not a parallel environment: the factory returned int"
    ):
        check_parallel_env(lambda: 3)


def test_the_declaration_of_chance_is_checked() -> None:
    check_parallel_env(zoo.Line, stochastic=True)
    check_parallel_env(Deterministic, stochastic=False)
    check_parallel_env(AlternatingStart, stochastic=False)
    with pytest.raises(AssertionError, match="declared free of chance"):
        check_parallel_env(zoo.Line, stochastic=False)
    with pytest.raises(AssertionError, match="every seed gives the same episode"):
        check_parallel_env(Deterministic, stochastic=True)


def test_infos_may_be_left_out_of_comparisons() -> None:
    class Clocked(zoo.Line):
        counter = iter(range(10**9))

        def infos(self) -> Any:
            return {agent: {"wall_time": next(self.counter)} for agent in self.agents}

    check_parallel_env(Clocked, compare_infos=False)
    with pytest.raises(AssertionError, match="reset observations differ for one seed: infos"):
        check_parallel_env(Clocked)


def test_a_fault_beyond_the_steps_looked_at_is_missed_and_found_with_more() -> None:
    class LateNoise(NoisyReward):
        lifetime = {"agent_0": 90, "agent_1": 80}  # noqa: RUF012

        def noise(self) -> float:
            return super().noise() if self.clock < 70 else np.random.default_rng().random()

    check_parallel_env(LateNoise, n_steps=40, episode_limit=40)
    with pytest.raises(AssertionError, match="seed holds for 69 steps only"):
        check_parallel_env(LateNoise, n_steps=40, episode_limit=100)


@pytest.mark.parametrize("env_class", [zoo.Line, NumpyGlobalFromStepTwo, SeedsTheGlobal])
def test_global_generators_are_left_as_found(env_class: Any) -> None:
    before = np.random.get_state(legacy=False), random.getstate()  # noqa: NPY002
    if env_class is zoo.Line:
        check_parallel_env(env_class)
    else:
        with pytest.raises(AssertionError, match="global random state touched"):
            check_parallel_env(env_class)
    after = np.random.get_state(legacy=False), random.getstate()  # noqa: NPY002
    np.testing.assert_equal(after[0], before[0])
    assert after[1] == before[1]


@pytest.mark.parametrize(
    ("left", "right", "gap"),
    [
        ({"a": np.array([1, 2])}, {"a": np.array([1, 3])}, "['a'][1]: 2 and 3"),
        (np.array([[0.0, np.nan]]), np.array([[0.0, 1.0]]), "[0, 1]: nan and 1.0"),
        (np.array(1), np.array(2), ": 1 and 2"),
        (np.zeros(2), np.zeros(3), ": float64(2,) and float64(3,)"),
        (np.zeros(2), np.zeros(2, int), ": float64(2,) and int64(2,)"),
        (np.array([{}, None]), np.array([{}, 1]), "[1]: None and 1"),
        ({"a": 1}, {"b": 1}, ": keys ['a'] and ['b']"),
        ([1, "x"], [1, "y"], "[1]: 'x' and 'y'"),
        ((1,), (1, 2), ": (1,) and (1, 2)"),
        (float("nan"), 0.0, ": nan and 0.0"),
        (float("nan"), float("nan"), None),
        (np.array([np.nan, 1]), np.array([np.nan, 1]), None),
        ([1, {"a": (2,)}], (1, {"a": [2]}), None),
        (object(), object(), None),
    ],
)
def test_differences_are_located(left: Any, right: Any, gap: str | None) -> None:
    assert difference(left, right) == gap
    assert (difference(right, left) is None) == (gap is None)
    if gap:
        assert fingerprint(left) != fingerprint(right)


@pytest.mark.parametrize(
    "array",
    [
        np.arange(4, dtype=np.uint8),
        np.array([True, False]),
        np.array([0.0, -0.5, -1.0, np.inf, np.nan]),
        np.array(7),
    ],
)
def test_overwriting_changes_every_element(array: Any) -> None:
    value = {"a": [array.copy()]}
    overwrite(value)
    assert np.all(value["a"][0] != array)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seeds": (0,)}, r"at least two different integers >= 0, got \[0\]"),
        ({"seeds": (3, 3)}, "at least two different integers"),
        ({"seeds": (0, -1)}, "at least two different integers"),
        ({"n_steps": 1}, "n_steps must be an integer >= 2, got 1"),
        ({"episode_limit": 1.5}, "episode_limit must be a whole number, got 1.5"),
        ({"n_episodes": 1}, "n_episodes must be an integer >= 2, got 1"),
    ],
)
def test_invalid_options_are_rejected(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_parallel_env(zoo.Line, **options)


def test_numpy_integers_are_integers() -> None:
    three = np.int64(3)
    given: Any = {"seeds": np.arange(2), "n_steps": three, "n_episodes": three}
    check_parallel_env(zoo.Line, **given, episode_limit=np.int64(50))


def test_a_factory_must_be_callable() -> None:
    with pytest.raises(ValueError, match="factory must be a function, got "):
        check_parallel_env(zoo.Line())


@pytest.mark.parametrize(
    ("configuration", "stochastic"),
    [
        ({}, False),
        ({"slip": 0.3}, True),
        ({"size": 4, "n_agents": 3, "walls": [(1, 1), (2, 2)], "max_cycles": 40}, False),
    ],
)
def test_grid_world(configuration: dict[str, Any], stochastic: bool) -> None:
    from malfl_env import grid_world_v0

    check_parallel_env(partial(grid_world_v0.parallel_env, **configuration), stochastic=stochastic)


def test_grid_world_does_not_depend_on_the_hash_seed() -> None:
    from malfl_env import grid_world_v0

    check_parallel_env(grid_world_v0.parallel_env, hash_seeds=(0, 1, 2))


# PettingZoo's own environments. The modules behind its `*_v2` names are imported, which give no
# deprecation warning in any version.


def pettingzoo_env(module: str, name: str = "parallel_env") -> Any:
    return getattr(importlib.import_module(f"pettingzoo.{module}"), name)


def test_rock_paper_scissors_passes() -> None:
    check_parallel_env(pettingzoo_env("classic.rps.rps"), stochastic=False)


def tic_tac_toe() -> Any:
    return turn_based_aec_to_parallel(pettingzoo_env("classic.tictactoe.tictactoe", "env")())


def test_tic_tac_toe_passes_with_its_action_masks() -> None:
    check_parallel_env(tic_tac_toe, compare_infos=False, stochastic=False)


@pytest.mark.skipif(version("pettingzoo") != "1.27.0", reason="faults of PettingZoo 1.27.0")
@pytest.mark.filterwarnings("ignore:.*render method without:UserWarning")
@pytest.mark.parametrize(
    ("module", "fault"),
    [
        # reinit() builds the infos as [{}] * number of agents.
        ("butterfly.cooperative_pong.cooperative_pong", "info shared between agents"),
        # reset() does not set the zombie spawn counter back.
        (
            "butterfly.knights_archers_zombies.knights_archers_zombies",
            "used environment cannot be re-seeded",
        ),
        # reset() makes new spaces of new sizes.
        ("test.example_envs.generated_agents_parallel_v0", "space is a new object"),
    ],
)
def test_faults_of_pettingzoos_environments(module: str, fault: str) -> None:
    with pytest.raises(AssertionError, match=fault):
        check_parallel_env(pettingzoo_env(module), n_steps=30, episode_limit=30)


def test_a_fault_of_pettingzoos_turn_based_wrapper() -> None:
    # step() writes active_agent into the info dicts that reset() has handed out.
    with pytest.raises(AssertionError, match=r"returned value overwritten later: .*active_agent"):
        check_parallel_env(tic_tac_toe)


def test_close_that_raises_is_named_but_never_hides_the_first_fault() -> None:
    def unclosable(env_class: Any) -> Any:
        def close(self: Any) -> None:
            raise RuntimeError("the window is gone")

        return type("Unclosable", (env_class,), {"close": close})

    with pytest.raises(AssertionError, match=r"RuntimeError: the window is gone \(in close\(\)\)"):
        check_parallel_env(unclosable(Deterministic), n_steps=5)
    first = re.escape(dict(zoo.FAULTS)[NumpyGlobalFromStepTwo])
    with pytest.raises(AssertionError, match=first):
        check_parallel_env(unclosable(NumpyGlobalFromStepTwo))
