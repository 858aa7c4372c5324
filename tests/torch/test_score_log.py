"""Scores beside losses in TensorBoard's files."""

import csv

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from malfl_algos.cli import main
from malfl_algos.experiments.score_log import log_scores

YAML = """
reward_families: [homogeneous]
seeds: [0]
iterations: 3
episodes: 20
episode_length: 30
learner: {name: ma-spi, options: {evaluation: exact}}
observers:
  - name: ma-lfl-network
    options: {ensemble: 1, epochs: 1, widths: [16], hidden: [8], log_dir: LOG}
"""


def scalars(folder):
    (run,) = [path for path in folder.iterdir() if path.name.startswith("scores_")]
    found = EventAccumulator(str(run))
    found.Reload()
    return {
        name: {event.step: event.value for event in found.Scalars(name)}
        for name in found.Tags()["scalars"]
    }


def test_an_experiment_notes_the_correlations_of_its_own_table(tmp_path, capsys):
    log = tmp_path / "log"
    config = tmp_path / "run.yaml"
    config.write_text(YAML.replace("LOG", str(log)))
    out = tmp_path / "out"
    assert main(["reproduce", "--config", str(config), "--output-dir", str(out)]) == 0
    noted = scalars(log)
    with (out / "cross_correlation.csv").open() as stream:
        rows = [row for row in csv.DictReader(stream) if row["observer"] == "ma-lfl-network"]
    assert rows
    for row in rows:
        for name in ("pearson", "spearman"):
            assert noted[f"{row['agent']}/{name}"][3] == pytest.approx(float(row[name]), abs=1e-5)
    assert {2, 3} == set(noted["agent_0/pearson"])  # the trend, too


def test_scores_that_are_not_defined_are_left_out(tmp_path):
    row = {"agent": "agent_0", "pearson": None, "spearman": 0.25, "n_stages": 4}
    log_scores(str(tmp_path), "scores_x", [row, {**row, "observing": "agent_1", "pearson": 0.5}])
    assert scalars(tmp_path) == {
        "agent_0/spearman": {4: 0.25},
        "agent_1/agent_0/spearman": {4: 0.25},
        "agent_1/agent_0/pearson": {4: 0.5},
    }
