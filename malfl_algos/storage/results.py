"""Recovered rewards on disk: a folder with an npz per kind of array, and `result.json`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from malfl_algos.recovered import NOT_JUDGED, RecoveredRewards, Source
from malfl_algos.storage.arrays import check_manifest, read_arrays, write_arrays
from malfl_algos.storage.durable import file_checksum, write_json
from malfl_algos.storage.origins import RESULT_NAME, files_together, read_result, write_result
from malfl_algos.verdict.drawn import EDGES
from malfl_algos.verdict.words import Verdict, verdict_from
from malfl_env.errors import InputError
from malfl_env.labels import check_labels, labels_from_json, labels_to_json

__all__ = [
    "SOURCE_NAME",
    "load_result",
    "plain",
    "posterior_parts",
    "save_result",
    "saves_itself",
    "write_parts",
    "write_source",
]

SOURCE_NAME, DRAWN_NAME = "source.npz", "verdict.npz"
_FORMAT, _VERSION = "malfl source of rewards", 1
_TABLES = ("estimated_policies", "targets", "potentials")


def save_result(result: RecoveredRewards, folder: Path) -> None:
    """Write a result; see `RecoveredRewards.save`."""
    if not result.rewards:
        raise InputError(
            "the rewards are functions of observations, which a folder of tables cannot hold"
        )
    with files_together(folder) as place:
        write_parts(result, place)
        if result.source is not None:
            write_source(result.source, place)
        write_result(place, None, verdict=plain(result.verdict.plain()))


def load_result(folder: Path, *, of_functions: bool = False) -> RecoveredRewards:
    """Read a result; see `RecoveredRewards.load`.

    Args:
        folder: the folder.
        of_functions: whether to read a result whose rewards are functions, too; without them.
    """
    record = read_result(folder / RESULT_NAME)
    if record is None:
        raise InputError(f"{folder}: no folder of recovered rewards: it has no {RESULT_NAME}")
    files: Mapping[str, str] = record["files"]
    if "rewards.npz" not in files and not of_functions:
        raise InputError(f"{folder}: it holds no tables of rewards (rewards.npz)")
    known = ("rewards.npz", "posterior.npz", "diagnostics.json", SOURCE_NAME, DRAWN_NAME)
    for name in (*known, *(f"{own}.npz" for own in _TABLES)):
        if name in files:
            _check_file(folder / name, files[name])

    def arrays(name: str) -> dict[str, NDArray[Any]] | None:
        return read_arrays(folder / name)[0] if name in files else None

    verdict = record.get("verdict")
    posterior = posterior_parts(arrays("posterior.npz") or {})
    result = RecoveredRewards(
        rewards=arrays("rewards.npz") or {},
        diagnostics=_diagnostics(folder) if "diagnostics.json" in files else {},
        estimated_policies=arrays("estimated_policies.npz"),
        targets=arrays("targets.npz"),
        potentials=arrays("potentials.npz"),
        sd=posterior["sd"] or None,
        covariance=posterior["covariance"] or None,
        verdict=NOT_JUDGED
        if verdict is None
        else _with_arrays(verdict_from(verdict), arrays(DRAWN_NAME) or {}, folder),
        source=read_source(folder / SOURCE_NAME) if SOURCE_NAME in files else None,
    )
    _check_shapes(folder, result)
    return result


def _with_arrays(verdict: Verdict, arrays: Mapping[str, NDArray[Any]], folder: Path) -> Verdict:
    """The verdict with the arrays of its agents.

    Raises:
        InputError: for arrays from which nothing can be drawn.
    """
    agents = {}
    for agent, own in verdict.agents.items():
        n_states = len(arrays.get(f"{agent}_states", ()))
        shapes = {
            "calibration": (2, len(EDGES) - 1, 3),
            "divergence": (2,),
            "halves": (2, 2, n_states),
            "states": (n_states,),
        }
        found = {name: arrays[f"{agent}_{name}"] for name in shapes if f"{agent}_{name}" in arrays}
        for name, array in found.items():
            if array.shape != shapes[name] or array.dtype.kind not in "iuf":
                raise InputError(
                    f"{folder / DRAWN_NAME}: {agent}_{name} must be {shapes[name]} numbers, got "
                    f"{array.shape}"
                )
        agents[agent] = replace(own, arrays=found)
    return replace(verdict, agents=agents)


def _check_shapes(folder: Path, result: RecoveredRewards) -> None:
    """Reject parts that contradict each other, so that summaries can rely on them."""
    for agent, own in (result.sd or {}).items():
        if agent not in result.rewards or own.shape != result.rewards[agent].shape:
            raise InputError(f"{folder}: the standard deviations of {agent!r} do not fit rewards")
    source = result.source
    for agent, table in result.rewards.items():
        known = (agent,) if source is None else source.agents
        if agent not in known or table.ndim == 0 or table.dtype.kind not in "iuf":
            raise InputError(f"{folder}: not the reward of an agent: {agent!r}")
        if source is None or source.visits is None:
            continue
        n_states = len(source.visits)
        if table.shape not in ((n_states,), (n_states, *source.n_actions)):
            raise InputError(
                f"{folder}: the reward of {agent!r} has shape {table.shape}, {SOURCE_NAME} tells "
                f"of {n_states} joint states and actions {source.n_actions}"
            )


def _check_file(path: Path, checksum: str) -> None:
    try:
        found = file_checksum(path)
    except OSError as fault:
        raise InputError(f"{path}: cannot be read: {fault.strerror}") from fault
    if found != checksum:
        raise InputError(
            f"{path} is not the file that {path.with_name(RESULT_NAME)} describes: it was changed, "
            "or belongs to another result; recover again"
        )


def _diagnostics(folder: Path) -> dict[str, Any]:
    path = folder / "diagnostics.json"
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as fault:
        raise InputError(f"{path}: not JSON: {str(fault)[:100]}") from fault
    if not isinstance(content, dict) or not all(isinstance(own, dict) for own in content.values()):
        raise InputError(f"{path}: must be a mapping of agents to mappings")
    return content


def write_parts(result: RecoveredRewards, folder: Path) -> Path | None:
    """Write all arrays and the diagnostics of a result into a folder.

    Returns:
        The file of the tables of rewards, if there are tables.
    """
    path = None
    if result.rewards:
        path = folder / "rewards.npz"
        rewards = {agent: np.asarray(own, dtype=float) for agent, own in result.rewards.items()}
        write_arrays(path, rewards)
    write_json(folder / "diagnostics.json", plain(result.diagnostics))
    for name in _TABLES:
        arrays = getattr(result, name)
        if arrays is not None:
            write_arrays(folder / f"{name}.npz", arrays)
    posterior = {f"{agent}_sd": array for agent, array in (result.sd or {}).items()}
    posterior |= {f"{a}_covariance": array for a, array in (result.covariance or {}).items()}
    if posterior:
        write_arrays(folder / "posterior.npz", posterior)
    drawn = {
        f"{agent}_{name}": array
        for agent, own in result.verdict.agents.items()
        for name, array in own.arrays.items()
    }
    if drawn:
        write_arrays(folder / DRAWN_NAME, drawn)
    return path


def posterior_parts(arrays: Mapping[str, NDArray[np.float64]]) -> dict[str, Any]:
    """`sd` and `covariance` per agent id, from the arrays of `posterior.npz`."""
    return {
        part: {
            name.removesuffix(f"_{part}"): array
            for name, array in arrays.items()
            if name.endswith(f"_{part}")
        }
        for part in ("sd", "covariance")
    }


def saves_itself(result: RecoveredRewards) -> bool:
    """Whether the result has a file format of its own, for reward functions."""
    return type(result).save is not RecoveredRewards.save


def write_source(source: Source, folder: Path) -> None:
    """Write what rewards were recovered from, into `source.npz`."""
    arrays = {"steps": np.asarray(source.steps, dtype=np.int64)}
    if source.visits is not None:
        arrays["visits"] = np.asarray(source.visits, dtype=np.int64)
    manifest = {
        "format": _FORMAT,
        "version": _VERSION,
        "agents": list(source.agents),
        "n_actions": list(source.n_actions),
        "states": None if source.states is None else labels_to_json(source.states),
        "actions": None
        if source.actions is None
        else [labels_to_json(own) for own in source.actions],
        "notes": list(source.notes),
        "game_given": source.game_given,
        "discount": source.discount,
        "temperature": source.temperature,
        "known_policies": list(source.known_policies),
        "observer": source.observer,
        "by_default": list(source.by_default),
    }
    write_arrays(folder / SOURCE_NAME, arrays, manifest=manifest)


def read_source(path: Path) -> Source:
    """Read `source.npz`.

    Raises:
        InputError: naming the file and what is wrong.
    """
    arrays, manifest = read_arrays(path)
    check_manifest(path, manifest, _FORMAT, version=_VERSION)
    try:
        agents = _texts("agents", manifest["agents"])
        n_actions = tuple(map(int, manifest["n_actions"]))
        visits = arrays.get("visits")
        states = labels_from_json(manifest["states"])
        actions = manifest["actions"]
        if states is not None:
            states = check_labels("states", states, 0 if visits is None else len(visits))
        if actions is not None:
            actions = tuple(
                check_labels("actions", labels_from_json(own), n)
                for own, n in zip(actions, n_actions, strict=True)
            )
        scale = {name: _number(name, manifest[name]) for name in ("discount", "temperature")}
        if len(agents) != len(n_actions):
            raise InputError("agents and n_actions must have one length")
        return Source(
            agents=agents,
            n_actions=n_actions,
            steps=tuple(arrays["steps"].tolist()),
            visits=visits,
            states=states,
            actions=actions,
            notes=_texts("notes", manifest["notes"]),
            game_given=bool(manifest["game_given"]),
            known_policies=_texts("known_policies", manifest["known_policies"]),
            observer=None if manifest["observer"] is None else str(manifest["observer"]),
            by_default=_texts("by_default", manifest.get("by_default", [])),
            **scale,
        )
    except (KeyError, TypeError, ValueError) as fault:
        raise InputError(f"{path}: not the source of rewards: {fault}") from fault


def _texts(name: str, given: Any) -> tuple[str, ...]:
    if not isinstance(given, list) or not all(isinstance(own, str) for own in given):
        raise InputError(f"its {name} must be texts, got {str(given)[:60]}")
    return tuple(given)


def _number(name: str, given: Any) -> float | None:
    if given is not None and type(given) not in (int, float):
        raise InputError(f"its {name} must be a number or null, got {str(given)[:60]}")
    return None if given is None else float(given)


def plain(value: Any) -> Any:
    """The value in JSON types; numbers that are not finite become null."""
    if isinstance(value, Mapping):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(entry) for entry in value]
    if isinstance(value, (np.ndarray, np.generic)):
        return plain(value.tolist())
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value
