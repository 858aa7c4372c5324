"""Keys of a configuration by dotted path, as in `learner.options.step_size`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import fields
from typing import Any

from malfl_algos.experiments.config import ExperimentConfig, GameConfig, to_mapping
from malfl_algos.plugins.loading import Kind, find_plugin, plugin_class
from malfl_algos.plugins.options import option_hints, suggestion
from malfl_env.errors import InputError

__all__ = ["cell_value", "check_key", "known_keys", "set_key"]

_NOT_VARIED = ("trend", "observers", "seeds", "reward_families")


def known_keys(config: ExperimentConfig, learners: Sequence[Any] = ()) -> Iterator[str]:
    """All keys that a grid may vary.

    Args:
        config: names the observers by label, and the learner.
        learners: further ones, as the grid has them.
    """
    for field in fields(ExperimentConfig):
        if field.name not in _NOT_VARIED:
            yield field.name
    yield from (f"game.{field.name}" for field in fields(GameConfig))
    yield from (f"families.{name}" for name in config.families)
    yield "learner.name"
    names = [config.learner.name, *map(_name, learners)]
    yield from dict.fromkeys(
        f"learner.options.{option}" for name in names for option in _options("learner", name)
    )
    for observer in config.observers:
        yield f"observers.{observer.label}.name"
        for option in _options("observer", observer.name):
            yield f"observers.{observer.label}.options.{option}"


def check_key(key: str, config: ExperimentConfig, learners: Sequence[Any]) -> None:
    """Refuse a key that a grid cannot vary.

    Raises:
        InputError: naming it and the nearest known one.
        PluginError: for a plugin that cannot be used.
    """
    known = list(known_keys(config, learners))
    if key == "trend":
        raise InputError("trend: a sweep has no trend, leave it out")
    if key not in known:
        whole = [name for name in known if "." not in name]
        hint = suggestion(key, known) or ";"
        raise InputError(
            f"unknown key {key!r}{hint} allowed: seeds, reward_families, observers, "
            f"{', '.join(whole)}, and by dotted path game.*, families.*, learner.options.*, "
            "observers.LABEL.options.*"
        )


def set_key(mapping: dict[str, Any], key: str, value: Any) -> None:
    """Set a key, known to exist, in the plain form of a configuration (`to_mapping`)."""
    if key == "learner":
        value = {"name": value} if isinstance(value, str) else value
        if isinstance(value, dict):
            value = {**value, "options": value.get("options", {})}
    *path, last = key.split(".")
    place: Any = mapping
    for part in path:
        place = _inside(place, part)
    place[last] = value


def cell_value(config: ExperimentConfig, key: str) -> Any:
    """The value of a key as a table shows it: a learner by its label, lists as JSON."""
    if key == "learner":
        return config.learner.label
    place: Any = to_mapping(config)
    for part in key.split("."):
        place = _inside(place, part)
    return json.dumps(place) if isinstance(place, (dict, list)) else place


def _inside(place: Any, part: str) -> Any:
    if isinstance(place, list):
        (found,) = (entry for entry in place if entry["label"] == part)
        return found
    if not isinstance(place, dict):
        raise InputError(f"cannot set {part!r} in {place!r}")
    return place[part]


def _name(learner: Any) -> Any:
    return learner.get("name") if isinstance(learner, dict) else learner


def _options(kind: Kind, name: Any) -> list[str]:
    return list(option_hints(plugin_class(find_plugin(kind, str(name)))))
