"""Games and learners that many tests share."""

from __future__ import annotations

import signal
from collections.abc import Callable, Sequence

import numpy as np
import pytest

from malfl_env import MarkovGame, grid_world_v0, markov_game


@pytest.fixture
def paper_game() -> Callable[..., MarkovGame]:
    """The paper's 3x3 game: by family name, or with other keywords of the environment."""

    def build(rewards: str | Sequence[object] = "homogeneous", **options: object) -> MarkovGame:
        return markov_game(grid_world_v0.parallel_env(rewards=rewards, **options))

    return build


@pytest.fixture
def random_rewards() -> Callable[[MarkovGame, int], MarkovGame]:
    """The same game with rewards of the state drawn from a standard normal."""

    def build(game: MarkovGame, seed: int) -> MarkovGame:
        rng = np.random.default_rng(seed)
        return game.with_rewards([rng.standard_normal(game.n_states) for _ in game.n_actions])

    return build


def pytest_configure() -> None:
    """Hear Ctrl-C, and let the commands under test hear it.

    Whoever starts the tests in the background of a script has them ignore it.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
