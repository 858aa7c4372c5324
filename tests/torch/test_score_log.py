"""Scores beside losses in TensorBoard's files."""

import json

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from malfl_algos.experiments.cell import check_parts
from malfl_algos.experiments.config import ExperimentConfig, PluginConfig
from malfl_algos.experiments.folder import open_run
from malfl_algos.experiments.jobs import run_unit
from malfl_algos.experiments.scoring import log_scores


def scalars(folder):
    (run,) = [path for path in folder.iterdir() if path.name.startswith("scores_")]
    found = EventAccumulator(str(run))
    found.Reload()
    return {
        name: {event.step: event.value for event in found.Scalars(name)}
        for name in found.Tags()["scalars"]
    }


@pytest.mark.parametrize("trend", [False, True])
def test_an_experiment_notes_the_correlations_of_an_observer_that_logs(tmp_path, trend):
    log = tmp_path / "log"
    options = {"ensemble": 1, "epochs": 1, "widths": (16,), "hidden": (8,), "log_dir": str(log)}
    config = ExperimentConfig(
        reward_families=("homogeneous",),
        seeds=(0,),
        iterations=3,
        episodes=20,
        episode_length=30,
        observers=(PluginConfig("ma-lfl-network", "ma-lfl-network", options),),
        trend=trend,
    )
    folder = open_run(tmp_path / "out", config, overwrite=False)
    folder.begin(check_parts(config))
    for kind in ("learner", "observer"):
        for unit in folder.units(kind):
            outcome = run_unit(unit)
            assert not outcome.faults, outcome.tracebacks
            folder.add(outcome)
    noted = scalars(log)
    assert set(noted) == {f"agent_{k}/{name}" for k in (0, 1) for name in ("pearson", "spearman")}
    assert all(set(steps) == ({2, 3} if trend else {3}) for steps in noted.values())
    if trend:
        (path,) = (tmp_path / "out").rglob("trend.json")
        for row in json.loads(path.read_text()):
            found = noted[f"{row['agent']}/pearson"][row["n_stages"]]
            assert found == pytest.approx(row["pearson"], abs=1e-6)


def test_scores_that_are_not_defined_are_left_out(tmp_path):
    row = {"agent": "agent_0", "pearson": None, "spearman": 0.25, "n_stages": 4}
    log_scores(str(tmp_path), "scores_x", [row, {**row, "observing": "agent_1", "pearson": 0.5}])
    assert scalars(tmp_path) == {
        "agent_0/spearman": {4: 0.25},
        "agent_1/agent_0/spearman": {4: 0.25},
        "agent_1/agent_0/pearson": {4: 0.5},
    }
