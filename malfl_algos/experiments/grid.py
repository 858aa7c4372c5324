"""The file of a sweep: an experiment as the base, a grid over its keys, and the resulting runs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, fields, replace
from itertools import product
from math import prod
from pathlib import Path
from typing import Any

from malfl_algos.experiments.cell import check_parts
from malfl_algos.experiments.config import (
    ExperimentConfig,
    from_mapping,
    to_mapping,
)
from malfl_algos.experiments.games import GameConfig, checked_mapping
from malfl_algos.experiments.named_games import NO_GAME, game_checksum
from malfl_algos.experiments.scoring import OF_A_RUN
from malfl_algos.plugins.loading import Kind, find_plugin, plugin_class
from malfl_algos.plugins.options import check_keys, naming, option_hints, suggestion
from malfl_algos.scores.registry import score_names
from malfl_algos.storage.durable import value_hash
from malfl_algos.storage.yaml_files import read_mapping
from malfl_env.errors import InputError

__all__ = [
    "RUN_KEYS",
    "Sweep",
    "SweepFigure",
    "SweepRun",
    "figure_of",
    "load_sweep",
    "sweep_from_mapping",
]

RUN_KEYS = ("seeds", "reward_families", "observers")
"""Keys whose value is a list: its entries become runs or rows, never points of the grid."""
_FURTHER_KEYS = ("observer", "family", "seed", "agent")
_NOT_VARIED = ("trend", "observers", "seeds", "reward_families")


@dataclass(frozen=True)
class SweepRun:
    """One run: a learner in one family with one seed, and all observers on its trace.

    Args:
        point: the value of every key of the grid, as tables show it.
        config: the experiment of this one family and seed, without a trend.
        id: name of its file; it depends only on the configuration.
    """

    point: Mapping[str, Any]
    config: ExperimentConfig
    id: str

    @property
    def family(self) -> str:
        """The family of its rewards."""
        return self.config.reward_families[0]

    @property
    def seed(self) -> int:
        """The seed of its learner."""
        return self.config.seeds[0]

    def __str__(self) -> str:
        at = [f"{key} {json.dumps(value)}" for key, value in self.point.items()]
        return ", ".join([*at, f"family {self.family}", f"seed {self.seed}"])


@dataclass(frozen=True)
class Sweep:
    """A sweep.

    Args:
        keys: of the grid, without those in `RUN_KEYS`; the last varies fastest.
        observers: labels.
        runs: in the order of the grid, then of families and seeds.
        mapping: `base` and `grid` in plain values, as they were read.
    """

    keys: tuple[str, ...]
    observers: tuple[str, ...]
    runs: tuple[SweepRun, ...]
    mapping: Mapping[str, Any]


def load_sweep(path: str | Path, *, max_runs: int, game: str | None = None) -> Sweep:
    """Read the YAML file of a sweep and check every point of its grid.

    Args:
        path: of the file.
        max_runs: a sweep of more runs is rejected.
        game: name of the game in place of the base's.

    Raises:
        InputError, PluginError: naming the file, the key and what is allowed; for more than
            `max_runs` runs, their number.
    """
    given = read_mapping(Path(path))
    with naming(str(path)):
        if game is not None:
            base = _mapping(given.get("base", {}), where="base")
            given = {**given, "base": {**base, "game": game}}
        return sweep_from_mapping(given, max_runs=max_runs)


def sweep_from_mapping(given: Mapping[str, Any], *, max_runs: int) -> Sweep:
    """A sweep from plain YAML values. Errors as in `load_sweep`."""
    check_keys(given, ("base", "grid"), where="sweep")
    base, grid = (_mapping(given.get(part, {}), where=part) for part in ("base", "grid"))
    if not grid:
        raise InputError("grid: it is empty; give at least one key with its values")
    for key, values in grid.items():
        if not isinstance(values, Sequence) or isinstance(values, str) or not values:
            raise InputError(f"grid: {key} must be a list of at least one value, got {values!r}")
    spread = {key: grid[key] for key in RUN_KEYS if key in grid}
    axes = {key: values for key, values in grid.items() if key not in RUN_KEYS}
    _check_count(axes, {**base, **spread}, max_runs)
    with naming("base"):
        config = from_mapping({**base, "trend": False})
    with naming("grid"):
        config = from_mapping({**to_mapping(config), **spread})
        for key in axes:
            _check_key(key, config, axes.get("learner", ()))
    return Sweep(
        keys=tuple(axes),
        observers=tuple(observer.label for observer in config.observers),
        runs=tuple(_runs(axes, config)),
        mapping={"base": dict(base), "grid": dict(grid)},
    )


@dataclass(frozen=True)
class SweepFigure:
    """What the figure of a sweep shows.

    Args:
        x: the key along the horizontal axis.
        hue: the key whose values are separate lines; None: one line.
        measure: the name of a score of a run.
    """

    x: str
    hue: str | None
    measure: str


def figure_of(sweep: Sweep, *, x: str | None, hue: str | None, measure: str) -> SweepFigure:
    """What to draw; by default `x` and `hue` are the first two keys that vary.

    Raises:
        InputError: for a key that is not in the sweep, or the same key twice.
    """
    known = (*sweep.keys, *_FURTHER_KEYS)
    for option, key in (("--x", x), ("--hue", hue)):
        if key is not None and key not in known:
            hint = suggestion(key, known) or ";"
            raise InputError(f"{option}: unknown key {key!r}{hint} known: {', '.join(known)}")
    measures = score_names(*OF_A_RUN)
    if measure not in measures:
        hint = suggestion(measure, measures) or ";"
        raise InputError(f"--measure: unknown {measure!r}{hint} known: {', '.join(measures)}")
    several = [key for key in sweep.keys if len({repr(r.point[key]) for r in sweep.runs}) > 1]
    several += ["observer"] * (len(sweep.observers) > 1)
    several += ["family"] * (len({run.family for run in sweep.runs}) > 1)
    free = [key for key in several if key not in (x, hue)]
    if x is None:
        x = free.pop(0) if free else "observer"
    if hue is None:
        hue = free[0] if free else None
    if x == hue:
        raise InputError(f"--x and --hue must be different keys, got {x!r} for both")
    return SweepFigure(x, hue, measure)


def _check_count(
    axes: Mapping[str, Sequence[Any]], further: Mapping[str, Any], max_runs: int
) -> None:
    """Count the runs before any of them is built."""
    named = not isinstance(further.get("game", {}), Mapping)
    default = ExperimentConfig(game=NO_GAME) if named else ExperimentConfig()
    sizes = {key: len(values) for key, values in axes.items()}
    for key in ("reward_families", "seeds"):
        values = further.get(key, getattr(default, key))
        sizes[key] = len(values) if isinstance(values, (list, tuple)) else 1
    count = prod(sizes.values())
    if count > max_runs:
        factors = " x ".join(f"{size} ({key})" for key, size in sizes.items())
        raise InputError(
            f"the grid has {factors} = {count} runs, more than --max-runs {max_runs}: make it "
            "smaller, or allow more"
        )


def _runs(axes: Mapping[str, Sequence[Any]], config: ExperimentConfig) -> Iterator[SweepRun]:
    seen: dict[str, str] = {}
    cells: dict[tuple[Any, ...], ExperimentConfig] = {}
    for values in product(*axes.values()):
        wanted = dict(zip(axes, values, strict=True))
        with naming("grid point " + ", ".join(f"{k}: {_short(v)}" for k, v in wanted.items())):
            at = _at_point(config, wanted)
            check_parts(at)
            point = {key: _point_value(at, key) for key in axes}
            same = cells.setdefault(tuple(map(json.dumps, point.values())), at)
            if same != at:
                raise InputError(
                    "two different learners in the grid have the same label: give each learner "
                    "its own label, as {label: ..., name: ..., options: ...}"
                )
        for run in _runs_at(point, at):
            if run.id in seen:
                raise InputError(f"grid: duplicate run: {run}")
            seen[run.id] = str(run)
            yield run


def _at_point(config: ExperimentConfig, values: Mapping[str, Any]) -> ExperimentConfig:
    mapping = deepcopy(to_mapping(config))
    for key in sorted(values, key=lambda key: key.count(".")):  # a whole before its keys
        _set_key(mapping, key, deepcopy(values[key]))
    return from_mapping(mapping)


def _runs_at(point: Mapping[str, Any], config: ExperimentConfig) -> Iterator[SweepRun]:
    for family, seed in product(config.reward_families, config.seeds):
        defined = {name: own for name, own in config.families.items() if name == family}
        alone = replace(config, reward_families=(family,), families=defined, seeds=(seed,))
        content = to_mapping(alone)
        if isinstance(alone.game, str):
            content["game_checksum"] = game_checksum(alone.game)
        yield SweepRun(point, alone, value_hash(content)[:20])


def _mapping(value: Any, *, where: str) -> Mapping[str, Any]:
    for key in checked_mapping(value, where=where):
        if not isinstance(key, str):
            raise InputError(f"{where}: a key must be text, got {key!r}")
    return dict(value)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _known_keys(config: ExperimentConfig, learners: Sequence[Any] = ()) -> Iterator[str]:
    """All keys that a grid may vary.

    Args:
        config: names the observers by label, and the learner.
        learners: further learners, as written in the grid.
    """
    for field in fields(ExperimentConfig):
        if field.name not in _NOT_VARIED:
            yield field.name
    if isinstance(config.game, GameConfig):
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


def _check_key(key: str, config: ExperimentConfig, learners: Sequence[Any]) -> None:
    """Reject a key that a grid cannot vary.

    Raises:
        InputError: naming it and the nearest known one.
        PluginError: for a plugin that cannot be used.
    """
    known = list(_known_keys(config, learners))
    if key == "trend":
        raise InputError("trend: a sweep computes no trend; remove this key")
    if key not in known:
        whole = [name for name in known if "." not in name]
        hint = suggestion(key, known) or ";"
        raise InputError(
            f"unknown key {key!r}{hint} allowed: seeds, reward_families, observers, "
            f"{', '.join(whole)}, and by dotted path game.*, families.*, learner.options.*, "
            "observers.LABEL.options.*"
        )


def _set_key(mapping: dict[str, Any], key: str, value: Any) -> None:
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


def _point_value(config: ExperimentConfig, key: str) -> Any:
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
