"""The rules of the grid world as pure arrays: which cells are free, and where each action leads.

Cells are numbered row by row: `cell = row * size + column`. A joint state is the tuple of all
agents' cells, numbered in mixed radix with agent 0 most significant. Seeds, dictionaries and spaces
belong to `grid_world`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from malfl_env.checks import (
    check_count,
    check_fraction,
    check_table_bytes,
    is_sequence,
    is_whole,
)
from malfl_env.errors import InputError
from malfl_env.markov_game import Factor

__all__ = [
    "ACTIONS",
    "Cell",
    "Cells",
    "GridRules",
    "Moves",
    "cell_factor",
    "cell_successors",
    "grid_rules",
]

IntArray = NDArray[np.int64]
Cell: TypeAlias = tuple[int, int]
Cells: TypeAlias = Sequence[int] | Sequence[Sequence[int]] | IntArray

ACTIONS = ("down", "up", "left", "right", "stay")
_CELL_BYTES = 400
"""Memory that a game may take for one cell of the board."""
_MOST_MOVES = 2**20
"""Largest number of cells whose moves are kept, about 300 MB; then all are dropped."""
_PAIR_BYTES = 64
"""Memory for each pair of agents: their share of a space and of a copy of the observation."""
_STEPS = ((1, 0), (-1, 0), (0, -1), (0, 1), (0, 0))


@dataclass(frozen=True)
class GridRules:
    """A grid world's rules in normal form; made by `grid_rules`, which checks them.

    Args:
        size: number of rows and of columns.
        n_agents: number of agents.
        starts: (row, column) in which each agent begins, one per agent.
        goals: (row, column) of each agent's goal, one per agent.
        walls: (row, column) of the cells that no agent can enter, sorted, each once.
        slip: probability, independent for each agent, that its action is replaced by one drawn
            uniformly from all five. All five lead from the goal to the start.
    """

    size: int
    n_agents: int
    starts: tuple[Cell, ...]
    goals: tuple[Cell, ...]
    walls: tuple[Cell, ...]
    slip: float

    @property
    def n_cells(self) -> int:
        """Number of cells, walls included."""
        return self.size * self.size

    @property
    def n_states(self) -> int:
        """Number of joint states, reachable or not: an exact int of any size."""
        return int(self.n_cells**self.n_agents)

    @property
    def start_cells(self) -> tuple[int, ...]:
        """Number of each agent's start cell."""
        return tuple(self.cell_number(cell) for cell in self.starts)

    @property
    def goal_cells(self) -> tuple[int, ...]:
        """Number of each agent's goal cell."""
        return tuple(self.cell_number(cell) for cell in self.goals)

    def cell_number(self, cell: Cell) -> int:
        """Number of a cell given as (row, column)."""
        return cell[0] * self.size + cell[1]

    def joint_state(self, cells: Sequence[int]) -> int:
        """Number of the joint state in which the agents stand on these cells, in agent order."""
        state = 0
        for cell in cells:
            state = state * self.n_cells + cell
        return state


