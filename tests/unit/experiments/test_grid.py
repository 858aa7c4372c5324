"""Grids: the runs, their order and their names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from interpreter import printed

from malfl_algos.experiments.grid import Sweep, figure_of, load_sweep, sweep_from_mapping

DOCS = Path(__file__).parents[3] / "docs"
BASE = {"observers": ["log-policy"], "seeds": [0], "reward_families": ["homogeneous"]}


def _sweep(grid: dict[str, Any], **base: Any) -> Sweep:
    return sweep_from_mapping({"base": {**BASE, **base}, "grid": grid}, max_runs=100)


def test_the_last_key_varies_fastest_then_families_then_seeds() -> None:
    sweep = _sweep(
        {"episodes": [3, 2], "game.slip": [0.0, 0.5]},
        reward_families=["heterogeneous", "homogeneous"],
        seeds=[5, 4],
    )
    made = [(*run.point.values(), run.family, run.seed) for run in sweep.runs]
    assert made[:5] == [
        (3, 0.0, "heterogeneous", 5),
        (3, 0.0, "heterogeneous", 4),
        (3, 0.0, "homogeneous", 5),
        (3, 0.0, "homogeneous", 4),
        (3, 0.5, "heterogeneous", 5),
    ]
    assert len(made) == 16
    first = sweep.runs[0].config
    assert (first.episodes, first.game.slip, first.seeds) == (3, 0.0, (5,))
    assert not first.trend


def test_a_whole_is_set_before_its_parts() -> None:
    exact = {"label": "exact", "name": "ma-spi", "options": {"evaluation": "exact"}}
    grid = {"learner.options.step_size": [0.1, 0.2], "learner": ["ma-spi", exact]}
    sweep = _sweep(grid)
    assert [tuple(run.point.values()) for run in sweep.runs] == [
        (0.1, "ma-spi"),
        (0.1, "exact"),
        (0.2, "ma-spi"),
        (0.2, "exact"),
    ]
    assert sweep.runs[3].config.learner.options == {"evaluation": "exact", "step_size": 0.2}


def test_options_of_an_observer_are_reached_by_its_label() -> None:
    two = [{"label": "mine", "name": "ma-lfl-bellman"}, "ma-lfl-bellman"]
    sweep = _sweep({"observers.mine.options.covariance": [True, False]}, observers=two)
    assert [run.config.observers[0].options for run in sweep.runs] == [
        {"covariance": True},
        {"covariance": False},
    ]
    assert all(run.config.observers[1].options == {} for run in sweep.runs)


def test_lists_are_text_in_a_table() -> None:
    sweep = _sweep({"game.walls": [[], [[1, 1]]]})
    assert [run.point["game.walls"] for run in sweep.runs] == ["[]", "[[1, 1]]"]


def test_a_run_keeps_its_name_whatever_else_is_in_the_grid() -> None:
    mine = {"mine": ["approach", "approach"]}
    alone = _sweep({"temperature": [2.0]}, families=mine)
    among = _sweep({"temperature": [1.0, 2.0], "seeds": [1, 0]})
    assert {run.id for run in alone.runs} < {run.id for run in among.runs}


@pytest.mark.parametrize("hash_seed", ["0", "1"])
def test_names_do_not_depend_on_the_process(hash_seed: str) -> None:
    told = printed(
        "from malfl_algos.experiments.grid import sweep_from_mapping",
        f"base = {BASE!r}",
        "sweep = sweep_from_mapping({'base': base, 'grid': {'game.size': [2, 3]}}, max_runs=9)",
        "print(*(run.id for run in sweep.runs))",
        PYTHONHASHSEED=hash_seed,
    )
    assert told.split() == [run.id for run in _sweep({"game.size": [2, 3]}).runs]


def test_the_figure_shows_the_first_keys_that_vary() -> None:
    sweep = _sweep({"episodes": [5], "temperature": [1.0, 2.0]}, observers=["lfl", "log-policy"])
    told = {"x": None, "hue": None, "measure": "pearson"}
    found = figure_of(sweep, **told)  # type: ignore[arg-type]
    assert (found.x, found.hue) == ("temperature", "observer")
    found = figure_of(sweep, x="observer", hue=None, measure="regret")
    assert (found.x, found.hue, found.measure) == ("observer", "temperature", "regret")


def test_a_grid_that_is_too_large_is_counted_before_it_is_built() -> None:
    grid = {key: list(range(1, 1001)) for key in ("episodes", "episode_length", "iterations")}
    with pytest.raises(ValueError, match="= 1000000000 runs, more than --max-runs 100"):
        _sweep(grid)


def test_the_file_in_the_manual_makes_two_hundred_runs() -> None:
    assert len(load_sweep(DOCS / "sweep.yaml", max_runs=200).runs) == 200
    shown = (DOCS / "how-to" / "clusters.md").read_text(encoding="utf-8")
    assert f"```yaml\n{(DOCS / 'sweep.yaml').read_text(encoding='utf-8')}```\n" in shown
