"""The configuration of an experiment: what is run, with the paper's settings as defaults.

The fields are the YAML keys. This module checks what can be checked without building anything;
`malfl_algos.experiments.cell.check_parts` builds the plugins and so checks the rest.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from math import prod
from pathlib import Path
from typing import Any, Literal

from pettingzoo import ParallelEnv

from malfl_algos.experiments.games import (
    GameConfig,
    check_families,
    check_memory,
    checked_mapping,
    default_families,
    families_from,
    family_rewards,
    game_from,
)
from malfl_algos.experiments.named_games import NO_GAME, OWN, named_game, with_family
from malfl_algos.plugins.options import (
    check_distinct,
    check_keys,
    check_plain,
    coerce,
    naming,
    nested_tuples,
    option_hints,
)
from malfl_algos.storage.yaml_files import read_mapping
from malfl_env import MarkovGame, TabularEnv, grid_world_v0, markov_game
from malfl_env.checks import TEMPERATURES, shown
from malfl_env.errors import InputError
from malfl_env.rules import ACTIONS, GridRules, grid_rules

__all__ = [
    "ExperimentConfig",
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
class PluginConfig:
    """A learner or an observer with its options.

    Args:
        name: of the plugin.
        label: name of its folders and table rows; unique, of lower-case letters, digits and
            hyphens.
        options: fields of the plugin's dataclass. An option that is left out and is named like a
            key of the experiment takes the value of that key.
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
        game: a grid world, or the name of any tabular game: `none` (unknown: estimated from the
            trace), FILE.npz (`MarkovGame.save` writes it) or MODULE:FACTORY (a function that makes
            the game, or its environment; it is run).
        reward_families: names of the families to run; empty: `homogeneous` and `heterogeneous` in
            the grid world; in another game `own`, the rewards that it brings.
        families: further families by name, per agent a table of numbers, or in the grid world a
            reward name.
        iterations: stages of learning, >= 2.
        episodes: number of episodes per stage.
        episode_length: number of steps per episode.
        discount: in [0, 1); null: observers are not told it and estimate it, and `learner` gives
            that of the agents as its option.
        temperature: entropy weight, > 0; null: likewise, and rewards are recovered in units of it.
        seeds: every family runs once with each seed.
        learner: the learning algorithm of all agents.
        observers: the methods that recover rewards from the trace.
        seat: the perspective. "external": the observer estimates every policy; "agent": each agent
            in turn observes the others and knows its own policies.
        trend: whether rewards are also recovered from the first 2, 3, ... stages.

    Raises:
        InputError: naming the key, the value and what is allowed.
    """

    game: GameConfig | str = field(default_factory=GameConfig)
    reward_families: tuple[str, ...] = ()
    families: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    iterations: int = 10
    episodes: int = 3000
    episode_length: int = 1000
    discount: float | None = 0.9
    temperature: float | None = 3.0
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    learner: PluginConfig = PluginConfig("ma-spi", "ma-spi")
    observers: tuple[PluginConfig, ...] = _OBSERVERS
    seat: Literal["external", "agent"] = "external"
    trend: bool = True

    def __post_init__(self) -> None:
        for key, minimum in (("iterations", 2), ("episodes", 1), ("episode_length", 1)):
            _check_within(key, getattr(self, key), minimum, _MAX_COUNT)
        self._check_game()
        if not self.reward_families:
            object.__setattr__(self, "reward_families", default_families(self.game))
        _check_scale(self.discount, self.temperature)
        check_distinct("seeds", self.seeds)
        for seed in self.seeds:
            _check_within("seeds", seed, 0, _MAX_SEED)
        check_distinct("reward_families", self.reward_families)
        check_families(self.reward_families, self.families, game=self.game, n_agents=self.n_agents)
        labels = [plugin.label for plugin in self.observers]
        check_distinct("observers", labels)
        if self.learner.label in labels:
            raise InputError(
                f"observers: the label {self.learner.label!r} is that of the learner; "
                "choose another label"
            )

    def _check_game(self) -> None:
        if isinstance(self.game, GameConfig):
            _check_within("game.size", self.game.size, 1, 1000)
            _check_within("game.n_agents", self.game.n_agents, 2, 20)
            n_states = self.game.size ** (2 * self.game.n_agents)
            check_memory(n_states, len(ACTIONS) ** self.game.n_agents, n_stages=self.iterations)
        elif self.game != NO_GAME:
            game = named_game(self.game)
            check_memory(game.n_states, prod(game.n_actions), n_stages=self.iterations)

    @property
    def n_agents(self) -> int | None:
        """Number of agents; None: unknown, as the game is `none`."""
        if isinstance(self.game, GameConfig):
            return self.game.n_agents
        return None if self.game == NO_GAME else named_game(self.game).n_agents

    @property
    def learners_discount(self) -> float:
        """The discount of the agents: that which observers are told, or else the learner's option.

        Raises:
            InputError: if neither gives it.
        """
        return self._of_learner("discount", self.discount)

    @property
    def learners_temperature(self) -> float:
        """The temperature of the agents, as `learners_discount`."""
        return self._of_learner("temperature", self.temperature)

    def _of_learner(self, name: str, told: float | None) -> float:
        found: Any = self.learner.options.get(name) if told is None else told
        if type(found) not in (int, float):
            raise InputError(
                f"{name} is null, so that observers are not told it; the learner needs its own, "
                f"got {shown(found)}: give learner: {{name: {self.learner.name}, options: "
                f"{{{name}: NUMBER}}}}"
            )
        return float(found)

    def rules(self) -> GridRules | None:
        """The rules of the grid world; None for another game.

        Raises:
            InputError: naming what is not allowed.
        """
        if isinstance(self.game, str):
            return None
        with naming("game"):
            return grid_rules(**asdict(self.game))

    def environment(self, family: str) -> ParallelEnv[str, Any, Any]:
        """The environment of a family; an episode is cut after `episode_length` steps.

        Raises:
            InputError: naming what in the game or in the family's rewards is not allowed.
        """
        if isinstance(self.game, str):
            game = self.markov_game(family)
            return TabularEnv(game, max_cycles=self.episode_length, name=self.game)
        self.rules()
        with naming(f"families.{family}"):
            return grid_world_v0.parallel_env(
                **asdict(self.game),
                rewards=family_rewards(family, self.families),
                max_cycles=self.episode_length,
            )

    def markov_game(self, family: str) -> MarkovGame:
        """The tabular game of a family, with the ground-truth rewards. Raises as `environment`."""
        if isinstance(self.game, str):
            game = named_game(self.game)
            if family == OWN:
                return with_family(game, None, name=self.game)
            with naming(f"families.{family}"):
                return with_family(game, self.families[family], name=self.game)
        env = self.environment(family)
        with naming("game"):
            return markov_game(env)

    def dynamics(self) -> MarkovGame | None:
        """The game without rewards, as an observer may see it; None: it is `none`."""
        if isinstance(self.game, GameConfig):
            return self.markov_game(self.reward_families[0]).without_rewards()
        return None if self.game == NO_GAME else named_game(self.game).without_rewards()


def load_config(path: str | Path, *, game: str | None = None) -> ExperimentConfig:
    """Read a YAML file; keys left out have the paper's settings.

    Args:
        path: of the file.
        game: in place of the file's game.

    Raises:
        InputError: naming the file and, where there is one, the key, its value and what is allowed.
    """
    given = read_mapping(Path(path))
    with naming(str(path)):
        return from_mapping(given if game is None else {**given, "game": game})


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
            values[key] = game_from(value)
        elif key == "families":
            values[key] = families_from(value)
        elif key == "learner":
            values[key] = _plugin(value, where="learner")
        elif key == "observers":
            entries = coerce(value, tuple[Any, ...], where="observers")
            values[key] = tuple(
                _plugin(entry, where=f"observers[{index}]") for index, entry in enumerate(entries)
            )
        else:
            values[key] = coerce(value, hints[key], where=key)
            if key == "reward_families":
                check_distinct(key, values[key])
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

    Entries that were stored and are not asked for stay.

    Raises:
        InputError: if they differ in anything else; it names the key and both values.
    """
    before, now = _fixed(stored), _fixed(asked)
    if type(stored.game) is not type(asked.game):
        raise InputError(_difference("game", _plain_game(stored), _plain_game(asked)))
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


