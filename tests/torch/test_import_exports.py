"""`malfl import` restores what `malfl export` wrote, and reads data sets that others wrote."""

from __future__ import annotations

import json
from dataclasses import replace

import minari
import numpy as np
import pytest
from gymnasium import spaces
from minari.data_collector import EpisodeBuffer
from minari.dataset.minari_storage import MinariStorage
from network_games import corridor_trace

from malfl_algos import LearningTrace
from malfl_algos.cli.main import main
from malfl_algos.storage.origins import stage_hashes
from malfl_algos.storage.tables import export_minari, export_parquet

EXPORTS = {"parquet": export_parquet, "minari": export_minari}


@pytest.fixture
def observed():
    return corridor_trace()


@pytest.fixture
def tabular():
    rng = np.random.default_rng(1)
    table = {
        "s": rng.choice(["hall", "room", "exit"], 60),
        "a": rng.integers(0, 2, 60),
        "b": rng.choice(["stay", "go"], 60),
        "episode": np.arange(60) // 10,
        "step": np.arange(60) % 10,
    }
    return LearningTrace.from_table(
        table,
        state="s",
        actions={"alice": "a", "bob": "b"},
        episode="episode",
        step="step",
        n_stages=3,
        n_actions={"alice": 3},
    ).with_observations(None)


def equal(first, second):
    for name in ("agents", "n_actions", "spaces", "states", "actions", "n_stages"):
        assert getattr(first, name) == getattr(second, name), name
    assert first.notes == second.notes
    assert stage_hashes(first) == stage_hashes(second)
    for one, other in zip(first.stages, second.stages, strict=True):
        if one.joint_counts is not None:
            np.testing.assert_array_equal(one.joint_counts, other.joint_counts)
        ours, theirs = one.transitions, other.transitions
        assert ours.complete == theirs.complete
        for name in ("states", "joint_actions", "next_states", "episode_ends", "terminations"):
            own, read = getattr(ours, name), getattr(theirs, name)
            assert (own is None) == (read is None), name
            if own is not None:
                np.testing.assert_array_equal(own, read)
        for kind in ("observations", "next_observations"):
            assert getattr(ours, kind).keys() == getattr(theirs, kind).keys()
            for agent, own in getattr(ours, kind).items():
                np.testing.assert_array_equal(own, getattr(theirs, kind)[agent])


@pytest.mark.parametrize("form", EXPORTS)
@pytest.mark.parametrize("kind", ["observed", "tabular"])
def test_an_export_comes_back_as_it_was(form, kind, request, tmp_path, capsys):
    trace = request.getfixturevalue(kind)
    name = "log.parquet" if form == "parquet" else "log"
    EXPORTS[form](trace, tmp_path / name)
    assert main(["import", str(tmp_path / name), "--output", str(tmp_path / "back")]) == 0
    assert "the trace that malfl export wrote" in capsys.readouterr().out
    equal(LearningTrace.load(tmp_path / "back"), trace)


def test_an_export_can_be_cut_anew(tabular, tmp_path):
    export_parquet(tabular, tmp_path / "log.parquet")
    given = ["import", str(tmp_path / "log.parquet"), "--output", str(tmp_path / "back.npz")]
    assert main([*given, "--stages", "2"]) == 2, "episodes begin anew in each stage"
    assert main([*given, "--stages", "2", "--subject", "stage"]) == 0
    assert LearningTrace.load(tmp_path / "back.npz").n_stages == 2


def test_counts_beyond_the_steps_are_told_of(tabular, tmp_path, capsys):
    stage = tabular.stages[0]
    steps = replace(stage.transitions, complete=False)
    more = replace(stage, joint_counts=stage.counts + 1, transitions=steps)
    export_parquet(replace(tabular, stages=(more, *tabular.stages[1:])), tmp_path / "log.parquet")
    given = ["import", str(tmp_path / "log.parquet"), "--output", str(tmp_path / "back.npz")]
    assert main(given) == 0
    assert "the exported trace held more than its ordered steps" in capsys.readouterr().out


def foreign(folder):
    """A data set of one agent as others write it."""
    folder.mkdir()
    storage = MinariStorage.new(
        folder,
        observation_space=spaces.MultiDiscrete([3, 2]),
        action_space=spaces.Discrete(4),
        data_format="hdf5",
    )
    rng = np.random.default_rng(0)
    storage.update_metadata({"dataset_id": "x-v0", "minari_version": minari.__version__})
    storage.update_episodes(
        EpisodeBuffer(
            observations=np.stack([rng.integers(0, 3, 7), rng.integers(0, 2, 7)], axis=1),
            actions=rng.integers(0, 4, 6),
            rewards=np.zeros(6),
            terminations=np.arange(6) == 5,
            truncations=np.zeros(6, bool),
        )
        for _ in range(4)
    )


def test_a_foreign_data_set(tmp_path, capsys):
    foreign(tmp_path / "log")
    given = ["import", str(tmp_path / "log"), "--output", str(tmp_path / "t.npz")]
    assert main([*given, "--episodes-per-stage", "2"]) == 2
    assert "--state COL is needed" in capsys.readouterr().err
    given += ["--state", "observation", "--next-state", "next_observation"]
    assert main([*given, "--episodes-per-stage", "2", "--actions", "mouse=action"]) == 0
    trace = LearningTrace.load(tmp_path / "t.npz")
    assert [stage.n_steps for stage in trace.stages] == [12, 12]
    assert trace.agents == ("mouse",)
    assert set(trace.states) <= {(row, door) for row in range(3) for door in range(2)}
    np.testing.assert_array_equal(trace.stages[0].transitions.terminations, np.arange(12) % 6 == 5)


def test_the_environment_of_a_data_set_is_never_made(tmp_path, capsys):
    """Its specification may name any module and class."""
    foreign(tmp_path / "log")
    path = tmp_path / "log" / "metadata.json"
    metadata = json.loads(path.read_text())
    del metadata["observation_space"]
    metadata["env_spec"] = json.dumps({"id": "x-v0", "entry_point": "antigravity:fly"})
    path.write_text(json.dumps(metadata))
    assert main(["import", str(tmp_path / "log"), "--output", str(tmp_path / "t.npz")]) == 2
    assert "no observation_space in its metadata, and its env" in capsys.readouterr().err
    assert not (tmp_path / "t.npz").exists()
