"""Sweeps of small runs, an observer that fails or ends its process, and how tests call them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest
import yaml
from fake_plugins import CountingObserver, install

from malfl_algos.contract import RecoveredRewards
from malfl_algos.trace import LearningTrace

ENTRIES = {
    "malfl.learners": {"fake": "fake_plugins:FakeLearner"},
    "malfl.observers": {
        "counting": "fake_plugins:CountingObserver",
        "flaky": "sweep_cases:FlakyObserver",
    },
}
TABLES = ("table.csv", "summary.csv")
BASE = {
    "game": {"size": 2},
    "iterations": 2,
    "episodes": 1,
    "episode_length": 5,
    "learner": "fake",
    "observers": ["counting", "flaky"],
    "reward_families": ["homogeneous"],
}
GRID = {"learner.options.scale": [1.0, 2.0], "temperature": [1.0, 3.0], "seeds": [0, 1, 2]}


@dataclass(frozen=True)
class FlakyObserver(CountingObserver):
    """Fails on one seed and temperature, or ends its process; once, or always."""

    on_seed: int = -1
    how: Literal["raise", "kill"] = "raise"
    once: bool = True

    def recover(self, trace: LearningTrace, **given: Any) -> RecoveredRewards:
        if self.seed == self.on_seed and given["temperature"] == 3.0 and self._now():
            if self.how == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            raise RuntimeError("the disk is on fire")
        return super().recover(trace, **given)

    def _now(self) -> bool:
        """Whether to fail now: always, or only the first time."""
        marker = Path(os.environ["FLAKY_FOLDER"]) / "was here"
        if self.once and marker.exists():
            return False
        marker.touch()
        return True


def write_sweep(path: Path, grid: Mapping[str, Any] = GRID, **base: Any) -> Path:
    """A sweep file: twelve runs, unless a grid is given."""
    path.write_text(yaml.safe_dump({"base": {**BASE, **base}, "grid": dict(grid)}))
    return path


def flaky(**options: Any) -> list[Any]:
    """The observers, with these options of the one that fails."""
    return ["counting", {"name": "flaky", "options": options}]


def install_cases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Install the plugins for this process and for the processes it starts."""
    install(tmp_path / "plugins", monkeypatch, ENTRIES, name="sweepers")
    paths = [str(tmp_path / "plugins" / "sweepers"), str(Path(__file__).parent)]
    before = os.environ.get("PYTHONPATH")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([*paths, *([before] if before else [])]))
    monkeypatch.setenv("FLAKY_FOLDER", str(tmp_path))


def command(*arguments: object) -> list[str]:
    """The command line of a sweep."""
    return [sys.executable, "-m", "malfl_algos", "sweep", *map(str, arguments)]


def call(*arguments: object, folder: Path) -> subprocess.CompletedProcess[str]:
    """Call a sweep in a process of its own."""
    return subprocess.run(
        command(*arguments), cwd=folder, capture_output=True, text=True, timeout=900, check=False
    )


def interrupted(*arguments: object, folder: Path, output: Path) -> tuple[int, str]:
    """Status and standard error of a sweep that Ctrl-C interrupts after its first stored run."""
    running = subprocess.Popen(
        command(*arguments), cwd=folder, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        while not list((output / "runs").glob("*.json")):
            assert running.poll() is None
            time.sleep(0.01)
        os.killpg(running.pid, signal.SIGINT)
        _, errors = running.communicate(timeout=60)
    finally:
        running.kill()
    return running.returncode, errors


def check_out_of_reach(backend: str, work: Path, expected: Mapping[str, str]) -> None:
    """These addresses are rejected in one line that contains the given text; nothing is written."""
    write_sweep(work / "sweep.yaml")
    for address, message in expected.items():
        argv = ["sweep.yaml", "--output-dir", "out", "--backend", backend, "--address", address]
        done = call(*argv, "--connect-timeout", 2, folder=work)
        assert done.returncode == 2, done.stderr
        (line,) = (line for line in done.stderr.splitlines() if line.startswith("malfl"))
        assert message in line
        assert not (work / "out").exists()


def tables(root: Path, names: Sequence[str] = TABLES) -> dict[str, bytes]:
    """The bytes of the tables of a sweep."""
    return {name: (root / name).read_bytes() for name in names}


def without_flaky_options(root: Path) -> list[str]:
    """The table less its first column: the runs of other options have other names."""
    lines = (root / "table.csv").read_text().splitlines()
    return [line.partition(",")[2] for line in lines]


def ended(process: subprocess.Popen[bytes]) -> None:
    """Ask a process to end; insist where it does not."""
    process.terminate()
    try:
        process.wait(timeout=30)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
