"""Tables of runs and sweeps, their intervals and text, and the figures of sweeps."""

from __future__ import annotations

import csv
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from malfl_algos.experiments.rows import aggregate, summary_rows, verdicts, write_sweep_tables
from malfl_algos.experiments.text import summary_text
from malfl_algos.report import write_sweep_figure
from malfl_algos.scores import score_names

SCORES = score_names("ground_truth", "dynamics", "posterior_covariance")
T_2 = 4.302652729696142  # Student's t, 97.5 %, two degrees of freedom


def _rows(values, **columns):
    """Rows from {seed: (value of agent_0, value of agent_1)}."""
    return [
        {**columns, "seed": seed, "agent": f"agent_{i}", "pearson": value, "spearman": value}
        for seed, own in values.items()
        for i, value in enumerate(own)
    ]


def test_aggregate_by_hand():
    rows = _rows({0: (0.0, 0.2), 1: (0.1, 0.3), 2: (0.2, 0.4)}, family="f", observer="o")
    rows += _rows({0: (0.5, None)}, family="g", observer="o")
    first, second = aggregate(rows)
    assert (first["family"], first["observer"]) == ("f", "o")
    half = T_2 * 0.1 / sqrt(3)
    for measure in ("pearson", "spearman"):
        assert first[measure]["mean"] == pytest.approx(0.2)
        assert first[measure]["interval"] == pytest.approx([0.2 - half, 0.2 + half])
        assert first[measure]["n_seeds"] == 3
        assert first["agents"]["agent_1"][measure]["mean"] == pytest.approx(0.3)
    assert second["pearson"]["mean"] == 0.5
    assert second["pearson"]["interval"] is None
    assert second["pearson"]["reason"] == "one seed has no interval; 1 of 2 values are missing"
    assert second["agents"]["agent_1"]["pearson"] == {
        "mean": None,
        "interval": None,
        "n_seeds": 0,
        "reason": "no seed has a value",
    }


TRUTHS = {
    "f": {"agent_0": np.array([0.0, 1, 2]), "agent_1": np.array([0.0, 1, 5])},
    "g": {"agent_0": np.array([2.0, 1, 0]), "agent_1": np.array([3.0, 5, 13])},
}


def _crossed(own, other):
    return [
        {
            "observer": "o",
            "seed": seed,
            "agent": agent,
            "recovered_family": a,
            "true_family": b,
            "pearson": own[seed] if a == b else other[seed],
        }
        for seed in own
        for agent in ("agent_0", "agent_1")
        for a in TRUTHS
        for b in TRUTHS
    ]


@pytest.mark.parametrize(
    ("own", "other", "wins"),
    [
        ({0: 0.9, 1: 0.1}, {0: 0.2, 1: 0.2}, True),  # on the mean, although not for seed 1
        ({0: 0.1}, {0: 0.2}, False),
        ({0: 0.1}, {0: 0.1}, False),
        ({0: None}, {0: 0.1}, None),
    ],
)
def test_the_right_pairing_wins_where_ground_truths_differ(own, other, wins):
    everywhere = np.ones(3, dtype=bool)
    first, second = verdicts(_crossed(own, other), TRUTHS, everywhere)
    assert (first["agent"], first["distinct"], first["right_pairing_wins"]) == (
        "agent_0",
        True,
        wins,
    )
    # agent_1 has the same reward in both families, up to scale and a constant
    assert (second["agent"], second["distinct"], second["right_pairing_wins"]) == (
        "agent_1",
        False,
        None,
    )


def test_the_matrix_of_means():
    (first, _) = verdicts(_crossed({0: 0.9, 1: 0.7}, {0: 0.2, 1: 0.4}), TRUTHS, np.ones(3, bool))
    assert first["means"]["f"]["f"] == pytest.approx(0.8)
    assert first["means"]["f"]["g"] == pytest.approx(0.3)


def test_text_shows_means_intervals_and_verdicts():
    results = _rows({0: (0.0, 0.2), 1: (0.1, 0.3), 2: (0.2, 0.4)}, family="f", observer="o")
    results += _rows({0: (None, None)}, family="g", observer="o")
    crossed = verdicts(_crossed({0: 0.9}, {0: 0.2}), TRUTHS, np.ones(3, bool))
    text = summary_text(
        {"results": results, "aggregate": aggregate(results), "cross_correlation": crossed}
    )
    lines = [line.split() for line in text.splitlines()]
    half = T_2 * 0.1 / sqrt(3)
    assert ["f", "o", "mean", "0.200", f"[{0.2 - half:.3f},", f"{0.2 + half:.3f}]"] == next(
        line[:6] for line in lines if line[:3] == ["f", "o", "mean"]
    )
    assert ["g", "o", "mean", "-", "-", "-"] in lines
    assert ["o", "agent_0", "yes"] in lines
    assert "o         agent_1  same ground-truth reward in all families" in text
    assert all(line == line.rstrip() for line in text.splitlines())


def _row(seed: int, value: float | None, **further: Any) -> dict[str, Any]:
    row = {"run": f"r{seed}", "family": "f", "seed": seed, "observer": "o", "agent": "agent_0"}
    scores = dict.fromkeys(SCORES)
    return {**row, **scores, "pearson": value, "reasons": {}, **further}


def _table(tmp_path: Path, rows: list[dict[str, Any]], *keys: str) -> list[dict[str, str]]:
    write_sweep_tables(tmp_path, rows, keys=keys, log=lambda line: None)
    with (tmp_path / "table.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_a_column_has_one_type(tmp_path: Path) -> None:
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
def test_figures_of_numbers_and_of_names(tmp_path: Path, x: str, hue: str | None) -> None:
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


def test_a_figure_never_leaves_its_folder(tmp_path: Path) -> None:
    rows = [_row(0, 0.5, **{"../../evil key": 1})]
    path = write_sweep_figure(
        rows, tmp_path / "in", x="../../evil key", hue=None, measure="pearson"
    )
    assert path is not None
    assert path.parent == tmp_path / "in"
    assert "/" not in path.name
