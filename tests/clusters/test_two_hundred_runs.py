"""The sweep of docs/how-to/clusters.md: 200 runs give the same table on every backend."""

from __future__ import annotations

import secrets
from pathlib import Path

import pytest
from sweep_cases import TABLES, call, tables

FILE = Path(__file__).parents[2] / "docs" / "sweep.yaml"


def test_two_hundred_runs_give_one_table_on_this_machine_on_dask_and_on_ray(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))
    made = []
    for name, *options in (
        ("serial", "--jobs", 1),
        ("loky", "--jobs", 2),
        ("dask", "--jobs", 2, "--backend", "dask"),
        ("ray", "--jobs", 2, "--backend", "ray"),
    ):
        done = call(FILE, "--output-dir", name, *options, folder=tmp_path)
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith("200 runs: ")
        made.append(tables(tmp_path / name, (*TABLES, "table.parquet")))
    assert all(other == made[0] for other in made[1:])
    assert made[0]["table.csv"].count(b"\n") == 1 + 200 * 2 * 2  # observers, agents
