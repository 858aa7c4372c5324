"""Many games at once: random draws, buffers, seeds and backends."""

from __future__ import annotations

import pickle
import re
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from interpreter import printed
from vector_cases import FORMS, choose_form, play_beside

from malfl_env import grid_world_v0, markov_game
from malfl_env.rules import cell_factor
from malfl_env.vector import AUTORESET_MODES, GridWorldVector, SingleAgentVector

ACTIONS = np.random.default_rng(7).integers(5, size=(40, 6, 2))


def played(backend: str = "numpy", **options: Any) -> list[bytes]:
    """All results of a batch that plays `ACTIONS`."""
    batch = GridWorldVector(6, backend=backend, max_cycles=7, **options)
    observations, _ = batch.reset(seed=3)
    said = [observations.tobytes()]
    for actions in ACTIONS:
        *results, infos = batch.step(actions)
        said += [result.tobytes() for result in (*results, *infos.values())]
    return said


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("mode", AUTORESET_MODES)
@pytest.mark.parametrize("rewards", ["homogeneous", "heterogeneous"])
def test_the_papers_games_are_played_as_alone(form, mode, rewards, monkeypatch) -> None:
    choose_form(form, monkeypatch)
    options = {"rewards": rewards, "max_cycles": 9}
    batch = GridWorldVector(6, autoreset_mode=mode, **options)
    play_beside(batch, lambda: grid_world_v0.parallel_env(**options), ACTIONS)


def test_a_game_that_no_number_can_hold() -> None:
    """9 ** 20 joint states."""
    options = {"n_agents": 20, "max_cycles": 11}
    batch = GridWorldVector(3, backend="auto", **options)
    actions = np.random.default_rng(0).integers(5, size=(30, 3, 20))
    play_beside(batch, lambda: grid_world_v0.parallel_env(**options), actions)
    with pytest.raises(ValueError, match="size 3 with 20 agents have no int64 numbers"):
        batch.joint_states()


@pytest.mark.parametrize("form", FORMS)
def test_joint_states_are_the_tabular_models(form, monkeypatch) -> None:
    choose_form(form, monkeypatch)
    game = markov_game(grid_world_v0.parallel_env(size=4, walls=[(1, 1)]))
    batch = GridWorldVector(6, size=4, walls=[(1, 1)])
    batch.reset()
    assert batch.joint_states().tolist() == [game.start] * 6
    for actions in ACTIONS:
        before = batch.joint_states()
        observations, rewards, *_ = batch.step(actions)
        after = batch.joint_states()
        np.testing.assert_array_equal(after, game.next_states[(before, *actions.T)])
        np.testing.assert_array_equal(after, game.state_index(observations))
        for agent in range(2):
            np.testing.assert_array_equal(rewards[:, agent], game.reward(agent)[before])


@pytest.mark.parametrize("form", FORMS)
def test_slips_come_as_often_as_the_factors_say(form, monkeypatch) -> None:
    choose_form(form, monkeypatch)
    n_games = 40_000
    options = {"slip": 0.4, "starts": [(1, 2), (0, 1)], "goals": [(2, 2), (2, 0)]}
    batch = GridWorldVector(n_games, **options)
    batch.reset(seed=0)
    actions = np.tile([3, 0], (n_games, 1))
    observations, *_ = batch.step(actions)
    cells = observations.reshape(n_games, 2, 2) @ [3, 1]
    for agent, (cell, action) in enumerate([(5, 3), (1, 0)]):
        factor = cell_factor(batch.rules, agent)
        expected = np.zeros(9)
        np.add.at(expected, factor.successors[cell, action], factor.probabilities[cell, action])
        seen = np.bincount(cells[:, agent], minlength=9) / n_games
        assert not seen[expected == 0].any()
        spread = np.sqrt(expected * (1 - expected) / n_games)
        assert np.all(np.abs(seen - expected) <= 5 * spread)
    together = np.mean((cells[:, 0] == 5) & (cells[:, 1] == 4))
    apart = np.mean(cells[:, 0] == 5) * np.mean(cells[:, 1] == 4)
    assert together == pytest.approx(apart, abs=5 * 0.5 / np.sqrt(n_games))


