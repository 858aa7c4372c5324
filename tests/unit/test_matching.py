"""The trace of a log in the numbering of a game."""

from __future__ import annotations

import numpy as np
import pytest

from malfl_algos import LearningTrace, Stage
from malfl_algos.contract import NextStateCounts, Problem, Transitions
from malfl_algos.trace.matching import in_numbering_of
from malfl_env import InputError, MarkovGame

MOVES = np.array([[1, 2], [2, 0], [2, 1]])
GAME = MarkovGame.from_tables(MOVES, states=["a", "b", "c"], actions=[["go", "back"]])


def log(visited: np.ndarray, played: np.ndarray, **named) -> LearningTrace:
    """One stage of a log with these steps, numbered as they are."""
    shape = (int(visited.max()) + 1, int(played.max()) + 1)
    counts = np.zeros(shape, dtype=int)
    np.add.at(counts, (visited[:-1], played), 1)
    steps = Transitions(
        states=visited[:-1],
        joint_actions=played[:, None],
        next_states=visited[1:],
        episode_ends=np.arange(len(played)) == len(played) - 1,
        complete=True,
    )
    rows = np.ravel_multi_index((visited[:-1], played), shape)
    seen = NextStateCounts.of_steps(rows, visited[1:], shape)
    return LearningTrace((Stage(counts, seen, steps),), **named)


def walk(length: int = 30) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    actions = rng.integers(2, size=length)
    states = [0]
    for action in actions:
        states.append(int(MOVES[states[-1], action]))
    return np.array(states), actions


def test_names_keep_their_meaning() -> None:
    states, actions = walk()
    turned = np.array([2, 0, 1])  # the log numbers c, a, b otherwise
    mine = log(turned[states], 1 - actions, states=("b", "c", "a"), actions=(("back", "go"),))
    found = in_numbering_of(GAME, mine, name="log.npz")
    expected = log(states, actions)
    np.testing.assert_array_equal(found.stages[0].counts, expected.stages[0].counts)
    for name in ("states", "next_states", "joint_actions"):
        ours, theirs = (getattr(own.stages[0].transitions, name) for own in (found, expected))
        np.testing.assert_array_equal(ours, theirs)
    ours, theirs = (own.stages[0].next_state_counts for own in (found, expected))
    assert set(zip(ours.rows, ours.next_states, ours.counts, strict=True)) == set(
        zip(theirs.rows, theirs.next_states, theirs.counts, strict=True)
    )
    assert (found.states, found.actions) == (GAME.states, GAME.actions)
    Problem(found, GAME, 0.9, 1.0)  # the steps are possible in the game
    with pytest.raises(InputError):
        Problem(mine, GAME, 0.9, 1.0)


def test_numbers_keep_their_meaning_and_a_log_may_be_smaller() -> None:
    short = log(np.array([0, 1, 1]), np.array([0, 0]), notes=("imported from log.csv",))
    found = in_numbering_of(GAME, short, name="log.npz")
    assert (found.n_states, found.n_actions) == (3, (2,))
    np.testing.assert_array_equal(found.stages[0].counts, [[1, 0], [1, 0], [0, 0]])
    same = log(*walk())
    assert in_numbering_of(GAME, same, name="log.npz").stages is same.stages


def test_numbers_as_names_are_matched_with_names_as_text() -> None:
    game = MarkovGame.from_tables(MOVES, states=["7", "8", "9"])
    found = in_numbering_of(game, log(np.array([0, 1]), np.array([0]), states=(8, 9)), name="l")
    np.testing.assert_array_equal(found.stages[0].counts, [[0, 0], [1, 0], [0, 0]])


@pytest.mark.parametrize(
    ("trace", "message"),
    [
        (
            lambda: log(*walk(), states=("a", "b", "d")),
            "log.npz: joint states: the game has no 'd'; it has 'a', 'b', 'c'",
        ),
        (
            lambda: log(*walk(), actions=(("go", "jump"),)),
            "log.npz: actions of agent_0: the game has no 'jump'",
        ),
        (
            lambda: log(np.array([0, 5]), np.array([0]), notes=("imported",)),
            "log.npz: joint states: 6 in the log, the game has 3",
        ),
        (
            lambda: log(np.array([0, 1]), np.array([4]), notes=("imported",)),
            "log.npz: actions of agent_0: 5 in the log, the game has 2",
        ),
        (
            lambda: log(np.array([0, 1]), np.array([1])),
            r"is of a game with 2 joint states and actions \(2,\), the given game has 3",
        ),
        (
            lambda: LearningTrace((Stage(np.ones((3, 2, 2), dtype=int)),)),
            r"log.npz has 2 agents \(agent_0, agent_1\), the game has 1",
        ),
    ],
)
def test_a_game_that_does_not_cover_the_log(trace, message) -> None:
    with pytest.raises(InputError, match=message):
        in_numbering_of(GAME, trace(), name="log.npz")


def test_agents_in_another_order() -> None:
    game = MarkovGame.from_tables(np.zeros((1, 2, 2), dtype=int), agents=["alice", "bob"])
    trace = LearningTrace((Stage(np.ones((1, 2, 2), dtype=int)),), agents=("bob", "alice"))
    with pytest.raises(InputError, match="has the agents bob, alice, the game has them as alice"):
        in_numbering_of(game, trace, name="log.npz")
    ours = LearningTrace((Stage(np.ones((1, 2, 2), dtype=int)),), agents=("carol", "dave"))
    assert in_numbering_of(game, ours, name="log.npz").agents == ("carol", "dave")
