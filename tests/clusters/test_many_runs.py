"""The sweep of docs/how-to/clusters.md gives the same table on every backend.

Two of its ten seeds are run here, with every step size, slip and family: 40 of its 200 runs.
"""

from __future__ import annotations

import secrets
from pathlib import Path

import pytest
import yaml
from sweep_cases import TABLES, call, tables

FILE = Path(__file__).parents[2] / "docs" / "sweep.yaml"


def test_many_runs_give_one_table_on_this_machine_on_dask_and_on_ray(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    wanted["grid"]["seeds"] = wanted["grid"]["seeds"][:2]
    file = tmp_path / "sweep.yaml"
    file.write_text(yaml.safe_dump(wanted, sort_keys=False), encoding="utf-8")
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))
    made = []
    for name, *options in (
        ("serial", "--jobs", 1),
        ("loky", "--jobs", 2),
        ("dask", "--jobs", 2, "--backend", "dask"),
        ("ray", "--jobs", 2, "--backend", "ray"),
    ):
        done = call(file, "--output-dir", name, *options, folder=tmp_path)
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith("40 runs: ")
        made.append(tables(tmp_path / name, (*TABLES, "table.parquet")))
    assert all(other == made[0] for other in made[1:])
    assert made[0]["table.csv"].count(b"\n") == 1 + 40 * 2 * 2  # observers, agents
