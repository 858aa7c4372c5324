"""Traces from tables: forms of the table, order, stages, and errors by row."""

from __future__ import annotations

import re
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from malfl_algos import LearningTrace
from malfl_env import InputError, MarkovGame

WIDE = {
    "s": [0, 1, 2, 0, 2, 1],
    "episode": [0, 0, 0, 1, 1, 1],
    "step": [0, 1, 2, 0, 1, 2],
    "a": [0, 1, 0, 1, 1, 0],
    "b": ["left", "right", "left", "left", "left", "right"],
}
ROLES = {
    "state": "s",
    "episode": "episode",
    "step": "step",
    "actions": {"alice": "a", "bob": "b"},
    "episodes_per_stage": 1,
}


def of(table, **changes):
    roles = {**ROLES, **changes}
    return LearningTrace.from_table(table, **{k: v for k, v in roles.items() if v is not None})


def same(first, second):
    """Whether two traces hold the same steps, names and counts; notes may differ."""
    assert (first.agents, first.n_actions, first.n_stages) == (
        second.agents,
        second.n_actions,
        second.n_stages,
    )
    assert (first.states, first.actions) == (second.states, second.actions)
    for one, other in zip(first.stages, second.stages, strict=True):
        np.testing.assert_array_equal(one.joint_counts, other.joint_counts)
        for name in ("states", "joint_actions", "next_states", "episode_ends", "terminations"):
            a, b = getattr(one.transitions, name), getattr(other.transitions, name)
            assert (a is None) == (b is None)
            if a is not None:
                np.testing.assert_array_equal(a, b)
    return True


def test_a_table_with_one_row_per_step():
    trace = of(WIDE)
    assert trace.agents == ("alice", "bob")
    assert (trace.n_stages, trace.n_states, trace.n_actions) == (2, 3, (2, 2))
    assert trace.states is None
    assert trace.actions == ((0, 1), ("left", "right"))
    steps = trace.stages[0].transitions
    np.testing.assert_array_equal(steps.states, [0, 1])
    np.testing.assert_array_equal(steps.next_states, [1, 2])
    np.testing.assert_array_equal(steps.joint_actions, [[0, 0], [1, 1]])
    np.testing.assert_array_equal(steps.episode_ends, [False, True])
    assert not steps.complete, "the learners learned from the last steps, too"
    assert trace.notes[0].endswith("left out: 2 (the transitions are not complete)")
    assert trace.stages[0].joint_counts[0, 0, 0] == 1


def test_a_table_with_one_row_per_agent():
    long = {
        "s": np.repeat(WIDE["s"], 2),
        "episode": np.repeat(WIDE["episode"], 2),
        "step": np.repeat(WIDE["step"], 2),
        "who": ["bob", "alice"] * 6,
        "act": [x for a, b in zip(WIDE["a"], WIDE["b"], strict=True) for x in (b, "lr"[a])],
    }
    roles = {"actions": None, "agent": "who", "action": "act"}
    trace = of(long, **roles)
    assert trace.agents == ("alice", "bob")
    assert trace.actions == (("l", "r"), ("left", "right"))
    np.testing.assert_array_equal(trace.stages[0].transitions.joint_actions, [[0, 0], [1, 1]])


@settings(max_examples=30, deadline=None)
@given(st.randoms(use_true_random=False), st.booleans())
def test_the_order_of_rows_and_columns_does_not_matter(random, long):
    table = {name: list(column) for name, column in WIDE.items()}
    roles = {}
    if long:
        table = {name: [own for own in table[name] for _ in "ab"] for name in ("s", *EPISODE)}
        table["who"] = ["x", "y"] * 6
        table["act"] = [k % 3 for k in range(12)]
        roles = {"actions": None, "agent": "who", "action": "act"}
    order = list(range(len(table["s"])))
    random.shuffle(order)
    names = list(table)
    random.shuffle(names)
    shuffled = {name: [table[name][row] for row in order] for name in names}
    assert same(of(shuffled, **roles), of(table, **roles))


EPISODE = ("episode", "step")


