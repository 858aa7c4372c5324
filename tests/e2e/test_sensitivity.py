"""The sensitivity script changes the constants that it names, and restores them."""

from __future__ import annotations

import importlib.util
from importlib import import_module
from pathlib import Path

import pytest
from study_plan import Cell

from malfl_algos.observers import bayesian_base  # noqa: F401 - a module that imports constants

SCRIPT = Path(__file__).parents[2] / "scripts" / "sensitivity.py"
CASE = ("td", "1/10", "ma-lfl-bellman")
FEW = {"SWEEPS": ("learner_models", (2,)), "SIGN_SEED": ("replay", (1,))}


@pytest.fixture
def script():
    spec = importlib.util.spec_from_file_location("sensitivity", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def shipped(script):
    return {
        name: getattr(import_module(f"malfl_algos.ma_lfl.{module}"), name)
        for name, (module, _) in script.CONSTANTS.items()
    }


def test_every_value_differs_from_the_shipped_one(script):
    for name, value in shipped(script).items():
        assert value not in script.CONSTANTS[name][1]


def test_a_constant_is_changed_where_it_was_imported_too(script):
    value = shipped(script)["SEARCH_STAGES"]
    holding = {module.__name__ for module in script._holding("SEARCH_STAGES", value)}
    assert holding >= {
        "malfl_algos.ma_lfl.settings",
        "malfl_algos.observers.bayesian_base",
    }


@pytest.mark.slow
def test_settings_reach_the_observer_and_are_put_back(script, monkeypatch):
    before = shipped(script)
    monkeypatch.setattr(script, "CONSTANTS", FEW)
    rows = script.measure((Cell("homogeneous", "td", "1/10", 3, 100, True), "ma-lfl-bellman"))
    assert [row["constant"] for row in rows] == [None, "SWEEPS", "SIGN_SEED"]
    base, coarse, other_signs = (row["pearson"] for row in rows)
    assert coarse != base  # two sweeps a stage are another learner
    assert other_signs == base  # the replay's alone
    assert rows[1]["shipped"] == before["SWEEPS"]
    monkeypatch.undo()
    assert shipped(script) == before


def test_table_shows_paired_differences(script, monkeypatch):
    monkeypatch.setattr(script, "CASES", (CASE,))
    monkeypatch.setattr(script, "CONSTANTS", FEW)
    rows = [
        {"case": CASE, "cell": cell, "constant": constant, "value": value, "shipped": 60}
        | {"pearson": pearson, "coverage_2sd": 0.95}
        for cell, constant, value, pearson in [
            ("a", None, None, 0.9),
            ("b", None, None, 0.8),
            ("a", "SWEEPS", 2, 0.85),
            ("b", "SWEEPS", 2, 0.75),
            ("a", "SIGN_SEED", 1, 0.9),
            ("b", "SIGN_SEED", 1, 0.8),
        ]
    ]
    text = script.table(rows, command="python scripts/sensitivity.py")
    assert "pearson 0.8500, coverage_2sd 0.9500 (2 runs)" in text
    assert "| SWEEPS | 60 | 2 | -0.0500 [-0.0500, -0.0500] | 0 |" in text
    assert "| SIGN_SEED | 60 | 1 | 0 | 0 |" in text
