"""The arrays of version 0.1: one small reproduction, one from the agents' perspective, one sweep.

Version 0.1 made `data/version_0_1.npz` and the tables beside it from the YAML files there. On one
machine and with the same libraries the arrays agree byte for byte. Other machines round otherwise,
and hyper-parameters are found by iteration, hence the tolerance.
"""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from malfl_algos.cli.main import main

DATA = Path(__file__).parent / "data"
STUDY = Path(__file__).parents[2] / "scripts" / "study.py"
CLOSE = {"rtol": 1e-5, "atol": 1e-6}
SEARCHED = {"ma-lfl-bellman", "ma-lfl-replay"}
"""Observers whose search for noise and prior is no longer that of version 0.1."""
SAME_REWARD, SAME_SD, SAME_SCORE = 0.05, 0.02, 0.05
"""For these: root mean square difference of rewards by the standard deviations, relative difference
of these, and difference of scores.
"""

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", ["run", "seat"])
def test_arrays_of_a_reproduction(name, tmp_path):
    out = tmp_path / name
    arguments = ["--config", str(DATA / f"{name}.yaml"), "--output-dir", str(out)]
    assert main(["reproduce", *arguments]) == 0
    compared = 0
    with np.load(DATA / "version_0_1.npz") as golden:
        for key in golden.files:
            where, *place, agent = key.split("|")
            if where != name:
                continue
            with np.load(out.joinpath(*place)) as found:
                array = found[agent]
            averaged = array.mean(axis=tuple(range(1, array.ndim))) if array.ndim > 1 else array
            compared += 1
            if not SEARCHED & {*place}:
                np.testing.assert_allclose(averaged, golden[key], **CLOSE, err_msg=key)
            elif agent.endswith("_sd"):
                np.testing.assert_allclose(averaged, golden[key], rtol=SAME_SD, err_msg=key)
            else:
                sd = golden["|".join([where, *place[:-1], "posterior.npz", f"{agent}_sd"])]
                off = (averaged - golden[key]) / sd
                assert np.sqrt(np.mean(off**2)) < SAME_REWARD, key
    assert compared == {"run": 44, "seat": 6}[name]


def test_rows_of_a_sweep(tmp_path):
    out = tmp_path / "sweep"
    assert main(["sweep", str(DATA / "sweep.yaml"), "--output-dir", str(out)]) == 0
    with (DATA / "sweep_table.csv").open(newline="") as stream:
        golden = list(csv.DictReader(stream))
    with (out / "table.csv").open(newline="") as stream:
        found = list(csv.DictReader(stream))
    assert len(found) == len(golden) == 32
    for old, new in zip(golden, found, strict=True):
        for column, text in old.items():
            if column in ("family", "observer", "agent"):
                assert new[column] == text
            else:
                close = {"atol": SAME_SCORE} if new["observer"] in SEARCHED else CLOSE
                np.testing.assert_allclose(float(new[column]), float(text), **close)


LOST = 0.003
"""Largest loss of correlation with the ground truth against version 0.1."""


def test_correlations_of_a_study(tmp_path):
    plan = "--games heterogeneous sparse-goal --learners td exact --data full 1/10 --seeds 3"
    size = "--episodes 40 --jobs 2 --observers log-policy ma-lfl-bellman ma-lfl"
    done = subprocess.run(
        [sys.executable, str(STUDY), *plan.split(), *size.split(), "--output-dir", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = {}
    for path in (tmp_path / "cells").rglob("*.json"):
        content = json.loads(path.read_text())
        cell = content["cell"]
        for row in content["rows"]:
            names = [cell["game"], cell["learner"], cell["data"], str(cell["seed"])]
            found["|".join([*names, row["observer"], row["agent"]])] = row["pearson"]
    of_both_seeds = json.loads((DATA / "study_pearson.json").read_text())
    golden = {key: value for key, value in of_both_seeds.items() if key.split("|")[3] == "3"}
    assert found.keys() == golden.keys()
    for key, value in golden.items():
        if "ma-lfl-bellman" in key:  # a rule that was not certain may now be the right one
            assert found[key] > value - LOST, key
        else:
            np.testing.assert_allclose(found[key], value, **CLOSE, err_msg=key)
