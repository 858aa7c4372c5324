"""The plan of the benchmark of observers: games x learners x observers x seeds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
from logel_grid import Gpomdp, colour_features, logel_grid
from numpy.typing import NDArray
from pettingzoo import ParallelEnv

from malfl_algos.contract import Learner
from malfl_algos.experiments.config import ExperimentConfig, PluginConfig
from malfl_env import MarkovGame, TabularEnv, grid_world_v0, markov_game
from malfl_env.markov_game import Factor

__all__ = [
    "GAMES",
    "LEARNERS",
    "OBSERVERS",
    "BenchmarkConfig",
    "Cell",
    "cells",
    "config_of",
    "installed",
    "left_out",
    "local_learner",
]

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Game:
    """A game of the benchmark, and how it is played.

    Args:
        make: the game for a seed.
        learners: keys of `LEARNERS` that play it.
        stages, episodes, episode_length: of every learner.
        discount, temperature: of every learner that has one; observers are told both.
        features: of the reward, for observers that take features; None: they recover states.
    """

    make: Callable[[int], MarkovGame]
    learners: Sequence[str]
    stages: int = 10
    episodes: int = 300
    episode_length: int = 200
    discount: float = 0.9
    temperature: float = 3.0
    features: Callable[[], FloatArray] | None = None


def _board(rewards: Any) -> MarkovGame:
    return markov_game(grid_world_v0.parallel_env(rewards=rewards))


def _random_board(seed: int) -> MarkovGame:
    """The paper's board with standard normal rewards of the joint states, for both agents."""
    sequence = np.random.SeedSequence(seed, spawn_key=(crc32(b"random-rewards"), 2))
    game = _board("homogeneous")
    return game.with_rewards(list(np.random.default_rng(sequence).standard_normal((2, 81))))


