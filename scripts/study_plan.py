"""The plan of the study of observers: games x learners x amounts of data x seeds, one cell each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np

from malfl_algos.experiments.config import ExperimentConfig, PluginConfig
from malfl_algos.experiments.games import GameConfig

__all__ = [
    "DATA",
    "DEFAULT_LEARNERS",
    "DEFAULT_OBSERVERS",
    "GAMES",
    "KNOWN_POLICIES",
    "LEARNERS",
    "MAIN_GAMES",
    "OBSERVERS",
    "Cell",
    "cell_config",
    "cells",
    "left_out",
]

FOREIGN = ("sb3-ppo", "sb3-a2c", "sb3-dqn", "example-npg")
Q_LEARNERS: Mapping[str, dict[str, Any]] = {
    "q-learning": {},
    "q-learning-moving": {"policy": "moving"},
    "q-learning-greedy": {"choice": "epsilon_greedy"},
}
"""Options by label: a softmax frozen within a stage, one that moves, and epsilon-greedy choices."""
LEARNERS: Mapping[str, PluginConfig] = {
    **{name: PluginConfig("ma-spi", "ma-spi", {"evaluation": name}) for name in ("td", "exact")},
    **{name: PluginConfig(name, name) for name in FOREIGN},
    "sb3-ppo-long": PluginConfig("sb3-ppo", "sb3-ppo-long", {"timesteps": 20_480}),
    **{
        f"npg-{kept}": PluginConfig("example-npg", f"npg-{kept}", {"step_size": step})
        for kept, step in (("0.3", 0.7), ("0.5", 0.5), ("0.7", 0.3), ("0.9", 0.1))
    },
    **{label: PluginConfig("q-learning", label, options) for label, options in Q_LEARNERS.items()},
}
"""By label. `td`, `exact` and the Q-learners are part of the package; the others are separate
distributions. `npg-0.3` keeps 0.3 of its log policy in an improvement."""
DEFAULT_LEARNERS = ("td", "exact")
KNOWN_POLICIES = "policies"
DATA: Mapping[str, int] = {"full": 1, "1/10": 10, "1/100": 100, KNOWN_POLICIES: 100}
"""Divisors of the number of episodes per stage. `policies`: the observer knows the true policies
and needs no data; only for exact learners, whose policies follow from the reward."""

FEW_SEEDS = 5
"""Number of seeds in the slow parts of the study."""


@dataclass(frozen=True)
class StudyGame:
    """A game of the study.

    Args:
        game: the board.
        rewards: gives for a seed one entry per agent, a reward name or a table; None: the built-in
            family with the name of the game.
        large: few seeds, and no replay of the full data.
    """

    game: GameConfig
    rewards: Callable[[int], tuple[Any, ...]] | None = None
    large: bool = False


def _random_rewards(seed: int) -> tuple[Any, ...]:
    """Standard normal in every joint state, for both agents."""
    sequence = np.random.SeedSequence(seed, spawn_key=(crc32(b"random-rewards"), 1))
    tables = np.random.default_rng(sequence).standard_normal((2, 81))
    return tuple(tuple(table) for table in tables.tolist())


def _goal_rewards(seed: int) -> tuple[Any, ...]:
    """1 for an agent that stands on its goal, else 0."""
    cells = np.indices((9, 9)).reshape(2, -1)
    return tuple(tuple(own) for own in (cells == 8).astype(float).tolist())


_APPROACH_AVOID = ("approach", "avoid")

GAMES: Mapping[str, StudyGame] = {
    "homogeneous": StudyGame(GameConfig()),
    "heterogeneous": StudyGame(GameConfig()),
    "both-approach": StudyGame(GameConfig(), lambda seed: ("approach", "approach")),
    "random-rewards": StudyGame(GameConfig(), _random_rewards),
    "sparse-goal": StudyGame(GameConfig(), _goal_rewards),
    "slip": StudyGame(GameConfig(slip=0.1), lambda seed: _APPROACH_AVOID),
    "4x4": StudyGame(GameConfig(size=4), lambda seed: _APPROACH_AVOID, large=True),
    "three-agents": StudyGame(
        GameConfig(n_agents=3), lambda seed: (*_APPROACH_AVOID, "approach"), large=True
    ),
}
MAIN_GAMES = ("homogeneous", "heterogeneous")

BELLMAN, SMOOTH_BELLMAN = "ma-lfl-bellman", "ma-lfl-bellman-auto"
LOW_RANK = "ma-lfl-bellman-low-rank"
REPLAY, SEARCH, SMOOTH_REPLAY = "ma-lfl-replay", "ma-lfl-replay-search", "ma-lfl-replay-auto"
OBSERVERS: Mapping[str, PluginConfig] = {
    **{
        name: PluginConfig(name, name)
        for name in ("ma-lfl", "ma-lfl-own-action", "ma-lfl-state", "ma-lfl-faithful")
    },
    BELLMAN: PluginConfig(BELLMAN, BELLMAN, {"covariance": True, "prior": "iid"}),
    REPLAY: PluginConfig(REPLAY, REPLAY, {"covariance": True, "prior": "iid", "step_size": 0.1}),
    **{name: PluginConfig(name, name) for name in ("lfl", "maxent-irl", "log-policy")},
    SEARCH: PluginConfig(REPLAY, SEARCH, {"covariance": True, "prior": "iid", "step_size": None}),
    SMOOTH_BELLMAN: PluginConfig(BELLMAN, SMOOTH_BELLMAN, {"covariance": True}),
    LOW_RANK: PluginConfig(BELLMAN, LOW_RANK, {"covariance": True, "solver": "low-rank"}),
    SMOOTH_REPLAY: PluginConfig(REPLAY, SMOOTH_REPLAY, {"covariance": True, "step_size": 0.1}),
}
"""By label. `SEARCH` also searches the step size of the replay; it runs on few seeds. The evidence
chooses the prior of the two `-auto`; `LOW_RANK` interpolates under a smooth prior; that of the
others is independent.
"""
JOINT = ("ma-lfl", "ma-lfl-faithful")
DEFAULT_OBSERVERS = tuple(
    label for label in OBSERVERS if label not in (SEARCH, SMOOTH_BELLMAN, LOW_RANK, SMOOTH_REPLAY)
)


@dataclass(frozen=True)
class Cell:
    """One run of a learner.

    Args:
        game: a key of `GAMES`.
        learner: a key of `LEARNERS`.
        data: a key of `DATA`.
        seed: of the learner and of random rewards.
        full_episodes: episodes per stage that count as full data.
        among_first: whether the seed is one of the first `FEW_SEEDS`.
        held_out: whether observers also recover from all stages but the last, to predict the last.
    """

    game: str
    learner: str
    data: str
    seed: int
    full_episodes: int
    among_first: bool
    held_out: bool = False

    @property
    def episodes(self) -> int:
        """Number of episodes per stage."""
        return max(1, self.full_episodes // DATA[self.data])

    def path(self, root: Path) -> Path:
        """The file of its rows."""
        folder = root / "cells" / self.game / self.learner / self.data.replace("/", "-")
        return folder / f"seed_{self.seed}.json"

    def __str__(self) -> str:
        return f"{self.game}, {self.learner} learners, data {self.data}, seed {self.seed}"


def cells(
    games: Sequence[str],
    learners: Sequence[str],
    data: Sequence[str],
    seeds: Sequence[int],
    *,
    full_episodes: int,
    held_out: bool = False,
) -> list[Cell]:
    """The cells of a study; the paper's two games first, with td learners and full data."""
    found = [
        Cell(game, learner, amount, seed, full_episodes, number < FEW_SEEDS, held_out)
        for learner in (name for name in LEARNERS if name in learners)
        for amount in (name for name in DATA if name in data)
        for number, seed in enumerate(seeds)
        for game in (name for name in GAMES if name in games)
        if (number < FEW_SEEDS or not GAMES[game].large)
        and (learner == "exact" or amount != KNOWN_POLICIES)
    ]
    names = list(GAMES)
    found.sort(key=lambda cell: 0 if cell.game in MAIN_GAMES else names.index(cell.game))
    return found


