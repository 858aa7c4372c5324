"""Traces and ground truth: files are read as they were written, other files are rejected."""

from __future__ import annotations

import io
import json
import pickle
import zipfile

import numpy as np
import pytest
from npz_made import Exploit

from malfl_algos.ground_truth import GroundTruth
from malfl_algos.learners.ma_spi import MaSpi
from malfl_algos.trace import (
    LearningTrace,
    NextStateCounts,
    Stage,
    Transitions,
)
from malfl_env import grid_world_v0


def learned(**options):
    env = grid_world_v0.parallel_env(slip=options.pop("slip", 0.0))
    learner = MaSpi(discount=0.9, temperature=3.0, episodes=3, episode_length=40, **options)
    stages = list(learner.learn(env, n_stages=3, rng=np.random.default_rng(0)))
    return LearningTrace(tuple(stage.observed for stage in stages))


def same(first, second):
    """Every array of two traces, compared."""
    for a, b in zip(first.stages, second.stages, strict=True):
        np.testing.assert_array_equal(a.joint_counts, b.joint_counts)
        for part in ("next_state_counts", "transitions"):
            assert (getattr(a, part) is None) == (getattr(b, part) is None)
            if getattr(a, part) is not None:
                for name, value in vars(getattr(a, part)).items():
                    other = getattr(getattr(b, part), name)
                    if isinstance(value, dict):
                        assert value.keys() == other.keys()
                        for key in value:
                            np.testing.assert_array_equal(value[key], other[key])
                    else:
                        np.testing.assert_array_equal(value, other)


@pytest.mark.parametrize("options", [{}, {"keep_transitions": True}, {"slip": 0.3}])
def test_round_trip(tmp_path, options):
    trace = learned(**options)
    trace.save(tmp_path / "trace.npz")
    same(trace, LearningTrace.load(tmp_path / "trace.npz"))
    first = (tmp_path / "trace.npz").read_bytes()
    trace.save(tmp_path / "trace.npz")
    assert (tmp_path / "trace.npz").read_bytes() == first
    assert [file.name for file in tmp_path.iterdir()] == ["trace.npz"]


def test_terminations(tmp_path):
    """Steps at which the game terminated; they must be ends of episodes."""
    ends = np.array([False, True, False, True])
    columns = {
        "states": np.arange(4),
        "joint_actions": np.zeros((4, 2), dtype=int),
        "next_states": np.arange(1, 5) % 4,
        "episode_ends": ends,
        "complete": True,
    }
    steps = Transitions(**columns, terminations=ends & [True, True, True, False])
    trace = LearningTrace((Stage(np.ones((4, 1, 1), dtype=np.int64), transitions=steps),))
    trace.save(tmp_path / "trace.npz")
    same(trace, LearningTrace.load(tmp_path / "trace.npz"))
    for wrong in (~ends, ends.astype(int), ends[:2]):
        with pytest.raises(ValueError, match="terminations"):
            Transitions(**columns, terminations=wrong)


def test_observations_in_place_of_states(tmp_path):
    """The trace of a non-enumerable game keeps the observations."""
    rng = np.random.default_rng(0)
    seen = {"agent_0": rng.standard_normal((7, 3)), "agent_1": rng.standard_normal((7, 2, 2))}
    steps = Transitions(
        states=None,
        joint_actions=rng.integers(0, 2, (7, 2)).astype(np.uint8),
        next_states=None,
        episode_ends=np.zeros(7, dtype=bool),
        complete=False,
        observations=seen,
        next_observations={agent: array + 1 for agent, array in seen.items()},
    )
    trace = LearningTrace((Stage(np.zeros((1, 2, 2), dtype=np.int64), None, steps),))
    trace.save(tmp_path / "trace.npz")
    same(trace, LearningTrace.load(tmp_path / "trace.npz"))


def test_a_trace_holds_no_rewards_and_no_policies(tmp_path):
    learned(keep_transitions=True).save(tmp_path / "trace.npz")
    with np.load(tmp_path / "trace.npz", allow_pickle=False) as archive:
        names = set(archive.files)
        manifest = json.loads(str(archive["manifest"]))
        floats = [name for name in names if archive[name].dtype.kind == "f"]
    assert floats == []
    assert manifest["transitions_complete"] == [True] * 3
    columns = {name.partition("/")[2] for name in names if "/" in name}
    assert columns == {
        "transitions/states",
        "transitions/joint_actions",
        "transitions/next_states",
        "transitions/episode_ends",
    }


