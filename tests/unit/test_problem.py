"""`Problem`: the arguments of an observer are checked against each other."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from malfl_algos import LearningTrace, Stage
from malfl_algos.contract import Problem
from malfl_algos.learners.ma_spi import MaSpi
from malfl_algos.plugins import load_observer
from malfl_algos.trace import NextStateCounts
from malfl_env import grid_world_v0, markov_game
from malfl_env.errors import InputError
from malfl_env.markov_game import deterministic_game


def board(**options):
    return markov_game(grid_world_v0.parallel_env(size=3, **options)).without_rewards()


@pytest.fixture(scope="module")
def played():
    """Trace, policies by agent."""
    return play()


def play(keep=True, **options):
    learner = MaSpi(
        discount=0.9, temperature=3.0, episodes=40, episode_length=30, keep_transitions=keep
    )
    env = grid_world_v0.parallel_env(size=3, **options)
    stages = list(learner.learn(env, n_stages=2, rng=np.random.default_rng(0)))
    policies = {a: np.stack([s.truth.policies[a] for s in stages]) for a in env.possible_agents}
    return LearningTrace(tuple(stage.observed for stage in stages)), policies


def counts_alone(trace):
    return LearningTrace(tuple(Stage(stage.counts) for stage in trace.stages))


def test_matching_arguments_are_accepted_and_rewards_removed(played):
    trace, policies = played
    game = markov_game(grid_world_v0.parallel_env(size=3))
    problem = Problem(trace, game, 0.9, 3, {"agent_1": policies["agent_1"]})
    assert problem.game.rewards is None
    assert list(problem.known) == ["agent_1"]
    assert (problem.given("discount"), problem.given("temperature")) == (0.9, 3.0)
    assert Problem(counts_alone(trace), game.without_rewards(), None, None).known == {}
    assert Problem(play(slip=0.3)[0], board(slip=0.3), 0.9, 3.0).discount == 0.9


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"discount": 1.0}, r"discount must be in \[0, 1\) or None, got 1.0"),
        ({"discount": float("nan")}, "discount must be .* got nan"),
        ({"discount": True}, "discount must be .* got True"),
        ({"discount": "0.9"}, "discount must be"),
        ({"temperature": 0.0}, "temperature must be > 0 and finite or None, got 0.0"),
        ({"temperature": np.inf}, "temperature must be"),
        ({"temperature": 1e200}, "temperature must be from 1e-50 to"),
        ({"temperature": 1e-200}, "temperature must be from 1e-50 to"),
        ({"game": "grid"}, "game must be a MarkovGame or None, got a str"),
        ({"trace": {}}, "trace must be a LearningTrace, got a dict"),
    ],
)
def test_arguments_out_of_range(played, changed, words):
    given = {"trace": played[0], "game": None, "discount": 0.9, "temperature": 3.0}
    with pytest.raises(InputError, match=words):
        Problem(**{**given, **changed})


def test_a_missing_argument_is_named(played):
    problem = Problem(played[0], None, None, None)
    for name in ("discount", "temperature"):
        with pytest.raises(InputError, match=f"{name} must be given"):
            problem.given(name)
    with pytest.raises(InputError, match=r"at least 3 stages.*has 2"):
        problem.require_stages(3)


def test_a_game_of_another_size(played):
    with pytest.raises(InputError, match=r"81 joint states and actions \(5, 5\), .* has 16"):
        Problem(played[0], markov_game(grid_world_v0.parallel_env(size=2)), 0.9, 3.0)
    table = np.zeros((2, 3, 2), dtype=np.int64)
    trace = LearningTrace((Stage(np.ones((3, 2, 2), dtype=np.int64)),))
    with pytest.raises(InputError, match="the axes seem to be exchanged"):
        Problem(trace, deterministic_game(table, start=0), 0.9, 3.0)


def test_a_wall_where_the_trace_has_visits(played):
    """The game has a wall in the middle; the states there cannot be reached."""
    other = board(walls=[(1, 1)])
    with pytest.raises(InputError, match=r"stage 0, step \d+: joint action .* in joint state"):
        Problem(played[0], other, 0.9, 3.0)
    with pytest.raises(InputError, match=r"stage 0 visits joint state \d+, .* cannot reach"):
        Problem(counts_alone(played[0]), other, 0.9, 3.0)


def test_a_transition_that_the_game_rules_out_is_named(played):
    trace, game = played[0], board()
    wrong = game.next_states.copy()
    steps = trace.stages[1].transitions
    state, actions, after = int(steps.states[0]), tuple(map(int, steps.joint_actions[0])), 80
    wrong[(state, *actions)] = after
    other = deterministic_game(wrong, start=game.start)
    seen = int(steps.next_states[0])
    with pytest.raises(InputError) as caught:
        Problem(LearningTrace(trace.stages[1:]), other, 0.9, 3.0)
    assert str(caught.value).startswith(
        f"stage 0, step 0: joint action {actions} in joint state {state} led to joint state {seen},"
        f" the given game allows only {after}"
    )


def test_counts_of_next_states_are_compared_with_the_game():
    """Also without steps; the message then names no step."""
    trace = play(keep=False, slip=0.3)[0]
    assert trace.stages[0].transitions is None
    Problem(trace, board(slip=0.3), 0.9, 3.0)
    with pytest.raises(InputError, match=r"stage 0: joint action .* led to joint state"):
        Problem(trace, board(), 0.9, 3.0)


@pytest.mark.parametrize(
    "name",
    [
        "ma-lfl",
        "ma-lfl-state",
        "ma-lfl-bellman",
        "ma-lfl-replay",
        "lfl",
        "maxent-irl",
        "logel",
        "log-policy",
    ],
)
def test_observers_called_directly_reject_another_game(played, name):
    with pytest.raises(InputError, match="the trace is of another game"):
        load_observer(name).recover(
            played[0], game=board(goals=(0, 2)), discount=0.9, temperature=3.0
        )


def test_states_that_differ_in_step_are_unreachable():
    """Two counters that always move: only states with equal counters are reachable."""
    game = deterministic_game(np.array([[[3]], [[0]], [[0]], [[0]]]), start=0)
    for visits, fits in (([1, 0, 0, 1], True), ([1, 1, 0, 1], False)):
        trace = LearningTrace((Stage(np.array(visits).reshape(4, 1, 1)),))
        if fits:
            Problem(trace, game, 0.9, 3.0)
        else:
            with pytest.raises(InputError, match="visits joint state 1"):
                Problem(trace, game, 0.9, 3.0)


def test_factors_move_at_the_same_time():
    """Each factor alone reaches both its states; together they are always equal."""
    from malfl_env.markov_game import Factor, MarkovGame

    turn = Factor((0,), np.array([[[1]], [[0]]]), np.ones((2, 1, 1)))
    game = MarkovGame((1, 1), (turn, replace(turn, agents=(1,))), start=0)
    for visits, fits in (([1, 0, 0, 1], True), ([1, 1, 0, 1], False)):
        trace = LearningTrace((Stage(np.array(visits).reshape(4, 1, 1)),))
        if fits:
            Problem(trace, game, 0.9, 3.0)
        else:
            with pytest.raises(InputError, match="visits joint state 1"):
                Problem(trace, game, 0.9, 3.0)


def test_a_next_state_of_probability_zero_is_impossible():
    table = np.array([[[0, 1]], [[1, 0]]])
    chance = np.array([[[1.0, 0.0]], [[1.0, 0.0]]])
    from malfl_env.markov_game import Factor, MarkovGame

    game = MarkovGame((1,), (Factor((0,), table, chance),), start=0)
    seen = NextStateCounts(np.array([0]), np.array([1]), np.array([2]))
    trace = LearningTrace((Stage(np.array([[2], [0]]), seen),))
    with pytest.raises(InputError, match="led to joint state 1, the given game allows only 0"):
        Problem(trace, game, 0.9, 3.0)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda p: p[:1], r"shape \(1, 81, 5\), expected \(2, 81, 5\)"),
        (lambda p: p * 1.1, "not distributions"),
        (lambda p: p * np.nan, "not distributions"),
        (lambda p: np.eye(5)[np.full(p.shape[:2], 4)], "probability 0 to action 0 in joint state"),
    ],
)
def test_known_policies_that_do_not_fit(played, change, words):
    trace, policies = played
    with pytest.raises(InputError, match=words):
        Problem(trace, None, 0.9, 3.0, {"agent_0": change(policies["agent_0"])})
    with pytest.raises(InputError, match="has 'agent_9'"):
        Problem(trace, None, 0.9, 3.0, {"agent_9": policies["agent_0"]})


def test_observed_steps_have_no_game(played):
    seen = played[0].with_observations(board())
    stages = tuple(
        Stage(transitions=replace(stage.transitions, states=None, next_states=None))
        for stage in seen.stages
    )
    trace = LearningTrace(stages, seen.agents, seen.n_actions, seen.spaces)
    assert Problem(trace, None, 0.9, 3.0).known == {}
    with pytest.raises(InputError, match="give game=None"):
        Problem(trace, board(), 0.9, 3.0)
    with pytest.raises(InputError, match="no joint states"):
        Problem(trace, None, 0.9, 3.0, {"agent_0": played[1]["agent_0"]})