def left_out(cell: Cell, observer: str) -> str | None:
    """Why the study does not run an observer on a cell; None if it does."""
    if observer in JOINT and cell.game == "three-agents":
        return "91125 rewards of joint actions: not finished after 8 minutes on one core, with 6 GB"
    if observer not in (REPLAY, SEARCH, SMOOTH_REPLAY):
        return None
    if cell.learner != "td" and cell.learner not in Q_LEARNERS:
        return "replay needs td learners or Q-learners"
    if GAMES[cell.game].large and cell.data == "full":
        return "no replay of the full data on the large games"
    if observer == SEARCH and not (cell.game in MAIN_GAMES and cell.among_first):
        return "the step size is searched only on few seeds of the paper's games"
    return None


def cell_config(cell: Cell, observers: Sequence[str]) -> ExperimentConfig:
    """The experiment of a cell with the given observers, by label."""
    wanted = GAMES[cell.game]
    return ExperimentConfig(
        game=wanted.game,
        reward_families=(cell.game,),
        families={} if wanted.rewards is None else {cell.game: wanted.rewards(cell.seed)},
        episodes=cell.episodes,
        seeds=(cell.seed,),
        learner=LEARNERS[cell.learner],
        observers=tuple(OBSERVERS[label] for label in observers),
    )
