"""Learning traces on disk: an npz for a tabular trace, a folder of mapped columns for others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from zipfile import is_zipfile

import numpy as np
from numpy.typing import NDArray

from malfl_algos.storage.arrays import check_manifest, read_arrays, write_arrays
from malfl_algos.storage.trace_folders import load_folder, save_folder
from malfl_algos.storage.trace_names import names_from_json, names_to_json
from malfl_algos.trace import LearningTrace, NextStateCounts, Stage
from malfl_algos.trace.transitions import COLUMNS, OBSERVED, Transitions
from malfl_env.errors import InputError
from malfl_env.spaces import space_from_json, space_to_json

__all__ = ["load_trace", "save_trace"]

_FORMAT, _VERSION = "malfl learning trace", 1
_LOGS = {".csv", ".tsv", ".txt", ".gz", ".parquet", ".pq", ".jsonl", ".ndjson", ".json"}
"""Suffixes of files that `malfl import` reads."""


def save_trace(trace: LearningTrace, path: Path) -> None:
    """Write a trace; see `LearningTrace.save`."""
    if not trace.is_tabular:
        save_folder(trace, path)
        return
    steps = [stage.transitions for stage in trace.stages]
    manifest = {
        "format": _FORMAT,
        "version": _VERSION,
        "agents": list(trace.agents),
        "n_stages": trace.n_stages,
        "n_states": trace.n_states,
        "n_actions": list(trace.n_actions),
        "transitions_complete": [None if own is None else own.complete for own in steps],
        **names_to_json(trace),
    }
    if trace.spaces is not None:
        manifest["spaces"] = [space_to_json(space) for space in trace.spaces]
    write_arrays(path, _arrays(trace), manifest=manifest)


def load_trace(path: Path, *, verify: bool = True) -> LearningTrace:
    """Read a trace; see `LearningTrace.load`."""
    if path.is_dir():
        return load_folder(path, verify=verify)
    if path.suffix.lower() in _LOGS and path.is_file() and not is_zipfile(path):
        raise InputError(f"{path} is a log, not a trace: make a trace of it with malfl import")
    arrays, manifest = read_arrays(path)
    check_manifest(path, manifest, _FORMAT, version=_VERSION)
    try:
        trace = _tabular(arrays, manifest)
        unknown = arrays.keys() - _arrays(trace).keys()
        if unknown:
            raise InputError(f"unknown array {min(unknown)!r}")
        return trace
    except (KeyError, IndexError, TypeError, ValueError) as fault:
        raise InputError(f"{path}: not a learning trace: {fault}") from fault


def _tabular(arrays: Mapping[str, NDArray[Any]], manifest: Mapping[str, Any]) -> LearningTrace:
    complete = manifest["transitions_complete"]
    counts = arrays["joint_counts"]
    shape = [manifest["n_stages"], manifest["n_states"], *manifest["n_actions"]]
    if counts.dtype != np.int64 or list(counts.shape) != shape:
        raise InputError(
            f"its counts are {counts.dtype} {counts.shape}, its manifest declares int64 "
            f"{tuple(shape)}"
        )
    if len(complete) != len(counts) or not {*complete} <= {True, False, None}:
        raise InputError(
            "transitions_complete in its manifest must be true, false or null for every stage, got "
            f"{str(complete)[:60]}"
        )
    agents: Any = manifest.get("agents")
    spaces = manifest.get("spaces")  # version 0.1 wrote neither
    if agents is not None and not all(isinstance(agent, str) for agent in agents):
        raise InputError(f"its agents must be texts, got {str(agents)[:60]}")
    by_stage: dict[str, dict[str, NDArray[Any]]] = {}
    for name, array in arrays.items():
        stage, _, part = name.partition("/")
        by_stage.setdefault(stage, {})[part] = array
    return LearningTrace(
        tuple(
            _stage(own, by_stage.get(f"stage_{h}", {}), complete[h]) for h, own in enumerate(counts)
        ),
        agents,
        spaces=None if spaces is None else tuple(map(space_from_json, spaces)),
        **names_from_json(manifest),
    )


def _arrays(trace: LearningTrace) -> dict[str, NDArray[Any]]:
    """All arrays of a tabular trace, by their name in the file."""
    arrays = {"joint_counts": np.stack([stage.counts for stage in trace.stages])}
    for index, stage in enumerate(trace.stages):
        arrays |= {f"stage_{index}/{name}": array for name, array in _stage_arrays(stage)}
    return arrays


def _stage_arrays(stage: Stage) -> Iterator[tuple[str, NDArray[Any]]]:
    if stage.next_state_counts is not None:
        seen = stage.next_state_counts
        yield "next_state_counts", np.stack([seen.rows, seen.next_states, seen.counts])
    if stage.transitions is not None:
        for name in COLUMNS:
            column = getattr(stage.transitions, name)
            if column is not None:
                yield f"transitions/{name}", column
        for kind in OBSERVED:
            for agent, array in (getattr(stage.transitions, kind) or {}).items():
                yield f"transitions/{kind}/{agent}", array


def _stage(
    counts: NDArray[np.int64], own: Mapping[str, NDArray[Any]], complete: bool | None
) -> Stage:
    seen = own.get("next_state_counts")
    transitions = None
    if complete is not None:
        columns: dict[str, Any] = {name: own.get(f"transitions/{name}") for name in COLUMNS}
        for name in ("joint_actions", "episode_ends"):
            columns[name] = own[f"transitions/{name}"]
        for kind in OBSERVED:
            start = f"transitions/{kind}/"
            columns[kind] = {
                name.removeprefix(start): array
                for name, array in own.items()
                if name.startswith(start)
            } or None
        transitions = Transitions(complete=complete, **columns)
    return Stage(counts, None if seen is None else NextStateCounts(*seen), transitions)
