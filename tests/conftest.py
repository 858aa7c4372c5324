"""Games and learners that many tests share."""

from __future__ import annotations

import signal
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

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


@pytest.fixture
def fakes_in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory, the fake plugins installed, and runs that draw no figures."""
    from fake_plugins import install

    install(tmp_path / "plugins", monkeypatch)
    monkeypatch.setattr("malfl_algos.report.write_figures", lambda *_, **__: [])
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"


def pytest_configure() -> None:
    """The same examples in every run, and signals as from a shell.

    A script that starts the tests in the background has them ignore Ctrl-C; the commands under test
    must receive it.
    """
    settings.register_profile(
        "repeatable",
        deadline=None,
        derandomize=True,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )
    settings.load_profile("repeatable")
    signal.signal(signal.SIGINT, signal.default_int_handler)
