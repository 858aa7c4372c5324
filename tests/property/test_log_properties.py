"""Logs of any content: a loop over dictionaries as oracle, exports and files as round trips."""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from malfl_algos import LearningTrace

STATES = st.sampled_from(["hall", "room", "\u00e9t\u00e9, 2", 'say "x"'])
MANY = settings(max_examples=12, deadline=None)


@st.composite
def logs(draw):
    """Rows (subject, episode, step, state, actions of two agents) of a log, in any order."""
    rows = []
    for subject in range(draw(st.integers(1, 2))):
        for episode in range(draw(st.integers(2, 4))):
            for step in range(draw(st.integers(2, 5))):
                actions = draw(st.tuples(st.integers(0, 2), st.sampled_from("lr")))
                rows.append((subject, 10 * episode, 3 + step, draw(STATES), *actions))
    return draw(st.permutations(rows))


NAMES = ("subject", "episode", "step", "state", "alice", "bob")
ROLES = {
    "state": "state",
    "actions": {"alice": "alice", "bob": "bob"},
    "episode": "episode",
    "step": "step",
    "subject": "subject",
    "episodes_per_stage": 2,
}


def table(rows):
    return {name: list(own) for name, own in zip(NAMES, zip(*rows, strict=True), strict=True)}


def by_a_loop(rows):
    """How often (stage, state, actions, next state) occurs."""
    steps = {row[:3]: row[3:] for row in rows}
    return Counter(
        (episode // 10 // 2, state, alice, bob, steps[subject, episode, step + 1][0])
        for (subject, episode, step), (state, alice, bob) in steps.items()
        if (subject, episode, step + 1) in steps
    )


def of_trace(trace):
    """The same of a trace, by its labels."""
    found = Counter()
    alice, bob = trace.actions
    for number, stage in enumerate(trace.stages):
        steps = stage.transitions
        for state, joint, after in zip(
            steps.states, steps.joint_actions, steps.next_states, strict=True
        ):
            states = (trace.states[state], trace.states[after])
            found[number, states[0], alice[joint[0]], bob[joint[1]], states[1]] += 1
    return found


@MANY
@given(logs())
def test_steps_are_those_of_a_loop(rows):
    assert of_trace(LearningTrace.from_table(table(rows), **ROLES)) == by_a_loop(rows)


@MANY
@given(logs())
def test_one_row_per_agent_is_the_same_as_one_per_step(rows):
    long = [
        (*row[:4], agent, str(row[4 + k])) for row in rows for k, agent in enumerate(("b", "a"))
    ]
    columns = dict(zip((*NAMES[:4], "who", "act"), map(list, zip(*long, strict=True)), strict=True))
    roles = {name: own for name, own in ROLES.items() if name != "actions"}
    trace = LearningTrace.from_table(columns, **roles, agent="who", action="act")
    found = of_trace(trace)
    swapped = Counter({(h, s, int(b), a, t): n for (h, s, a, b, t), n in found.items()})
    assert swapped == by_a_loop(rows)


@MANY
@given(logs())
def test_a_csv_is_its_table(rows):
    pytest.importorskip("pyarrow")
    import csv

    from malfl_algos.logs.files import open_log

    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "log.csv"
        with path.open("w", newline="", encoding="utf-8") as stream:
            csv.writer(stream).writerows([NAMES, *rows])
        log = open_log(path)
        trace = LearningTrace.from_table(log.read(log.names), **ROLES)
    assert of_trace(trace) == by_a_loop(rows)


@MANY
@given(logs())
def test_an_export_is_its_trace(rows):
    pytest.importorskip("pyarrow")
    from malfl_algos.logs.exported import trace_of_export
    from malfl_algos.logs.files import open_log
    from malfl_algos.storage.tables import export_parquet

    trace = LearningTrace.from_table(table(rows), **ROLES, n_actions={"alice": 4})
    trace = trace.with_observations(None)
    with tempfile.TemporaryDirectory() as name:
        export_parquet(trace, Path(name) / "log.parquet")
        back = trace_of_export(open_log(Path(name) / "log.parquet"))
    for part in ("agents", "n_actions", "states", "actions", "notes", "spaces"):
        assert getattr(back, part) == getattr(trace, part)
    for one, other in zip(back.stages, trace.stages, strict=True):
        np.testing.assert_array_equal(one.counts, other.counts)
        for part in ("states", "joint_actions", "next_states", "episode_ends"):
            ours, theirs = getattr(one.transitions, part), getattr(other.transitions, part)
            np.testing.assert_array_equal(ours, theirs)
        assert one.transitions.complete == other.transitions.complete
