"""Traces and ground truth written by version 0.1 are read as they were meant.

The files in `tests/data/traces_0.1` were written by 0.1: ma-spi in a grid world of 2x2 cells, 2
stages of 4 episodes of 10 steps, without slip (`tabular`, `observed`, `ground_truth`) and with
(`slip`).
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from malfl_algos import LearningTrace
from malfl_algos.contract import Problem
from malfl_algos.ground_truth import GroundTruth
from malfl_env import grid_world_v0, markov_game

FILES = Path(__file__).parents[2] / "data" / "traces_0.1"


@pytest.mark.parametrize(("name", "slip"), [("tabular", 0.0), ("slip", 0.2)])
def test_a_tabular_trace(name, slip):
    trace = LearningTrace.load(FILES / f"{name}.npz")
    game = markov_game(grid_world_v0.parallel_env(size=2, slip=slip)).without_rewards()
    Problem(trace, game, 0.9, 3.0)
    assert (trace.agents, trace.n_actions, trace.n_states) == (game.agents, (5, 5), 16)
    assert trace.is_tabular
    assert trace.spaces is None
    for stage in trace.stages:
        assert stage.counts.sum() == stage.transitions.n_steps == 40
        assert stage.transitions.complete
        assert (stage.next_state_counts is None) == (slip == 0)


def test_a_trace_with_observations():
    trace = LearningTrace.load(FILES / "observed")
    tabular = LearningTrace.load(FILES / "tabular.npz")
    game = markov_game(grid_world_v0.parallel_env(size=2))
    assert not trace.is_tabular
    for old, own in zip(trace.stages, tabular.with_observations(game).stages, strict=True):
        for agent in trace.agents:
            for kind in ("observations", "next_observations"):
                seen = getattr(old.transitions, kind)[agent]
                assert isinstance(seen, np.memmap)
                np.testing.assert_array_equal(seen, getattr(own.transitions, kind)[agent])


def test_ground_truth():
    truth = GroundTruth.load(FILES / "ground_truth.npz")
    assert truth.joint_policies["agent_1"].shape == (2, 16, 5)


@pytest.mark.parametrize(
    "name",
    [
        *(".DS_Store", "stage_0/.DS_Store", "._manifest.json", "stage_0/.nfs0000000000000001"),
        *("Thumbs.db", "stage_0/desktop.ini"),
    ],
)
def test_hidden_files_do_no_harm(tmp_path, name):
    folder = shutil.copytree(FILES / "observed", tmp_path / "trace")
    (folder / name).touch()
    trace = LearningTrace.load(folder)
    trace.first(1).save(folder)  # the folder still counts as a trace, to be replaced by one
    assert LearningTrace.load(folder).n_stages == 1
