"""Other authors' code gets the traces that our observers get; the table says what was left out."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import peers_run
import pytest
from benchmark_observers_plan import Cell, config_of, local_learner
from logel_grid import WEIGHTS, colour_features
from peers import handed_over, main, table
from peers_plan import config_of_task

from malfl_algos.experiments.cell import Learned, learn, observe

FAKE = """
import numpy as np

def run(args):
    steps, rewarded, _, _ = learn_trajectories(None, args.batch_size, args.len_traj)
    assert steps.shape == (args.n_learner_steps, args.batch_size, args.len_traj, 2)
    assert rewarded.shape == (*steps.shape[:3], 5) and args.bc
    weights = np.array([[0.0] * 5, rewarded.mean(axis=(0, 1, 2))])
    np.save(f"{args.dir_output}/weights_logel_{args.expe}_{args.alg_name}.npy", weights)
"""


@pytest.fixture(scope="module")
def grid() -> Learned:
    config, learner = config_of_task("logel-grid", 3)
    return learn(config, keep_transitions=True, learner=learner)


def test_rows_are_those_of_the_benchmark_and_are_measured_once(tmp_path, capsys):
    arguments = ["--tasks", "logel-grid", "--seeds", "3", "--output-dir", str(tmp_path)]
    arguments += ["--methods", "logel", "logel-own-code", "econirl-mce-irl"]
    assert main(arguments) == 0
    (row,) = json.loads((tmp_path / "rows/logel-grid/logel/seed_3.json").read_text())["rows"]
    cell = Cell("logel-grid", "gpomdp", 3)
    config = config_of(cell, ["logel"])
    learned = learn(config, keep_transitions=True, learner=local_learner(cell))
    found = observe(learned, config.observers[0], judged=False).recovered[""].rewards["agent_0"]
    assert row["pearson"] == pytest.approx(np.corrcoef(found, learned.game.reward(0))[0, 1])
    first = capsys.readouterr()
    assert first.out == (tmp_path / "peers.md").read_text() + "\n"
    assert first.out.count("not measured here") == 2
    assert main(arguments) == 0
    again = capsys.readouterr()
    assert (again.out, again.err) == (first.out, "")


def test_the_steps_of_one_agent_are_those_of_its_counts(grid):
    data = handed_over(grid)
    assert data["steps"].shape == (16, 50, 20, 2)
    assert data["features"] @ np.array(WEIGHTS) == pytest.approx(grid.game.reward(0))
    states, actions = data["steps"][..., 0], data["steps"][..., 1]
    assert (data["next_states"][states, actions][..., :-1] == states[..., 1:]).all()
    for stage, own in zip(grid.trace.stages, data["steps"].reshape(16, -1, 2), strict=True):
        counts = np.zeros((25, 4), int)
        np.add.at(counts, (own[:, 0], own[:, 1]), 1)
        assert (counts == stage.counts).all()


def test_logels_code_gets_the_features_that_the_learner_is_rewarded_for(
    grid, tmp_path, monkeypatch
):
    folder = tmp_path / "LOGEL" / "gridworld"
    folder.mkdir(parents=True)
    (folder / "logel.py").write_text(FAKE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "modules", dict(sys.modules))
    data = handed_over(grid)
    found = peers_run.logel(tmp_path, data)
    visits = np.bincount(data["steps"][..., 0].ravel(), minlength=25) / data["steps"][..., 0].size
    assert found == pytest.approx(colour_features() @ (visits @ colour_features()))


def test_seconds_are_divided_within_a_seed():
    rows = [
        {"method": method, "seed": seed, "seconds": seconds, "pearson": 0.5, "versions": "x 1.0"}
        for method, by_seed in (("logel-history", (1.0, 3.0)), ("logel-own-code", (10.0, 60.0)))
        for seed, seconds in enumerate(by_seed)
    ]
    shown = table("logel-grid", rows, ["lfl-own-code"])
    line = next(line for line in shown.splitlines() if "`logel-own-code`" in line)
    assert line.split(" | ")[3].split(" ")[0] == "15.0"
    assert line.endswith("| x 1.0 |")
    assert "`lfl-own-code`" in shown


def test_a_peer_that_fails_is_named(tmp_path, capsys):
    arguments = ["--tasks", "logel-grid", "--seeds", "3", "--output-dir", str(tmp_path)]
    arguments += ["--methods", "econirl-mce-irl", "--python", f"econirl={sys.executable}"]
    with pytest.raises(RuntimeError, match=r"econirl-mce-irl failed:\n(?s:.*)No module named"):
        main(arguments)
    with pytest.raises(SystemExit):
        main([*arguments[:-1], f"econirl={Path('absent')}"])
    assert "--python econirl=absent: no such interpreter" in capsys.readouterr().err