def test_counts_add_up():
    trace = learned(slip=0.3, keep_transitions=True)
    for stage in trace.stages:
        assert stage.joint_counts.sum() == 120
        np.testing.assert_array_equal(stage.action_counts(1), stage.joint_counts.sum(axis=1))
        np.testing.assert_array_equal(stage.state_counts, stage.joint_counts.sum(axis=(1, 2)))
        seen = stage.next_state_counts
        recounted = np.zeros(81 * 25, dtype=np.int64)
        np.add.at(recounted, seen.rows, seen.counts)
        np.testing.assert_array_equal(recounted, stage.joint_counts.ravel())
        steps = stage.transitions
        assert steps.states.dtype == steps.joint_actions.dtype == np.uint8
        for s, a, t in zip(steps.states, steps.joint_actions, steps.next_states, strict=True):
            row = int(s) * 25 + int(a[0]) * 5 + int(a[1])
            assert np.any((seen.rows == row) & (seen.next_states == t))


def test_first_stages():
    trace = learned()
    assert trace.first(2).n_stages == 2
    assert trace.first(2).stages[1] is trace.stages[1]
    for n_stages in (0, 4):
        with pytest.raises(ValueError, match=r"1\.\.3"):
            trace.first(n_stages)


def test_ground_truth_round_trip_and_damage(tmp_path):
    truth = GroundTruth(
        {"agent_0": np.arange(4.0), "agent_1": np.ones((4, 2, 2))},
        {"agent_0": np.full((3, 4, 2), 0.5), "agent_1": np.full((3, 4, 2), 0.5)},
    )
    path = tmp_path / "ground_truth.npz"
    truth.save(path)
    loaded = GroundTruth.load(path)
    for agent in truth.rewards:
        np.testing.assert_array_equal(loaded.rewards[agent], truth.rewards[agent])
        np.testing.assert_array_equal(loaded.joint_policies[agent], truth.joint_policies[agent])
    GroundTruth({"agent_0": np.array([np.nan])}, truth.joint_policies).save(path)
    with pytest.raises(ValueError, match="not a finite float64"):
        GroundTruth.load(path)


def damaged_files(path):
    """(content, expected message) for files that are not traces."""
    content = path.read_bytes()
    yield content[: len(content) // 2], "not a readable npz"
    yield b"", "not a readable npz"
    yield pickle.dumps(Exploit()), "not a readable npz"
    buffer = io.BytesIO()
    np.savez(buffer, joint_counts=np.array([Exploit()], dtype=object))
    yield buffer.getvalue(), "not a readable npz"
    buffer = io.BytesIO()
    np.savez(buffer, joint_counts=np.zeros((2, 4, 2), dtype=np.int64))
    yield buffer.getvalue(), "manifest says 'nothing'"
    spoilt = bytearray(content)
    spoilt[len(content) // 3] ^= 0xFF
    yield bytes(spoilt), "not a"


def test_files_that_are_not_traces_are_rejected_by_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "trace.npz"
    learned().save(path)
    for content, message in list(damaged_files(path)):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=message) as caught:
            LearningTrace.load(path)
        assert str(path) in str(caught.value)
    assert not (tmp_path / "pwned").exists()
    with pytest.raises(ValueError, match="no such file"):
        LearningTrace.load(tmp_path / "absent.npz")


def test_a_ground_truth_is_no_trace(tmp_path):
    path = tmp_path / "file.npz"
    GroundTruth({"agent_0": np.ones(4)}, {"agent_0": np.full((3, 4, 2), 0.5)}).save(path)
    with pytest.raises(ValueError, match="expected a malfl learning trace"):
        LearningTrace.load(path)


@pytest.mark.parametrize("entry", ["joint_counts", "stage_1/transitions/joint_actions"])
def test_a_missing_array_is_rejected(tmp_path, entry):
    path = tmp_path / "trace.npz"
    learned(keep_transitions=True).save(path)
    with zipfile.ZipFile(path) as archive:
        kept = {n: archive.read(n) for n in archive.namelist() if n != f"{entry}.npy"}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in kept.items():
            archive.writestr(name, content)
    with pytest.raises(ValueError, match="not a learning trace"):
        LearningTrace.load(path)


def test_malformed_parts_are_rejected():
    counts = np.zeros((2, 2), dtype=np.int64)
    with pytest.raises(ValueError, match="stages must be at least one"):
        LearningTrace(())
    with pytest.raises(ValueError, match="whole numbers, got float64"):
        Stage(counts.astype(float))
    with pytest.raises(ValueError, match=">= 0, got -1"):
        Stage(counts - 1)
    with pytest.raises(ValueError, match="one length"):
        NextStateCounts(np.zeros(2, int), np.zeros(2, int), np.ones(1, int))
    ends, actions = np.zeros(3, dtype=bool), np.zeros((3, 2), dtype=np.uint8)
    with pytest.raises(ValueError, match="next_states has 2 entries for 3 steps"):
        Transitions(np.zeros(3, int), actions, np.zeros(2, int), ends, complete=True)
    with pytest.raises(ValueError, match="must be given together"):
        Transitions(np.zeros(3, int), actions, None, ends, complete=True)
    with pytest.raises(ValueError, match="states or observations"):
        Transitions(None, actions, None, ends, complete=True)
