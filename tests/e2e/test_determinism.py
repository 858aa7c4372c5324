"""Results depend only on the configuration: not on workers, hashing or interruptions."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from nursery import content, environment

CONFIG = {
    "game": {"size": 2, "slip": 0.1},
    "iterations": 3,
    "episodes": 20,
    "episode_length": 20,
    "seeds": [0, 1],
    "reward_families": ["mine"],
    "families": {"mine": ["avoid", [0.1 * state for state in range(16)]]},
    "observers": [
        "ma-lfl-faithful",
        {"label": "replay", "name": "ma-lfl-replay", "options": {"step_size": 0.1}},
        {"label": "joint", "name": "counting", "options": {"joint": True, "shift": 0.5}},
    ],
}
Run = Callable[..., Path]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Runs `malfl reproduce` in a separate process; returns the run folder."""
    folder = tmp_path_factory.mktemp("determinism")
    (folder / "config.yaml").write_text(yaml.safe_dump(CONFIG))
    variables = environment(folder)

    def reproduce(root: Path, *further: str, jobs: int, hash_seed: str) -> Path:
        argv = ["reproduce", "--config", str(folder / "config.yaml"), "--jobs", str(jobs)]
        subprocess.run(
            [sys.executable, "-m", "malfl_algos", *argv, "--output-dir", str(root), *further],
            env={**variables, "PYTHONHASHSEED": hash_seed},
            check=True,
            capture_output=True,
        )
        return root

    return reproduce


@pytest.fixture(scope="module")
def serial(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run that others are compared with; tests must not change it."""
    return run(tmp_path_factory.mktemp("serial") / "run", jobs=1, hash_seed="0")


def _check_same(root: Path, serial: Path) -> None:
    found, expected = content(root), content(serial)
    assert found.keys() == expected.keys()
    assert [name for name in expected if found[name] != expected[name]] == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("jobs", "hash_seed"),
    [(2, "random"), (1, "random"), (4, "1")],
)
def test_every_file_is_the_same_over_jobs_and_hash_seeds(run, serial, tmp_path, jobs, hash_seed):
    _check_same(run(tmp_path / "run", jobs=jobs, hash_seed=hash_seed), serial)


@pytest.mark.slow
def test_every_file_is_the_same_after_a_run_in_parts(run, serial, tmp_path):
    root = tmp_path / "run"
    run(root, "--seeds", "0", "--observers", "ma-lfl-faithful", jobs=2, hash_seed="1")
    shutil.rmtree(root / "mine" / "seed_0" / "ma-spi")
    run(root, jobs=2, hash_seed="random")
    _check_same(root, serial)
