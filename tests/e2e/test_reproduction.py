"""The paper's learners and observers, as installed, through the command: small, but for real."""

import csv
import json
import sys
from pathlib import Path

import pytest

from malfl_algos.cli.main import main
from malfl_algos.storage.arrays import read_arrays

OBSERVERS = ("ma-lfl", "ma-lfl-own-action", "ma-lfl-state", "ma-lfl-faithful")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("fast") / "run"
    assert main(["reproduce", "--fast", "--jobs", "2", "--output-dir", str(root)]) == 0
    return root


def test_every_observer_recovers_every_agent_in_every_family(run):
    summary = json.loads((run / "summary.json").read_text())
    found = {(row["family"], row["observer"], row["agent"]) for row in summary["results"]}
    assert found == {
        (family, observer, agent)
        for family in ("homogeneous", "heterogeneous")
        for observer in OBSERVERS
        for agent in ("agent_0", "agent_1")
    }
    assert all(-1 <= row["pearson"] <= 1 for row in summary["results"])
    with (run / "trend.csv").open(newline="") as stream:
        assert len(list(csv.DictReader(stream))) == len(found) * 3


def test_files_of_an_observer(run):
    for observer in OBSERVERS:
        folder = run / "heterogeneous" / "seed_0" / observer
        state = (81,) if observer == "ma-lfl-state" else (81, 5, 5)
        for name, shape in {
            "rewards": state,
            "estimated_policies": (4, 81, 5),
            "targets": (3, 81, 5),
            "potentials": (3, 81),
        }.items():
            arrays = read_arrays(folder / f"{name}.npz")[0]
            assert {agent: array.shape for agent, array in arrays.items()} == {
                "agent_0": shape,
                "agent_1": shape,
            }
        assert "rank" in json.loads((folder / "diagnostics.json").read_text())["agent_0"]


def test_only_the_agent_with_another_reward_can_be_identified(run):
    summary = json.loads((run / "summary.json").read_text())
    for row in summary["cross_correlation"]:
        assert row["distinct"] == (row["agent"] == "agent_0")
        assert (row["right_pairing_wins"] is None) == (row["agent"] == "agent_1")


def test_figures_are_drawn(run):
    names = {path.name for path in (run / "figures").iterdir()}
    assert {"correlation.png", "trend.png", "cross_correlation.png"} <= names
    for family in ("homogeneous", "heterogeneous"):
        assert {f"rewards_{family}_{observer}.png" for observer in OBSERVERS} <= names


def test_a_single_process_gives_the_same_arrays(run, tmp_path):
    argv = ["reproduce", "--fast", "--jobs", "1", "--reward-families", "homogeneous"]
    assert main([*argv, "--output-dir", str(tmp_path / "run")]) == 0
    for path in sorted((run / "homogeneous").rglob("*.npz")):
        assert (tmp_path / "run" / path.relative_to(run)).read_bytes() == path.read_bytes(), path


@pytest.mark.parametrize("observer", ["ma-lfl", "ma-lfl-state", "ma-lfl-faithful", "lfl"])
def test_a_game_too_large_for_the_observer_is_rejected_before_anything_runs(
    tmp_path: Path, observer: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "large.yaml").write_text("game: {size: 12}\n")
    config, out = str(tmp_path / "large.yaml"), str(tmp_path / "out")
    with pytest.raises(SystemExit) as stopped:
        sys.exit(
            main(["reproduce", "--config", config, "--observers", observer, "--output-dir", out])
        )
    assert stopped.value.code == 2
    complaint = capsys.readouterr().err
    assert complaint.count("\n") == 1
    assert f"observer {observer!r}" in complaint
    assert "GiB" in complaint
    assert not (tmp_path / "out").exists()
