"""Games that a file or a function names."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from malfl_algos.experiments.cell import learn
from malfl_algos.experiments.config import (
    ExperimentConfig,
    extended,
    from_mapping,
    load_config,
    merge,
    to_mapping,
)
from malfl_env import InputError, MarkovGame, TabularEnv, games

MODULE = """
import sys
from malfl_env import MarkovGame, games
RAN = []
made = 3
def game():
    RAN.append(1)
    return games.two_step().game
def env():
    return games.two_step()
def grid():
    from malfl_env import grid_world_v0
    return grid_world_v0.parallel_env(slip=0.1)
def number():
    return 5
def untabular():
    from pettingzoo.utils.env import ParallelEnv
    return ParallelEnv()
def fails():
    raise RuntimeError("no\\nluck")
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty current folder with a module in it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mygames.py").write_text(MODULE)
    yield tmp_path
    sys.modules.pop("mygames", None)


def test_a_file_names_a_game(here) -> None:
    games.pricing(n_prices=3).game.save("price.npz")
    config = from_mapping({"game": "price.npz", "episode_length": 7})
    assert config.reward_families == ("own",)
    assert config.n_agents == 2
    game = config.markov_game("own")
    assert (game.n_states, game.n_actions) == (9, (3, 3))
    np.testing.assert_array_equal(game.reward(0), games.pricing(n_prices=3).game.reward(0))
    env = config.environment("own")
    assert isinstance(env, TabularEnv)
    assert env.max_cycles == 7
    assert config.dynamics().rewards is None
    assert config.rules() is None
    games.pricing(n_prices=4).game.save("price.npz")
    assert config.markov_game("own").n_states == 16, "a changed file is read again"


def test_a_trace_has_the_names_of_the_agents_of_the_game(here) -> None:
    """Scores compare the names of recovered rewards with those of the ground truth."""
    game = MarkovGame.from_tables([[[0, 1]], [[1, 0]]], rewards=[[0, 1.0]] * 2, agents=["a", "b"])
    game.save("two.npz")
    size = {"iterations": 2, "episodes": 3, "episode_length": 4}
    learned = learn(from_mapping({"game": "two.npz", **size}), keep_transitions=False)
    assert learned.trace.agents == tuple(learned.truth.rewards) == ("a", "b")


@pytest.mark.parametrize("name", ["mygames:game", "mygames:env", "malfl_env.games:two_step"])
def test_a_function_makes_a_game_or_its_environment(here, name, caplog) -> None:
    before = sys.path[:]
    config = from_mapping({"game": name})
    assert config.markov_game("own").n_states == 3
    assert sys.path == before
    if name == "mygames:game":
        assert sys.modules["mygames"].RAN == [1], "it runs once in a process"
        assert [own for own in caplog.messages if "mygames:game runs the code of" in own]


def test_a_grid_world_from_a_function_keeps_its_dynamics(here) -> None:
    game = from_mapping({"game": "mygames:grid"}).dynamics()
    assert (game.n_states, game.n_actions, game.deterministic) == (81, (5, 5), False)


def test_families_of_tables_replace_the_own_rewards(here) -> None:
    families = {"mine": [[0.0, 1.0, 2.0]]}
    config = from_mapping(
        {"game": "mygames:game", "families": families, "reward_families": ["mine", "own"]}
    )
    np.testing.assert_array_equal(config.markov_game("mine").reward(0), [0, 1, 2])
    assert config.markov_game("own").reward(0).shape == (3, 2)
    assert from_mapping(to_mapping(config)) == config
    assert merge(config, {"seeds": [3]}).game == "mygames:game"


def test_no_game() -> None:
    for given in ("none", None):
        config = from_mapping({"game": given})
        assert (config.game, config.n_agents, config.dynamics()) == ("none", None, None)
    with pytest.raises(InputError, match="game is none, and this needs a game"):
        config.markov_game("own")


def test_a_yaml_file_and_a_game_in_its_place(here) -> None:
    (here / "run.yaml").write_text("game: mygames:game\nseeds: [4]\n")
    assert load_config("run.yaml").markov_game("own").n_states == 3
    assert load_config("run.yaml", game="none").seeds == (4,)


def test_another_game_in_a_run_folder_is_rejected(here) -> None:
    ours = from_mapping({"game": "mygames:game"})
    with pytest.raises(InputError, match="game is 'mygames:game' in the folder, but 'mygames:env'"):
        extended(ours, from_mapping({"game": "mygames:env"}))
    with pytest.raises(InputError, match=r"game is .*size.* in the folder, but 'mygames:game'"):
        extended(ExperimentConfig(), ours)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("absent.npz", "absent.npz: no such file"),
        ("mygames.py", "game must be none, FILE.npz, MODULE:FACTORY"),
        ("../mygames:game", "game must be none, FILE.npz, MODULE:FACTORY"),
        ("mygames:", "game must be none, FILE.npz, MODULE:FACTORY"),
        ("nomodule:game", "nomodule:game cannot be imported: ModuleNotFoundError"),
        ("mygames:absent", "mygames:absent cannot be imported: AttributeError"),
        ("mygames:made", "mygames:made is a int, it must be a function"),
        ("mygames:number", "mygames:number made a int: it must return a MarkovGame"),
        ("mygames:untabular", "mygames:untabular: env must be a grid world, or an environment"),
        ("mygames:fails", "mygames:fails failed: RuntimeError: no luck"),
    ],
)
def test_names_of_no_game(here, name, message) -> None:
    with pytest.raises(InputError, match=message) as fault:
        from_mapping({"game": name})
    assert "\n" not in str(fault.value)


def test_games_without_rewards_and_families_that_do_not_fit(here) -> None:
    MarkovGame.from_tables([[0, 1], [1, 0]]).save("bare.npz")
    config = from_mapping({"game": "bare.npz"})
    assert config.dynamics().n_states == 2
    with pytest.raises(InputError, match=r"bare.npz brings no rewards"):
        config.markov_game("own")
    with pytest.raises(InputError, match="unknown family 'homogeneous'; known: own"):
        from_mapping({"game": "bare.npz", "reward_families": ["homogeneous"]})
    with pytest.raises(InputError, match=r"families.mine\[0\] must be a list of finite numbers"):
        from_mapping({"game": "bare.npz", "families": {"mine": ["avoid"]}})
    with pytest.raises(InputError, match=r"families.mine must have one entry for each of 1 agents"):
        from_mapping({"game": "bare.npz", "families": {"mine": [[1.0, 2.0]] * 2}})
    short = from_mapping(
        {"game": "bare.npz", "families": {"mine": [[1.0]]}, "reward_families": ["mine"]}
    )
    with pytest.raises(InputError, match=r"families.mine.*has shape"):
        short.markov_game("mine")
    with pytest.raises(InputError, match="brings no rewards"):
        config.environment("own")
