"""A command prints once that it compiles, and prints nothing if it only loads."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from interpreter import printed

import malfl_algos
import malfl_env

LEARN = ("learn", "--iterations", "2", "--episodes", "1", "--episode-length", "2")
REPRODUCE = ("reproduce", "--fast", "--iterations", "2", "--observers", "ma-lfl-state")


@pytest.fixture(autouse=True)
def _as_from_a_shell(monkeypatch):
    """Undo the settings of earlier tests."""
    monkeypatch.delenv("MALFL_COMPILATION_TOLD", raising=False)


def _malfl(folder: Path, *arguments: str, **changed: str) -> list[str]:
    """The lines on compilation of a command that writes to a folder."""
    return _told(folder.parent, *arguments, "--output-dir", str(folder), **changed)


def _told(present: Path, *arguments: str, **changed: str) -> list[str]:
    """The lines on compilation of a command."""
    done = subprocess.run(
        [sys.executable, "-m", "malfl_algos", *arguments],
        env={**os.environ, **changed},
        cwd=present,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [line for line in done.stderr.splitlines() if "compiling" in line]


def test_the_first_run_says_where_it_keeps_what_it_compiles(tmp_path):
    cache = tmp_path / "cache"
    (line,) = _malfl(tmp_path / "first", *LEARN, NUMBA_CACHE_DIR=str(cache))
    assert line.startswith(f"compiling numerical code, some seconds, once: kept in {cache}")
    assert list(cache.rglob("*tabular._play-*.nbi"))
    assert _malfl(tmp_path / "second", *LEARN, NUMBA_CACHE_DIR=str(cache)) == []


@pytest.mark.slow
def test_scoring_says_so_too(tmp_path):
    _malfl(tmp_path / "run", *REPRODUCE)
    unit = tmp_path / "run" / "homogeneous" / "seed_0"
    score = ["score", str(unit / "ma-lfl-state" / "rewards.npz")]
    score += ["--trace", str(unit / "ma-spi" / "trace.npz")]
    cache = {"NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    assert len(_told(tmp_path, *score, **cache)) == 1
    assert _told(tmp_path, *score, **cache) == []


@pytest.mark.slow
def test_it_is_said_once_by_all_workers_together(tmp_path):
    argv = [*REPRODUCE, "--jobs", "2"]  # two families, so both workers compile
    cache = {"NUMBA_CACHE_DIR": str(tmp_path / "cache"), "TMPDIR": str(tmp_path)}
    assert len(_malfl(tmp_path / "first", *argv, **cache)) == 1
    assert _malfl(tmp_path / "second", *argv, **cache) == []
    assert not list(tmp_path.glob("malfl-*"))


def test_a_library_says_nothing(tmp_path):
    cache = tmp_path / "cache"
    told = printed(
        "import numpy as np",
        "from malfl_algos.learners.ma_spi import MaSpi",
        "from malfl_env import grid_world_v0",
        "learner = MaSpi(0.9, 3.0, episodes=1, episode_length=2)",
        "env = grid_world_v0.parallel_env()",
        "next(learner.learn(env, n_stages=1, rng=np.random.default_rng(0)))",
        NUMBA_CACHE_DIR=str(cache),
    )
    assert told == ""
    assert list(cache.rglob("*.nbi"))


@pytest.mark.slow
def test_without_a_folder_to_write_to_it_compiles_every_time_and_says_so(tmp_path):
    site = tmp_path / "site"
    for package in (malfl_env, malfl_algos):
        (folder,) = package.__path__
        ignored = shutil.ignore_patterns("__pycache__")
        copy = shutil.copytree(folder, site / package.__name__, ignore=ignored)
        for inner in [copy, *(path for path in copy.rglob("*") if path.is_dir())]:
            (inner / "__pycache__").touch()  # a file: nobody can write below it, not even root
    for _ in range(2):
        (line,) = _malfl(
            tmp_path / "out",
            *LEARN,
            "--overwrite",
            PYTHONPATH=str(site),
            NUMBA_CACHE_DIR=str(site / "malfl_algos" / "__pycache__"),
            XDG_CACHE_HOME=str(site / "malfl_algos" / "__pycache__"),
        )
        assert "on every run" in line
        assert "NUMBA_CACHE_DIR" in line