@settings(max_examples=30, deadline=None)
@given(st.permutations(["p", "q", "r"]))
def test_labels_only_rename_states(labels):
    """The counts of a renamed table are those of the table, with states in the labels' order."""
    trace, renamed = of(WIDE), of({**WIDE, "s": [labels[s] for s in WIDE["s"]]})
    assert renamed.states == ("p", "q", "r")
    place = [labels.index(label) for label in renamed.states]
    for one, other in zip(trace.stages, renamed.stages, strict=True):
        np.testing.assert_array_equal(one.joint_counts[place], other.joint_counts)


def test_a_state_of_several_columns():
    trace = of({**WIDE, "door": [False, True, True, False, True, True]}, state=["s", "door"])
    assert trace.states == ((0, False), (1, True), (2, True))
    np.testing.assert_array_equal(trace.stages[0].transitions.states, [0, 1])


def test_columns_of_lists_are_several_columns():
    table = {**WIDE, "s": [[0, s] for s in WIDE["s"]]}
    assert of(table).states == ((0, 0), (0, 1), (0, 2))
    assert of({**WIDE, "s": np.array(table["s"])}).states == ((0, 0), (0, 1), (0, 2))


def test_whole_numbers_stay_themselves_and_sizes_can_be_given():
    trace = of({**WIDE, "s": [3 * s for s in WIDE["s"]]}, n_states=9, n_actions={"alice": 4})
    assert (trace.n_states, trace.n_actions) == (9, (4, 2))
    assert trace.states is None
    np.testing.assert_array_equal(trace.stages[0].transitions.next_states, [3, 6])


def test_a_last_row_without_actions_gives_the_final_state():
    table = {**WIDE, "a": [0, 1, None, 1, 1, None], "b": ["l", "r", None, "l", "l", None]}
    trace = of(table)
    assert trace.notes[0] == "rows without actions, used as final states of episodes: 2"
    assert [stage.n_steps for stage in trace.stages] == [2, 2]
    np.testing.assert_array_equal(trace.stages[1].transitions.next_states, [2, 1])


@pytest.mark.parametrize("blank", ["", "  "])
def test_blank_text_is_a_missing_value(blank):
    def table(missing):
        return {name: [*own, missing] for name, own in WIDE.items()} | {
            "s": [*WIDE["s"], 2],
            "episode": [*WIDE["episode"], 1],
            "step": [*WIDE["step"], 3],
        }

    expected, made = of(table(None)), of(table(blank))
    assert same(made, expected)
    assert made.actions[1] == ("left", "right")
    assert same(of({**table(blank), "b": np.array(table(blank)["b"])}), expected)
    arrow = pytest.importorskip("pyarrow")
    assert same(of({**table(None), "b": arrow.array(table(blank)["b"])}), expected)
    empty = {**WIDE, "b": arrow.array(["left", blank, *WIDE["b"][2:]])}
    with pytest.raises(InputError, match=r"row 1 .*'b': the action of bob is missing"):
        of(empty)


def test_a_trace_and_a_stage_are_shown_in_a_few_lines():
    trace = of(WIDE)
    assert repr(trace).splitlines()[:2] == [
        "LearningTrace of alice, bob: 2 stages, 4 steps",
        "3 joint states; numbers of actions: 2, 2",
    ]
    assert len(repr(trace).splitlines()) == 3
    assert repr(trace.stages[0]) == (
        "Stage: 2 steps; 3 joint states; actions 2, 2; counts; ordered steps"
    )


def test_a_column_of_next_states_keeps_last_steps():
    table = {**WIDE, "then": [1, 2, 1, 2, 1, 0]}
    trace = of(table, next_state="then")
    assert [stage.n_steps for stage in trace.stages] == [3, 3]
    np.testing.assert_array_equal(trace.stages[0].transitions.next_states, [1, 2, 1])
    partly = of({**WIDE, "then": [np.nan, 2, np.nan, 2, 1, 0]}, next_state="then")
    assert [stage.n_steps for stage in partly.stages] == [2, 3]


