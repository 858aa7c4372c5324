"""Two games of mpe2 as arrays: many copies are stepped at once, with the same numbers.

mpe2 steps one game at a time in Python, which took nine tenths of the time of the study. A test
steps these games beside mpe2's own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from mpe2 import simple_adversary_v3, simple_spread_v3
from numpy.typing import NDArray

from malfl_algos.play import Games
from malfl_algos.play.games import Moved
from malfl_env.spaces import action_counts, observation_spaces

__all__ = ["GAMES", "MAX_CYCLES", "ParticleGame", "ParticleGames"]

FloatArray = NDArray[np.float64]

MAX_CYCLES = 25
STEP, DAMPING, FORCE = 0.1, 0.25, 5.0  # of time, per step, of an action
MARGIN, STIFFNESS = 1e-3, 100.0  # of contacts
RADIUS = 0.15  # of an agent
MOVES = np.array([[0, 0], [-1, 0], [1, 0], [0, -1], [0, 1]], dtype=np.float64)


@dataclass(frozen=True)
class ParticleGame:
    """One of the games.

    Args:
        make: returns mpe2's parallel environment.
        n_landmarks: number of landmarks.
        collides: whether agents push each other away.
        goal: whether one of the landmarks, drawn at the start of an episode, is the goal.
        sees: observation of an agent, `(n, width)`, from the games and the agent's index.
        pays: rewards of all agents, `(n, n_agents)`, from the games.
    """

    make: Callable[[], Any]
    n_landmarks: int
    collides: bool
    goal: bool
    sees: Callable[[ParticleGames, int], FloatArray]
    pays: Callable[[ParticleGames], FloatArray]


class ParticleGames(Games):
    """Copies of a game, all in the same step; see `malfl_algos.play.games.Games`.

    Args:
        game: the game.
        n_games: number of copies.

    Attributes:
        places, speeds: of the agents, `(n_games, n_agents, 2)`.
        landmarks: their places `(n_games, n_landmarks, 2)`.
        goals: number of the goal `(n_games,)`.
    """

    agents: tuple[str, ...] = ()
    spaces: Any = ()
    n_actions: tuple[int, ...] = ()
    n_games: int = 0

    def __init__(self, game: ParticleGame, n_games: int) -> None:
        env = game.make()
        self.agents = tuple(env.possible_agents)
        self.spaces, self.n_actions = observation_spaces(env), action_counts(env)
        self.n_games, self.game = n_games, game
        self.places = self.speeds = np.zeros((n_games, len(self.agents), 2))
        self.landmarks = np.zeros((n_games, game.n_landmarks, 2))
        self.goals = np.zeros(n_games, dtype=np.int64)
        self._step = 0

    def reset(self, rng: np.random.Generator) -> tuple[NDArray[Any], ...]:
        """Begin an episode in all games."""
        if self.game.goal:
            self.goals = rng.integers(self.game.n_landmarks, size=self.n_games)
        self.places = rng.uniform(-1, 1, (self.n_games, len(self.agents), 2))
        self.speeds = np.zeros_like(self.places)
        self.landmarks = rng.uniform(-1, 1, (self.n_games, self.game.n_landmarks, 2))
        self._step = 0
        return self._seen()

    def step(self, numbers: NDArray[np.int64], actions: NDArray[np.int64]) -> Moved:
        """Make one step in the first games, whose numbers are given."""
        n = len(numbers)
        whole = np.zeros((self.n_games, len(self.agents)), dtype=np.int64)
        whole[numbers] = actions
        force = FORCE * MOVES[whole]
        if self.game.collides:
            force = force + _contacts(self.places)
        self.places = self.places + STEP * self.speeds
        self.speeds = (1 - DAMPING) * self.speeds + STEP * force
        self._step += 1
        return Moved(
            tuple(own[numbers] for own in self._seen()),
            self.game.pays(self)[numbers],
            np.zeros(n, dtype=np.bool_),
            np.full(n, self._step >= MAX_CYCLES),
        )

    def from_agent(self, places: FloatArray, index: int) -> FloatArray:
        """Return places `(n, k, 2)` relative to an agent, `(n, 2 k)`."""
        return (places - self.places[:, index, None]).reshape(self.n_games, -1)

    def others(self, index: int) -> FloatArray:
        """Return the places of the other agents `(n, n_agents - 1, 2)`."""
        return np.delete(self.places, index, axis=1)

    def _seen(self) -> tuple[NDArray[Any], ...]:
        return tuple(
            self.game.sees(self, index).astype(np.float32) for index in range(len(self.agents))
        )


def _contacts(places: FloatArray) -> FloatArray:
    """Return the forces between agents that touch, `(n, n_agents, 2)`."""
    gaps = places[:, :, None] - places[:, None]
    distance = np.linalg.norm(gaps, axis=-1)
    depth = MARGIN * np.logaddexp(0, -(distance - 2 * RADIUS) / MARGIN)
    depth[:, range(places.shape[1]), range(places.shape[1])] = 0.0
    return np.asarray((STIFFNESS * depth / np.maximum(distance, 1e-300))[..., None] * gaps).sum(2)


def _spread_sees(games: ParticleGames, index: int) -> FloatArray:
    silence = np.zeros((games.n_games, 4))
    return np.concatenate(
        [
            games.speeds[:, index],
            games.places[:, index],
            games.from_agent(games.landmarks, index),
            games.from_agent(games.others(index), index),
            silence,
        ],
        axis=1,
    )


def _spread_pays(games: ParticleGames) -> FloatArray:
    places = games.places
    away = np.linalg.norm(places[:, :, None] - games.landmarks[:, None], axis=-1)
    apart = np.linalg.norm(places[:, :, None] - places[:, None], axis=-1)
    touching = (apart < 2 * RADIUS).sum(axis=2) - 1
    return np.asarray(-0.5 * away.min(axis=1).sum(axis=1)[:, None] - 0.5 * touching)


def _adversary_sees(games: ParticleGames, index: int) -> FloatArray:
    parts = [games.landmarks, games.others(index)]
    if index > 0:  # the adversary, which comes first, does not know the goal
        parts.insert(0, _goals(games))
    return np.concatenate([games.from_agent(own, index) for own in parts], axis=1)


def _adversary_pays(games: ParticleGames) -> FloatArray:
    away = np.linalg.norm(games.places - _goals(games), axis=-1)
    good = away[:, 0] - away[:, 1:].min(axis=1)
    return np.stack([-away[:, 0], good, good], axis=1)


def _goals(games: ParticleGames) -> FloatArray:
    return games.landmarks[np.arange(games.n_games), games.goals][:, None]


GAMES = {
    "simple_spread": ParticleGame(
        lambda: simple_spread_v3.parallel_env(N=3, local_ratio=0.5, max_cycles=MAX_CYCLES),
        n_landmarks=3,
        collides=True,
        goal=False,
        sees=_spread_sees,
        pays=_spread_pays,
    ),
    "simple_adversary": ParticleGame(
        lambda: simple_adversary_v3.parallel_env(N=2, max_cycles=MAX_CYCLES),
        n_landmarks=2,
        collides=False,
        goal=True,
        sees=_adversary_sees,
        pays=_adversary_pays,
    ),
}
