"""`--discount` and `--temperature`: numbers, null, or what the configuration says."""

from __future__ import annotations

import argparse

import pytest

from malfl_algos.cli.table import read_scale, scale_arguments
from malfl_algos.experiments.config import ExperimentConfig


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
