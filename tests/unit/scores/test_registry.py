"""A score is one entry: rows, tables, text, options and figures follow."""

import csv
import json
import subprocess
import sys

import numpy as np
import pytest
from fake_plugins import install

from malfl_algos.cli.main import main
from malfl_algos.experiments.rows import write_sweep_tables
from malfl_algos.experiments.scoring import OF_A_RUN
from malfl_algos.report import write_sweep_figure
from malfl_algos.scores import (
    SCORES,
    HeldOut,
    Score,
    ScoreEntry,
    ScoringInputs,
    pearson,
    reference,
    regret,
    score_agent,
    score_names,
    with_policies,
)


@pytest.fixture
def largest_error(monkeypatch):
    """A score of a new name and group."""

    def function(inputs, agent):
        error = inputs.rewards[agent] - inputs.reference.truth[agent]
        return Score(float(np.abs(error).max()))

    entry = ScoreEntry(
        "largest_error", "Largest error", "Errors", function, ("ground_truth",), digits=1
    )
    monkeypatch.setitem(SCORES, entry.name, entry)
    return entry


def test_a_new_entry_is_in_every_row_table_text_and_figure(
    tmp_path, monkeypatch, capsys, largest_error
):
    install(tmp_path / "plugins", monkeypatch)
    monkeypatch.chdir(tmp_path)
    small = "game: {size: 2}\niterations: 3\nepisodes: 20\nreward_families: [heterogeneous]\n"
    (tmp_path / "run.yaml").write_text(
        f"{small}seeds: [0, 1]\nlearner: fake\nobservers: [counting]\n"
    )
    options = ["--config", "run.yaml", "--output-dir", "run", "--jobs", "1"]
    assert main(["reproduce", *options]) == 0
    out = capsys.readouterr().out
    assert "Largest error" in out
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    value = summary["results"][0]["largest_error"]
    assert value > 0
    assert summary["aggregate"][0]["largest_error"]["n_seeds"] == 2
    assert f"{summary['aggregate'][0]['largest_error']['mean']:.1f}" in out
    for name in ("cross_correlation.csv", "trend.csv"):
        with (tmp_path / "run" / name).open(newline="") as stream:
            assert all(row["largest_error"] for row in csv.DictReader(stream))
    assert (tmp_path / "run" / "figures" / "Errors.png").exists()
    unit = "run/heterogeneous/seed_0"
    argv = ["score", f"{unit}/counting/rewards.npz", "--config", "run.yaml", "--json", "s.json"]
    assert main([*argv, "--ground-truth", f"{unit}/fake/ground_truth.npz"]) == 0
    printed = [line.split() for line in capsys.readouterr().out.splitlines()]
    at = printed.index(["agent", "Largest", "error", "verdict"])
    assert printed[at + 1][:2] == ["agent_0", f"{value:.1f}"]
    assert json.loads((tmp_path / "s.json").read_text())[0]["largest_error"] == value


def test_a_new_entry_is_in_the_tables_options_and_figures_of_a_sweep(
    tmp_path, monkeypatch, capsys, largest_error
):
    row = {"run": "r", "family": "f", "seed": 0, "observer": "o", "agent": "agent_0", "key": 1}
    row |= {**dict.fromkeys(score_names(*OF_A_RUN)), "largest_error": 0.5, "reasons": {}}
    write_sweep_tables(tmp_path, [row, {**row, "seed": 1}], keys=["key"], log=print)
    with (tmp_path / "table.csv").open(newline="") as stream:
        assert [found["largest_error"] for found in csv.DictReader(stream)] == ["0.5", "0.5"]
    with (tmp_path / "summary.csv").open(newline="") as stream:
        means = {found["measure"]: found["mean"] for found in csv.DictReader(stream)}
    assert means["largest_error"] == "0.5"
    assert write_sweep_figure([row], tmp_path, x="key", hue=None, measure="largest_error").exists()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "grid.yaml").write_text("grid: {seeds: [0]}\n")
    assert main(["sweep", "grid.yaml", "--output-dir", "s", "--measure", "largest_eror"]) == 2
    assert "largest_error" in capsys.readouterr().err


def test_names_by_available_inputs():
    everything = ("ground_truth", "dynamics", "posterior_covariance", "trace")
    assert score_names(*everything) == list(SCORES)
    assert score_names("ground_truth") == ["pearson", "spearman"]
    assert score_names("trace") == score_names() == []
    assert all(name == entry.name for name, entry in SCORES.items())


def test_values_equal_the_functions(paper_game):
    game = paper_game("heterogeneous")
    uniform = {agent: np.full((2, 81, 5), 0.2) for agent in game.agents}
    settings = {"discount": 0.9, "temperature": 3.0}
    truth = with_policies(reference(game, states=np.ones(81, bool), **settings), uniform)
    estimate = {a: game.reward(i) + np.arange(81.0) for i, a in enumerate(game.agents)}
    counts = [np.ones((81, 5, 5), dtype=np.int64)] * 2
    inputs = ScoringInputs(
        estimate,
        truth,
        covariance={"agent_1": np.eye(81)},
        held_out=HeldOut(game, estimate, counts, 1, **settings),
    )
    scores = score_agent(inputs, "agent_1")
    assert scores["reasons"] == {}
    assert list(scores) == [*SCORES, "reasons"]
    assert scores["pearson"] == pearson(estimate["agent_1"], game.reward(1)).value
    assert scores["regret"] == regret(estimate, truth.play)["agent_1"].value
    for name, entry in SCORES.items():
        low, high = entry.bounds
        assert low is None or scores[name] >= low, name
        assert high is None or scores[name] <= high, name
    assert set(score_agent(inputs, "agent_0")["reasons"]) == {
        "coverage_1sd",
        "coverage_2sd",
        "coverage_3sd",
        "sd_ratio",
    }


def test_every_missing_score_has_a_reason():
    row = score_agent(
        ScoringInputs({"agent_0": np.zeros(3)}, missing={"trace": "give one"}), "agent_0"
    )
    assert {row[name] for name in SCORES} == {None}
    assert set(row["reasons"]) == set(SCORES)
    assert row["reasons"]["pearson"] == "the ground truth is not known"
    assert row["reasons"]["uniform_divergence"] == "give one"


def test_no_score_imports_scipy_stats():
    code = "import sys, malfl_algos.scores; print('scipy.stats' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "False\n"
