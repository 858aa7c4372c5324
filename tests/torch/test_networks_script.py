"""The studies of the observer with networks: resumable, a table and figures."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "scripts" / "networks.py"


def call(*arguments):
    command = [sys.executable, str(SCRIPT), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


def test_a_study_runs_and_resumes(tmp_path):
    options = ("--studies", "large", "--size", 2, "--episodes-large", 1, "--width", 16)
    out = tmp_path / "study"
    done = call(*options, "--seeds", 0, "--output-dir", out, "--log-dir", tmp_path / "log")
    assert done.returncode == 0, done.stderr
    cells = sorted(out.glob("*.json"))
    assert len(cells) == 2
    before = [cell.stat().st_mtime_ns for cell in cells]
    content = json.loads(cells[0].read_text())
    assert {one["agent"] for one in content["agents"]} == {"agent_0", "agent_1"}
    done = call(*options, "--seeds", 0, "--output-dir", out)
    assert done.returncode == 0, done.stderr
    assert [cell.stat().st_mtime_ns for cell in cells] == before
    with (out / "table.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert {row["family"] for row in rows} == {"homogeneous", "heterogeneous"}
    assert all(-1 <= float(row["pearson"]) <= 1 for row in rows)
    assert (out / "table.md").read_text() in done.stdout
    assert list((out / "figures").glob("*.png"))
    assert list((tmp_path / "log").rglob("events.out.tfevents.*"))


def test_bad_input_is_rejected(tmp_path):
    for options in (("--seeds", -1), ("--size", 1), ("--episodes-small", 3), ("--tables-only",)):
        done = call(*options, "--output-dir", tmp_path)
        assert done.returncode == 2
        assert "Traceback" not in done.stderr
