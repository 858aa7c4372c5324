from math import sqrt

import numpy as np
import pytest

from malfl_algos.experiments.rows import aggregate, verdicts
from malfl_algos.experiments.text import summary_text

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
        ({0: 0.9, 1: 0.1}, {0: 0.2, 1: 0.2}, True),  # on the mean, although seed 1 says no
        ({0: 0.1}, {0: 0.2}, False),
        ({0: 0.1}, {0: 0.1}, False),
        ({0: None}, {0: 0.1}, None),
    ],
)
def test_the_right_pairing_has_to_win_where_the_truths_differ(own, other, wins):
    everywhere = np.ones(3, dtype=bool)
    first, second = verdicts(_crossed(own, other), TRUTHS, everywhere)
    assert (first["agent"], first["distinct"], first["right_pairing_wins"]) == (
        "agent_0",
        True,
        wins,
    )
    # agent_1 wants the same in both families, up to scale and a constant
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
    assert ["g", "o", "mean", "-", "-"] in lines
    assert ["o", "agent_0", "yes"] in lines
    assert "o         agent_1  same ground-truth reward in all families" in text
    assert all(line == line.rstrip() for line in text.splitlines())
