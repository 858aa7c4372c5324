"""Labels of a trace, and the notes on how it was made, as entries of a manifest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from malfl_algos.trace import LearningTrace
from malfl_env.errors import InputError
from malfl_env.labels import labels_from_json, labels_to_json

__all__ = ["names_from_json", "names_to_json"]


def names_to_json(trace: LearningTrace) -> dict[str, Any]:
    """The entries; a trace without labels and notes has none."""
    entries: dict[str, Any] = {}
    if trace.states is not None:
        entries["states"] = labels_to_json(trace.states)
    if trace.actions is not None:
        entries["actions"] = [labels_to_json(own) for own in trace.actions]
    if trace.notes:
        entries["notes"] = list(trace.notes)
    return entries


def names_from_json(entries: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of `LearningTrace` that `names_to_json` wrote.

    Raises:
        InputError: for notes that are not texts; `LearningTrace` checks the labels.
    """
    actions, notes = entries.get("actions"), entries.get("notes", [])
    if not isinstance(notes, list) or not all(isinstance(own, str) for own in notes):
        raise InputError(f"its notes must be texts, got {str(notes)[:60]}")
    return {
        "states": labels_from_json(entries.get("states")),
        "actions": tuple(map(labels_from_json, actions)) if isinstance(actions, list) else actions,
        "notes": tuple(notes),
    }