def chase(n_cells: int = 7, slip: float = 0.1) -> MarkovGame:
    """Two agents on a ring, each moves back, stays or moves on: a chaser, and a runner with a home.

    The chaser loses its distance to the runner. The runner gains the distance, and 2 at home, which
    is cell 0. A move fails with probability `slip`. No cell is a goal, nothing starts anew.
    """
    cells, moves = np.arange(n_cells)[:, None], np.array([-1, 0, 1])
    successors = np.stack(
        [(cells + moves) % n_cells, np.broadcast_to(cells, (n_cells, 3))], axis=-1
    )
    probabilities = np.broadcast_to([1 - slip, slip], successors.shape).copy()
    factors = tuple(Factor((agent,), successors, probabilities) for agent in (0, 1))
    chaser, runner = np.divmod(np.arange(n_cells**2), n_cells)
    apart = np.abs(chaser - runner)
    distance = np.minimum(apart, n_cells - apart).astype(np.float64)
    rewards = (-distance, distance + 2.0 * (runner == 0))
    return MarkovGame((3, 3), factors, start=n_cells // 2 * n_cells, rewards=rewards)


TABULAR = ("td", "exact", "example-npg", "q-learning", "q-greedy", "gpomdp")
DEEP = ("sb3-ppo", "sb3-a2c", "sb3-dqn")

GAMES: Mapping[str, Game] = {
    "homogeneous": Game(lambda seed: _board("homogeneous"), (*TABULAR, *DEEP)),
    "heterogeneous": Game(lambda seed: _board("heterogeneous"), (*TABULAR, *DEEP)),
    "random-rewards": Game(_random_board, TABULAR),
    "logel-grid": Game(
        lambda seed: logel_grid(),
        ("exact", "example-npg", "gpomdp"),
        stages=16,
        episodes=50,
        episode_length=20,
        discount=0.96,
        temperature=1.0,
        features=colour_features,
    ),
    "chase": Game(lambda seed: chase(), TABULAR, temperature=1.0),
}

LEARNERS: Mapping[str, PluginConfig] = {
    **{name: PluginConfig("ma-spi", name, {"evaluation": name}) for name in ("td", "exact")},
    "example-npg": PluginConfig("example-npg", "example-npg"),
    "q-learning": PluginConfig("q-learning", "q-learning"),
    "q-greedy": PluginConfig("q-learning", "q-greedy", {"choice": "epsilon_greedy"}),
    **{name: PluginConfig(name, name) for name in ("gpomdp", *DEEP)},
}
"""By label. `gpomdp` is in `logel_grid`; `example-npg` and `sb3-*` are separate distributions."""
STEP_SIZES: Mapping[str, float] = {"homogeneous": 0.01, "heterogeneous": 0.01}
"""Of `gpomdp`, for which 0.1 is too large where rewards are large."""

_POSTERIOR = {"covariance": True}
_INDEPENDENT = {**_POSTERIOR, "prior": "iid"}
OBSERVERS: Mapping[str, PluginConfig] = {
    "ma-lfl-bellman": PluginConfig("ma-lfl-bellman", "ma-lfl-bellman", _INDEPENDENT),
    "ma-lfl-replay": PluginConfig("ma-lfl-replay", "ma-lfl-replay", _INDEPENDENT),
    "ma-lfl-faithful": PluginConfig("ma-lfl-faithful", "ma-lfl-faithful"),
    "lfl": PluginConfig("lfl", "lfl"),
    "lfl-adam": PluginConfig("lfl", "lfl-adam", {"fit": "adam"}),
    "logel": PluginConfig("logel", "logel"),
    "logel-constant": PluginConfig("logel", "logel-constant", {"step_sizes": "constant"}),
    "logel-history": PluginConfig("logel", "logel-history", {"fit": "history", **_POSTERIOR}),
    **{name: PluginConfig(name, name) for name in ("trex", "maxent-irl", "log-policy")},
}
"""By label. The prior of `ma-lfl-bellman` and `ma-lfl-replay` is independent. `logel-constant` and
`logel-history` are told that the step size did not change.
"""
FEATURED: Mapping[str, Mapping[str, Any]] = {
    "ma-lfl-bellman": {"reward_model": "features"},
    "ma-lfl-replay": {"reward_model": "features"},
    "logel": {},
    "trex": {},
}
"""Observers that take features, with the options that go with them."""


@dataclass(frozen=True)
class BenchmarkConfig(ExperimentConfig):
    """An experiment in any tabular game.

    Args:
        tabular: the game, with its rewards; every family is this game.
    """

    tabular: MarkovGame | None = field(default=None, compare=False)

    def environment(self, family: str) -> ParallelEnv[str, Any, Any]:
        """The environment of the game."""
        return TabularEnv(self.markov_game(family), max_cycles=self.episode_length)

    def markov_game(self, family: str) -> MarkovGame:
        """The game."""
        assert self.tabular is not None
        return self.tabular


@dataclass(frozen=True)
class Cell:
    """One run of a learner.

    Args:
        game: a key of `GAMES`.
        learner: a key of `LEARNERS`.
        seed: of the learner, and of random rewards.
    """

    game: str
    learner: str
    seed: int

    def path(self, root: Path) -> Path:
        """The file of its rows."""
        return root / "cells" / self.game / self.learner / f"seed_{self.seed}.json"

    def __str__(self) -> str:
        return f"{self.game}, {self.learner}, seed {self.seed}"


def left_out(cell: Cell, label: str) -> bool:
    """Whether an observer is not run on a cell: `logel-history` is slow with a weight per state."""
    return label == "logel-history" and GAMES[cell.game].features is None


def installed(label: str) -> bool:
    """Whether a learner of this label can be loaded."""
    name = LEARNERS[label].name
    return name == "gpomdp" or name in {
        entry.name for entry in entry_points(group="malfl.learners")
    }


def cells(games: Sequence[str], learners: Sequence[str], seeds: Sequence[int]) -> list[Cell]:
    """The cells of a benchmark; learners that are not installed are left out."""
    return [
        Cell(game, learner, seed)
        for seed in seeds
        for game in (name for name in GAMES if name in games)
        for learner in GAMES[game].learners
        if learner in learners and installed(learner)
    ]


def config_of(cell: Cell, observers: Sequence[str]) -> BenchmarkConfig:
    """The experiment of a cell with the given observers, by label."""
    game = GAMES[cell.game]
    return BenchmarkConfig(
        tabular=game.make(cell.seed),
        reward_families=("homogeneous",),
        iterations=game.stages,
        episodes=game.episodes,
        episode_length=game.episode_length,
        discount=game.discount,
        temperature=game.temperature,
        seeds=(cell.seed,),
        learner=LEARNERS[cell.learner],
        observers=tuple(_observer(label, cell) for label in observers),
        trend=False,
    )


def local_learner(cell: Cell) -> Learner | None:
    """The learner of a cell if it is not an installed plugin."""
    if cell.learner != "gpomdp":
        return None
    game = GAMES[cell.game]
    return Gpomdp(
        game.discount,
        game.episodes,
        game.episode_length,
        step_size=STEP_SIZES.get(cell.game, 0.1),
        parameters=_parameters(cell),
    )


def _parameters(cell: Cell) -> Any:
    return "last-fixed" if cell.game == "logel-grid" else "all"


def _observer(label: str, cell: Cell) -> PluginConfig:
    """An observer, with what it is told about the reward and the learner of a cell."""
    plugin, features = OBSERVERS[label], GAMES[cell.game].features
    options = dict(plugin.options)
    if features is not None and plugin.name in FEATURED:
        options |= {"features": features(), **FEATURED[plugin.name]}
    if plugin.name == "logel" and cell.learner == "gpomdp":
        options["parameters"] = _parameters(cell)
    return replace(plugin, options=options)
