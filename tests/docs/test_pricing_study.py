"""The study of pricing algorithms, in small: profits before and after a change of demand."""

from __future__ import annotations

import numpy as np
import pytest
from pricing_study import COLUMNS, Market, first_q, main, profits, rows, within

SMALL = Market(n_prices=4, n_steps=20_000, decay=2e-4, n_stages=4)


def test_first_values_and_what_is_within_a_price():
    game = SMALL.games()[0]
    q = first_q(game)
    table = profits(game, 1).reshape(4, 4)  # own price is the second
    np.testing.assert_allclose(q[1, 5], table.mean(axis=0) / 0.05)
    by_rival = np.repeat([1.0, 5.0, 2.0, 7.0], 4)  # depends on firm 0's price alone
    np.testing.assert_allclose(within(by_rival, 1), 0, atol=1e-12)
    assert np.ptp(within(by_rival, 0)) > 1


@pytest.mark.slow
def test_profits_before_and_after_the_change_are_believed_and_right():
    found = [dict(zip(COLUMNS, row, strict=True)) for row in rows(SMALL, 0)]
    assert [(own["period"], own["firm"]) for own in found] == [
        ("before", 0),
        ("before", 1),
        ("after", 0),
        ("after", 1),
    ]
    for own in found:
        assert own["pearson"] > 0.99
        assert own["other"] < own["pearson"] - 0.05
        assert own["coverage"] >= 0.8
        assert own["word"] == "believe"


@pytest.mark.slow
def test_the_script_writes_a_table(capsys):
    assert main(["--seeds", "1", "--prices", "3", "--steps", "2000", "--decay", "2e-3"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == ",".join(COLUMNS)
    assert len(lines) == 5
