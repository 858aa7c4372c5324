"""The configuration of an experiment: what is run, with the paper's settings as defaults.

The fields are the YAML keys. What can be checked without building anything is
checked here; `malfl_algos.experiments.parts` builds the parts and so checks the rest.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from pettingzoo import ParallelEnv

from malfl_algos.experiments.families import check_families, family_rewards
from malfl_algos.plugins.options import (
    check_distinct,
    check_keys,
    check_plain,
    coerce,
    coerce_options,
    naming,
    nested_tuples,
    option_hints,
)
from malfl_algos.storage.yaml_files import read_mapping
from malfl_env import MarkovGame, grid_world_v0, markov_game
from malfl_env.checks import check_table_bytes, shown
from malfl_env.errors import InputError
from malfl_env.rules import ACTIONS, GridRules, grid_rules

__all__ = [
    "ExperimentConfig",
    "GameConfig",
    "PluginConfig",
    "extended",
    "from_mapping",
    "load_config",
    "merge",
    "to_mapping",
]

_LABEL = re.compile(r"[a-z0-9-]{1,100}")
_MAY_GROW = ("seeds", "reward_families", "families", "observers")
_MAX_COUNT = 10**9
_MAX_SEED = 2**63 - 1


@dataclass(frozen=True)
class GameConfig:
    """The grid world, as keywords of `malfl_env.grid_world_v0.parallel_env`.

    Args:
        size: rows and columns of the board.
        n_agents: number of agents, >= 2.
        starts: (row, column) where agents begin, one for all or one per agent; None: top left.
        goals: likewise; None: bottom right.
        walls: (row, column) of cells that can't be entered.
        slip: probability in [0, 1] that a move is replaced by a random one.
    """

    size: int = 3
    n_agents: int = 2
    starts: Any = None
    goals: Any = None
    walls: Any = ()
    slip: float = 0.0


@dataclass(frozen=True)
class PluginConfig:
    """A learner or an observer with its options.

    Args:
        name: of the plugin.
        label: names folders and table rows; unique, of lower-case letters, digits and hyphens.
        options: fields of the plugin's dataclass; those left out that are named like a key of the
            experiment are filled from it.
    """

    name: str
    label: str
    options: Mapping[str, Any] = field(default_factory=dict)


_OBSERVERS = tuple(
    PluginConfig(name, name)
    for name in ("ma-lfl", "ma-lfl-own-action", "ma-lfl-state", "ma-lfl-faithful")
)


@dataclass(frozen=True)
class ExperimentConfig:
    """An experiment: families x seeds, one learner, several observers.

    Args:
        game: the grid world.
        reward_families: names of the families to run.
        families: further families by name, per agent a reward name or a table of numbers.
        iterations: stages of learning, >= 2.
        episodes: a stage.
        episode_length: steps of an episode.
        discount: in [0, 1).
        temperature: entropy weight, > 0.
        seeds: each gives one run of every family.
        learner: who learns.
        observers: who recover rewards from what was seen.
        seat: "external": the observer estimates every policy; "agent": it is one of the agents and
            knows its own.
        trend: whether rewards are also recovered from the first 2, 3, ... stages only.

    Raises:
        InputError: naming the key, the value and what is allowed.
    """

    game: GameConfig = GameConfig()
    reward_families: tuple[str, ...] = ("homogeneous", "heterogeneous")
    families: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    iterations: int = 10
    episodes: int = 3000
    episode_length: int = 1000
    discount: float = 0.9
    temperature: float = 3.0
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    learner: PluginConfig = PluginConfig("ma-spi", "ma-spi")
    observers: tuple[PluginConfig, ...] = _OBSERVERS
    seat: Literal["external", "agent"] = "external"
    trend: bool = True

    def __post_init__(self) -> None:
        for key, minimum in (("iterations", 2), ("episodes", 1), ("episode_length", 1)):
            _check_within(key, getattr(self, key), minimum, _MAX_COUNT)
        _check_within("game.size", self.game.size, 1, 1000)
        _check_within("game.n_agents", self.game.n_agents, 2, 20)
        _check_memory(self.game, n_stages=self.iterations)
        if not 0 <= self.discount < 1:
            raise InputError(f"discount must be in [0, 1), got {self.discount}")
        if not self.temperature > 0:
            raise InputError(f"temperature must be > 0, got {self.temperature}")
        check_distinct("seeds", self.seeds)
        for seed in self.seeds:
            _check_within("seeds", seed, 0, _MAX_SEED)
        check_distinct("reward_families", self.reward_families)
        check_families(self.reward_families, self.families, n_agents=self.game.n_agents)
        labels = [plugin.label for plugin in self.observers]
        check_distinct("observers", labels)
        if self.learner.label in labels:
            raise InputError(
                f"observers: the label {self.learner.label!r} is the learner's, choose another"
            )

    def rules(self) -> GridRules:
        """The rules of the grid world. Raises `ValueError` that names what is not allowed."""
        with naming("game"):
            return grid_rules(**asdict(self.game))

    def environment(self, family: str) -> ParallelEnv[str, Any, Any]:
        """The environment of a family; an episode is cut after `episode_length` steps.

        Raises:
            InputError: naming what in the game or in the family's rewards is not allowed.
        """
        self.rules()
        with naming(f"families.{family}"):
            return grid_world_v0.parallel_env(
                **asdict(self.game),
                rewards=family_rewards(family, self.families),
                max_cycles=self.episode_length,
            )

    def markov_game(self, family: str) -> MarkovGame:
        """The tabular game of a family, with its true rewards. Errors as in `environment`."""
        env = self.environment(family)
        with naming("game"):
            return markov_game(env)


def load_config(path: str | Path) -> ExperimentConfig:
    """Read a YAML file; keys left out have the paper's settings.

    Raises:
        InputError: naming the file and, where there is one, the key, its value and what is allowed.
    """
    given = read_mapping(Path(path))
    with naming(str(path)):
        return from_mapping(given)


def from_mapping(given: Mapping[str, Any]) -> ExperimentConfig:
    """A configuration from plain YAML values; keys left out have the paper's settings.

    Raises:
        InputError: for an unknown key, a wrong type or a value out of its range, naming the key.
    """
    hints = option_hints(ExperimentConfig)
    check_keys(given, hints, where="configuration")
    values: dict[str, Any] = {}
    for key, value in given.items():
        if key == "game":
            values[key] = _game(value)
        elif key == "families":
            values[key] = _families(value)
        elif key == "learner":
            values[key] = _plugin(value, where="learner")
        elif key == "observers":
            entries = coerce(value, tuple[Any, ...], where="observers")
            values[key] = tuple(
                _plugin(entry, where=f"observers[{index}]") for index, entry in enumerate(entries)
            )
        else:
            values[key] = coerce(value, hints[key], where=key)
    return ExperimentConfig(**values)


def to_mapping(config: ExperimentConfig) -> dict[str, Any]:
    """The configuration in plain values that YAML and JSON hold; `from_mapping` is its inverse."""
    plain = _plain(asdict(config))
    assert isinstance(plain, dict)
    return plain


def merge(config: ExperimentConfig, overrides: Mapping[str, Any]) -> ExperimentConfig:
    """The configuration with some top-level keys replaced, checked as a whole."""
    return from_mapping({**to_mapping(config), **overrides})


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


def _game(value: Any) -> GameConfig:
    given = coerce_options(GameConfig, _mapping(value, where="game"), where="game")
    for key in ("starts", "goals", "walls"):
        check_plain(given.get(key), where=f"game: {key}")
        if key in given and not (given[key] is None and key != "walls"):
            given[key] = nested_tuples(coerce(given[key], tuple[Any, ...], where=f"game: {key}"))
    return GameConfig(**given)


def _families(value: Any) -> dict[str, tuple[Any, ...]]:
    families = {}
    for name, given in _mapping(value, where="families").items():
        coerce(name, str, where="families: a name")
        entries = coerce(given, tuple[Any, ...], where=f"families.{name}")
        for index, entry in enumerate(entries):
            check_plain(entry, where=f"families.{name}[{index}]")
        families[name] = nested_tuples(entries)
    return families


def _plugin(value: Any, *, where: str) -> PluginConfig:
    if isinstance(value, str):
        value = {"name": value}
    given = _mapping(value, where=where)
    check_keys(given, option_hints(PluginConfig), where=where)
    if "name" not in given:
        raise InputError(f"{where}: the key 'name' is missing")
    name = coerce(given["name"], str, where=f"{where}: name")
    label = coerce(given.get("label", name.rpartition(":")[2]), str, where=f"{where}: label")
    if not _LABEL.fullmatch(label):
        raise InputError(
            f"{where}: label must be of lower-case letters, digits and hyphens, got {shown(label)}"
        )
    options = _mapping(given.get("options", {}), where=f"{where}: options")
    check_plain(options, where=f"{where}: options")
    return PluginConfig(name, label, {key: nested_tuples(v) for key, v in options.items()})


def _mapping(value: Any, *, where: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise InputError(f"{where} must be a mapping of keys to values, got {shown(value)}")
    return value


def _check_within(key: str, value: int, minimum: int, maximum: int) -> None:
    if not minimum <= value <= maximum:
        raise InputError(
            f"{key} must be a whole number from {minimum} to {maximum}, got {shown(value)}"
        )


def _check_memory(game: GameConfig, *, n_stages: int) -> None:
    """Refuse a game whose joint counts would not fit, before any table of it is built."""
    n_states, n_joint_actions = game.size ** (2 * game.n_agents), len(ACTIONS) ** game.n_agents
    check_table_bytes(
        8 * n_stages * n_states * n_joint_actions,
        f"game: the joint counts of {n_stages} stages with {n_states} joint states and "
        f"{n_joint_actions} joint actions",
    )


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(entry) for key, entry in value.items()}
    return [_plain(entry) for entry in value] if isinstance(value, (list, tuple)) else value


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
