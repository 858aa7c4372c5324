"""Numbers of states and actions: whole numbers stay themselves, labels are numbered in order."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from malfl_algos.logs.column import MISSING, Column
from malfl_env.checks import check_count, shown
from malfl_env.errors import InputError

__all__ = ["Numbered", "number_actions", "number_states"]

_MOST = 2**31


class Numbered(NamedTuple):
    """Values by their numbers.

    Args:
        codes: int `(n_rows,)`, -1 for a missing value.
        labels: the value of each number; None: the numbers are the values.
        size: how many numbers there are.
    """

    codes: NDArray[np.int64]
    labels: tuple[Any, ...] | None
    size: int


def number_states(
    columns: Sequence[Column],
    *,
    size: int | None,
    row_name: Callable[[int], str],
    further: Sequence[Column] = (),
) -> tuple[Numbered, NDArray[np.int64] | None]:
    """Number the states of one column, or of several together.

    Args:
        columns: one column of whole numbers, which stay themselves; or else columns whose
            combinations are numbered in sorted order.
        size: the number of states; None: the largest number that occurs + 1, or the number of
            combinations that occur.
        row_name: names a row in messages.
        further: columns of next states, as many as `columns`, numbered alike.

    Returns:
        The states, and the numbers of the next states; None without `further`.
    """
    if size is not None:
        size = check_count("n_states", size, minimum=1)
    if further and len(further) != len(columns):
        raise InputError(
            f"next_state must have as many columns as state, got {len(further)} and {len(columns)}"
        )
    n_rows = len(columns[0].codes)
    pairs = (
        list(zip(columns, further, strict=True)) if further else [(own, None) for own in columns]
    )
    whole = [_together(own, other) for own, other in pairs]
    named = _name(columns)
    if len(whole) == 1 and whole[0].is_whole:
        found = _themselves(whole[0], size, named, lambda row: row_name(row % n_rows))
    else:
        found = _combinations(whole, size, named)
    if not further:
        return found, None
    return found._replace(codes=found.codes[:n_rows]), found.codes[n_rows:]


def number_actions(
    columns: Mapping[str, Column],
    *,
    sizes: int | Mapping[str, int] | None,
    row_name: Callable[[int], str],
) -> dict[str, Numbered]:
    """Number the actions of every agent.

    Agents that have an action label in common share one list of labels, so that equal labels have
    equal numbers.

    Args:
        columns: of every agent.
        sizes: number of actions, of all agents or by agent; None: those that occur.
        row_name: names a row in messages.
    """
    if isinstance(sizes, Mapping):
        unknown = sorted(map(str, sizes.keys() - columns.keys()))
        if unknown:
            raise InputError(
                f"n_actions names the agent {unknown[0]!r}, the agents are {', '.join(columns)}"
            )
    by_agent = sizes if isinstance(sizes, Mapping) else dict.fromkeys(columns, sizes)
    shared = _shared_labels(columns)
    found = {}
    for agent, column in columns.items():
        size = by_agent.get(agent)
        if size is not None:
            size = check_count(f"n_actions of {agent}", size, minimum=1)
        if column.is_whole:
            found[agent] = _themselves(column, size, f"action of {agent}", row_name)
            continue
        labels = shared[agent]
        if not labels:
            raise InputError(f"column {column.name!r}: agent {agent} has no action in any row")
        if size not in (None, len(labels)):
            raise InputError(
                f"n_actions of {agent} is {size}, its column {column.name!r} has {len(labels)} "
                f"labels: {_some(labels)}"
            )
        place = {label: number for number, label in enumerate(labels)}
        numbers = np.array([place[own] for own in column.labels()] or [0], dtype=np.int64)
        found[agent] = Numbered(_coded(numbers, column), tuple(labels), len(labels))
    return found


def _themselves(
    column: Column, size: int | None, what: str, row_name: Callable[[int], str]
) -> Numbered:
    values = column.values
    allowed = _MOST if size is None else size
    for place in (0, len(values) - 1):
        value = int(values[place])
        if not 0 <= value < allowed:
            row = int(np.argmax(column.codes == place))
            raise InputError(
                f"{row_name(row)}, column {column.name!r}: the {what} is {value}, allowed: 0 to "
                f"{allowed - 1}" + (" (or text labels)" if size is None else "")
            )
    return Numbered(_coded(values, column), None, int(values[-1]) + 1 if size is None else size)


def _coded(numbers: NDArray[Any], column: Column) -> NDArray[np.int64]:
    codes = numbers[column.codes].astype(np.int64, copy=False)
    codes[column.missing] = MISSING
    return np.asarray(codes)


def _combinations(columns: Sequence[Column], size: int | None, what: str) -> Numbered:
    missing = np.any([own.missing for own in columns], axis=0)
    sizes = tuple(max(len(own.values), 1) for own in columns)
    if prod(sizes) >= 2**62:
        raise InputError(f"{what}: {prod(sizes):.2g} combinations of values are too many")
    flat = np.zeros(len(missing), dtype=np.int64)
    for own, n_own in zip(columns, sizes, strict=True):
        flat = flat * n_own + np.maximum(own.codes, 0)
    seen, inverse = np.unique(flat[~missing], return_inverse=True)
    codes = np.full(len(missing), MISSING, dtype=np.int64)
    codes[~missing] = np.asarray(inverse).reshape(-1)
    digits = np.unravel_index(seen, sizes)
    parts = [
        [own.labels()[d] for d in digit] if len(own.values) < 1000 else _picked(own, digit)
        for own, digit in zip(columns, digits, strict=True)
    ]
    labels = tuple(zip(*parts, strict=True)) if len(parts) > 1 else tuple(parts[0])
    if size not in (None, len(labels)):
        raise InputError(
            f"n_states is {size}, {what} has {len(labels)} labels: {_some(labels)}; leave n_states "
            "out where states are labels"
        )
    return Numbered(codes, labels, len(labels))


def _picked(column: Column, places: NDArray[Any]) -> list[Any]:
    labels = column.labels()
    return [labels[place] for place in places.tolist()]


def _together(first: Column, second: Column | None) -> Column:
    """Two columns, one below the other, with the values of both."""
    if second is None:
        return first
    if len(first.values) and len(second.values) and first.values.dtype != second.values.dtype:
        numbers = {first.values.dtype.kind, second.values.dtype.kind} <= {"i", "f"}
        if not numbers:
            raise InputError(
                f"columns {first.name!r} and {second.name!r} must hold the same states, they hold "
                f"{first.kind} and {second.kind}"
            )
    parts = [own.values for own in (first, second) if len(own.values)]
    if not parts:
        return Column(first.name, first.values, np.concatenate([first.codes, second.codes]))
    values = np.unique(np.concatenate(parts))
    codes = []
    for own in (first, second):
        place = np.searchsorted(values, own.values) if len(own.values) else np.zeros(1, int)
        codes.append(np.where(own.missing, MISSING, place[own.codes]))
    return Column(first.name, values, np.concatenate(codes), first.mixed)


def _shared_labels(columns: Mapping[str, Column]) -> dict[str, list[Any]]:
    """Sorted labels of every agent, in common for agents that have one in common."""
    groups: list[tuple[set[str], set[Any]]] = []
    for agent, column in columns.items():
        if column.is_whole:
            continue
        agents, labels = {agent}, set(column.labels())
        apart = []
        for others, known in groups:
            if known & labels:
                agents, labels = agents | others, labels | known
            else:
                apart.append((others, known))
        groups = [*apart, (agents, labels)]
    try:
        return {agent: sorted(labels) for agents, labels in groups for agent in agents}
    except TypeError:
        raise InputError("the actions of some agents are numbers, of others text") from None


def _name(columns: Sequence[Column]) -> str:
    return "state" if len(columns) == 1 else f"state ({', '.join(own.name for own in columns)})"


def _some(labels: Sequence[Any]) -> str:
    text = ", ".join(map(str, labels[:6]))
    return shown(text)[1:-1] + (", ..." if len(labels) > 6 else "")
