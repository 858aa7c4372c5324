"""The rules of the paper, checked against moves computed by hand."""

from __future__ import annotations

import pickle
import tracemalloc

import numpy as np
import pytest

from malfl_env import InputError, grid_world_v0
from malfl_env.rules import ACTIONS, Moves, cell_factor, cell_successors, grid_rules
from malfl_env.vector import GridWorldVector

# cells 0 1 2 / 3 4 5 / 6 7 8; columns: down, up, left, right, stay
MOVES_3X3 = [
    [3, 0, 0, 1, 0],
    [4, 1, 0, 2, 1],
    [5, 2, 1, 2, 2],
    [6, 0, 3, 4, 3],
    [7, 1, 3, 5, 4],
    [8, 2, 4, 5, 5],
    [6, 3, 6, 7, 6],
    [7, 4, 6, 8, 7],
    [0, 0, 0, 0, 0],  # the goal: back to the start, whichever action
]


def test_moves_of_the_paper_game() -> None:
    rules = grid_rules()
    assert ACTIONS == ("down", "up", "left", "right", "stay")
    assert cell_successors(rules, 0).tolist() == MOVES_3X3
    assert cell_successors(rules, 1).tolist() == MOVES_3X3
    assert rules.start_cells == (0, 0)
    assert rules.goal_cells == (8, 8)
    assert rules.n_states == 81


def test_walls_stop_moves_and_no_action_leaves_one() -> None:
    rules = grid_rules(walls=[(1, 1)])
    moves = cell_successors(rules, 0)
    assert moves[1].tolist() == [1, 1, 0, 2, 1]
    assert moves[3].tolist() == [6, 0, 3, 3, 3]
    assert moves[5].tolist() == [8, 2, 5, 5, 5]
    assert moves[7].tolist() == [7, 7, 6, 8, 7]
    assert moves[4].tolist() == [4, 4, 4, 4, 4]


def test_every_agent_returns_to_its_own_start() -> None:
    rules = grid_rules(starts=[(0, 0), (2, 0)], goals=[(2, 2), (0, 2)])
    first, second = cell_successors(rules, 0), cell_successors(rules, 1)
    assert set(first[8]) == {0}
    assert set(second[2]) == {6}
    assert first[2].tolist() == MOVES_3X3[2]
    assert second[8].tolist() == [8, 5, 7, 8, 8]


def test_joint_states_number_agent_0_first() -> None:
    rules = grid_rules(size=4, n_agents=3)
    assert rules.joint_state((1, 2, 3)) == 1 * 256 + 2 * 16 + 3


def test_slip_replaces_an_action_but_not_the_return() -> None:
    factor = cell_factor(grid_rules(slip=0.25), 1)
    assert factor.agents == (1,)
    outcome = np.zeros(9)
    np.add.at(outcome, factor.successors[4, 3], factor.probabilities[4, 3])
    # right with 0.75, and 0.05 for each of down 7, up 1, left 3, right 5, stay 4
    np.testing.assert_allclose(outcome, [0, 0.05, 0, 0.05, 0.05, 0.8, 0, 0.05, 0], atol=1e-15)
    assert np.all(factor.successors[8] == 0)


@pytest.mark.parametrize("slip", [0, 0.0, np.float32(0.5), 1])
def test_slip_takes_any_number_from_0_to_1(slip: float) -> None:
    assert grid_rules(slip=slip).slip == float(slip)


def test_starts_may_be_one_pair_or_one_per_agent() -> None:
    both = ((1, 0), (1, 0))
    for starts in ((1, 0), [1, 0], np.array([1, 0]), [(1, 0), (1, 0)], np.array([[1, 0]] * 2)):
        assert grid_rules(starts=starts).starts == both
    assert grid_rules(starts=[(0, 1), (1, 0)]).starts == ((0, 1), (1, 0))


