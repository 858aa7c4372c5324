"""Discount and temperature that observers are not told: null in YAML and on the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from malfl_algos.cli.main import main

OPTIONS = {"learner": "exact", "improvement": 0.0, "covariance": True, "prior": "iid"}
OBSERVER = {"name": "ma-lfl-bellman", "options": OPTIONS}
OWN = {"discount": 0.8, "temperature": 2.0}
BASE: dict[str, Any] = {
    "game": {"size": 2},
    "reward_families": ["homogeneous"],
    "iterations": 4,
    "episodes": 40,
    "episode_length": 20,
    "seeds": [0],
    "observers": [OBSERVER],
    "trend": False,
}
CELL = "homogeneous/seed_0"
SCALED = ("pearson", "coverage_2sd", "sd_ratio", "regret", "epic")


def write(name: str, **changed: Any) -> str:
    Path(name).write_text(yaml.safe_dump({**BASE, **changed}))
    return name


def learner(**options: Any) -> dict[str, Any]:
    return {"name": "ma-spi", "options": {"evaluation": "exact", **options}}


@pytest.mark.slow  # a run with its figures
def test_scores_do_not_depend_on_whether_the_temperature_is_told(tmp_path, monkeypatch) -> None:
    """By two routes: a run that does not tell it, and a recovery and a score that do."""
    monkeypatch.chdir(tmp_path)
    unknown = {"discount": 0.8, "temperature": None}
    untold = write("untold.yaml", learner=learner(temperature=2.0), **unknown)
    told = write("told.yaml", learner=learner(), **OWN)
    assert main(["reproduce", "--config", untold, "--output-dir", "run", "--jobs", "1"]) == 0
    results = json.loads(Path("run", "summary.json").read_text())["results"]
    place = f"run/{CELL}/ma-spi"
    recover = ["recover", f"{place}/trace.npz", "--observer", "ma-lfl-bellman"]
    assert main([*recover, "--config", told, "--output-dir", "told"]) == 0
    truth = ["--ground-truth", f"{place}/ground_truth.npz", "--json", "rows.json"]
    found = []
    for rewards, null in (("told", []), (f"run/{CELL}/ma-lfl-bellman", ["--temperature", "null"])):
        files = [f"{rewards}/rewards.npz", "--config", told, *truth]
        assert main(["score", *files, *null]) == 0
        found.append(json.loads(Path("rows.json").read_text()))
    for one, other, third in zip(*found, results, strict=True):
        for score in SCALED:
            assert one[score] == pytest.approx(third[score], rel=1e-4, abs=1e-6), score
            assert other[score] == third[score], score


@pytest.mark.slow  # two recoveries and a page
def test_an_unknown_discount_by_yaml_and_by_command(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    config = write("run.yaml", learner=learner(**OWN), discount=None, temperature=None)
    assert main(["learn", "--config", config, "--output-dir", "learned"]) == 0
    trace, truth = "learned/trace.npz", "learned/ground_truth.npz"
    recover = ["recover", trace, "--observer", "ma-lfl-bellman", "--config", config]
    assert main([*recover, "--output-dir", "found"]) == 0
    own = json.loads(Path("found/diagnostics.json").read_text())["agent_0"]
    low, high = own["discount_interval"]
    assert low <= own["discount"] <= high
    known = write("known.yaml", learner=learner(), **OWN)
    command = ["--config", known, "--discount", "null", "--temperature", "null"]
    assert main([*recover[:4], *command, "--output-dir", "again"]) == 0
    assert Path("again/rewards.npz").read_bytes() == Path("found/rewards.npz").read_bytes()
    score = ["score", "found/rewards.npz", "--trace", trace, "--json", "rows.json"]
    assert main([*score, "--config", config, "--ground-truth", truth]) == 0
    assert main([*score, "--config", known, "--discount", "null", "--temperature", "null"]) == 0
    (first, _) = json.loads(Path("rows.json").read_text())
    assert first["predicted_log_likelihood"] > first["uniform_log_likelihood"]
    assert main(["report", "found", "--output", "page.html"]) == 0
    page = " ".join(Path("page.html").read_text().split())
    assert "by profile likelihood" in page
    assert "unknown; it fixes the unit only" in page


def test_a_learner_needs_the_settings_that_observers_are_not_told(
    tmp_path, monkeypatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    config = write("run.yaml", discount=None, learner=learner())
    assert main(["reproduce", "--config", config, "--output-dir", "run"]) == 2
    said = capsys.readouterr().err
    assert "discount is null, so that observers are not told it; the learner needs its own" in said
    assert not Path("run").exists()
