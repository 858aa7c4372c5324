"""Adding to a run: what may be added, and what must not differ."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

from malfl_algos.experiments.config import ExperimentConfig, PluginConfig
from malfl_env.errors import InputError

__all__ = ["extended"]

_MAY_GROW = ("seeds", "reward_families", "families", "observers")


def extended(stored: ExperimentConfig, asked: ExperimentConfig) -> ExperimentConfig:
    """The stored configuration with the seeds, families and observers of the asked one added.

    What was stored and is not asked for stays.

    Raises:
        InputError: where they differ in anything else; it names the key and both values.
    """
    before, now = _fixed(stored), _fixed(asked)
    for key, value in before.items():
        if value != now[key]:
            raise InputError(_difference(key, value, now[key]))
    return replace(
        stored,
        seeds=_union(stored.seeds, asked.seeds),
        reward_families=_union(stored.reward_families, asked.reward_families),
        families=_joined("families", stored.families, asked.families),
        observers=tuple(
            _joined("observers", _by_label(stored.observers), _by_label(asked.observers)).values()
        ),
    )


def _fixed(config: ExperimentConfig) -> dict[str, Any]:
    """What must not differ, by key path."""
    fixed = {key: value for key, value in asdict(config).items() if key not in _MAY_GROW}
    return {f"game.{key}": value for key, value in fixed.pop("game").items()} | fixed


def _union(before: tuple[Any, ...], now: tuple[Any, ...]) -> tuple[Any, ...]:
    return (*before, *(value for value in now if value not in before))


def _by_label(plugins: tuple[PluginConfig, ...]) -> dict[str, PluginConfig]:
    return {plugin.label: plugin for plugin in plugins}


def _joined(key: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Any]:
    for name in before.keys() & now.keys():
        if before[name] != now[name]:
            raise InputError(_difference(f"{key}: {name}", before[name], now[name]))
    return {**before, **now}


def _difference(key: str, before: Any, now: Any) -> str:
    return f"{key} is {_short(before)} there, {_short(now)} is asked for"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 100 else text[:97] + "..."
