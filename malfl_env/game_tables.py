"""A game given as one table of next states, or of transition probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from malfl_env.arguments import typed
from malfl_env.checks import check_numbers, check_table_bytes, is_whole, shown
from malfl_env.errors import InputError
from malfl_env.labels import Label
from malfl_env.markov_game import Factor, MarkovGame

__all__ = ["game_from_tables"]

_SUM_TOLERANCE = 1e-6  # rows of probabilities are scaled to sum to 1 if they miss it by less


@typed
def game_from_tables(
    next_states: ArrayLike | None = None,
    transitions: ArrayLike | None = None,
    *,
    rewards: Sequence[Any] | None = None,
    states: Sequence[Any] | None = None,
    actions: Sequence[Any] | None = None,
    start: Any = None,
    agents: Sequence[str] | None = None,
) -> MarkovGame:
    """`MarkovGame.from_tables`, which describes the arguments and errors."""
    if (next_states is None) == (transitions is None):
        raise InputError("give either next_states or transitions, one of the two")
    factor = _stochastic(transitions) if next_states is None else _deterministic(next_states)
    n_states, n_actions = factor.n_local, factor.successors.shape[1:-1]
    names = None if states is None else tuple(states)
    first, starts = _start(start, n_states, names)
    game = MarkovGame(
        n_actions,
        (factor,),
        first,
        start_probabilities=starts,
        states=names,
        actions=_actions(actions, len(n_actions)),
        agent_names=None if agents is None else tuple(agents),
    )
    if rewards is None:
        return game
    tables = list(rewards)
    return game.with_rewards(
        [
            check_numbers(f"the reward of agent {index}", table, allowed="an array of numbers")
            for index, table in enumerate(tables)
        ]
    )


def _deterministic(given: ArrayLike) -> Factor:
    table = _array("next_states", given)
    if table.ndim < 2 or table.size == 0:
        raise InputError(
            f"next_states must be (n_states, *n_actions), one axis per agent, got shape "
            f"{table.shape}"
        )
    if table.dtype.kind not in "iu":
        raise InputError(f"next_states must be whole numbers, got dtype {table.dtype}")
    _check_range(table, len(table))
    columns = table.astype(np.int64)[..., None]
    return Factor(tuple(range(table.ndim - 1)), columns, np.ones(columns.shape))


def _check_range(table: NDArray[Any], n_states: int) -> None:
    wrong = np.argwhere((table < 0) | (table >= n_states))
    if len(wrong):
        row = tuple(map(int, wrong[0]))
        raise InputError(
            f"next_states[{', '.join(map(str, row))}] is {table[row]}, allowed: joint states "
            f"0..{n_states - 1}"
        )


def _stochastic(given: Any) -> Factor:
    """The factor with the next states of positive probability only, as many as the widest row."""
    table = _array("transitions", given)
    if table.dtype.kind not in "iuf":
        raise InputError(f"transitions must be numbers, got dtype {table.dtype}")
    if table.ndim < 3 or table.size == 0 or table.shape[0] != table.shape[-1]:
        raise InputError(
            "transitions must be (n_states, *n_actions, n_states), one axis of actions per agent, "
            f"got shape {table.shape}"
        )
    n_states = len(table)
    rows = table.reshape(-1, n_states).astype(np.float64)
    sums = rows.sum(axis=1)
    wrong = ~(np.abs(sums - 1) <= _SUM_TOLERANCE) | ~np.all(rows >= 0, axis=1)
    if wrong.any():
        row = int(np.argmax(wrong))
        where = ", ".join(str(int(i)) for i in np.unravel_index(row, table.shape[:-1]))
        raise InputError(
            f"transitions[{where}] must be probabilities >= 0 with sum 1, got {shown(rows[row])}"
        )
    width = int((rows > 0).sum(axis=1).max())
    check_table_bytes(16 * len(rows) * width, f"the transitions of {n_states} joint states")
    order = np.argsort(rows <= 0, axis=1, kind="stable")[:, :width]  # possible next states first
    chances = np.take_along_axis(rows, order, axis=1) / sums[:, None]
    shape = (*table.shape[:-1], width)
    return Factor(
        tuple(range(table.ndim - 2)), order.reshape(shape).astype(np.int64), chances.reshape(shape)
    )


def _array(name: str, given: Any) -> NDArray[Any]:
    try:
        array = np.asarray(given)
    except ValueError as fault:
        raise InputError(f"{name} must be one array, got rows of different lengths") from fault
    if array.dtype.kind not in "biuf":
        raise InputError(f"{name} must be an array of numbers, got {shown(given)}")
    return array


def _start(
    given: Any, n_states: int, names: tuple[Label, ...] | None
) -> tuple[int, NDArray[np.float64] | None]:
    """The joint state that episodes begin in, and the probabilities if there are several."""
    if given is None:
        return 0, np.full(n_states, 1 / n_states) if n_states > 1 else None
    if isinstance(given, str):
        if names is None or given not in names:
            raise InputError(f"start must be the name of a joint state, got {shown(given)}")
        return names.index(given), None
    if is_whole(given):
        return int(given), None
    chances = check_numbers("start", given, allowed="a joint state, or probabilities of all")
    if chances.shape != (n_states,):
        raise InputError(f"start must be {n_states} probabilities, got shape {chances.shape}")
    return int(np.argmax(chances)), chances


def _actions(given: Any, n_agents: int) -> Any:
    """One tuple of names for each agent."""
    if given is None:
        return None
    entries = list(given)
    if entries and not any(isinstance(entry, (list, tuple)) for entry in entries):
        return (tuple(entries),) * n_agents
    return tuple(tuple(entry) if isinstance(entry, list) else entry for entry in entries)