def test_normal_form_is_hashable_plain_and_independent_of_wall_order() -> None:
    rules = grid_rules(size=np.int64(4), walls=[[1, 1], (0, 1), (1, 1)])
    again = grid_rules(size=4, walls=np.array([(0, 1), (1, 1)]))
    assert rules == again
    assert hash(rules) == hash(again)
    assert type(rules.size) is int
    assert rules.walls == ((0, 1), (1, 1))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 1}, r"size must be a whole number >= 2, got 1"),
        ({"size": 3.0}, r"size .* got 3\.0"),
        ({"size": True}, r"size .* got True"),
        ({"size": "3"}, r"size .* got '3'"),
        ({"n_agents": 1}, r"n_agents must be a whole number >= 2, got 1"),
        ({"n_agents": None}, r"n_agents .* got None"),
        ({"slip": -0.1}, r"slip must be a number from 0 to 1, got -0\.1"),
        ({"slip": 1.5}, r"slip .* got 1\.5"),
        ({"slip": float("nan")}, r"slip .* got nan"),
        ({"slip": True}, r"slip .* got True"),
        ({"slip": "0.1"}, r"slip .* got '0\.1'"),
        ({"starts": (0, 3)}, r"starts: .* from 0 to 2 \(size is 3\), got \(0, 3\)"),
        ({"starts": (-1, 0)}, r"starts: .* got \(-1, 0\)"),
        ({"starts": (0.0, 1)}, r"starts: .* got \(0\.0, 1\)"),
        ({"starts": (False, True)}, r"starts: .* got \(False, True\)"),
        ({"starts": [(0, 0)]}, r"starts .* each of the 2 agents, got 1 entries"),
        ({"starts": [(0, 0), (0, 0, 0)]}, r"starts: .* got \(0, 0, 0\)"),
        ({"starts": [(0, 0), 1]}, r"starts: .* got 1"),
        ({"starts": []}, r"starts .* got 0 entries"),
        ({"starts": "00"}, r"starts .* got '00'"),
        ({"starts": {(0, 0): 1}}, r"starts .* got {"),
        ({"goals": 8}, r"goals must be a list of \(row, column\) pairs, got 8"),
        ({"goals": (0, 0)}, r"goals: agent_0 has its goal \(0, 0\) on its start"),
        ({"goals": [(2, 2), (0, 0)]}, r"goals: agent_1 has its goal"),
        ({"walls": (1, 1)}, r"walls: a cell must be .* got 1"),
        ({"walls": [(3, 0)]}, r"walls: .* got \(3, 0\)"),
        ({"walls": 4}, r"walls must be a list .* got 4"),
        ({"walls": [(0, 0)]}, r"starts: agent_0 has \(0, 0\), which is a wall"),
        ({"walls": [(2, 2)]}, r"goals: agent_0 has \(2, 2\), which is a wall"),
        ({"walls": [(1, 2), (2, 1)]}, r"agent_0 cannot reach its goal \(2, 2\) from its start"),
    ],
)
def test_bad_options_are_named_with_their_value(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        grid_rules(**options)


def test_moves_cell_by_cell_are_those_of_the_table():
    """Walls, borders, goals, and boards without walls."""
    boards = [
        {"walls": [(1, 1), (0, 2)], "starts": (0, 0), "goals": [(2, 2), (2, 0)]},
        {"walls": [], "starts": [(0, 0), (1, 1)], "goals": (2, 2)},
    ]
    for board in boards:
        rules = grid_rules(size=3, n_agents=2, slip=0.0, **board)
        walls = {rules.cell_number(wall) for wall in rules.walls}
        for agent in range(2):
            moves, table = Moves(rules, agent), cell_successors(rules, agent)
            for cell in set(range(9)) - walls:
                assert moves[cell] == table[cell].tolist()
                assert moves[cell] is moves[cell]
            assert pickle.loads(pickle.dumps(moves)) == {}


def test_the_largest_boards_take_no_memory_before_they_are_played():
    """Their moves are looked up cell by cell; a wall needs a bit per cell and no table."""
    tracemalloc.start()
    env = grid_world_v0.parallel_env(size=2300)
    env.reset(seed=0)
    env.step({"agent_0": 0, "agent_1": 3})
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 2**20
    with pytest.raises(InputError, match=r"would take 2\.\d+ GiB .* choose a smaller one"):
        grid_world_v0.parallel_env(size=2400)


@pytest.mark.parametrize(
    "options", [{"observations": "one_hot"}, {"n_agents": 20}, {"n_agents": 4, "size": 2317}]
)
def test_batches_of_large_boards_are_rejected_before_their_tables_are_made(options):
    tracemalloc.start()
    with pytest.raises(InputError, match=r"GiB .* choose a smaller board, fewer agents"):
        GridWorldVector(2, **{"size": 2000, **options})
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 2**23
