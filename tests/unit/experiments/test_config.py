from pathlib import Path
from typing import Any

import numpy as np
import pytest

from malfl_algos.experiments.config import (
    ExperimentConfig,
    PluginConfig,
    extended,
    from_mapping,
    load_config,
    merge,
    to_mapping,
)
from malfl_algos.experiments.games import reachable_states


def test_defaults_are_the_papers_protocol():
    config = from_mapping({})
    assert config == ExperimentConfig()
    assert (config.iterations, config.episodes, config.episode_length) == (10, 3000, 1000)
    assert (config.discount, config.temperature) == (0.9, 3.0)
    assert config.reward_families == ("homogeneous", "heterogeneous")
    assert config.seeds == (0, 1, 2, 3, 4)
    assert [observer.label for observer in config.observers] == [
        "ma-lfl",
        "ma-lfl-own-action",
        "ma-lfl-state",
        "ma-lfl-faithful",
    ]


def test_a_file_with_everything(tmp_path):
    path = tmp_path / "experiment.yaml"
    path.write_text(
        """
game: {size: 4, starts: [0, 0], goals: [[3, 3], [3, 0]], walls: [[1, 1]], slip: 0.1}
reward_families: [mine, homogeneous]
families: {mine: [approach, approach]}
temperature: 2
seeds: [7]
learner: {name: ma-spi, options: {evaluation: exact}}
observers:
  - ma-lfl-state
  - {label: loose, name: "malfl-env:ma-lfl", options: {entropy_coefficient: 1.0e-2}}
trend: false
""",
        encoding="utf-8",
    )
    config = load_config(path)
    assert config.game.goals == ((3, 3), (3, 0))
    assert config.temperature == 2.0
    assert config.learner == PluginConfig("ma-spi", "ma-spi", {"evaluation": "exact"})
    assert config.observers[1] == PluginConfig(
        "malfl-env:ma-lfl", "loose", {"entropy_coefficient": 0.01}
    )
    assert from_mapping(to_mapping(config)) == config


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"iteration": 3}, "unknown key 'iteration', did you mean 'iterations'"),
        ({1: 3}, "unknown key 1"),
        ({"iterations": 1}, "iterations must be a whole number from 2 to .*, got 1"),
        ({"episodes": 0}, "episodes .* got 0"),
        ({"episodes": -3}, "episodes .* got -3"),
        ({"episodes": 10**12}, "episodes .* got 1000000000000"),
        ({"episode_length": 1.5}, "episode_length must be a whole number, got 1.5"),
        ({"iterations": True}, "iterations must be a whole number, got True"),
        ({"iterations": None}, "iterations must be a whole number, got None"),
        ({"discount": 1}, r"discount must be in \[0, 1\) or null, got 1.0"),
        ({"discount": -0.1}, "discount must be in"),
        (
            {"discount": "0.9"},
            "discount must be a finite number or null, got '0.9'.*without quotes",
        ),
        ({"temperature": 0}, "temperature must be > 0 or null, got 0.0"),
        ({"temperature": 1e200}, r"temperature must be from 1e-50 to 1e\+50, got 1e\+200"),
        ({"temperature": 1e-200}, "temperature must be from 1e-50"),
        ({"temperature": float("nan")}, "temperature must be a finite number or null, got nan"),
        ({"temperature": float("inf")}, "temperature must be a finite number or null, got inf"),
        ({"seeds": []}, "seeds must not be empty"),
        ({"seeds": [1, 1]}, "seeds must be distinct, duplicate value 1"),
        ({"seeds": [-1]}, "seeds must be a whole number from 0"),
        ({"seeds": 3}, "seeds must be a list, each entry a whole number, got 3"),
        ({"seeds": [True]}, "seeds must be a list"),
        ({"seat": "inside"}, "seat must be one of 'external', 'agent', got 'inside'"),
        ({"trend": "yes"}, "trend must be true or false, got 'yes'"),
        ({"reward_families": ["homogenous"]}, "'homogenous', did you mean 'homogeneous'"),
        ({"reward_families": ["homogeneous"] * 2}, "reward_families must be distinct"),
        ({"reward_families": []}, "reward_families must not be empty"),
        ({"families": ["mine"]}, "families must be a mapping"),
        ({"families": {"mine": ["avoid"]}}, "families.mine must have one entry for each of 2"),
        ({"families": {"mine": ["avoid", "avod"]}}, r"families.mine\[1\].*mean 'avoid'"),
        ({"families": {"mine": ["avoid", 3]}}, r"families.mine\[1\] must be a reward name"),
        ({"families": {"mine": ["avoid", [1.0, float("inf")]]}}, r"families.mine\[1\].*finite"),
        ({"families": {"mine": ["avoid", ["1"]]}}, r"families.mine\[1\].*numbers"),
        ({"families": {"homogeneous": ["avoid", "avoid"]}}, "homogeneous: this name is built in"),
        ({"families": {"../up": ["avoid", "avoid"]}}, "families: a name .* got '../up'"),
        ({"families": {"figures": ["avoid", "avoid"]}}, "families: a name .* got 'figures'"),
        ({"families": {3: ["avoid", "avoid"]}}, "families: a name must be text, got 3"),
        ({"game": [3]}, r"game must be none, FILE.npz, .* a mapping .* got \[3\]"),
        ({"game": {"sise": 3}}, "game: unknown key 'sise', did you mean 'size'"),
        ({"game": {"size": "3"}}, "game: size must be a whole number, got '3'"),
        ({"game": {"size": 0}}, "game.size must be a whole number from 1"),
        ({"game": {"n_agents": 1}}, "game.n_agents must be a whole number from 2"),
        ({"game": {"size": 10**9}}, "game.size .* got 1000000000"),
        ({"game": {"size": 12, "n_agents": 4}}, "game: the joint counts .* would take .* GiB"),
        ({"game": {"walls": 3}}, "game: walls must be a list"),
        ({"game": {"walls": None}}, "game: walls must be a list"),
        ({"learner": 3}, "learner must be a mapping"),
        ({"learner": {"label": "x"}}, "learner: the key 'name' is missing"),
        ({"learner": {"name": "x", "option": {}}}, "learner: unknown key 'option'.*'options'"),
        ({"observers": "ma-lfl"}, "observers must be a list"),
        ({"observers": []}, "observers must not be empty"),
        ({"observers": ["a", "a"]}, "observers must be distinct, duplicate value 'a'"),
        ({"observers": [{"name": "a", "label": "A b"}]}, r"observers\[0\]: label .* got 'A b'"),
        ({"observers": [{"name": "a", "label": ".."}]}, r"observers\[0\]: label"),
        ({"observers": [{"name": "a", "label": "x\n"}]}, r"observers\[0\]: label"),
        ({"observers": [{"name": "a", "options": []}]}, r"observers\[0\]: options must be a map"),
        ({"observers": [{"name": "a", "options": {1: 2}}]}, r"options: a key must be text"),
        ({"observers": ["ma-spi"]}, "observers: the label 'ma-spi' is that of the learner"),
    ],
)
def test_bad_values_are_rejected(given: Any, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        from_mapping(given)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (b"", "the file is empty"),
        (b"# nothing\n", "the file is empty"),
        (b"- 3\n", "expected a mapping of keys to values, got list"),
        (b"42\n", "expected a mapping of keys to values, got int"),
        (b"seeds: [1\n", "not valid YAML"),
        (b"\xff\xfe\x00", "not valid YAML"),
        (b"seeds: [1]\nseeds: [2]\n", "duplicate key 'seeds', line 2"),
        (b"game: {size: 3, size: 4}\n", "duplicate key 'size'"),
        (b"? [1, 2]\n: 3\n", "a key must be text"),
        (b"seeds: !!python/object/apply:os.getcwd []\n", "not valid YAML"),
        (b"a: &a [*a]\n", "the alias \\*a has no anchor that ends before it, line 1"),
        (b"[" * 5000, "not valid YAML"),
        (b"discount: '1e-1'\n", "discount must be a finite number or null, got '1e-1'"),
    ],
)
def test_unusable_files_are_rejected(tmp_path: Path, text: bytes, complaint: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_bytes(text)
    with pytest.raises(ValueError, match=complaint) as caught:
        load_config(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_files_that_cannot_be_read(tmp_path):
    for path in (tmp_path / "absent.yaml", tmp_path):
        with pytest.raises(ValueError, match="cannot be read"):
            load_config(path)


def test_merge_replaces_whole_keys_and_checks_the_result():
    config = merge(ExperimentConfig(), {"seeds": [3], "game": {"size": 4}})
    assert (config.seeds, config.game.size, config.iterations) == ((3,), 4, 10)
    with pytest.raises(ValueError, match=r"families.mine must have one entry for each of 3"):
        merge(
            from_mapping({"families": {"mine": ["avoid", "avoid"]}}),
            {"game": {"n_agents": 3}},
        )


def test_games_are_those_of_the_families():
    table = np.linspace(0, 1, 81)
    config = from_mapping({"families": {"mine": ["approach", table.tolist()]}, "episode_length": 7})
    game = config.markov_game("mine")
    np.testing.assert_array_equal(game.reward(1), table)
    np.testing.assert_array_equal(game.reward(0), config.markov_game("heterogeneous").reward(0))
    env = config.environment("homogeneous")
    env.reset(seed=0)
    for _ in range(7):
        _, _, _, truncations, _ = env.step(dict.fromkeys(env.agents, 0))
    assert all(truncations.values())


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"game": {"starts": [5, 5]}}, "game: starts"),
        ({"game": {"walls": [[0, 0]]}}, "game: starts.*wall"),
        ({"game": {"walls": [[0, 1], [1, 0]]}}, "game: goals.*cannot reach"),
        ({"game": {"slip": 1.5}}, "game: slip"),
        (
            {"families": {"homogeneous-2": ["avoid", [1.0, 2.0]]}},
            r"families.homogeneous-2: .*\(81,",
        ),
    ],
)
def test_impossible_games_are_rejected(given: Any, complaint: str) -> None:
    config = from_mapping(given)
    with pytest.raises(ValueError, match=complaint):
        config.markov_game((*config.families, "homogeneous")[0])


