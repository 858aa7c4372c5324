"""Rewards: functions of the positions of all agents, vectorised over joint states, or tables.

The reward of a step belongs to the joint state *before* the move. An agent's reward is given as

- a name: "approach" or "avoid";
- a callable `f(positions, agent_index)` that maps int64 `(n, n_agents, 2)`, the (row, column) of
  every agent in n joint states, to n finite numbers;
- an array `(n_states,)` over joint states, or `(n_states, *n_actions)` over joint states and the
  actions that the agents chose.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from malfl_env.checks import check_choice, check_numbers, is_sequence
from malfl_env.errors import InputError
from malfl_env.rules import ACTIONS, Cell, GridRules

__all__ = [
    "FAMILIES",
    "REWARD_NAMES",
    "Reward",
    "RewardFunction",
    "approach",
    "avoid",
    "family_rewards",
    "grid_rewards",
    "reward_table",
    "state_rewards",
]

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]
RewardFunction: TypeAlias = Callable[[IntArray, int], FloatArray]
Reward: TypeAlias = str | RewardFunction | FloatArray

FAMILIES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"homogeneous": ("avoid",), "heterogeneous": ("approach", "avoid")}
)
"""Reward names of a family; the agents get them in turn."""

_SMALL_GAME = 4096  # in games with at most so many joint states, a callable is tried on all of them
_CHUNK = 65536  # joint states whose positions are held in memory at a time


def approach(positions: IntArray, agent_index: int, *, goals: Sequence[Cell]) -> FloatArray:
    """Rewards closeness to the goal and to the others: r = -d(own, goal) - sum of d(own, other).

    Args:
        positions: int64 `(n, n_agents, 2)`, (row, column) of every agent in n joint states.
        agent_index: the agent whose reward is computed, 0..n_agents-1.
        goals: (row, column) of each agent's goal.

    Returns:
        float64 `(n,)`; d is the Manhattan distance and ignores walls.
    """
    to_goal, to_others = _distances(positions, agent_index, goals)
    return (-to_goal - to_others).astype(np.float64)


def avoid(positions: IntArray, agent_index: int, *, goals: Sequence[Cell]) -> FloatArray:
    """Rewards closeness to the goal and distance to the others: r = -d(own, goal) + sum of d(own,
    other).

    Arguments and result as for `approach`.
    """
    to_goal, to_others = _distances(positions, agent_index, goals)
    return (to_others - to_goal).astype(np.float64)


_NAMED = {"approach": approach, "avoid": avoid}
REWARD_NAMES = tuple(_NAMED)


def family_rewards(name: str, n_agents: int) -> tuple[str, ...]:
    """The reward names of a family, one per agent.

    Raises:
        InputError: for an unknown family.
    """
    pattern = FAMILIES[check_choice("rewards (family name)", name, FAMILIES)]
    return tuple(pattern[index % len(pattern)] for index in range(n_agents))


def grid_rewards(rewards: str | Sequence[Reward], rules: GridRules) -> tuple[Reward, ...]:
    """Check the `rewards` option and bring it into normal form, one entry per agent.

    A callable is tried out: on every joint state of a small game, on a few of a large one.

    Args:
        rewards: a family name, or one entry per agent.
        rules: the rules of the game.

    Returns:
        One name, callable or read-only float64 copy of the array per agent.

    Raises:
        InputError: for an unknown name, a wrong number of entries, an array of the wrong shape,
            a callable that returns something other than one number per joint state, or values
            that are not finite.
    """
    if isinstance(rewards, str):
        if rewards in REWARD_NAMES and rewards not in FAMILIES:
            raise InputError(
                f"rewards must be a family name or one entry per agent; for the reward {rewards!r} "
                f"of all agents, pass {(rewards,) * rules.n_agents}"
            )
        return family_rewards(rewards, rules.n_agents)
    if not is_sequence(rewards) or len(rewards) != rules.n_agents:
        shown = f"{len(rewards)} entries" if is_sequence(rewards) else f"{rewards!r}"
        raise InputError(
            f"rewards must be a family name ({', '.join(FAMILIES)}) or a list of one entry for "
            f"each of the {rules.n_agents} agents, got {shown}"
        )
    entries = tuple(_entry(entry, index, rules) for index, entry in enumerate(rewards))
    sample = _sample_states(rules)
    for index, entry in enumerate(entries):
        if callable(entry):
            state_rewards(entry, sample, index, goals=rules.goals)
    return entries


def state_rewards(
    reward: str | RewardFunction, positions: IntArray, agent_index: int, *, goals: Sequence[Cell]
) -> FloatArray:
    """Rewards of one agent in n joint states, for a name or a callable.

    Args:
        reward: a reward name or a callable.
        positions: int64 `(n, n_agents, 2)`; a callable receives a read-only view.
        agent_index: the agent whose reward is computed, 0..n_agents-1.
        goals: (row, column) of each agent's goal.

    Returns:
        float64 `(n,)`.

    Raises:
        InputError: if a callable returns another shape, values that are not numbers, or numbers
            that are not finite.
    """
    if isinstance(reward, str):
        return _NAMED[reward](positions, agent_index, goals=goals)
    shown = positions.view()
    shown.flags.writeable = False
    name = f"rewards: the callable of agent_{agent_index}"
    returned = reward(shown, agent_index)
    values = check_numbers(f"{name}: what it returns", returned, allowed="an array of numbers")
    if values.shape != (len(positions),):
        raise InputError(
            f"{name} must return one number per joint state, shape ({len(positions)},) for "
            f"positions of shape {positions.shape}; it returned shape {values.shape}"
        )
    finite = np.isfinite(values)
    if not finite.all():
        worst = int(np.argmin(finite))
        raise InputError(
            f"{name} must return finite numbers, got {values[worst]} for the positions "
            f"{positions[worst].tolist()}"
        )
    return values


def reward_table(reward: Reward, rules: GridRules, agent_index: int) -> FloatArray:
    """The reward of one agent in every joint state.

    Args:
        reward: a name, a callable or an array, as in the result of `grid_rewards`.
        rules: the rules of the game.
        agent_index: the agent whose reward is computed, 0..n_agents-1.

    Returns:
        float64 `(n_states,)`, or `(n_states, *n_actions)` for an array over joint actions.

    Raises:
        InputError: as `state_rewards`.
    """
    if isinstance(reward, np.ndarray):
        return np.array(reward, dtype=np.float64)
    table = np.empty(rules.n_states)
    for first in range(0, rules.n_states, _CHUNK):
        states = np.arange(first, min(first + _CHUNK, rules.n_states))
        positions = _positions(states, rules)
        table[states] = state_rewards(reward, positions, agent_index, goals=rules.goals)
    return table


def _distances(
    positions: IntArray, agent_index: int, goals: Sequence[Cell]
) -> tuple[IntArray, IntArray]:
    """Manhattan distance to the goal, and the sum of those to the others, each int64 `(n,)`."""
    own = positions[:, agent_index]
    to_goal = np.abs(own - np.array(goals[agent_index])).sum(axis=-1)
    to_others = np.abs(positions - own[:, None]).sum(axis=(1, 2))  # the agent itself adds 0
    return to_goal, to_others


def _positions(states: IntArray, rules: GridRules) -> IntArray:
    """(row, column) of every agent in joint states, int64 `(n, n_agents, 2)`."""
    digits = np.unravel_index(states, (rules.size,) * (2 * rules.n_agents))
    return np.stack(digits, axis=-1).reshape(len(states), rules.n_agents, 2).astype(np.int64)


def _sample_states(rules: GridRules) -> IntArray:
    """Positions on which callables are tried: all, or two joint states of a large game."""
    if rules.n_states <= _SMALL_GAME:
        return _positions(np.arange(rules.n_states), rules)
    return np.array([rules.starts, rules.goals], dtype=np.int64)


def _entry(entry: object, agent_index: int, rules: GridRules) -> Reward:
    """One agent's entry of the `rewards` option, checked without calling it."""
    name = f"rewards: the entry of agent_{agent_index}"
    if isinstance(entry, str):
        return check_choice(name, entry, REWARD_NAMES)
    if callable(entry):
        return entry  # what it returns is checked at each call
    table = check_numbers(name, entry, allowed="a reward name, a callable or an array")
    allowed = ((rules.n_states,), (rules.n_states, *(len(ACTIONS),) * rules.n_agents))
    if table.shape not in allowed:
        raise InputError(
            f"{name} must have shape {allowed[0]} or {allowed[1]} in this game, got {table.shape}"
        )
    if not np.isfinite(table).all():
        where = np.unravel_index(int(np.argmin(np.isfinite(table))), table.shape)
        raise InputError(
            f"{name} must be finite, got {table[where]} at {tuple(int(axis) for axis in where)}"
        )
    table.flags.writeable = False
    return table
