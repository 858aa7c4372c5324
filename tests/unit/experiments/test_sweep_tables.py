"""Tables and figures of sweeps, and the intervals in them."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from malfl_algos.experiments.sweep_tables import summary_rows, write_tables
from malfl_algos.report import write_sweep_figure
from malfl_algos.scores import score_names

SCORES = score_names("ground_truth", "dynamics", "posterior_covariance")


def _row(seed: int, value: float | None, **further: Any) -> dict[str, Any]:
    row = {"run": f"r{seed}", "family": "f", "seed": seed, "observer": "o", "agent": "agent_0"}
    scores = dict.fromkeys(SCORES)
    return {**row, **scores, "pearson": value, "reasons": {}, **further}


def _table(tmp_path: Path, rows: list[dict[str, Any]], *keys: str) -> list[dict[str, str]]:
    write_tables(tmp_path, rows, keys=keys, log=lambda line: None)
    with (tmp_path / "table.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_a_column_has_one_kind(tmp_path: Path) -> None:
    points = [
        {"whole": 1, "mixed": 1, "text": "a", "truth": True, "any": None, "huge": 2**70},
        {"whole": 2, "mixed": 0.5, "text": 3, "truth": None, "any": None, "huge": 1},
    ]
    rows = [_row(n, 0.1, **point) for n, point in enumerate(points)]
    found = _table(tmp_path, rows, *points[0])
    assert [[row[key] for key in points[0]] for row in found] == [
        ["1", "1.0", "a", "true", "", str(2**70)],
        ["2", "0.5", "3", "", "", "1"],
    ]


def test_numbers_are_exact_and_reasons_short(tmp_path: Path) -> None:
    why = {"epic": "too large", "starc": "too large", "pearson": "constant"}
    rows = [_row(0, 0.1 + 0.2), _row(1, None, reasons=why)]
    first, second = _table(tmp_path, rows)
    assert float(first["pearson"]) == 0.1 + 0.2
    assert (first["reasons"], second["pearson"]) == ("", "")
    assert second["reasons"] == "epic, starc: too large; pearson: constant"


def test_agents_are_averaged_within_a_seed_and_seeds_counted_once() -> None:
    rows = [_row(0, 0.0), _row(0, 0.4), _row(1, 0.6), _row(2, None), _row(0, 9.0, observer="p")]
    found = [row for row in summary_rows(rows, keys=()) if row["measure"] == "pearson"]
    assert [(row["observer"], row["mean"], row["n_seeds"]) for row in found] == [
        ("o", pytest.approx(0.4), 2),
        ("p", 9.0, 1),
    ]
    # Student's t of the seed means 0.2 and 0.6: 97.5 % of one degree of freedom
    half = 12.706204736432095 * 0.2
    assert (found[0]["low"], found[0]["high"]) == pytest.approx((0.4 - half, 0.4 + half))
    assert found[1]["low"] is None


def test_an_interval_depends_on_its_own_values_alone() -> None:
    rng = np.random.default_rng(0)
    rows = [_row(seed, float(rng.normal()), key=key) for key in (1, 2) for seed in range(5)]
    whole = summary_rows(rows, keys=["key"])
    assert summary_rows(rows[5:], keys=["key"]) == [row for row in whole if row["key"] == 2]


@pytest.mark.parametrize(
    ("x", "hue"), [("key", "name"), ("name", "key"), ("key", None), ("observer", "seed")]
)
def test_pictures_of_numbers_and_of_names(tmp_path: Path, x: str, hue: str | None) -> None:
    rng = np.random.default_rng(0)
    rows = [
        _row(seed, float(rng.normal()), key=key, name=name, observer=observer)
        for key in (0.001, 0.01, 1.0)
        for name in ("one", "two")
        for observer in ("o", "p")
        for seed in range(3)
    ]
    path = write_sweep_figure(rows, tmp_path, x=x, hue=hue, measure="pearson")
    again = write_sweep_figure(rows, tmp_path / "again", x=x, hue=hue, measure="pearson")
    assert path is not None
    assert again is not None
    assert path.read_bytes() == again.read_bytes()
    assert path.read_bytes().startswith(b"\x89PNG")
    assert write_sweep_figure(rows, tmp_path, x=x, hue=hue, measure="regret") is None


def test_a_picture_never_leaves_its_folder(tmp_path: Path) -> None:
    rows = [_row(0, 0.5, **{"../../evil key": 1})]
    path = write_sweep_figure(
        rows, tmp_path / "in", x="../../evil key", hue=None, measure="pearson"
    )
    assert path is not None
    assert path.parent == tmp_path / "in"
    assert "/" not in path.name