def test_rewards_of_actions_belong_to_the_actions_chosen() -> None:
    table = np.arange(81 * 25, dtype=float).reshape(81, 5, 5)
    batch = GridWorldVector(500, slip=1.0, rewards=[table, "avoid"])
    batch.reset(seed=0)
    _, rewards, *_ = batch.step(np.tile([2, 3], (500, 1)))
    assert set(rewards[:, 0]) == {table[0, 2, 3]}


OPTIONS = {
    "paper": {},
    "slip": {"slip": 0.3},
    "three": {"n_agents": 2, "size": 4, "walls": [(1, 1)], "rewards": "heterogeneous"},
    "actions": {"rewards": ["avoid", np.arange(2025.0).reshape(81, 5, 5)], "slip": 0.2},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS.keys())
@pytest.mark.parametrize("mode", AUTORESET_MODES[:2])
def test_the_compiled_step_gives_the_same_bytes(options, mode) -> None:
    pytest.importorskip("numba")
    same = {"autoreset_mode": mode, **options}
    assert played("numba", **same) == played("numpy", **same) == played("auto", **same)


@pytest.mark.parametrize("form", FORMS[1:])
def test_all_forms_give_the_same_bytes(form, monkeypatch) -> None:
    expected = played(slip=0.3)
    choose_form(form, monkeypatch)
    assert played(slip=0.3) == expected


def test_seeds() -> None:
    def walk(seed: Any, n_games: int = 3) -> list[list[list[int]]]:
        batch = GridWorldVector(n_games, slip=0.5)
        batch.reset(seed=1)
        batch.reset(seed=seed)
        return [batch.step(np.full((n_games, 2), 4))[0].tolist() for _ in range(20)]

    assert walk(5) == walk(5) == walk(np.int64(5))
    assert walk([1, 2, 3]) == walk((1, 2, 3)) == walk(np.array([1, 2, 3]))
    assert len({str(walk(seed)) for seed in (5, 6, None, [1, 2, 3], [3, 2, 1])}) == 5
    assert walk([5], 1) == walk(5, 1)
    games = np.moveaxis(np.array(walk(5)), 1, 0)
    assert len(np.unique(games, axis=0)) == 3  # games of a batch differ


def test_without_a_seed_the_generator_continues_and_the_global_one_is_untouched() -> None:
    before = np.random.get_state()[1].tolist()  # noqa: NPY002
    batch = GridWorldVector(2, slip=0.5)
    batch.reset(seed=0)
    rng = batch.np_random
    batch.step([[4, 4], [4, 4]])
    batch.reset()
    assert batch.np_random is rng
    assert np.random.get_state()[1].tolist() == before  # noqa: NPY002


def test_results_are_new_arrays() -> None:
    batch = GridWorldVector(6, max_cycles=5)
    kept = [batch.reset()[0]]
    copies = [kept[0].copy()]
    for actions in ACTIONS[:12]:
        *results, infos = batch.step(actions)
        kept += [*results, *infos.values()]
        copies += [result.copy() for result in (*results, *infos.values())]
    for result, copy in zip(kept, copies, strict=True):
        np.testing.assert_array_equal(result, copy)
    spoilt = GridWorldVector(6, max_cycles=5)
    spoilt.reset()[0][:] = 9
    for actions, expected in zip(ACTIONS[:12], _steps(5), strict=True):
        results = spoilt.step(actions)[:4]
        for result, own in zip(results, expected, strict=True):
            np.testing.assert_array_equal(result, own)
            result[:] = 1