def test_a_stage_may_end_within_an_episode():
    trace = of({**WIDE, "episode": [7] * 6, "step": range(6)}, steps_per_stage=2, **NO_EPISODES)
    assert [stage.n_steps for stage in trace.stages] == [2, 2, 1]
    np.testing.assert_array_equal(trace.stages[0].transitions.episode_ends, [False, True])
    np.testing.assert_array_equal(trace.stages[0].transitions.next_states, [1, 2])
    assert trace.stages[0].transitions.complete, "nothing follows the only step that is left out"


NO_EPISODES = {"episodes_per_stage": None}


def test_a_stage_column_may_cut_an_episode():
    table = {**WIDE, "episode": [0] * 6, "step": range(6), "round": ["b", "b", "b", "a", "a", "a"]}
    trace = of(table, stage="round", **NO_EPISODES)
    assert [stage.n_steps for stage in trace.stages] == [3, 2]
    np.testing.assert_array_equal(trace.stages[0].transitions.next_states, [1, 2, 0])
    assert "column 'round' is text: its stages are in the order of their first rows" in trace.notes


def test_parts_end_with_episodes_where_they_can():
    n = 100
    table = {"s": [0, 1] * 50, "a": [0] * n, "episode": np.arange(n) // 10, "step": range(n)}
    roles = {"actions": {"x": "a"}, **NO_EPISODES}
    trace = of(table, n_stages=3, **roles)
    assert [stage.n_steps for stage in trace.stages] == [27, 36, 27]
    whole = of({**table, "episode": [0] * n}, n_stages=3, **roles)
    assert [stage.n_steps for stage in whole.stages] == [33, 33, 33]


def test_subjects_are_pooled_or_apart():
    twice = {name: [*column, *column] for name, column in WIDE.items()}
    twice["mouse"] = ["m1"] * 6 + ["m2"] * 6
    pooled = of(twice, subject="mouse")
    assert [stage.n_steps for stage in pooled.stages] == [4, 4]
    assert not pooled.stages[0].transitions.complete, "no learner had the steps of all"
    apart = LearningTrace.from_subjects(twice, **{**ROLES, "subject": "mouse"})
    assert list(apart) == ["m1", "m2"]
    for own in apart.values():
        assert same(own, of(WIDE))
        assert own.notes


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"s": [0, 1, None, 0, 2, 1]}, "row 2 (episode 0, step 2), column 's': the state is miss"),
        ({"s": [0, 1, -2, 0, 2, 1]}, "row 2, column 's': the state is -2, allowed: 0 to"),
        ({"a": [0, None, 0, 1, 1, 0]}, "row 1 (episode 0, step 1), column 'a': the action of ali"),
        ({"step": [0, 1, 3, 0, 1, 2]}, "row 2 (episode 0, step 3): the row before it (row 1) has"),
        ({"step": [0, 1, 1, 0, 1, 2]}, "row 2 (episode 0, step 1): a second row of this step, th"),
        ({"step": [0, 1, 2, 0, "x", 2]}, "row 4, column 'step': steps must be numbers or times, g"),
        ({"step": [0, 1, 2, 0, None, 2]}, "row 4, column 'step': the value is missing"),
        ({"s": [0.5, 1, np.inf, 0, 2, 1]}, "row 2, column 's': inf is not a finite number"),
        ({"s": [0, 1, {}, 0, 2, 1]}, "row 2, column 's': {} is no number and no text"),
        ({"s": []}, "all columns must have one length, got [0, 6]"),
    ],
)
def test_what_is_wrong_is_named_by_row(changes, words):
    with pytest.raises(InputError, match=re.escape(words)):
        of({**WIDE, **changes})


