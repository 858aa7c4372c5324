"""The benchmark's line of networks runs. No seconds are asserted."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "scripts" / "benchmark.py"


def test_the_line_runs(tmp_path):
    file = tmp_path / "speed.json"
    command = ["--fast", "--lines", "networks", "--repeats", "2", "--json", str(file)]
    done = subprocess.run([sys.executable, str(SCRIPT), *command], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows = {row["line"]: row for row in json.loads(file.read_text())["lines"]}
    for name, against in (
        ("networks, gathering, 3x3 game", "a call of the network for every state"),
        ("networks, epoch of the reward fit", "a call of the networks for every step"),
    ):
        row = rows[name]
        assert row["against"] == against
        assert all(value > 0 for part in ("ours", "baseline") for value in row[part]["values"])
