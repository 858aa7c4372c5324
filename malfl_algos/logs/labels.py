"""Numbers of states and actions: whole numbers stay themselves, labels are numbered in order."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from functools import partial
from math import prod
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from malfl_algos.logs.column import MISSING, Column
from malfl_env.checks import check_count, shown
from malfl_env.errors import InputError
from malfl_env.labels import Label, label_key, label_text

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
    known: Sequence[Label] | None = None,
    compact: bool = False,
) -> tuple[Numbered, NDArray[np.int64] | None]:
    """Number the states of one column, or of several together.

    Args:
        columns: one column of whole numbers, which stay themselves; or else columns whose
            combinations are numbered in sorted order.
        size: the number of states; None: the largest number that occurs + 1, or the number of
            combinations that occur.
        row_name: names a row in messages.
        further: columns of next states, as many as `columns`, numbered alike.
        known: names of the states of a game, in its order; labels must be among them.
        compact: whether whole numbers are labels, too.

    Returns:
        The states, and the numbers of the next states; None without `further`.

    Raises:
        InputError: for a number or a label that is not allowed, with its row.
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

    def row(index: int) -> str:
        return row_name(index % n_rows)

    are_labels = compact or _are_names(whole[0], known)
    if len(whole) == 1 and whole[0].is_whole and not are_labels:
        found = _themselves(whole[0], size, named, row)
    else:
        found = _combinations(whole, None if known is not None else size, named)
        if known is not None:
            found = _as_known(found, known, named, row)
    if not further:
        return found, None
    return found._replace(codes=found.codes[:n_rows]), found.codes[n_rows:]


def number_actions(
    columns: Mapping[str, Column],
    *,
    sizes: int | Mapping[str, int] | None,
    row_name: Callable[[int, int], str],
    known: Sequence[Sequence[Label]] | None = None,
) -> dict[str, Numbered]:
    """Number the actions of every agent.

    Whole numbers stay themselves, labels are numbered in sorted order. Agents that have a label in
    common share one list of labels, so that equal labels have equal numbers.

    Args:
        columns: of every agent.
        sizes: number of actions, of all agents or by agent; None: those that occur.
        row_name: names a row in messages, by its index and that of the agent.
        known: names of every agent's actions in a game, in its order; labels must be among them.

    Raises:
        InputError: for a number or a label that is not allowed, with its row, and agents or sizes
            that do not fit the columns.
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
    for index, (agent, column) in enumerate(columns.items()):
        names = None if known is None else known[index]
        row = partial(_row_of, row_name, index)
        size = by_agent.get(agent)
        if size is not None:
            size = check_count(f"n_actions of {agent}", size, minimum=1)
        if column.is_whole and not _are_names(column, names):
            found[agent] = _themselves(column, size, f"action of {agent}", row)
        elif names is not None:
            given = Numbered(column.codes, tuple(column.labels()), len(column.values))
            found[agent] = _as_known(given, names, f"action of {agent}", row)
        else:
            found[agent] = _labelled(column, shared[agent], size, agent)
    return found


def _row_of(row_name: Callable[[int, int], str], agent: int, row: int) -> str:
    return row_name(row, agent)


def _labelled(column: Column, labels: Sequence[Any], size: int | None, agent: str) -> Numbered:
    if not labels:
        raise InputError(f"column {column.name!r}: agent {agent} has no action in any row")
    if size not in (None, len(labels)):
        raise InputError(
            f"n_actions of {agent} is {size}, its column {column.name!r} has {len(labels)} "
            f"labels: {_some(labels)}"
        )
    place = {label: number for number, label in enumerate(labels)}
    numbers = np.array([place.get(own, MISSING) for own in column.labels()], dtype=np.int64)
    return Numbered(_coded(numbers, column), tuple(labels), len(labels))


def _are_names(column: Column, known: Sequence[Label] | None) -> bool:
    """Whether whole numbers are names of a game, as prices may be, and not its numbers."""
    return known is not None and {*map(label_key, column.labels())} <= {*map(label_key, known)}


def _as_known(
    given: Numbered, known: Sequence[Label], what: str, row_name: Callable[[int], str]
) -> Numbered:
    """The numbers that a game gives to labels."""
    place = {label_key(name): number for number, name in enumerate(known)}
    assert given.labels is not None
    numbers = np.full(len(given.labels) + 1, MISSING, dtype=np.int64)
    for code, label in enumerate(given.labels):
        number = place.get(label_key(label))
        if number is not None:
            numbers[code] = number
        elif np.any(given.codes == code):
            row, text = int(np.argmax(given.codes == code)), label_text(label)
            near = get_close_matches(text, [*map(label_text, known)], n=1)
            hint = f", did you mean {near[0]!r}?" if near else ""
            raise InputError(
                f"{row_name(row)}: the {what} is {text!r}, which the game does not have{hint} "
                f"(it has {_some([*map(label_text, known)])})"
            )
    return Numbered(numbers[given.codes], tuple(known), len(known))


def _themselves(
    column: Column, size: int | None, what: str, row_name: Callable[[int], str]
) -> Numbered:
    values = column.values
    if not len(values):
        raise InputError(f"column {column.name!r} has no value in any row")
    allowed = _MOST if size is None else size
    for place in (0, len(values) - 1):
        value = int(values[place])
        if not 0 <= value < allowed:
            row = int(np.argmax(column.codes == place))
            raise InputError(
                f"{row_name(row)}, column {column.name!r}: the {what} is {value}, allowed: 0 to "
                f"{allowed - 1}" + (" (or labels, or compact)" if size is None else "")
            )
    return Numbered(_coded(values, column), None, int(values[-1]) + 1 if size is None else size)


def _coded(numbers: NDArray[Any], column: Column) -> NDArray[np.int64]:
    return np.asarray(np.append(numbers, MISSING)[column.codes], dtype=np.int64)


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
    parts = [_picked(own, digit) for own, digit in zip(columns, digits, strict=True)]
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
