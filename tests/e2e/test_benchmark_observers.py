"""The benchmark of observers runs and resumes, and its tables agree with its cells."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import benchmark_observers
import numpy as np
import pytest
from benchmark_observers import coverage, main, missing_tasks, run_task
from benchmark_observers_plan import (
    GAMES,
    LEARNERS,
    OBSERVERS,
    Cell,
    cells,
    chase,
    config_of,
    installed,
    local_learner,
)
from benchmark_observers_tables import benchmark_rows, write_tables
from logel_grid import Gpomdp

from malfl_algos.contract import RecoveredRewards
from malfl_algos.experiments.cell import learn
from malfl_env import InputError
from malfl_env.testing import check_parallel_env

GRID = Cell("logel-grid", "gpomdp", 3)
QUICK = ("--games", "logel-grid", "--learners", "gpomdp", "--seeds", "3", "--jobs", "1")


def run(root: Path, *arguments: str) -> int:
    return main(["--output-dir", str(root), *QUICK, *arguments])


@pytest.mark.slow
def test_it_runs_resumes_and_writes_its_tables(tmp_path, capsys):
    assert run(tmp_path, "--observers", "trex") == 0
    first = json.loads(GRID.path(tmp_path).read_text())
    assert [row["observer"] for row in first["rows"]] == ["trex"]
    assert run(tmp_path, "--observers", "trex", "logel", "ma-lfl-bellman", "ma-lfl-replay") == 0
    content = json.loads(GRID.path(tmp_path).read_text())
    assert content["rows"][0] == first["rows"][0]
    done = {row["observer"] for row in content["rows"]} | set(content["refused"])
    assert done == {"trex", "logel", "ma-lfl-bellman", "ma-lfl-replay"}
    capsys.readouterr()
    assert run(tmp_path, "--observers", "trex", "logel") == 0
    shown = capsys.readouterr().out
    assert shown.strip() == (tmp_path / "benchmark.md").read_text().strip()  # nothing was run
    with (tmp_path / "rows.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert rows[0]["observer"] == "ma-lfl-bellman"
    for row in rows:
        own = next(one for one in content["rows"] if one["observer"] == row["observer"])
        assert float(row["pearson"]) == own["pearson"]
        assert row["verdict"] in ("believe", "doubt", "do not believe")
        assert (row["coverage_2sd"] == "") == (row["observer"] in ("trex", "logel"))
        assert f"| logel-grid | gpomdp | {row['observer']} | {own['pearson']:.3f}" in shown


@pytest.mark.slow
def test_one_cell_one_result(tmp_path):
    """The trace of a cell depends neither on the observers nor on what ran before."""
    for number, observers in enumerate((("logel",), ("log-policy", "logel"))):
        (task,) = missing_tasks([GRID], observers, tmp_path / str(number))
        assert run_task(task).fault is None
    rows = [
        next(
            row
            for row in json.loads(GRID.path(tmp_path / number).read_text())["rows"]
            if row["observer"] == "logel"
        )
        for number in ("0", "1")
    ]
    for row in rows:
        row.pop("seconds")
    assert rows[0] == rows[1]


def test_a_failure_is_an_outcome_and_a_rejection_a_reason(tmp_path, monkeypatch):
    (task,) = missing_tasks([GRID], ["trex", "logel", "log-policy"], tmp_path)

    def broken(learned, plugin):
        if plugin.label == "trex":
            raise InputError("not for\nme")
        raise RuntimeError("oh no")

    monkeypatch.setattr(benchmark_observers, "scored", broken)
    outcome = run_task(task)
    assert outcome.fault is not None
    assert outcome.fault.count("RuntimeError: oh no") == 2
    content = json.loads(GRID.path(tmp_path).read_text())
    assert content["refused"] == {"trex": "not for me"}
    assert missing_tasks([GRID], ["trex", "logel"], tmp_path)[0].observers == ("logel",)
    assert missing_tasks([Cell("chase", "exact", 0)], ["logel-history"], tmp_path) == []
    GRID.path(tmp_path).write_text("{}")
    with pytest.raises(InputError, match="delete it and run again"):
        missing_tasks([GRID], ["trex"], tmp_path)


def test_the_plan():
    plan = cells(list(GAMES), ["td", "exact", "gpomdp"], [1, 2])
    assert plan[0].seed == 1
    assert plan[-1].seed == 2
    assert len({str(cell) for cell in plan}) == len(plan) == 2 * (4 * 3 + 2)
    assert all(installed(label) for label in ("td", "q-learning", "gpomdp"))
    assert set().union(*(game.learners for game in GAMES.values())) == set(LEARNERS)


def test_observers_are_told_the_features_and_logel_its_learners_parameters():
    options = {
        plugin.label: plugin.options for plugin in config_of(GRID, list(OBSERVERS)).observers
    }
    assert options["logel"]["parameters"] == "last-fixed"
    assert options["ma-lfl-bellman"]["reward_model"] == "features"
    assert np.shape(options["trex"]["features"]) == (25, 5)
    assert "features" not in options["lfl"]
    other = config_of(Cell("chase", "exact", 0), ["logel"]).observers[0].options
    assert other == {}


def test_a_learner_that_is_not_installed_learns_in_a_cell():
    learner = local_learner(GRID)
    assert isinstance(learner, Gpomdp)
    assert local_learner(Cell("chase", "exact", 0)) is None
    config = config_of(GRID, ["logel"])
    learned = learn(config, keep_transitions=True, learner=learner)
    assert learned.trace.n_stages == 16
    assert learned.trace.stages[0].counts.sum() == 1000
    np.testing.assert_array_equal(learned.truth.rewards["agent_0"], learned.game.reward(0))


def test_the_chase():
    game = chase()
    assert (game.n_states, game.n_actions) == (49, (3, 3))
    apart = np.array([[0, 1, 2, 3, 3, 2, 1]])
    np.testing.assert_array_equal(game.reward(0).reshape(7, 7)[0], -apart[0])
    np.testing.assert_array_equal(game.reward(1).reshape(7, 7)[0], apart[0] + [2, *[0] * 6])
    successors, probabilities = game.joint_successors()
    place = successors[8, 2, 0], probabilities[8, 2, 0]  # both in cell 1: on, and back
    assert dict(zip(*(part.tolist() for part in place), strict=True)) == pytest.approx(
        {2 * 7 + 0: 0.81, 2 * 7 + 1: 0.09, 1 * 7 + 0: 0.09, 1 * 7 + 1: 0.01}
    )
    config = config_of(Cell("chase", "exact", 0), ["lfl"])
    check_parallel_env(lambda: config.environment("homogeneous"), stochastic=True)


@pytest.mark.parametrize("scale", [None, "known", "open: why"])
def test_coverage_is_at_the_best_scale_only_where_the_scale_is_open(scale):
    rng = np.random.default_rng(0)
    truth = rng.standard_normal(200)
    reward = 10 * (truth + 0.1 * rng.standard_normal(200))
    diagnostics = {} if scale is None else {"scale": scale}
    result = RecoveredRewards({"a": reward}, {"a": diagnostics}, covariance={"a": np.eye(200)})
    found = coverage(result, "a", truth, np.ones(200, dtype=bool))
    assert 0.9 < found < 0.99 if scale and scale.startswith("open") else found < 0.3
    assert coverage(RecoveredRewards({"a": reward}), "a", truth, np.ones(200, bool)) is None


def test_tables_are_in_the_order_of_the_plan(tmp_path):
    def cell(game, seed, *observers):
        row = {"agent": "agent_0", "pearson": 0.5, "spearman": None, "coverage_2sd": None}
        row |= {"verdict": "doubt", "reason": "", "seconds": 1.0, "settings": {"rule": "td"}}
        return {
            "cell": {"game": game, "learner": "exact", "seed": seed},
            "rows": [{**row, "observer": name} for name in observers],
            "refused": {"trex": "no | way"},
        }

    contents = [cell("chase", 1, "lfl", "logel"), cell("homogeneous", 2, "logel")]
    rows = benchmark_rows(contents)
    assert [(row["game"], row["observer"]) for row in rows] == [
        ("homogeneous", "logel"),
        ("chase", "lfl"),
        ("chase", "logel"),
    ]
    text = write_tables(tmp_path, contents)
    assert "| exact | 0.50 | 0.50 |" in text
    assert "| chase | exact | lfl | 0.500 | 0.500 |  |  | doubt 1 | 1.00 |" in text
    assert "| chase | exact | trex | 1 | no / way |" in text
    assert "settings" not in (tmp_path / "rows.csv").read_text().splitlines()[0]


def test_bad_input_is_one_line(tmp_path, capsys):
    for arguments in (["--seeds", "x"], ["--games", "chess"], ["--tables-only"]):
        with pytest.raises(SystemExit) as ended:
            main(["--output-dir", str(tmp_path), *arguments])
        assert ended.value.code == 2
    assert "holds no cell of a benchmark" in capsys.readouterr().err