@pytest.mark.parametrize(
    ("roles", "words"),
    [
        ({"episode": "epsode"}, "episode: there is no column 'epsode', did you mean 'episode'? (c"),
        ({"state": "x"}, "state: there is no column 'x' (columns: 's', 'episode', 'step', 'a', "),
        ({"state": []}, "state must be the name of a column or several, got []"),
        ({"n_states": 2}, "row 2, column 's': the state is 2, allowed: 0 to 1"),
        ({"n_actions": 1}, "row 1, column 'a': the action of alice is 1, allowed: 0 to 0"),
        ({"n_actions": {"carol": 1}}, "n_actions names the agent 'carol', the agents are alice"),
        ({"n_actions": {"bob": 3}}, "n_actions of bob is 3, its column 'b' has 2 labels: left,"),
        ({"episodes_per_stage": 0}, "episodes_per_stage must be a whole number >= 1, got 0"),
        ({"episodes_per_stage": None}, "say how time is cut into stages by exactly one of: sta"),
        ({"n_stages": 2}, "got n_stages and episodes_per_stage"),
        ({"n_stages": 9, "episodes_per_stage": None}, "n_stages must be at most the number of"),
        ({"agent": "a"}, "name the columns of actions either by actions"),
        ({"actions": {"manifest": "a"}}, "an agent must not be called 'manifest'"),
        ({"actions": {"../x": "a"}}, "agent '../x': the name of an array must not lead out"),
        ({"gaps": "no"}, "gaps must be one of 'error', 'split', got 'no'"),
    ],
)
def test_what_does_not_fit_is_named(roles, words):
    with pytest.raises(InputError, match=re.escape(words)):
        of(WIDE, **roles)


def test_agents_without_a_row_or_with_two():
    long = {"s": [0, 0, 1, 1], "episode": [0] * 4, "step": [0, 0, 1, 1], "act": [0, 1, 1, 0]}
    roles = {"actions": None, "agent": "who", "action": "act"}
    with pytest.raises(InputError, match=re.escape("row 2 (episode 0, step 1): no row of agent b")):
        of({n: c[:3] for n, c in long.items()} | {"who": ["a", "b", "a"]}, **roles)
    with pytest.raises(InputError, match=re.escape("row 3 (episode 0, step 1): a second row of")):
        of({**long, "who": ["a", "b", "a", "a"]}, **roles)
    with pytest.raises(InputError, match=re.escape("row 3, column 'who': the agent is missing")):
        of({**long, "who": ["a", "b", "a", None]}, **roles)
    with pytest.raises(InputError, match="column 's' differs from row 2 of the same step"):
        of({**long, "s": [0, 0, 1, 2], "who": ["a", "b", "a", "b"]}, **roles)


def test_gaps_can_split_episodes():
    table = {**WIDE, "episode": [0] * 6, "step": [0, 1, 2, 5, 6, 7]}
    trace = of(table, gaps="split")
    np.testing.assert_array_equal(trace.stages[0].transitions.states, [0, 1, 0, 2])
    np.testing.assert_array_equal(
        trace.stages[0].transitions.episode_ends, [False, True, False, True]
    )
    assert not trace.stages[0].transitions.complete
    assert "gaps at which episodes were split: 1" in trace.notes


def test_a_next_state_that_the_following_row_contradicts():
    with pytest.raises(InputError, match=re.escape("row 0 (episode 0, step 0): its next state is")):
        of({**WIDE, "then": [2, 2, 1, 2, 1, 0]}, next_state="then")


def test_mixed_labels_are_labels_and_it_is_said():
    trace = of({**WIDE, "s": [0, 1, "end", 0, "end", 1]})
    assert trace.states == ("0", "1", "end")
    assert trace.notes[0].startswith("column 's' mixes numbers and text (row 2: end)")


def test_empty_rows_are_left_out_and_rows_keep_their_names():
    table = {name: [None, *column[:3], None, *column[3:]] for name, column in WIDE.items()}
    assert same(of(table), of(WIDE))
    table["a"][2] = None
    with pytest.raises(InputError, match=re.escape("row 2 (episode 0, step 1), column 'a'")):
        of(table)


def test_names_are_kept_in_files(tmp_path):
    trace = of({**WIDE, "s": [(s, "x") for s in WIDE["s"]]})
    trace.save(tmp_path / "trace.npz")
    loaded = LearningTrace.load(tmp_path / "trace.npz")
    assert same(loaded, trace)
    assert loaded.states == ((0, "x"), (1, "x"), (2, "x"))
    assert loaded.notes == trace.notes


