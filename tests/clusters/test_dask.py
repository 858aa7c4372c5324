"""Sweeps on a Dask cluster of two workers in separate processes."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from sweep_cases import (
    GRID,
    call,
    check_out_of_reach,
    command,
    ended,
    flaky,
    interrupted,
    tables,
    without_flaky_options,
    write_sweep,
)


@dataclass
class Cluster:
    """A scheduler and its workers."""

    file: Path
    ends: ExitStack
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def add_worker(self, *options: str) -> None:
        self.workers.append(self._start("worker", "--no-dashboard", *options))

    def start_scheduler(self) -> subprocess.Popen[bytes]:
        started = self._start(
            "scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--no-show"
        )
        while not self.file.exists():
            assert started.poll() is None
            time.sleep(0.1)
        return started

    def _start(self, what: str, *options: str) -> subprocess.Popen[bytes]:
        program = [sys.executable, "-m", "dask", what, "--scheduler-file", str(self.file)]
        with (self.file.parent / "cluster.log").open("ab") as log:
            process = subprocess.Popen([*program, *options], stdout=log, stderr=log)
        self.ends.callback(ended, process)
        return process


@pytest.fixture
def scheduler(work: Path) -> Iterator[Cluster]:
    """A scheduler without workers."""
    with ExitStack() as ends:
        cluster = Cluster(work / "scheduler.json", ends)
        cluster.start_scheduler()
        yield cluster


@pytest.fixture
def cluster(scheduler: Cluster) -> Cluster:
    """Two workers with one thread each, which are not restarted."""
    for _ in range(2):
        scheduler.add_worker("--nthreads", "1", "--no-nanny")
    return scheduler


def _address(cluster: Cluster) -> list[object]:
    return ["--backend", "dask", "--address", cluster.file]


def test_a_worker_killed_in_the_middle_leaves_the_tables_as_they_are(
    serial: Path, cluster: Cluster, work: Path
) -> None:
    argv = command("sweep.yaml", "--output-dir", "killed", *_address(cluster))
    running = subprocess.Popen(argv, stderr=subprocess.PIPE, text=True)
    try:
        while len(list((work / "killed/runs").glob("*.json"))) < 2:
            assert running.poll() is None
            time.sleep(0.01)
        cluster.workers[0].kill()
        _, told = running.communicate(timeout=120)
    finally:
        running.kill()
    assert running.returncode == 0, told
    assert "of 2 threads" in told
    assert cluster.workers[0].wait() == -signal.SIGKILL
    assert cluster.workers[1].poll() is None
    assert tables(work / "killed") == tables(serial)


def test_two_threads_of_one_worker_make_the_same_tables(
    serial: Path, scheduler: Cluster, work: Path
) -> None:
    scheduler.add_worker("--nthreads", "2", "--no-nanny")
    done = call("sweep.yaml", "--output-dir", "threads", *_address(scheduler), folder=work)
    assert done.returncode == 0, done.stderr
    assert "2 of 2 threads" in done.stderr
    assert tables(work / "threads") == tables(serial)


def test_a_run_that_ends_its_worker_is_recorded_and_the_others_are_done(
    scheduler: Cluster, work: Path
) -> None:
    scheduler.add_worker("--nthreads", "1", "--nworkers", "2", "--nanny")
    grid = {**GRID, "learner.options.scale": [1.0]}
    write_sweep(work / "kill.yaml", grid, observers=flaky(on_seed=1, how="kill", once=False))
    done = call("kill.yaml", "--output-dir", "killed", *_address(scheduler), folder=work)
    assert done.returncode == 1, done.stderr
    (last,) = (line for line in done.stderr.splitlines() if line.startswith("malfl"))
    assert "seed 1: it ended its worker process, KilledWorker: Attempted to run task" in last
    rows = (work / "killed/table.csv").read_text().splitlines()
    assert len(rows) == 1 + 5 * 2 * 2


def test_a_cluster_of_our_own_on_this_machine(serial: Path, work: Path) -> None:
    write_sweep(work / "kill.yaml", observers=flaky(on_seed=1, how="kill"))
    argv = ["kill.yaml", "--output-dir", "own", "--backend", "dask", "--jobs", 2]
    done = call(*argv, folder=work)
    assert done.returncode == 0, done.stderr
    assert without_flaky_options(work / "own") == without_flaky_options(serial)


def test_an_interrupted_sweep_goes_on_on_another_backend(
    serial: Path, cluster: Cluster, work: Path
) -> None:
    argv = ["sweep.yaml", "--output-dir", "cut", *_address(cluster)]
    status, told = interrupted(*argv, folder=work, output=work / "cut")
    assert status == 130
    assert told.splitlines()[-1].startswith("malfl: interrupted; run the same command again")
    done = call("sweep.yaml", "--output-dir", "cut", "--jobs", 1, folder=work)
    assert done.returncode == 0, done.stderr
    assert tables(work / "cut") == tables(serial)


def test_what_cannot_be_reached_fails_in_time_with_what_was_tried(
    scheduler: Cluster, work: Path, silent: str, nobody: str
) -> None:
    expected = {
        nobody: f"cannot reach a cluster at {nobody}: tried to connect to {nobody} for 2 s, ",
        silent: f"something listens at {silent}, but joining it failed: no answer within 2 s",
        "absent.json": "joining it failed: ",
        str(scheduler.file): "has no worker, after waiting for 2 s",
    }
    check_out_of_reach("dask", work, expected)
