"""Traces as Minari and Parquet have them, read back by those tools themselves."""

from __future__ import annotations

import json

import minari
import numpy as np
import pyarrow.parquet
import pytest
from gymnasium import spaces
from network_games import corridor_trace

from malfl_algos.cli.main import main
from malfl_algos.storage import tables as observation_export
from malfl_algos.storage.origins import stage_hashes
from malfl_algos.storage.tables import export_minari, export_parquet
from malfl_env.spaces import space_from_json


@pytest.fixture
def trace():
    return corridor_trace()


def test_parquet(trace, tmp_path, monkeypatch):
    monkeypatch.setattr(observation_export, "CHUNK_STEPS", 4)  # episodes go on across groups
    export_parquet(trace, tmp_path / "trace.parquet")
    table = pyarrow.parquet.read_table(tmp_path / "trace.parquet")
    rows = 0
    for number, stage in enumerate(trace.stages):
        steps = stage.transitions
        part = table.filter(np.asarray(table["stage"]) == number)
        rows += len(part)
        ends = np.asarray(part["episode_end"])
        np.testing.assert_array_equal(ends, steps.episode_ends)
        np.testing.assert_array_equal(part["terminated"], steps.terminations)
        starts = np.flatnonzero(np.asarray(part["step"]) == 0)
        np.testing.assert_array_equal(starts, [0, *np.flatnonzero(ends)[:-1] + 1])
        np.testing.assert_array_equal(np.asarray(part["episode"])[starts], np.arange(5))
        for index, agent in enumerate(trace.agents):
            np.testing.assert_array_equal(part[f"action/{agent}"], steps.joint_actions[:, index])
            for kind in ("observation", "next_observation"):
                read = np.array(part[f"{kind}/{agent}"].to_pylist())
                np.testing.assert_array_equal(read, getattr(steps, f"{kind}s")[agent])
    assert rows == len(table)
    about = json.loads(table.schema.metadata[b"malfl"])
    assert space_from_json(about["spaces"][0]) == trace.spaces[0]
    assert about["made_from"] == {"stages": stage_hashes(trace)}
    assert [path.name for path in tmp_path.iterdir()] == ["trace.parquet"]


def test_minari(trace, tmp_path):
    export_minari(trace, tmp_path / "my trace")
    dataset = minari.MinariDataset(str(tmp_path / "my trace"))
    assert dataset.total_episodes == 10
    assert dataset.total_steps == sum(stage.n_steps for stage in trace.stages)
    assert dataset.observation_space == spaces.Dict(
        dict(zip(trace.agents, trace.spaces, strict=True))
    )
    stages = [own["options"]["stage"] for own in dataset.storage.get_episode_metadata(range(10))]
    assert stages == [0] * 5 + [1] * 5
    made_from = json.loads(dataset.storage.metadata["malfl_made_from"])
    assert made_from == {"stages": stage_hashes(trace)}
    steps, first = trace.stages[1].transitions, 0
    for episode in dataset.iterate_episodes(range(5, 10)):
        end = first + len(episode.rewards)
        for index, agent in enumerate(trace.agents):
            seen = episode.observations[agent]
            np.testing.assert_array_equal(seen[:-1], steps.observations[agent][first:end])
            np.testing.assert_array_equal(seen[1:], steps.next_observations[agent][first:end])
            actions = steps.joint_actions[first:end, index]
            np.testing.assert_array_equal(episode.actions[agent], actions)
        assert np.isnan(episode.rewards).all()  # a trace has none
        np.testing.assert_array_equal(episode.terminations, steps.terminations[first:end])
        cut = steps.episode_ends[first:end] & ~steps.terminations[first:end]
        np.testing.assert_array_equal(episode.truncations, cut)
        first = end


def test_existing_files_are_not_replaced(trace, tmp_path):
    (tmp_path / "taken").write_text("mine")
    for export in (export_minari, export_parquet):
        with pytest.raises(ValueError, match="taken: exists already; choose another name"):
            export(trace, tmp_path / "taken")


def test_the_command(trace, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    trace.save("trace")
    given = ["export", "trace", "--output"]
    assert main([*given, "out.parquet", "--format", "parquet"]) == 0
    assert main([*given, "out", "--format", "minari"]) == 0
    assert "out: 2 stages" in capsys.readouterr().out
    assert minari.MinariDataset("out").total_episodes == 10
    assert main([*given, "out", "--format", "minari"]) == 2
    assert "choose another name" in capsys.readouterr().err
