"""Traces that `malfl export` wrote, as they were."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from malfl_algos.logs.files import Log
from malfl_algos.storage.origins import stage_hashes
from malfl_algos.storage.trace_names import names_from_json
from malfl_algos.trace import LearningTrace, Stage, Transitions
from malfl_env.checks import check_table_bytes
from malfl_env.errors import InputError
from malfl_env.spaces import space_from_json

__all__ = ["is_export", "trace_of_export"]

_KEYS = {"agents", "n_actions", "spaces", "complete", "terminates", "type_of_actions"}


def is_export(log: Log) -> bool:
    """Whether `malfl export` wrote the file, with all that restores its trace."""
    return log.about.keys() >= _KEYS


def trace_of_export(log: Log) -> LearningTrace:
    """The trace that was exported: its steps, their observations, and all names.

    Counts are those of the steps. A trace whose counts held more plays than its ordered steps, or
    counts of next states, comes back with its steps alone; then a note says so.

    Raises:
        InputError: for a file that was changed after the export.
    """
    about = log.about
    try:
        agents, n_actions = tuple(about["agents"]), tuple(about["n_actions"])
        spaces = tuple(space_from_json(own) for own in about["spaces"])
        frame = log.read(log.names)
        columns = {name: _array(frame.get(name)) for name in log.names}
        shape = (about["n_states"], *n_actions) if "n_states" in about else None
        if shape is not None:
            n_bytes = 8 * prod(shape) * len(about["complete"])
            check_table_bytes(n_bytes, f"the counts of {about['n_states']} states")
        ends = columns.get("episode_end")
        if ends is None:
            ends = np.append(columns["step"][1:] == 0, True)
        stages = []
        for number, complete in enumerate(about["complete"]):
            rows = np.flatnonzero(columns["stage"] == number)
            kind = np.dtype(about["type_of_actions"][number])
            if kind.kind not in "iu":
                raise InputError(f"actions must be whole numbers, got {kind}")
            actions = np.stack([columns[f"action/{agent}"][rows] for agent in agents], axis=1)
            fields: dict[str, Any] = {
                "states": _column(columns, "state", rows),
                "next_states": _column(columns, "next_state", rows),
                "joint_actions": actions.astype(kind),
                "episode_ends": ends[rows],
                "terminations": None,
            }
            if about["terminates"][number]:
                fields["terminations"] = columns["terminated"][rows]
            for kind in ("observation", "next_observation"):
                fields[f"{kind}s"] = {
                    agent: columns[f"{kind}/{agent}"][rows].reshape(-1, *(space.shape or ()))
                    for agent, space in zip(agents, spaces, strict=True)
                } or None
            counts = None
            if shape is not None:
                joint = tuple(fields["joint_actions"].T)
                flat = np.ravel_multi_index((fields["states"], *joint), shape)
                counts = np.bincount(flat, minlength=prod(shape)).reshape(shape)
            stages.append(Stage(counts, None, Transitions(complete=complete, **fields)))
        trace = LearningTrace(
            tuple(stages),
            agents,
            n_actions,
            spaces or None,
            **names_from_json(about),
        )
    except Exception as fault:  # of any type, as its metadata may hold anything
        words = " ".join(f"{type(fault).__name__}: {fault}".split())[:200]
        raise InputError(
            f"the file is of malfl export, but was changed ({words}); name the columns to import "
            "it as any other log"
        ) from fault
    return _compared(trace, about)


def _compared(trace: LearningTrace, about: Mapping[str, Any]) -> LearningTrace:
    made_from = about.get("made_from")
    wanted = made_from.get("stages") if isinstance(made_from, Mapping) else None
    if wanted is None or stage_hashes(trace) == wanted:
        return trace
    words = "the exported trace held more than its ordered steps, or the file was changed"
    return replace(trace, notes=(*trace.notes, f"{words}: this trace holds the steps alone"))


def _array(raw: Any) -> NDArray[Any]:
    """A column as an array; pyarrow's lists as an array of two axes."""
    if isinstance(raw, np.ndarray):
        return raw
    from malfl_algos.logs.arrow_columns import values_of

    if hasattr(raw.type, "value_type"):
        flat = raw.combine_chunks()
        flat = flat.chunk(0) if hasattr(flat, "chunks") else flat
        return values_of(flat.flatten()).reshape(len(raw), -1)
    return values_of(raw)


def _column(
    columns: Mapping[str, NDArray[Any]], name: str, rows: NDArray[Any]
) -> NDArray[Any] | None:
    return columns[name][rows] if name in columns else None