def test_steps_may_be_times():
    times = np.datetime64("2026-01-01T00:00") + np.arange(6).astype("timedelta64[m]") * [
        1,
        3,
        4,
        5,
        7,
        9,
    ]
    assert same(of({**WIDE, "step": times}), of(WIDE))


def game_of(states, actions):
    """Any game with these names."""
    shape = (len(states), *map(len, actions))
    return MarkovGame.from_tables(np.zeros(shape, int), states=states, actions=actions)


def test_the_names_of_a_game_number_the_log():
    table = {**WIDE, "s": ["hall", "room", "exit", "hall", "exit", "room"]}
    game = game_of(["exit", "room", "hall", "attic"], [["0", "1"], ["right", "left", "wait"]])
    trace = of(table, game=game)
    assert (trace.n_states, trace.n_actions) == (4, (2, 3))
    assert (trace.states, trace.actions) == (game.states, game.actions)
    np.testing.assert_array_equal(trace.stages[0].transitions.states, [2, 1])
    np.testing.assert_array_equal(trace.stages[0].transitions.joint_actions, [[0, 1], [1, 0]])


def test_numbers_are_names_by_their_value():
    prices = ["1.50", "2", "2.25"]
    pairs = [(a, b) for a in (1.5, 2.25) for b in (1.5, 2)]
    table = {
        **WIDE,
        "s": [1.5, 2.25, 1.5, 2.25, 2.25, 1.5],
        "door": [2, 1.5, 2, 1.5, 1.5, 2],
        "a": [2, 2, 2, 2, 2, 2],
    }
    game = game_of([f"{a},{b:.2f}" for a, b in pairs], [prices, ["left", "right"]])
    trace = of(table, state=["s", "door"], game=game)
    np.testing.assert_array_equal(trace.stages[0].transitions.states, [1, 2])
    np.testing.assert_array_equal(trace.stages[0].transitions.joint_actions[:, 0], [1, 1])
    assert trace.states == game.states


@pytest.mark.parametrize(
    ("states", "actions", "words"),
    [
        ("abc", ["xy", "lr"], "row 0, column 'a': the action of alice is 2, allowed: 0 to 1"),
        ("abc", ["xyz", "l"], "row 1: the action of bob is 'r', which the game does not have (it "),
        ("ab", ["xyz", "lr"], "row 2, column 's': the state is 2, allowed: 0 to 1"),
        ("abc", ["xyz"], "the game has 1 agents, the log 2: alice, bob"),
    ],
)
def test_what_a_game_does_not_have_is_named_by_row(states, actions, words):
    table = {**WIDE, "a": [2, 1, 0, 1, 1, 0], "b": list("lrlllr")}
    with pytest.raises(InputError, match=re.escape(words)):
        of(table, game=game_of(list(states), [list(own) for own in actions]))


def test_numbers_of_actions_of_agents_in_rows_of_their_own():
    long = {"s": [0, 0, 1, 1, 0, 0], "episode": [0] * 6, "step": [0, 0, 1, 1, 2, 2]}
    long |= {"who": [1, 2] * 3, "act": [0, 3, 1, 0, 0, 0]}
    roles = {"actions": None, "agent": "who", "action": "act"}
    assert of(long, **roles).n_actions == (2, 4)
    assert of(long, **roles).agents == ("1", "2")
    assert of(long, **roles, n_actions={"1": 4}).n_actions == (4, 4)
    with pytest.raises(InputError, match=re.escape("row 1, column 'act': the action of 2 is 3")):
        of(long, **roles, n_actions=3)


def test_a_column_without_values():
    with pytest.raises(InputError, match="column 's' has no value in any row"):
        of({**WIDE, "s": np.full(6, np.nan)})
    with pytest.raises(InputError, match="column 'a' has no value in any row"):
        of({**WIDE, "a": [None] * 6})


