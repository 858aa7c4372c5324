"""Two agents on 3 x 3 cells with a wall, a key, a door and a goal."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from malfl_env.checks import check_choice, check_count
from malfl_env.markov_game import MarkovGame
from malfl_env.tabular_env import TabularEnv

__all__ = ["key_and_door"]

SIZE = 3
START, KEY, GOAL = (0, 0), (2, 0), (2, 2)
DOOR = ((0, 1), (0, 2))
"""The door joins these two cells. A wall divides the other cells of columns 1 and 2."""
MOVES = {"down": (1, 0), "up": (-1, 0), "left": (0, -1), "right": (0, 1), "stay": (0, 0)}


def key_and_door(
    *,
    rewards: str = "natural",
    seed: int = 0,
    max_cycles: int = 1000,
    render_mode: str | None = None,
) -> TabularEnv:
    """Two agents need a key to reach the goal; 162 joint states that are no product of parts.

    A joint state is the cells of both agents and whether the door is open: 9 x 9 x 2. Columns 1 and
    2 are divided by a wall, with a door in row 0. The next step of an agent on the key, in cell
    (2, 0), opens the door for both. When both are in the goal, cell (2, 2), their next step takes
    both to cell (0, 0) and shuts the door. Moves into the border, the wall or the shut door leave
    an agent where it is; agents may share a cell. Every joint state can be entered from another.
    Episodes begin in any joint state with equal probabilities. The label of a joint state is
    `(row 0, column 0, row 1, column 1, door)`, with the door `open` or `shut`.

    Args:
        rewards: of the joint state. `natural`, with d the Manhattan distance: agent 0 has
            [in the goal] + [door open] / 2 - d(own cell, goal) / 5, agent 1 has [in the goal] +
            [on the key] / 2 - d(own cell, other's cell) / 5. `random`: standard normal values.
        seed: of random rewards.
        max_cycles, render_mode: as for `malfl_env.TabularEnv`.

    Raises:
        InputError: for an option out of its range.
    """
    check_choice("rewards", rewards, ("natural", "random"))
    check_count("seed", seed, minimum=0)
    cells = list(product(range(SIZE), repeat=2))
    states = [(*one, *other, door) for one, other, door in product(cells, cells, ("shut", "open"))]
    if rewards == "natural":
        tables = np.array([_rewards(*own) for own in states]).T
    else:
        tables = np.random.default_rng(seed).normal(size=(2, len(states)))
    game = MarkovGame.from_tables(
        _next_states(states),
        rewards=list(tables),
        states=states,
        actions=[list(MOVES), list(MOVES)],
        start=np.full(len(states), 1 / len(states)),
    )
    return TabularEnv(game, name="key_and_door", max_cycles=max_cycles, render_mode=render_mode)


def _next_states(states: list[tuple[Any, ...]]) -> NDArray[np.int64]:
    """The next joint state, `(n_states, n_moves, n_moves)`."""
    number = {state: index for index, state in enumerate(states)}
    table = np.zeros((len(states), len(MOVES), len(MOVES)), dtype=np.int64)
    for state in states:
        for (one, by), (other, way) in product(enumerate(MOVES.values()), repeat=2):
            table[number[state], one, other] = number[_after(state, by, way)]
    return table


def _after(state: tuple[Any, ...], by: tuple[int, int], way: tuple[int, int]) -> tuple[Any, ...]:
    first, second, door = state[:2], state[2:4], state[4]
    if first == second == GOAL:
        return (*START, *START, "shut")
    after = "open" if KEY in (first, second) else door
    return (*_moved(first, by, door), *_moved(second, way, door), after)


def _moved(cell: tuple[int, int], by: tuple[int, int], door: str) -> tuple[int, int]:
    target = (cell[0] + by[0], cell[1] + by[1])
    if not all(0 <= own < SIZE for own in target):
        return cell
    divided = {cell[1], target[1]} == {1, 2}
    if divided and not (door == "open" and {cell, target} == set(DOOR)):
        return cell
    return target


def _rewards(*state: Any) -> tuple[float, float]:
    first, second, door = state[:2], state[2:4], state[4]
    one = (first == GOAL) + (door == "open") / 2 - _distance(first, GOAL) / 5
    other = (second == GOAL) + (second == KEY) / 2 - _distance(second, first) / 5
    return one, other


def _distance(one: tuple[int, int], other: tuple[int, int]) -> int:
    return abs(one[0] - other[0]) + abs(one[1] - other[1])