def grid_rules(
    *,
    size: int = 3,
    n_agents: int = 2,
    starts: Cells | None = None,
    goals: Cells | None = None,
    walls: Collection[Sequence[int]] | IntArray = (),
    slip: float = 0.0,
) -> GridRules:
    """Check the options of a grid world and bring them into normal form.

    Args:
        size: number of rows and of columns, at least 2.
        n_agents: number of agents, at least 2.
        starts: one (row, column) for all agents, or one per agent; None: the top left cell.
        goals: the same for the goals; None: the bottom right cell.
        walls: (row, column) of the cells that no agent can enter; a cell may be listed twice.
        slip: probability from 0 to 1 that an agent's action is replaced by a uniformly drawn one.

    Returns:
        The rules; every goal in them can be reached from its agent's start.

    Raises:
        InputError: for an option of the wrong type, count or range; a board or a number of agents
            that would take more than `malfl_env.checks.MAX_TABLE_BYTES`; a start or goal that is
            off the board or on a wall; a start that is the goal; a goal that cannot be reached.
    """
    size = check_count("size", size, minimum=2)
    n_agents = check_count("n_agents", n_agents, minimum=2)
    check_table_bytes(
        _CELL_BYTES * size**2 + _PAIR_BYTES * n_agents**2,
        f"a grid world of size {size} with {n_agents} agents",
        "choose a smaller one",
    )
    rules = GridRules(
        size=size,
        n_agents=n_agents,
        starts=_one_per_agent("starts", starts, (0, 0), size, n_agents),
        goals=_one_per_agent("goals", goals, (size - 1, size - 1), size, n_agents),
        walls=tuple(sorted({_cell("walls", wall, size) for wall in _entries("walls", walls)})),
        slip=check_fraction("slip", slip),
    )
    _check_places(rules)
    return rules


def cell_successors(rules: GridRules, agent_index: int) -> IntArray:
    """Where each action takes one agent without slip.

    A move into the border or a wall leaves the agent in its cell. From its goal every action takes
    it to its start. The row of a wall, which no agent can enter, holds the wall cell itself.

    Args:
        rules: the rules of the game.
        agent_index: whose start and goal count, 0..n_agents-1.

    Returns:
        int64 `(n_cells, 5)`: the next cell for every cell and action, in the order of `ACTIONS`.
    """
    successors = _moves(rules, np.arange(rules.n_cells), _blocked(rules))
    successors[rules.goal_cells[agent_index]] = rules.start_cells[agent_index]
    return successors


class Moves(dict[int, list[int]]):
    """Where each action takes one agent without slip, cell by cell at the first look.

    The same as `cell_successors`, as plain lists, which are several times faster than NumPy's
    scalars. Only cells that are visited take memory, so the size of the board does not matter.

    Args:
        rules: the rules of the game.
        agent_index: whose start and goal count, 0..n_agents-1.
    """

    def __init__(self, rules: GridRules, agent_index: int) -> None:
        super().__init__()
        self._rules, self._agent_index = rules, agent_index
        self._goal = rules.cell_number(rules.goals[agent_index])
        self._start = rules.cell_number(rules.starts[agent_index])
        self._walls = {rules.cell_number(wall) for wall in rules.walls}

    def __missing__(self, cell: int) -> list[int]:
        rules, last = self._rules, self._rules.size - 1
        row, column = divmod(cell, rules.size)
        targets = [
            min(max(row + down, 0), last) * rules.size + min(max(column + right, 0), last)
            for down, right in _STEPS
        ]
        if cell == self._goal:
            targets = [self._start] * len(_STEPS)
        else:
            targets = [cell if target in self._walls else target for target in targets]
        if len(self) >= _MOST_MOVES:
            self.clear()
        self[cell] = targets
        return targets

    def __reduce__(self) -> tuple[Any, ...]:
        """Copies and pickles begin without moves."""
        return Moves, (self._rules, self._agent_index)


def cell_factor(rules: GridRules, agent_index: int) -> Factor:
    """One agent's part of the tabular game: its cell, moved by its own action.

    Returns:
        A `Factor` with one successor per cell and action without slip, otherwise with five: the
        next cells of the five actions in the order of `ACTIONS`.
    """
    successors = cell_successors(rules, agent_index)
    if rules.slip == 0.0:
        return Factor((agent_index,), successors[..., None], np.ones((*successors.shape, 1)))
    n_actions = len(ACTIONS)
    executed = np.full((n_actions, n_actions), rules.slip / n_actions)
    executed += (1.0 - rules.slip) * np.eye(n_actions)
    shape = (rules.n_cells, n_actions, n_actions)
    return Factor(
        (agent_index,),
        np.broadcast_to(successors[:, None, :], shape).copy(),
        np.broadcast_to(executed, shape).copy(),
    )