def test_structured_arrays_and_names_that_are_numbers():
    kinds = [(name, "U9" if name == "b" else "i8") for name in WIDE]
    rows = np.array(list(zip(*WIDE.values(), strict=True)), dtype=kinds)
    assert same(of(rows), of(WIDE))
    numbered = dict(enumerate(WIDE.values()))
    roles = {"state": "0", "episode": "1", "step": "2", "actions": {"alice": "3", "bob": "4"}}
    assert same(of(numbered, **roles), of(WIDE))


def test_arrays_in_the_order_of_play():
    ends = np.array([False, False, True] * 2)
    given = (WIDE["s"], {"alice": WIDE["a"], "bob": WIDE["b"]})
    trace = LearningTrace.from_transitions(*given, episode_ends=ends, episodes_per_stage=1)
    assert same(trace, of(WIDE))
    with_next = LearningTrace.from_transitions(*given, [1, 2, 1, 2, 1, 0], stage=[5] * 3 + [7] * 3)
    assert [stage.n_steps for stage in with_next.stages] == [3, 3]
    with pytest.raises(InputError, match="episode_ends must be true or false for each of 6 steps"):
        LearningTrace.from_transitions(*given, episode_ends=[0] * 6, n_stages=2)
    with pytest.raises(InputError, match="actions must map every agent's name to its actions"):
        LearningTrace.from_transitions(WIDE["s"], WIDE["a"], n_stages=2)


def test_only_the_states_that_occur_may_be_numbered():
    table = {**WIDE, "s": [[7, -1, 10**12][s] for s in WIDE["s"]]}
    trace = of(table, compact=True)
    assert trace.states == (-1, 7, 10**12)
    np.testing.assert_array_equal(trace.stages[0].transitions.states, [1, 0])
    with pytest.raises(
        InputError, match=r"the state is -1, allowed: 0 to .* \(or labels, or compact\)"
    ):
        of(table)
    with pytest.raises(InputError, match=r"or number only the states that occur \(compact\)"):
        of({**WIDE, "s": [10**9, 1, 2, 0, 2, 1]})


def test_the_state_may_be_each_agents_own():
    long = {"episode": [0] * 6, "step": [0, 0, 1, 1, 2, 2], "who": ["b", "a"] * 3}
    long |= {"x": [1, 0, 1, 1, 2, 1], "act": [0, 1, 1, 0, 1, 1]}
    roles = {"actions": None, "agent": "who", "action": "act", "state": "x", "own_state": True}
    trace = of(long, **roles)
    assert trace.agents == ("a", "b")
    assert trace.states == ((0, 1), (1, 1), (1, 2))
    np.testing.assert_array_equal(trace.stages[0].transitions.next_states, [1, 2])
    np.testing.assert_array_equal(trace.stages[0].transitions.joint_actions, [[1, 0], [0, 1]])
    with pytest.raises(InputError, match="own_state is for logs with one row per agent and step"):
        of(WIDE, own_state=True)


def test_dates_decimal_numbers_and_bytes():
    berlin = timezone(timedelta(hours=2))
    start = datetime(2026, 3, 1, tzinfo=berlin)
    table = {
        **WIDE,
        "step": [start + timedelta(minutes=5 * step) for step in WIDE["step"]],
        "a": [Decimal(own) for own in WIDE["a"]],
        "b": np.array(WIDE["b"], dtype="S5"),
    }
    assert same(of(table), of(WIDE))
    durations = np.array(WIDE["step"], dtype="timedelta64[s]") * 7
    assert same(of({**WIDE, "step": durations}), of(WIDE))
    dates = [date(2026, 1, 1 + own) for own in WIDE["episode"]]
    assert same(of({**WIDE, "episode": dates}), of(WIDE))


def test_a_column_that_cannot_be_read_is_named():
    class Lazy:
        columns = ("s", "episode", "step", "a", "b")

        def __getitem__(self, name):
            raise TypeError("collect it first")

    with pytest.raises(InputError, match="column 'episode' cannot be read: collect it first"):
        of(Lazy())