def _plugin(value: Any, *, where: str) -> PluginConfig:
    if isinstance(value, str):
        value = {"name": value}
    given = checked_mapping(value, where=where)
    check_keys(given, option_hints(PluginConfig), where=where)
    if "name" not in given:
        raise InputError(f"{where}: the key 'name' is missing")
    name = coerce(given["name"], str, where=f"{where}: name")
    label = coerce(given.get("label", name.rpartition(":")[2]), str, where=f"{where}: label")
    if not _LABEL.fullmatch(label):
        raise InputError(
            f"{where}: label must be of lower-case letters, digits and hyphens, got {shown(label)}"
        )
    options = checked_mapping(given.get("options", {}), where=f"{where}: options")
    check_plain(options, where=f"{where}: options")
    return PluginConfig(name, label, {key: nested_tuples(v) for key, v in options.items()})


def _check_scale(discount: float | None, temperature: float | None) -> None:
    if discount is not None and not 0 <= discount < 1:
        raise InputError(f"discount must be in [0, 1) or null, got {discount}")
    if temperature is None:
        return
    if not temperature > 0:
        raise InputError(f"temperature must be > 0 or null, got {temperature}")
    if not TEMPERATURES[0] <= temperature <= TEMPERATURES[1]:
        raise InputError(
            f"temperature must be from {TEMPERATURES[0]} to {TEMPERATURES[1]}, got {temperature}: "
            "scale the rewards"
        )


def _check_within(key: str, value: int, minimum: int, maximum: int) -> None:
    if not minimum <= value <= maximum:
        raise InputError(
            f"{key} must be a whole number from {minimum} to {maximum}, got {shown(value)}"
        )


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(entry) for key, entry in value.items()}
    return [_plain(entry) for entry in value] if isinstance(value, (list, tuple)) else value


def _fixed(config: ExperimentConfig) -> dict[str, Any]:
    """The values that must be equal in both configurations, by key path."""
    fixed = {key: value for key, value in asdict(config).items() if key not in _MAY_GROW}
    game = fixed.pop("game")
    if isinstance(game, str):
        return {"game": game} | fixed
    return {f"game.{key}": value for key, value in game.items()} | fixed


def _plain_game(config: ExperimentConfig) -> Any:
    return to_mapping(config)["game"]


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
    return f"{key} is {_short(before)} in the folder, but {_short(now)} was requested"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 100 else text[:97] + "..."