def _blocked(rules: GridRules) -> NDArray[np.bool_]:
    """Whether each cell is a wall, `(n_cells,)`."""
    blocked = np.zeros(rules.n_cells, dtype=bool)
    blocked[[rules.cell_number(wall) for wall in rules.walls]] = True
    return blocked


def _moves(rules: GridRules, cells: IntArray, blocked: NDArray[np.bool_]) -> IntArray:
    """Next cells of cells by each action, without the return from goals, int64 `(n, 5)`."""
    rows, columns = np.divmod(cells[:, None], rules.size)
    steps = np.array(_STEPS)
    last = rules.size - 1
    targets = np.clip(rows + steps[:, 0], 0, last) * rules.size
    targets += np.clip(columns + steps[:, 1], 0, last)
    stay = blocked[targets] | blocked[cells, None]
    return np.where(stay, cells[:, None], targets).astype(np.int64)


def _entries(name: str, value: object) -> list[object]:
    """The entries of a list, tuple, set or array; strings and mappings are rejected."""
    if is_sequence(value) or isinstance(value, (set, frozenset)):
        return list(value)
    raise InputError(f"{name} must be a list of (row, column) pairs, got {value!r}")


def _cell(name: str, value: object, size: int) -> Cell:
    """A (row, column) on the board."""
    if is_sequence(value):
        digits = list(value)
        if len(digits) == 2 and all(is_whole(digit) and 0 <= digit < size for digit in digits):
            return int(digits[0]), int(digits[1])
    raise InputError(
        f"{name}: a cell must be a (row, column) pair of whole numbers from 0 to {size - 1} "
        f"(size is {size}), got {value!r}"
    )


def _one_per_agent(
    name: str, value: object, default: Cell, size: int, n_agents: int
) -> tuple[Cell, ...]:
    """One (row, column) per agent, from one for all or one per agent."""
    if value is None:
        return (default,) * n_agents
    entries = _entries(name, value)
    if entries and not any(is_sequence(entry) for entry in entries):
        return (_cell(name, value, size),) * n_agents
    if len(entries) != n_agents:
        raise InputError(
            f"{name} must be one (row, column) for all agents or one for each of the "
            f"{n_agents} agents, got {len(entries)} entries: {value!r}"
        )
    return tuple(_cell(name, entry, size) for entry in entries)


def _check_places(rules: GridRules) -> None:
    """Check that starts and goals are different free cells and that every goal can be reached."""
    blocked = _blocked(rules) if rules.walls else np.zeros(0, dtype=bool)
    reached_from: dict[Cell, NDArray[np.bool_]] = {}
    for index, (start, goal) in enumerate(zip(rules.starts, rules.goals, strict=True)):
        for name, cell in (("starts", start), ("goals", goal)):
            if cell in rules.walls:
                raise InputError(
                    f"{name}: agent_{index} has {cell}, which is a wall; "
                    f"choose a cell that is not in walls"
                )
        if start == goal:
            raise InputError(
                f"goals: agent_{index} has its goal {goal} on its start, so it would never leave "
                f"that cell; choose two different cells"
            )
        if not rules.walls:
            continue
        if start not in reached_from:
            reached_from[start] = _reachable(rules, blocked, rules.cell_number(start))
        if not reached_from[start][rules.cell_number(goal)]:
            raise InputError(
                f"goals: agent_{index} cannot reach its goal {goal} from its start {start} "
                f"because of the walls {list(rules.walls)}"
            )


def _reachable(rules: GridRules, blocked: NDArray[np.bool_], start: int) -> NDArray[np.bool_]:
    """Whether each cell can be reached from `start` by moves, bool `(n_cells,)`."""
    reached = np.zeros(len(blocked), dtype=bool)
    frontier = np.array([start])
    while frontier.size:
        reached[frontier] = True
        frontier = np.unique(_moves(rules, frontier, blocked))
        frontier = frontier[~reached[frontier]]
    return reached
