"""The search for the best other setting, which a verdict compares the chosen one with."""

from __future__ import annotations

from malfl_algos.observers.judged_agent import DISCOUNTS, climbed, deficit, other_discounts


def test_a_peak_is_found_from_any_start_with_few_values() -> None:
    asked: list[int] = []

    def value(one: int) -> float:
        asked.append(one)
        return -((one - 6) ** 2.0)

    for start in range(9):
        asked.clear()
        found = climbed(9, [start], value)
        assert max(found, key=lambda one: found[one]) == 6
        assert len(asked) == len(set(asked)) <= abs(start - 6) + 3


def test_other_discounts_hold_the_best_one_and_not_the_given_one() -> None:
    for best in DISCOUNTS:
        for given in (0.6, 0.9, 0.99):
            found = other_discounts(
                given, -((given - best) ** 2.0), lambda one, best=best: -((one - best) ** 2.0)
            )
            assert given not in found
            assert best == given or max(found, key=lambda one: found[one]) == best


def test_a_deficit_is_per_row() -> None:
    assert deficit("discount", {0.5: -30.0, 0.8: -8.0}, -12.0, 4) == {
        "best_discount": 0.8,
        "discount_deficit": 1.0,
    }
    assert deficit("discount", {0.8: -10.0}, -12.0, 4)["discount_deficit"] == 0
    assert deficit("discount", {0.8: -13.0}, -12.0, 4)["discount_deficit"] == -0.25
    assert deficit("rule", {}, -12.0, 4) == {}
