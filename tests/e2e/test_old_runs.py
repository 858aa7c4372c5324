"""Folders that version 0.1 wrote, on another machine, are verified, scored and finished."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from malfl_algos.cli.main import main
from malfl_algos.experiments.config import load_config
from malfl_algos.experiments.engine import reproduce, run_sweep
from malfl_algos.experiments.grid import load_sweep
from malfl_algos.experiments.verification import verify

DATA = Path(__file__).parents[1] / "data"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A copy of a run: the learner ma-spi, the observers log-policy and bellman."""
    return shutil.copytree(DATA / "run_0.1", tmp_path / "run")


def test_it_is_verified_without_faults(run: Path) -> None:
    verdict = verify(run)
    assert (verdict.notes, verdict.faults) == ((), ())
    path = run / "homogeneous" / "seed_0" / "bellman" / "rewards.npz"
    path.write_bytes(path.read_bytes()[:-3])
    assert verify(run).faults[0].startswith("homogeneous/seed_0/bellman/rewards.npz: damaged")


def test_its_units_are_kept_when_seeds_are_added(run: Path) -> None:
    config = load_config(run / "config.yaml")
    kept = {path: path.read_bytes() for path in run.glob("*/seed_0/*/*")}
    assert len(kept) == 10
    asked = replace(config, seeds=(1,))
    lines: list[str] = []
    summary = reproduce(asked, run, jobs=1, draw=lambda *_, **__: [], log=lines.append)
    assert {(row["observer"], row["seed"]) for row in summary["results"]} == {
        (observer, seed) for observer in ("log-policy", "bellman") for seed in (0, 1)
    }
    assert {path: path.read_bytes() for path in kept} == kept
    assert any("parts of this run were made with other versions" in line for line in lines)
    assert verify(run).faults == ()
    old = json.loads((DATA / "run_0.1" / "summary.json").read_text())["results"]
    new = [row for row in summary["results"] if row["seed"] == 0]
    for before, after in zip(old, new, strict=True):
        assert (after["observer"], after["agent"]) == (before["observer"], before["agent"])
        for key in ("pearson", "spearman", "regret", "coverage_2sd"):
            assert after[key] == (before[key] and pytest.approx(before[key], rel=1e-9)), key


def test_its_rewards_are_scored(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    unit = run / "homogeneous" / "seed_0"
    files = ["--ground-truth", unit / "ma-spi" / "ground_truth.npz"]
    files += ["--trace", unit / "ma-spi" / "trace.npz", "--config", run / "config.yaml"]
    argv = ["score", unit / "bellman" / "rewards.npz", *files, "--json", run / "scores.json"]
    assert main(list(map(str, argv))) == 0, capsys.readouterr().err
    rows = json.loads((run / "scores.json").read_text())
    summary = json.loads((run / "summary.json").read_text())["results"]
    expected = [row["pearson"] for row in summary if row["observer"] == "bellman"]
    assert [row["pearson"] for row in rows] == pytest.approx(expected, rel=1e-9)
    assert all(row["predicted_log_likelihood"] is not None for row in rows)


def test_runs_of_a_sweep_are_kept(tmp_path: Path) -> None:
    root = shutil.copytree(DATA / "sweep_0.1", tmp_path / "sweep")
    sweep = load_sweep(DATA / "sweep_0.1.yaml", max_runs=2)
    lines: list[str] = []
    run_sweep(sweep, root, log=lines.append)
    assert "all 2 runs are there" in lines
    old, new = (
        list(csv.DictReader((folder / "table.csv").open(newline="")))
        for folder in (DATA / "sweep_0.1", root)
    )
    assert [{column: row[column] for column in old[0]} for row in new] == old
    assert {row["verdict"] for row in new} == {""}  # 0.1 had no verdicts
