"""Traces with observations: they are mapped from the disk as they were written, and other files are
rejected."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from gymnasium import spaces

from malfl_algos import TraceWriter
from malfl_algos.learners.ma_spi import MaSpi
from malfl_algos.trace import LearningTrace, Stage, Transitions
from malfl_env import grid_world_v0, markov_game
from malfl_env.spaces import space_from_json, space_to_json

AGENTS = ("walker", "a/../b")  # ids may be any text
SPACES = (spaces.Box(-1, 1, (2, 3)), spaces.MultiDiscrete([3, 4]))


def steps(n_steps=40, *, seed=0, terminates=False, states=False):
    rng = np.random.default_rng(seed)
    ends = np.arange(1, n_steps + 1) % 8 == 0
    ends[-1] = True
    observed = {
        kind: {
            AGENTS[0]: rng.uniform(-1, 1, (n_steps, 2, 3)).astype(np.float32),
            AGENTS[1]: rng.integers(3, size=(n_steps, 2), dtype=np.uint8),
        }
        for kind in ("observations", "next_observations")
    }
    visited = rng.integers(9, size=n_steps + 1)
    return Transitions(
        states=visited[:-1] if states else None,
        joint_actions=rng.integers(2, size=(n_steps, 2), dtype=np.uint8),
        next_states=visited[1:] if states else None,
        episode_ends=ends,
        complete=True,
        terminations=ends & (np.arange(n_steps) < 20) if terminates else None,
        **observed,
    )


def trace(*stages):
    own = stages or (steps(), steps(24, seed=1))
    return LearningTrace(tuple(Stage(transitions=stage) for stage in own), AGENTS, (2, 2), SPACES)


def columns(stage):
    """Every array of a stage, by name."""
    found = {}
    for name, value in vars(stage.transitions).items():
        if isinstance(value, dict):
            found |= {f"{name} of {agent}": array for agent, array in value.items()}
        elif value is not None:
            found[name] = value
    return found


def same(first, second):
    assert (first.agents, first.n_actions, first.spaces) == (
        second.agents,
        second.n_actions,
        second.spaces,
    )
    for one, other in zip(first.stages, second.stages, strict=True):
        assert columns(one).keys() == columns(other).keys()
        for name, array in columns(one).items():
            np.testing.assert_array_equal(array, columns(other)[name])
            assert np.asarray(array).dtype == np.asarray(columns(other)[name]).dtype


@pytest.mark.parametrize("options", [{}, {"terminates": True}, {"states": True}])
def test_round_trip_is_mapped(tmp_path, options):
    written = trace(steps(**options), steps(24, seed=1))
    written.save(tmp_path / "trace")
    read = LearningTrace.load(tmp_path / "trace")
    same(written, read)
    assert isinstance(read.stages[0].transitions.observations["walker"], np.memmap)
    assert not read.stages[0].transitions.joint_actions.flags.writeable
    assert [path.name for path in tmp_path.iterdir()] == ["trace"]


def test_a_stage_written_in_chunks_is_the_stage(tmp_path):
    whole = trace(steps(40, terminates=True), steps(24, seed=1))
    with TraceWriter(tmp_path / "trace", agents=AGENTS, n_actions=(2, 2), spaces=SPACES) as writer:
        for stage in whole.stages:
            for first in range(0, stage.n_steps, 7):  # an episode goes on from one to the next
                writer.append(stage.transitions.slice(first, first + 7))
            writer.end_stage()
    same(whole, LearningTrace.load(tmp_path / "trace"))
    manifest = json.loads((tmp_path / "trace/manifest.json").read_text())
    assert [c["rows"] for c in manifest["stages"][0]["columns"]["joint_actions"]["chunks"]] == [
        *[7] * 5,
        5,
    ]


def test_a_trace_takes_the_place_of_a_trace_and_of_nothing_else(tmp_path):
    folder = tmp_path / "trace"
    trace().save(folder)
    other = trace(steps(16, seed=3))
    LearningTrace.load(folder).save(folder)  # onto itself
    same(trace(), LearningTrace.load(folder))
    other.save(folder)
    same(other, LearningTrace.load(folder))
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis/chapter").write_text("all of it")
    with pytest.raises(ValueError, match="thesis: exists and is not a trace"):
        other.save(tmp_path / "thesis")
    assert (tmp_path / "thesis/chapter").read_text() == "all of it"


def test_a_writer_that_fails_leaves_what_was_there(tmp_path):
    folder = tmp_path / "trace"
    trace().save(folder)
    with pytest.raises(ValueError, match="rows of all chunks must have one type and shape"):
        write(folder, steps(8), narrow())
    same(trace(), LearningTrace.load(folder))
    assert [path.name for path in tmp_path.iterdir()] == ["trace"]


def write(folder, *parts, end=True):
    with TraceWriter(folder, agents=AGENTS, n_actions=(2, 2), spaces=SPACES) as writer:
        for part in parts:
            writer.append(part)
        if end:
            writer.end_stage()


def narrow():
    found = steps(8)
    halved = found.observations["walker"].astype(np.float16)
    return replace(found, observations={**found.observations, "walker": halved})


def test_chunks_that_make_no_stage_are_rejected(tmp_path):
    with pytest.raises(ValueError, match="rows of all chunks must have one type and shape"):
        write(tmp_path / "trace", steps(8), narrow())
    with pytest.raises(ValueError, match="columns"):
        write(tmp_path / "trace", steps(8), steps(8, states=True))
    with pytest.raises(ValueError, match=r"call end_stage\(\)"):
        write(tmp_path / "trace", steps(8), end=False)
    with pytest.raises(ValueError, match="stage 0 has no steps"):
        write(tmp_path / "trace")
    assert list(tmp_path.iterdir()) == []


def cut(path):
    path.write_bytes(path.read_bytes()[:-2])


def longer(path):
    path.write_bytes(path.read_bytes() + b"x")


def flipped(path):
    content = bytearray(path.read_bytes())
    content[-2] ^= 1
    path.write_bytes(content)


def pickled(path):
    np.save(path, np.array([{"a": 1}] * 40, dtype=object), allow_pickle=True)


def another(path):
    np.save(path, np.zeros((40, 7)))


def empty(path):
    path.write_bytes(b"")


def gone(path):
    path.unlink()


@pytest.mark.parametrize(
    "column", ["joint_actions", "episode_ends", "observations_0", "next_observations_1"]
)
@pytest.mark.parametrize("harm", [cut, longer, flipped, pickled, another, empty, gone])
def test_a_harmed_column_is_rejected_by_name(tmp_path, column, harm):
    trace().save(tmp_path / "trace")
    harm(tmp_path / f"trace/stage_0/{column}.npy")
    with pytest.raises(ValueError, match=f"stage_0/{column}.npy: "):
        LearningTrace.load(tmp_path / "trace")


@pytest.mark.parametrize("harm", [cut, flipped, empty, gone, pickled])
def test_a_harmed_manifest_is_rejected_by_name(tmp_path, harm):
    trace().save(tmp_path / "trace")
    path = tmp_path / "trace/manifest.json"
    harm(path)
    if harm is pickled:
        path.write_bytes((tmp_path / "trace/manifest.json.npy").read_bytes())
        (tmp_path / "trace/manifest.json.npy").unlink()
    with pytest.raises(ValueError, match=r"trace/manifest\.json: "):
        LearningTrace.load(tmp_path / "trace")


def rewrite(folder, change):
    """A manifest that was edited and given a correct checksum."""
    from malfl_algos.storage.durable import value_hash

    path = folder / "manifest.json"
    content = json.loads(path.read_text())
    del content["checksum"]
    change(content)
    path.write_text(json.dumps({**content, "checksum": value_hash(content)}))


def outside(content):
    columns = content["stages"][0]["columns"]
    columns["../../secret"] = columns["joint_actions"]


CHANGES = {
    "format": lambda c: c.update(format="malfl learning trace"),
    "version": lambda c: c.update(version=2),
    "no stages": lambda c: c.update(stages=[]),
    "stages are text": lambda c: c.update(stages="two"),
    "an agent less": lambda c: c["agents"].pop(),
    "agents are numbers": lambda c: c.update(agents=[1, 2]),
    "actions": lambda c: c.update(n_actions=[1, 1]),
    "actions are text": lambda c: c.update(n_actions=["many", "few"]),
    "space": lambda c: c["spaces"].reverse(),
    "space of nothing": lambda c: c.update(spaces=[{}, {}]),
    "huge space": lambda c: c["spaces"][0].update(shape=[2**40]),
    "outside": outside,
    "no column": lambda c: c["stages"][0]["columns"].pop("joint_actions"),
    "complete": lambda c: c["stages"][0].update(complete=1),
    "negative chunk": lambda c: c["stages"][0]["columns"]["joint_actions"]["chunks"][0].update(
        rows=-1
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_false_manifest_is_rejected(tmp_path, change):
    trace().save(tmp_path / "trace")
    rewrite(tmp_path / "trace", CHANGES[change])
    with pytest.raises(ValueError, match="trace"):
        LearningTrace.load(tmp_path / "trace")


def test_a_foreign_file_is_rejected_by_name(tmp_path):
    trace().save(tmp_path / "trace")
    (tmp_path / "trace/stage_1/rewards.npy").write_bytes(b"")
    with pytest.raises(ValueError, match=r"stage_1/rewards\.npy does not belong to this trace"):
        LearningTrace.load(tmp_path / "trace")


def test_without_verifying_only_sizes_are_looked_at(tmp_path):
    trace().save(tmp_path / "trace")
    flipped(tmp_path / "trace/stage_0/observations_0.npy")
    LearningTrace.load(tmp_path / "trace", verify=False)
    cut(tmp_path / "trace/stage_0/observations_0.npy")
    with pytest.raises(ValueError, match=r"observations_0\.npy"):
        LearningTrace.load(tmp_path / "trace", verify=False)


def test_tabular_steps_as_observations():
    """Rows and columns of every agent, as in the observations of the environment."""
    env = grid_world_v0.parallel_env()
    learner = MaSpi(
        discount=0.9, temperature=3.0, episodes=3, episode_length=40, keep_transitions=True
    )
    stages = learner.learn(env, n_stages=2, rng=np.random.default_rng(0))
    learned = LearningTrace(tuple(stage.observed for stage in stages))
    seen = learned.with_observations(markov_game(env)).stages[1].transitions
    kept = learned.stages[1].transitions
    observation, _ = env.reset()
    for step, action in enumerate(kept.joint_actions[:40]):
        for agent in env.possible_agents:
            np.testing.assert_array_equal(seen.observations[agent][step], observation[agent])
        acts = dict(zip(env.possible_agents, map(int, action), strict=True))
        observation = env.step(acts)[0]
        np.testing.assert_array_equal(
            seen.next_observations["agent_0"][step], observation["agent_0"]
        )
    without = LearningTrace(tuple(type(s)(s.joint_counts) for s in learned.stages))
    with pytest.raises(ValueError, match="keep_transitions"):
        without.with_observations(markov_game(env))


@pytest.mark.parametrize(
    "space",
    [
        spaces.Discrete(5, start=-2),
        spaces.MultiDiscrete([3, 4], start=[1, -1]),
        spaces.MultiBinary((2, 3)),
        spaces.Box(-np.inf, np.array([2.0, np.inf], dtype=np.float32)),
        spaces.Box(0, 255, (4, 4, 3), np.uint8),
        spaces.Box(-1e300, 0.1, (2,), np.float64),
    ],
    ids=str,
)
def test_spaces_in_json(space):
    assert space_from_json(json.loads(json.dumps(space_to_json(space)))) == space


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"joint_actions": np.full((40, 2), 2)}, "stage 0: actions of walker must be in 0..1"),
        ({"joint_actions": np.zeros((40, 3), int)}, r"joint_actions must be \(n_steps, 2\)"),
        ({"episode_ends": np.zeros(40, bool)}, "true at the stage's last step"),
        ({"observations": {}}, "stage 0: observations must have the agents"),
        ({"observations": {a: np.zeros((40, 2)) for a in AGENTS}}, "observations of walker"),
    ],
)
def test_stages_that_do_not_fit(changed, words):
    with pytest.raises(ValueError, match=words):
        trace(Transitions(**{**vars(steps(states=True)), **changed}))


def test_the_package_hands_on_the_writer_without_loading_file_code():
    code = (
        "import sys, malfl_algos; print(any('storage' in name for name in sys.modules)); "
        "from malfl_algos import TraceWriter; print(TraceWriter.__module__)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "malfl_algos.storage.trace_folders"]