def _steps(max_cycles: int) -> list[tuple[np.ndarray, ...]]:
    batch = GridWorldVector(6, max_cycles=max_cycles)
    batch.reset()
    return [batch.step(actions)[:4] for actions in ACTIONS[:12]]


def test_results_are_the_same_arrays_where_asked_for() -> None:
    batch = GridWorldVector(6, max_cycles=5, copy=False)
    begun = batch.reset()[0]
    first = batch.step(ACTIONS[0])
    assert begun is first[0]
    for actions, expected in zip(ACTIONS[1:12], _steps(5)[1:], strict=True):
        results = batch.step(actions)
        for result, old, own in zip(results[:4], first[:4], expected, strict=True):
            assert result is old
            np.testing.assert_array_equal(result, own)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int32, np.uint64, ">i8"])
def test_actions_of_any_whole_type_and_order_are_left_alone(dtype) -> None:
    expected = GridWorldVector(6)
    expected.reset()
    batch = GridWorldVector(6)
    batch.reset()
    for actions in ACTIONS[:10]:
        given = np.asfortranarray(actions.astype(dtype))
        given.flags.writeable = False
        np.testing.assert_array_equal(batch.step(given)[0], expected.step(actions)[0])
        np.testing.assert_array_equal(given, actions)
    np.testing.assert_array_equal(batch.step([[0, 1]] * 6)[0], expected.step([(0, 1)] * 6)[0])


@pytest.mark.parametrize("mode", AUTORESET_MODES)
def test_the_mode_stands_in_the_metadata(mode) -> None:
    enum = getattr(gymnasium.vector, "AutoresetMode", str)  # Gymnasium 1.0 has none
    for given in (mode, enum(mode)):
        batch = GridWorldVector(2, autoreset_mode=given)
        assert batch.metadata["autoreset_mode"] == enum(mode)
        assert batch.autoreset_mode == mode


def test_games_may_be_reset_one_by_one() -> None:
    batch = GridWorldVector(3, max_cycles=4, autoreset_mode="SameStep")
    batch.reset()
    ends = []
    for step in range(1, 13):
        *_, truncations, infos = batch.step(np.full((3, 2), 3))
        ends.append(truncations.tolist())
        assert bool(infos) == truncations.any()
        if step == 3:
            observations, _ = batch.reset(options={"reset_mask": np.array([False, True, False])})
            assert observations.tolist() == [[0, 2, 0, 2], [0, 0, 0, 0], [0, 2, 0, 2]]
    ended = [{step for step, row in enumerate(ends, 1) if row[game]} for game in range(3)]
    assert ended == [{4, 8, 12}, {7, 11}, {4, 8, 12}]


@pytest.mark.parametrize("make", [GridWorldVector, SingleAgentVector])
def test_batches_can_be_pickled(make) -> None:
    batch = make(6, slip=0.3)
    batch.reset(seed=0)
    twin = pickle.loads(pickle.dumps(batch))
    for actions in ACTIONS[:10]:
        given = actions if make is GridWorldVector else actions[:, 0]
        np.testing.assert_array_equal(twin.step(given)[0], batch.step(given)[0])


def test_a_batch_in_numpy_loads_nothing_heavy() -> None:
    loaded = printed(
        "import sys, malfl_env.vector as v",
        "v.GridWorldVector(3, slip=0.1).reset()",
        "v.SingleAgentVector(3).reset()",
        "print({'torch', 'scipy', 'numba', 'matplotlib', 'pandas'} & set(sys.modules))",
    )
    assert loaded == "set()"


def test_the_documented_lines_run() -> None:
    text = (Path(__file__).parents[3] / "docs" / "how-to" / "vector.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    names: dict[str, Any] = {}
    try:
        exec(code, names)
    finally:
        gymnasium.registry.pop("me/grid-v0", None)
    assert names["states"].shape == names["terminations"].shape == (4096,)
    assert names["env"].single_observation_space.shape == (4,)
