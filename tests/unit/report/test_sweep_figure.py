"""Figures of sweeps: axes in words, and on the scale of the grid."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from malfl_algos.report.sweep import sweep_figure


def drawn(positions: list[float], x: str = "game.slip", hue: str | None = None) -> Any:
    bands = {"": {"a": np.tile(np.linspace(0.1, 0.5, len(positions)), (3, 1))}}
    return sweep_figure(bands, positions, x=x, hue=hue, measure="pearson", n_seeds=2)


@pytest.mark.parametrize(
    ("positions", "scale"),
    [
        ([0.01, 0.03, 0.1, 0.3], "log"),
        ([1.0, 2.0, 5.0, 10.0, 20.0], "log"),
        ([1.0, 100.0], "log"),
        ([0.1, 0.2], "linear"),
        ([1.0, 2.0, 3.0, 4.0], "linear"),
        (list(np.arange(1.0, 101.0)), "linear"),
        ([0.0, 0.1, 1.0, 10.0], "linear"),
        ([0.5], "linear"),
    ],
)
def test_the_axis_has_the_scale_of_the_grid(positions, scale):
    assert drawn(positions).axes[0].get_xscale() == scale


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("temperature", "temperature"),
        ("game.slip", "slip (game)"),
        ("learner.options.step_size", "step size (learner)"),
        ("observer_options.ma-lfl-bellman.noise_scale", "noise scale (ma-lfl-bellman)"),
    ],
)
def test_keys_are_named_in_words(key, words):
    figure = drawn([0.1, 0.2], x=key, hue="observer")
    assert figure.axes[0].get_xlabel() == words
    assert figure.get_suptitle().strip() == f"Pearson r by {words} and observer"