def test_states_behind_walls_do_not_count():
    config = from_mapping({"game": {"walls": [[0, 1], [0, 2], [1, 2]], "goals": [2, 1]}})
    cells = [0, 3, 4, 6, 7]  # the goal, 7, is all that leads to 8
    expected = [(own, other) for own in cells for other in cells]
    states = np.flatnonzero(reachable_states(config.markov_game("homogeneous")))
    assert [divmod(state, 9) for state in states.tolist()] == expected
    assert reachable_states(ExperimentConfig().markov_game("homogeneous")).all()


def test_what_may_be_added_to_a_run():
    stored = from_mapping({"seeds": [0, 1], "observers": ["a"], "reward_families": ["homogeneous"]})
    asked = from_mapping(
        {
            "seeds": [5, 1],
            "observers": ["b", "a"],
            "reward_families": ["mine"],
            "families": {"mine": ["avoid", "approach"]},
        }
    )
    both = extended(stored, asked)
    assert both.seeds == (0, 1, 5)
    assert [observer.label for observer in both.observers] == ["a", "b"]
    assert both.reward_families == ("homogeneous", "mine")
    assert both.families == {"mine": ("avoid", "approach")}
    assert extended(both, stored) == both


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"iterations": 9}, "iterations is 10 in the folder, but 9 was requested"),
        ({"discount": 0.5}, "discount is 0.9 in the folder, but 0.5 was requested"),
        ({"game": {"size": 4}}, "game.size is 3 in the folder, but 4 was requested"),
        (
            {"learner": {"name": "ma-spi", "options": {"step_size": 0.2}}},
            "learner is .* in the folder",
        ),
        ({"seat": "agent"}, "seat is 'external' in the folder, but 'agent' was requested"),
        (
            {"observers": [{"name": "x", "label": "ma-lfl"}]},
            "observers: ma-lfl is .* but",
        ),
        ({"families": {"mine": ["avoid", "approach"]}}, "families: mine is .* in the folder"),
    ],
)
def test_other_differences_are_rejected(change: Any, complaint: str) -> None:
    stored = from_mapping({"families": {"mine": ["avoid", "avoid"]}})
    with pytest.raises(ValueError, match=complaint):
        extended(stored, from_mapping(change))
