"""`--discount` and `--temperature`: numbers, null, or what the configuration says."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from malfl_algos.cli.recovery import Recovery, asked_command, named_result
from malfl_algos.cli.table import read_observed_config, read_scale, scale_arguments
from malfl_algos.contract import RecoveredRewards, Source
from malfl_algos.experiments.config import ExperimentConfig, PluginConfig
from malfl_algos.experiments.scale import scale_of
from malfl_algos.storage.origins import Origin


def parsed(*words):
    parser = argparse.ArgumentParser(exit_on_error=False)
    for one in scale_arguments():
        parser.add_argument(*one.names, **one.settings)
    return read_scale(parser.parse_args(words), ExperimentConfig(discount=0.8, temperature=2.0))


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ((), (0.8, 2.0)),
        (("--discount", "0.5", "--temperature", "4"), (0.5, 4.0)),
        (("--discount", "null", "--temperature", "null"), (None, None)),
        (("--discount", "0"), (0.0, 2.0)),
    ],
)
def test_what_is_given_comes_first(words, expected):
    assert parsed(*words) == expected


def test_other_words_are_rejected():
    with pytest.raises(argparse.ArgumentError, match="must be a number or null, got 'none'"):
        parsed("--temperature", "none")


@pytest.mark.parametrize(
    ("game", "temperature"), [(None, 3.0), ("none", None), ("malfl_env.games:two_step", None)]
)
def test_the_temperature_of_a_named_game_is_unknown_by_default(game, temperature):
    config = read_observed_config(argparse.Namespace(config=None, game=game))
    assert (config.discount, config.temperature) == (0.9, temperature)


def test_a_configuration_says_the_temperature_of_its_game(tmp_path):
    (tmp_path / "run.yaml").write_text("temperature: 2.0\n")
    asked = argparse.Namespace(config=str(tmp_path / "run.yaml"), game="none")
    assert read_observed_config(asked).temperature == 2.0


def test_defaults_are_told_and_run_again():
    wanted = PluginConfig("tried", "tried")
    given = Recovery(None, wanted, None, None, None, 0.9, None, None, ("discount", "temperature"))
    assert [line.partition(" (default")[0] for line in given.defaults()] == [
        "discount: 0.9",
        "temperature: null",
    ]
    names = ("config", "game", "discount", "temperature", "stages")
    asked = argparse.Namespace(trace="t.npz", observer="tried", output_dir="x", overwrite=False)
    vars(asked).update(dict.fromkeys(names), option=[], game="none")
    assert "--game none --discount 0.9 --temperature null" in asked_command(asked, given)["command"]
    asked.discount = 0.5
    told = given._replace(discount=0.5, by_default=("temperature",))
    assert "--discount 0.5 --temperature null" in asked_command(asked, told)["command"]
    made = RecoveredRewards(source=Source(("a",), (2,), (9,), discount=0.9))
    assert "0.9 (given)" in made.summary()
    assert "0.9 (default)" in named_result(made, given).summary()
    assert named_result(made, given).source.observer == "tried"


def test_scores_take_the_temperature_of_the_recovery():
    unknown = ExperimentConfig(temperature=None)
    known = Origin((), None, 0.9, 0.2)
    assert scale_of(unknown, None, Path("rewards.npz"), known) == (0.9, 0.2, 1.0)
    assert scale_of(unknown, None, Path("rewards.npz")) == (0.9, 1.0, 1.0)
