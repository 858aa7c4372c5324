"""Games from tables, games in files, and starts that are drawn."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest

from malfl_env import Factor, InputError, MarkovGame, games, grid_world_v0, markov_game
from malfl_env.npz import npz_bytes, read_arrays

CHANCES = np.array([[[0.5, 0.5, 0], [0, 0, 1]], [[1, 0, 0], [0.2, 0.3, 0.5]], [[0, 1, 0]] * 2])


def dense(game: MarkovGame) -> np.ndarray:
    """Transition probabilities `(n_states, *n_actions, n_states)`."""
    successors, chances = game.joint_successors()
    table = np.zeros((*successors.shape[:-1], game.n_states))
    for row in np.ndindex(*successors.shape[:-1]):
        np.add.at(table[row], successors[row], chances[row])
    return table


def same_games(one: MarkovGame, two: MarkovGame) -> None:
    assert one.n_actions == two.n_actions
    assert (one.start, one.observation_shape) == (two.start, two.observation_shape)
    assert (one.states, one.actions, one.agents) == (two.states, two.actions, two.agents)
    assert one.observation_form == two.observation_form
    for own, other in zip(one.factors, two.factors, strict=True):
        assert own.agents == other.agents
        np.testing.assert_array_equal(own.successors, other.successors)
        np.testing.assert_array_equal(own.probabilities, other.probabilities)
    np.testing.assert_array_equal(one.start_distribution, two.start_distribution)
    assert (one.rewards is None) == (two.rewards is None)
    for own, other in zip(one.rewards or (), two.rewards or (), strict=True):
        np.testing.assert_array_equal(own, other)


def test_a_table_of_probabilities_comes_back() -> None:
    game = MarkovGame.from_tables(transitions=CHANCES, rewards=[np.arange(3.0)])
    np.testing.assert_allclose(dense(game), CHANCES, atol=1e-15)
    assert not game.deterministic
    assert (game.n_agents, game.n_states, game.n_actions) == (1, 3, (2,))
    np.testing.assert_array_equal(game.reward(0), [0, 1, 2])


def test_a_table_of_next_states_comes_back() -> None:
    grid = markov_game(grid_world_v0.parallel_env())
    game = MarkovGame.from_tables(grid.next_states, start=grid.start)
    np.testing.assert_array_equal(game.next_states, grid.next_states)
    assert game.rewards is None
    certain = MarkovGame.from_tables(transitions=dense(games.labyrinth().game), start=0)
    np.testing.assert_array_equal(certain.next_states, games.labyrinth().game.next_states)


def test_names_and_starts() -> None:
    named = MarkovGame.from_tables(
        transitions=CHANCES, states=["home", "road", "work"], actions=["go", "stay"], start="road"
    )
    assert (named.start, named.states) == (1, ("home", "road", "work"))
    assert named.actions == (("go", "stay"),)
    anywhere = MarkovGame.from_tables(transitions=CHANCES)
    np.testing.assert_allclose(anywhere.start_distribution, 1 / 3)
    assert anywhere.start_states.tolist() == [0, 1, 2]
    drawn = MarkovGame.from_tables(transitions=CHANCES, start=[0.0, 0.25, 0.75])
    assert (drawn.start, drawn.start_states.tolist()) == (2, [1, 2])
    starts = drawn.drawn_starts(4000, np.random.default_rng(0))
    assert abs(np.mean(starts == 2) - 0.75) < 0.03
    assert drawn.at_start(np.array([5.0, 4.0, 8.0])) == 7.0
    assert named.at_start(np.array([5.0, 4.0, 8.0])) == 4.0
    assert not pickle.loads(pickle.dumps(drawn)).start_probabilities.flags.writeable


@pytest.mark.parametrize("name", [*games.ENVIRONMENTS, "grid", "slippery", "bare", "drawn"])
def test_every_game_comes_back_from_its_file(name, tmp_path) -> None:
    made = {
        "grid": lambda: markov_game(grid_world_v0.parallel_env(observations="one_hot")),
        "slippery": lambda: markov_game(grid_world_v0.parallel_env(slip=0.2)),
        "bare": lambda: MarkovGame.from_tables(transitions=CHANCES),
        "drawn": lambda: MarkovGame.from_tables(
            transitions=CHANCES,
            start=[0.5, 0.5, 0],
            states=[("a", 1), 2, "c"],
            actions=[[0.5, "x"]],
            agents=["alice"],
        ),
    }
    game = made[name]() if name in made else getattr(games, name)().game
    game.save(tmp_path / "game.npz")
    same_games(MarkovGame.load(tmp_path / "game.npz"), game)
    first = (tmp_path / "game.npz").read_bytes()
    game.save(tmp_path / "game.npz")
    assert (tmp_path / "game.npz").read_bytes() == first
    assert [path.name for path in tmp_path.iterdir()] == ["game.npz"]


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ({}, "give either next_states or transitions"),
        ({"next_states": [0, 1]}, "one axis per agent"),
        ({"next_states": [[0.0, 1.0]]}, "must be whole numbers"),
        (
            {"next_states": [[0, 1], [1, 2]]},
            r"next_states\[1, 1\] is 2, allowed: joint states 0..1",
        ),
        ({"next_states": [[0, 1], [1]]}, "rows of different lengths"),
        ({"transitions": [[0.5, 0.5]]}, "one axis of actions per agent"),
        ({"transitions": CHANCES * 0.9}, r"transitions\[0, 0\] must be probabilities"),
        ({"transitions": [["a"]]}, "must be an array of numbers"),
        ({"transitions": CHANCES, "states": ["a", "b"]}, "states must have 3 labels, got 2"),
        (
            {"transitions": CHANCES, "states": ["a", "b", "a"]},
            "must be distinct, got 'a' twice",
        ),
        ({"transitions": CHANCES, "states": [1, 2, None]}, "states must be (a list of )?text"),
        (
            {"transitions": CHANCES, "actions": [["x"]]},
            "agent 0 must have 2 labels, got 1",
        ),
        ({"transitions": CHANCES, "actions": [["x", "y"]] * 2}, "1 agents' actions, got 2"),
        ({"transitions": CHANCES, "start": "home"}, "the name of a joint state"),
        ({"transitions": CHANCES, "start": 3}, "start must be a joint state 0..2, got 3"),
        ({"transitions": CHANCES, "start": [0.5, 0.1, 0.1]}, "sum to 1"),
        ({"transitions": CHANCES, "rewards": [[1.0, 2.0]]}, "has shape"),
        ({"transitions": CHANCES, "rewards": [["a"]]}, "the reward of agent 0 must be"),
    ],
)
def test_wrong_tables_are_named(tables, message) -> None:
    with pytest.raises(InputError, match=message):
        MarkovGame.from_tables(**tables)


def rewritten(path, **changes) -> None:
    arrays, manifest = read_arrays(path)
    for name, value in changes.items():
        if name in manifest:
            manifest[name] = value
        elif value is None:
            del arrays[name.replace("__", "/")]
        else:
            arrays[name.replace("__", "/")] = value
    path.write_bytes(npz_bytes(arrays, manifest=manifest))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": "malfl learning trace"}, "expected a malfl game of version 1"),
        ({"version": 2}, "expected a malfl game of version 1"),
        ({"factor_0__successors": None}, "'factor_0/successors' is missing"),
        ({"factor_0__successors": np.full((3, 2, 3), 7)}, "local states 0..2"),
        ({"further": np.ones(3)}, "unknown array 'further'"),
        ({"n_actions": [3]}, "tables for"),
        ({"n_actions": "two"}, "must be a list of whole numbers"),
        ({"start": 1.5}, "must be a list of whole numbers"),
        ({"states": ["a"]}, "states must have 3 labels, got 1"),
        ({"observation_form": 5}, "observation_form must be text, got 5"),
        ({"start_probabilities": np.ones(3)}, "sum to 1"),
    ],
)
def test_a_wrong_file_is_named(changes, message, tmp_path) -> None:
    path = tmp_path / "game.npz"
    MarkovGame.from_tables(transitions=CHANCES, start=0).save(path)
    rewritten(path, **changes)
    with pytest.raises(InputError, match=message) as fault:
        MarkovGame.load(path)
    assert str(path) in str(fault.value)
    assert "\n" not in str(fault.value)


def test_files_that_are_no_games(tmp_path) -> None:
    with pytest.raises(InputError, match="no such file"):
        MarkovGame.load(tmp_path / "absent.npz")
    (tmp_path / "text.npz").write_text(json.dumps({}))
    with pytest.raises(InputError, match="not a readable npz"):
        MarkovGame.load(tmp_path / "text.npz")
    np.savez(tmp_path / "object.npz", manifest=np.array([{}], dtype=object))
    with pytest.raises(InputError, match="plain numbers"):
        MarkovGame.load(tmp_path / "object.npz")
    with pytest.raises(InputError, match="cannot be written"):
        MarkovGame.from_tables(transitions=CHANCES).save(tmp_path / "none" / "game.npz")


def test_factor_is_public() -> None:
    table = np.array([[[0], [1]], [[0], [1]]])
    factor = Factor((0,), table, np.ones(table.shape))
    assert MarkovGame((2,), (factor,), 0).n_states == 2
