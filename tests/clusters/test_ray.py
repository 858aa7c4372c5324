"""Sweeps on a real Ray: one that the sweep starts, and one that already runs."""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sweep_cases import (
    GRID,
    call,
    check_out_of_reach,
    ended,
    flaky,
    interrupted,
    tables,
    without_flaky_options,
    write_sweep,
)

RAY = ("--backend", "ray", "--jobs", 2)
SMALL = ("--num-cpus", "2", "--object-store-memory", str(100 * 2**20))


@pytest.fixture(autouse=True)
def _token(monkeypatch: pytest.MonkeyPatch) -> None:
    """A separate token for every test: Ray must not use the one in the home folder."""
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))


@pytest.fixture
def address(work: Path) -> Iterator[str]:
    """A Ray on loopback, which ends with the test."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    program = "import sys; from ray.scripts.scripts import main; sys.exit(main())"
    head = ["start", "--head", "--block", "--node-ip-address", "127.0.0.1", "--port", str(port)]
    with (work / "ray.log").open("wb") as log:
        running = subprocess.Popen(
            [sys.executable, "-c", program, *head, *SMALL, "--include-dashboard", "false"],
            stdout=log,
            stderr=log,
            env={**os.environ, "RAY_USAGE_STATS_ENABLED": "0"},
        )
    try:
        while "Ray runtime started" not in (work / "ray.log").read_text(errors="replace"):
            assert running.poll() is None, (work / "ray.log").read_text(errors="replace")
            time.sleep(0.2)
        yield f"127.0.0.1:{port}"
    finally:
        ended(running)


def test_a_ray_that_is_there_makes_the_same_tables_though_a_worker_is_killed(
    serial: Path, address: str, work: Path
) -> None:
    done = call("sweep.yaml", "--output-dir", "there", *RAY, "--address", address, folder=work)
    assert done.returncode == 0, done.stderr
    assert f"Ray at {address}, 2 of 2 processors" in done.stderr
    assert tables(work / "there") == tables(serial)
    write_sweep(work / "kill.yaml", observers=flaky(on_seed=1, how="kill"))
    done = call("kill.yaml", "--output-dir", "killed", *RAY, "--address", address, folder=work)
    assert done.returncode == 0, done.stderr
    assert "a worker was lost, " in done.stderr
    assert without_flaky_options(work / "killed") == without_flaky_options(serial)


def test_a_run_that_ends_its_worker_is_recorded_and_the_others_are_done(work: Path) -> None:
    grid = {**GRID, "learner.options.scale": [1.0]}
    write_sweep(work / "kill.yaml", grid, observers=flaky(on_seed=1, how="kill", once=False))
    done = call("kill.yaml", "--output-dir", "killed", *RAY, folder=work)
    assert done.returncode == 1, done.stderr
    (last,) = (line for line in done.stderr.splitlines() if line.startswith("malfl"))
    assert "seed 1: it ended its worker process, 2 time(s) while alone: WorkerCrashedError" in last
    rows = (work / "killed/table.csv").read_text().splitlines()
    assert len(rows) == 1 + 5 * 2 * 2


def test_an_interrupted_sweep_goes_on(serial: Path, work: Path) -> None:
    argv = ["sweep.yaml", "--output-dir", "cut", *RAY]
    status, told = interrupted(*argv, folder=work, output=work / "cut")
    assert status == 130
    assert told.splitlines()[-1].startswith("malfl: interrupted; run the same command again")
    done = call("sweep.yaml", "--output-dir", "cut", *RAY, folder=work)
    assert done.returncode == 0, done.stderr
    assert tables(work / "cut") == tables(serial)


def test_what_cannot_be_reached_fails_in_time_with_what_was_tried(
    work: Path, silent: str, nobody: str
) -> None:
    expected = {
        nobody: f"cannot reach a cluster at {nobody}: tried to connect to {nobody} for 2 s, ",
        silent: f"something listens at {silent}, but joining it failed: no answer within 2 s",
    }
    check_out_of_reach("ray", work, expected)
