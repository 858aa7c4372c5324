"""`checkpoint_dir` in an experiment: every fit has a folder of its own."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from malfl_algos.cli.main import main
from malfl_algos.experiments.config import from_mapping, to_mapping
from malfl_algos.storage.yaml_files import yaml_text

BASE: dict[str, Any] = {
    "game": {"size": 2},
    "reward_families": ["homogeneous"],
    "iterations": 3,
    "episodes": 20,
    "episode_length": 30,
    "seeds": [0, 1],
}
OPTIONS = {"epochs": 2, "ensemble": 2, "hidden": [8], "widths": [16]}


def _trend(folder: Path, checkpoints: Path | None, **further: Any) -> list[dict[str, str]]:
    options = OPTIONS if checkpoints is None else {**OPTIONS, "checkpoint_dir": str(checkpoints)}
    observers = [{"name": "ma-lfl-network", "options": options}]
    config = from_mapping({**BASE, **further, "observers": observers})
    file = folder.with_suffix(".yaml")
    file.write_text(yaml_text(to_mapping(config)))
    argv = ["reproduce", "--config", str(file), "--output-dir", str(folder), "--jobs", "1"]
    assert main(argv) == 0
    with (folder / "trend.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_seeds_and_points_of_the_trend_do_not_meet_in_one_folder(tmp_path: Path) -> None:
    """All seeds but the first failed, and the trend lost all points but the last."""
    found = _trend(tmp_path / "with", tmp_path / "checkpoints")
    assert len(found) == 2 * 2 * 2
    assert found == _trend(tmp_path / "without", None)
    places = {path.parent for path in (tmp_path / "checkpoints").rglob("*.npz")}
    names = {place.relative_to(tmp_path / "checkpoints").as_posix() for place in places}
    assert names == {
        f"homogeneous/seed_{seed}/ma-lfl-network/stages_{n}" for seed in (0, 1) for n in (2, 3)
    }


def test_agents_that_observe_each_other_do_not_meet_in_one_folder(tmp_path: Path) -> None:
    found = _trend(tmp_path / "with", tmp_path / "checkpoints", seat="agent", seeds=[0])
    assert len(found) == 2 * 2
    places = {path.parent.name for path in (tmp_path / "checkpoints").rglob("*.npz")}
    assert places == {"agent_0", "agent_1"}
