"""The trace: the content of a stage, its checks, and read-only arrays."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from gymnasium.spaces import Box

from malfl_algos import LearningTrace, Stage, Transitions
from malfl_algos.plugins import load_observer
from malfl_algos.trace import NextStateCounts
from malfl_env.errors import InputError


def walk(n_steps=12, *, seed=0, length=4, **changed):
    """Steps of two agents with three actions each in a game of five states."""
    rng = np.random.default_rng(seed)
    visited = rng.integers(5, size=n_steps + 1)
    columns = {
        "states": visited[:-1],
        "joint_actions": rng.integers(3, size=(n_steps, 2)),
        "next_states": visited[1:],
        "episode_ends": np.arange(1, n_steps + 1) % length == 0,
        "complete": True,
    }
    return Transitions(**{**columns, **changed})


def counts_of(steps):
    counts = np.zeros((5, 3, 3), dtype=np.int64)
    np.add.at(counts, (steps.states, *steps.joint_actions.T), 1)
    return counts


def observed(steps, agents=("a", "b")):
    rng = np.random.default_rng(1)
    seen = {agent: rng.normal(size=(steps.n_steps, 2)) for agent in agents}
    return replace(steps, states=None, next_states=None, observations=seen, next_observations=seen)


# Operations on steps


def test_joined_slices_are_the_original_steps():
    whole = replace(observed(walk()), terminations=np.arange(12) == 7)
    parts = [whole.slice(0, 5), whole.slice(5, 6), replace(whole.slice(6, 12))]
    again = Transitions.concat(parts)
    assert again.n_steps == 12
    for name in ("joint_actions", "episode_ends", "terminations"):
        np.testing.assert_array_equal(getattr(again, name), getattr(whole, name))
    np.testing.assert_array_equal(again.observations["b"], whole.observations["b"])
    assert Transitions.concat([whole]) is whole


def test_terminations_are_filled_in_where_a_part_has_none():
    one, other = walk(4), replace(walk(4, seed=1), terminations=np.arange(4) == 3)
    both = Transitions.concat([one, other])
    assert both.terminations.tolist() == [False] * 7 + [True]


def test_parts_with_other_columns_are_rejected():
    with pytest.raises(InputError, match="same columns"):
        Transitions.concat([walk(), observed(walk())])
    with pytest.raises(InputError, match="parts must be at least one"):
        Transitions.concat([])


def test_completeness_is_that_of_all_parts():
    assert not Transitions.concat([walk(), replace(walk(), complete=False)]).complete


def test_map_keeps_what_agents_share():
    seen = np.arange(12.0)[:, None]
    steps = replace(walk(), observations={"a": seen, "b": seen}, next_observations={"a": seen})
    assert steps.observations["a"] is steps.observations["b"]
    mapped = steps.map(lambda column: column[::1].copy())
    assert mapped.observations["a"] is mapped.observations["b"] is mapped.next_observations["a"]


def test_steps_must_continue_within_an_episode():
    steps = walk()
    shifted = (steps.states + (np.arange(12) == 6)) % 5
    with pytest.raises(InputError, match=r"step 5 leads to state \d, step 6 begins in state \d"):
        replace(steps, states=shifted)
    replace(steps, states=(steps.states + (np.arange(12) == 8)) % 5)  # another episode begins there


# What is kept


@pytest.mark.parametrize("kind", [">i4", "<i8", "u1", ">u8", "i2"])
def test_integers_of_any_kind_are_the_same_steps(kind):
    steps = walk()
    columns = ("states", "joint_actions", "next_states")
    own = replace(steps, **{name: getattr(steps, name).astype(kind) for name in columns})
    for name in columns:
        np.testing.assert_array_equal(getattr(own, name), getattr(steps, name))
        assert getattr(own, name).dtype.isnative
    stage = Stage(counts_of(steps).astype(kind), transitions=own)
    assert stage.counts.dtype == np.int64
    np.testing.assert_array_equal(stage.counts, counts_of(steps))


def test_checked_arrays_cannot_be_changed():
    steps = walk()
    states, counts = steps.states.copy(), counts_of(steps)
    seen = NextStateCounts(*(np.array([number]) for number in (0, 1, 2)))
    own = replace(steps, states=states)
    stage = Stage(counts, transitions=own)
    states[:], counts[:] = 10**6, -5
    np.testing.assert_array_equal(own.states, steps.states)
    assert stage.counts.min() == 0
    for array in (own.states, own.joint_actions, own.episode_ends, stage.counts, seen.rows):
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 1


def test_a_read_only_view_of_a_writeable_array_is_copied():
    states = walk().states.copy()
    view = states[:]
    view.flags.writeable = False
    own = replace(walk(), states=view)
    states[0] = 10**6
    assert own.states[0] < 5


def test_read_only_arrays_are_not_copied():
    steps = walk()
    assert replace(steps).states is steps.states
    assert np.shares_memory(steps.slice(3, 6).states, steps.states)


def test_mapped_columns_stay_mapped(tmp_path):
    np.save(tmp_path / "seen.npy", np.zeros((12, 2)))
    for mode in ("r", "r+"):
        seen = np.load(tmp_path / "seen.npy", mmap_mode=mode)
        own = replace(walk(), observations={"a": seen}).observations["a"]
        assert isinstance(own, np.memmap)
        assert np.shares_memory(own, seen)
        assert not own.flags.writeable


# Parts that contradict each other


def test_counts_are_those_of_the_steps():
    steps = walk()
    counts = counts_of(steps)
    Stage(counts, transitions=steps)
    more = counts.copy()
    more[0, 0, 0] += 1
    with pytest.raises(InputError, match=r"joint action \(0, 0\) in joint state 0, transitions"):
        Stage(more, transitions=steps)
    Stage(more, transitions=replace(steps, complete=False))
    with pytest.raises(InputError, match="joint_counts hold 0 plays"):
        Stage(counts * 0, transitions=replace(steps, complete=False))


def test_counts_of_next_states_are_those_of_the_steps():
    steps = walk()
    counts = counts_of(steps)
    seen = Stage(counts, transitions=steps).seen_next_states
    Stage(counts, seen, steps)
    again = np.zeros((45, 5), dtype=np.int64)
    again[seen.rows, seen.next_states] = seen.counts
    np.testing.assert_array_equal(again.sum(axis=1), counts.ravel())
    with pytest.raises(InputError, match="next_state_counts hold"):
        Stage(counts, replace(seen, counts=seen.counts + 1), steps)
    with pytest.raises(InputError, match=r"next_state_counts hold .* times that joint action"):
        Stage(counts, replace(seen, next_states=(seen.next_states + 1) % 5), steps)


def test_counting_next_states_by_sorting_is_counting_them_by_a_table(monkeypatch):
    steps = walk(500, length=7)
    table = Stage(counts_of(steps), transitions=steps).seen_next_states
    monkeypatch.setattr("malfl_algos.trace.stages.DENSE", 0)
    by_sorting = Stage(counts_of(steps), transitions=steps).seen_next_states
    for name in ("rows", "next_states", "counts"):
        np.testing.assert_array_equal(getattr(table, name), getattr(by_sorting, name))


# Stages and traces


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({}, "both are None"),
        ({"transitions": walk()}, "needs observations and next_observations"),
        ({"transitions": observed(walk()).slice(0, 0)}, "at least one step"),
        ({"transitions": observed(walk()).slice(0, 3)}, "true at the stage's last step"),
        ({"joint_counts": np.ones(3, int)}, r"must be \(n_states, \*n_actions\)"),
        ({"joint_counts": np.ones((3, 2), bool)}, "must be whole numbers, got bool"),
    ],
)
def test_stages_that_hold_too_little(parts, words):
    with pytest.raises(InputError, match=words):
        Stage(**parts)


def test_agents_and_actions_of_a_tabular_trace():
    stage = Stage(np.ones((5, 3, 2), dtype=np.int64))
    trace = LearningTrace((stage,))
    assert (trace.agents, trace.n_actions, trace.n_states) == (("agent_0", "agent_1"), (3, 2), 5)
    assert LearningTrace([stage], ("cat", "dog")).first(1).agents == ("cat", "dog")
    with pytest.raises(InputError, match="agents must be distinct"):
        LearningTrace((stage,), ("cat", "cat"))
    with pytest.raises(InputError, match="the counts have"):
        LearningTrace((stage,), n_actions=(2, 3))


def test_one_kind_of_stage_in_a_trace():
    tabular, other = Stage(np.ones((5, 3, 3), dtype=np.int64)), Stage(transitions=observed(walk()))
    with pytest.raises(InputError, match="different games"):
        LearningTrace((tabular, other))
    with pytest.raises(InputError, match="must be of type Stage, got a Transitions"):
        LearningTrace((other.transitions,))
    space = Box(-9, 9, (2,), np.float64)
    with pytest.raises(InputError, match="needs n_actions"):
        LearningTrace((other,), ("a", "b"))
    with pytest.raises(InputError, match="needs the agents' observation spaces"):
        LearningTrace((other,), ("a", "b"), (3, 3))
    trace = LearningTrace((other,), ("a", "b"), (3, 3), (space, space))
    assert not trace.is_tabular
    with pytest.raises(InputError, match="its game is not tabular"):
        _ = trace.n_states


def test_a_tabular_trace_keeps_names_and_observations(tmp_path):
    steps = replace(walk(), complete=False)
    seen = {agent: steps.states[:, None].astype(float) for agent in ("cat", "dog")}
    steps = replace(steps, observations=seen, next_observations=seen)
    space = Box(0, 9, (1,), np.float64)
    trace = LearningTrace(
        (Stage(counts_of(steps), transitions=steps),), ("cat", "dog"), spaces=(space, space)
    )
    trace.save(tmp_path / "trace.npz")
    read = LearningTrace.load(tmp_path / "trace.npz")
    assert (read.agents, read.spaces) == (trace.agents, trace.spaces)
    np.testing.assert_array_equal(read.stages[0].transitions.observations["dog"], seen["dog"])


COUNTS = np.ones((3, 2, 2), dtype=np.int64)


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: Stage([[1, 2], [3]]), "joint_counts must be whole numbers"),
        (lambda: Stage(COUNTS, "no counts"), "next_state_counts must be of type NextStateCounts"),
        (lambda: Stage(COUNTS, None, "no steps"), "transitions must be of type Transitions"),
        (lambda: LearningTrace(3), "stages must be a list or a tuple"),
        (lambda: LearningTrace("stages"), "stages must be a list or a tuple"),
        (lambda: LearningTrace((Stage(COUNTS),), agents=3), "agents must be a list or a tuple"),
        (lambda: LearningTrace((Stage(COUNTS),), agents=([], [])), "agents must be ids"),
        (
            lambda: LearningTrace((Stage(COUNTS),), n_actions=("2", "2")),
            "n_actions must be a whole",
        ),
        (lambda: LearningTrace((Stage(COUNTS),)).first("1"), "n_stages must be 1..1, got '1'"),
        (lambda: load_observer(3), "the name of a plugin must be text, got 3"),
    ],
)
def test_wrong_types_are_bad_input_that_names_the_argument(make, named):
    with pytest.raises(InputError, match=re.escape(named)):
        make()
