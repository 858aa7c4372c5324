"""States that are the joint actions before: prices, repeated games, bandits."""

from __future__ import annotations

import re

import numpy as np
import pytest

from malfl_algos import LearningTrace
from malfl_env import InputError, games

MARKET = {
    "market": [0] * 5 + [1] * 4,
    "week": [0, 1, 2, 3, 4, 0, 1, 2, 3],
    "ours": [1.5, 2.0, 1.5, 1.5, 2.0, 2.0, 2.0, 1.5, 2.0],
    "theirs": [2.0, 2.0, 1.5, 2.0, 2.0, 1.5, 2.0, 1.5, 2.0],
}


def of(memory, table=MARKET, **further):
    roles = {"episode": "market", "step": "week", "episodes_per_stage": 1, "memory": memory}
    actions = {"we": "ours", "they": "theirs"}
    return LearningTrace.from_table(table, actions=actions, **{**roles, **further})


def test_the_last_prices_are_the_state():
    trace = of(1)
    assert trace.states == ((1.5, 1.5), (1.5, 2.0), (2.0, 1.5), (2.0, 2.0))
    assert [stage.n_steps for stage in trace.stages] == [4, 3]
    steps = trace.stages[0].transitions
    np.testing.assert_array_equal(steps.states, [1, 3, 0, 1])
    np.testing.assert_array_equal(steps.next_states, [3, 0, 1, 3])
    np.testing.assert_array_equal(steps.joint_actions, [[1, 1], [0, 0], [0, 1], [1, 1]])
    np.testing.assert_array_equal(steps.episode_ends, [False, False, False, True])


def test_two_steps_are_remembered():
    trace = of(2)
    assert [stage.n_steps for stage in trace.stages] == [3, 2]
    steps = trace.stages[0].transitions
    assert [trace.states[state] for state in steps.states] == [
        (1.5, 2.0, 2.0, 2.0),
        (2.0, 2.0, 1.5, 1.5),
        (1.5, 1.5, 1.5, 2.0),
    ]
    assert trace.states[steps.next_states[-1]] == (1.5, 2.0, 2.0, 2.0)


def test_a_game_without_states_has_one():
    trace = of(0)
    assert (trace.n_states, trace.states) == (1, ("always",))
    assert [stage.n_steps for stage in trace.stages] == [5, 4]


def test_memory_beside_a_state():
    trace = of(1, {**MARKET, "s": list("aababbaab")}, state="s")
    assert set(map(len, trace.states)) == {3}
    assert [stage.n_steps for stage in trace.stages] == [3, 2], "the last next state is unknown"
    assert trace.states[trace.stages[0].transitions.states[0]] == ("a", 1.5, 2.0)


def test_a_step_after_a_gap_remembers_nothing():
    weeks = [0, 1, 2, 4, 5, 0, 1, 2, 3]
    with pytest.raises(InputError, match="so steps are missing between them"):
        of(1, {**MARKET, "week": [0, 1, 3, 4, 5, 0, 1, 2, 3]}, state="market")
    trace = of(1, {**MARKET, "week": weeks}, gaps="split")
    assert [stage.n_steps for stage in trace.stages] == [3, 3]


def test_the_prices_of_the_pricing_game():
    """The numbers of its states are those of the game."""
    game = games.pricing().game
    rng = np.random.default_rng(0)
    actions = rng.integers(0, 15, (50, 2))
    prices = np.array([float(price) for price in game.actions[0]])
    table = {"market": [0] * 50, "week": np.arange(50)}
    table |= {"ours": prices[actions[:, 0]], "theirs": prices[actions[:, 1]]}
    trace = of(1, table, game=game)
    steps = trace.stages[0].transitions
    np.testing.assert_array_equal(steps.states, actions[:-1] @ [15, 1])
    expected = game.next_states[(steps.states, *steps.joint_actions.T)]
    np.testing.assert_array_equal(steps.next_states, expected)


@pytest.mark.parametrize(
    ("memory", "further", "words"),
    [
        (None, {}, "state must be the name of a column or several, got None; in a game without"),
        (5, {}, "memory is 5, and no episode has more than 5 rows"),
        (-1, {}, "memory must be a whole number >= 0"),
        (1, {"next_state": "ours"}, "next_state must be left out where memory is given"),
    ],
)
def test_bad_input(memory, further, words):
    with pytest.raises(InputError, match=re.escape(words)):
        of(memory, **further)


def test_a_missing_price_is_named():
    with pytest.raises(InputError, match=re.escape("row 2 (episode 0, step 2), column 'ours'")):
        of(1, {**MARKET, "ours": [1.5, 2.0, None, 1.5, 2.0, 2.0, 2.0, 1.5, 2.0]})
