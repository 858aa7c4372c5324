"""A game as one npz file of plain arrays; nothing in it is unpickled or run.

The file holds, for factor k, `factor_k/successors` and `factor_k/probabilities`; for agent i, if
the rewards are known, `reward_i`; `start_probabilities` if the start is drawn; and a manifest, JSON
text with the format, its version, sizes and names.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from malfl_env.errors import InputError
from malfl_env.labels import labels_from_json, labels_to_json
from malfl_env.markov_game import Factor, MarkovGame
from malfl_env.npz import check_manifest, npz_bytes, read_arrays

__all__ = ["load_game", "save_game"]

_FORMAT, _VERSION = "malfl game", 1


def save_game(game: MarkovGame, path: str | Path) -> None:
    """`MarkovGame.save`, which describes the arguments and errors."""
    arrays: dict[str, NDArray[Any]] = {}
    for number, factor in enumerate(game.factors):
        arrays[f"factor_{number}/successors"] = factor.successors
        arrays[f"factor_{number}/probabilities"] = factor.probabilities
    for index, table in enumerate(game.rewards or ()):
        arrays[f"reward_{index}"] = table
    if game.start_probabilities is not None:
        arrays["start_probabilities"] = game.start_probabilities
    manifest = {
        "format": _FORMAT,
        "version": _VERSION,
        "n_actions": [int(n) for n in game.n_actions],
        "factors": [[int(agent) for agent in factor.agents] for factor in game.factors],
        "start": game.start,
        "observation_shape": [int(n) for n in game.observation_shape],
        "observation_form": game.observation_form,
        "rewards": game.rewards is not None,
        "states": None if game.states is None else labels_to_json(game.states),
        "agents": None if game.agent_names is None else list(game.agent_names),
        "actions": None if game.actions is None else [labels_to_json(own) for own in game.actions],
    }
    wanted = Path(path)
    partial = wanted.with_name(f".{wanted.name}.{os.getpid()}")
    try:
        partial.write_bytes(npz_bytes(arrays, manifest=manifest))
        os.replace(partial, wanted)
    except OSError as fault:
        raise InputError(f"{wanted}: cannot be written: {fault.strerror}") from fault
    finally:
        partial.unlink(missing_ok=True)


def load_game(path: str | Path) -> MarkovGame:
    """`MarkovGame.load`, which describes the arguments and errors."""
    place = Path(path)
    arrays, manifest = read_arrays(place)
    check_manifest(place, manifest, _FORMAT, version=_VERSION)
    try:
        return _game(arrays, manifest)
    except (KeyError, TypeError, ValueError, OverflowError) as fault:
        missing = f"{fault} is missing" if isinstance(fault, KeyError) else str(fault)
        raise InputError(f"{place}: not a game: {missing}") from fault


def _game(arrays: dict[str, NDArray[Any]], manifest: dict[str, Any]) -> MarkovGame:
    n_actions = _whole_tuple("n_actions", manifest["n_actions"])
    factors = tuple(
        Factor(
            _whole_tuple("factors", agents),
            arrays.pop(f"factor_{number}/successors"),
            arrays.pop(f"factor_{number}/probabilities").astype(np.float64),
        )
        for number, agents in enumerate(manifest["factors"])
    )
    rewards = None
    if manifest["rewards"]:
        rewards = tuple(
            arrays.pop(f"reward_{index}").astype(np.float64) for index in range(len(n_actions))
        )
    starts = arrays.pop("start_probabilities", None)
    if arrays:
        raise InputError(f"unknown array {min(arrays)!r}")
    (start,) = _whole_tuple("start", [manifest["start"]])
    return MarkovGame(
        n_actions,
        factors,
        start,
        _whole_tuple("observation_shape", manifest["observation_shape"]),
        rewards,
        manifest["observation_form"],
        starts,
        labels_from_json(manifest["states"]),
        _named_actions(manifest["actions"]),
        labels_from_json(manifest["agents"]),
    )


def _named_actions(given: Any) -> Any:
    return tuple(map(labels_from_json, given)) if isinstance(given, list) else given


def _whole_tuple(name: str, given: Any) -> tuple[int, ...]:
    if not isinstance(given, list) or not all(type(own) is int for own in given):
        raise InputError(f"{name} in its manifest must be a list of whole numbers, got {given!r}")
    return tuple(given)
