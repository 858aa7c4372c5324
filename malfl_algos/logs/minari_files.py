"""Data sets of Minari as columns.

Steps have the columns `episode`, `step`, `action`, `observation`, `next_observation` and
`terminated`; an entry of a dictionary of actions or observations has a column `action/<entry>` and
so on. Where episodes have the option `stage`, or the info `state`, there are the columns `stage`,
`state` and `next_state`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from malfl_env.errors import InputError

__all__ = ["read_dataset"]


def read_dataset(minari: Any, folder: Path) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """The columns of a data set, and what `malfl export` wrote about it; empty if it did not.

    Args:
        minari: the package.
        folder: of the data set.

    Raises:
        InputError: for a folder that is no such data set, or one that would have to make its
            environment: a data set may name any class as its environment, and nothing in a file is
            run.
    """
    storage_class = minari.dataset.minari_storage.MinariStorage
    try:
        place = folder if (folder / "metadata.json").exists() else folder / "data"
        metadata = storage_class.read_raw_metadata(place)
    except Exception as fault:  # as below
        raise InputError(f"not a data set of Minari: {' '.join(str(fault).split())}") from fault
    lacking = [key for key in ("observation_space", "action_space") if key not in metadata]
    if lacking:
        raise InputError(
            f"the data set has no {lacking[0]} in its metadata, and its environment is not made to "
            "find it: import a table of its steps instead"
        )
    try:
        storage = storage_class.read(place)
        numbers = range(storage.total_episodes)
        options = [own.get("options") or {} for own in storage.get_episode_metadata(numbers)]
        parts = [
            _episode(own, number, option)
            for number, own, option in zip(
                numbers, storage.get_episodes(numbers), options, strict=True
            )
        ]
        about = json.loads(storage.metadata.get("malfl", "{}"))
    except Exception as fault:  # Minari and HDF5 raise exceptions of any type for damaged files
        words = " ".join(f"{type(fault).__name__}: {fault}".split())[:200]
        raise InputError(f"not a readable data set of Minari: {words}") from fault
    if not parts:
        raise InputError("the data set has no episodes")
    shared = [name for name in parts[0] if all(name in part for part in parts)]
    columns = {name: np.concatenate([part[name] for part in parts]) for name in shared}
    return columns, about if isinstance(about, dict) else {}


def _episode(
    content: Mapping[str, Any], number: int, options: Mapping[str, Any]
) -> dict[str, NDArray[Any]]:
    n_steps = len(content["rewards"])
    columns: dict[str, NDArray[Any]] = {
        "episode": np.full(n_steps, number),
        "step": np.arange(n_steps),
        "terminated": np.asarray(content["terminations"], dtype=bool),
    }
    stage = options.get("stage")
    if isinstance(stage, (int, float, str, np.number)):
        columns["stage"] = np.full(n_steps, stage)
    for name, array in _leaves("action", content["actions"]):
        columns[name] = _flat(array)
    for name, array in _leaves("observation", content["observations"]):
        columns[name], columns[f"next_{name}"] = _flat(array)[:-1], _flat(array)[1:]
    state = (content.get("infos") or {}).get("state")
    if state is not None and np.shape(state) == (n_steps + 1,):
        columns["state"], columns["next_state"] = np.asarray(state)[:-1], np.asarray(state)[1:]
    return columns


def _leaves(name: str, content: Any) -> Iterator[tuple[str, NDArray[Any]]]:
    """The arrays in nested dictionaries and tuples, by path."""
    if isinstance(content, tuple):
        content = dict(enumerate(content))
    if isinstance(content, Mapping):
        for key, own in content.items():
            yield from _leaves(f"{name}/{key}", own)
    else:
        yield name, np.asarray(content)


def _flat(array: NDArray[Any]) -> NDArray[Any]:
    """A column of numbers, or of lists of numbers; arrays of one number are numbers."""
    rows = array.reshape(len(array), -1)
    return rows[:, 0] if rows.shape[1] == 1 else rows
