"""Sweeps on real clusters, on loopback. They need the extras `dask` and `ray`, and `.ci/run` has an
environment of their own for them: elsewhere they are not collected."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from sweep_cases import call, install_cases, write_sweep

collect_ignore = [
    name
    for name, modules in {
        "test_dask.py": ["distributed"],
        "test_ray.py": ["ray"],
        "test_many_runs.py": ["distributed", "ray", "pyarrow"],
    }.items()
    if not all(map(find_spec, modules))
]


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory with plugins that fail."""
    install_cases(tmp_path, monkeypatch)
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture(scope="session")
def twelve_runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The twelve runs of `write_sweep`, one after another in one process; tests must not change
    them."""
    folder = tmp_path_factory.mktemp("serial")
    file = write_sweep(folder / "sweep.yaml")
    with pytest.MonkeyPatch.context() as patch:
        install_cases(folder, patch)
        done = call(file, "--output-dir", "serial", "--jobs", 1, folder=folder)
    assert done.returncode == 0, done.stderr
    return folder / "serial"


@pytest.fixture
def serial(twelve_runs: Path, work: Path) -> Path:
    """The twelve runs, and their file in the present folder."""
    write_sweep(work / "sweep.yaml")
    return twelve_runs


@pytest.fixture
def silent() -> Iterator[str]:
    """The address of a server that never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        kept: list[socket.socket] = []

        def accept() -> None:
            try:
                while True:
                    kept.append(server.accept()[0])
            except OSError:
                pass

        threading.Thread(target=accept, daemon=True).start()
        yield f"127.0.0.1:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)
        for connection in kept:
            connection.close()


@pytest.fixture
def nobody() -> str:
    """An address at which nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"127.0.0.1:{server.getsockname()[1]}"
