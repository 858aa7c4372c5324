"""The choice among rules and shares rho, from made-up evidence."""

from __future__ import annotations

import numpy as np
import pytest

from malfl_algos.ma_lfl.settings import (
    CARRIED_MARGIN,
    GRADIENT,
    POOR,
    RETAINING_MARGIN,
    SURE_MARGIN,
    choose_settings,
)

RULES = ("td", "exact", "q-learning", "q-learning, greedy")


class Evidence:
    """Log evidence by rule and rho; it remembers what was asked."""

    def __init__(self, table, otherwise=-1000.0):
        self.table, self.otherwise, self.asked = table, otherwise, []

    def __call__(self, settings):
        key = settings["rule"], settings["improvement"]
        self.asked.append(key)
        return self.table.get(key, self.otherwise)


def chosen(table, *, whole=None, unexplained=1.0, **given):
    first, last = Evidence(table), Evidence(whole or {})
    settings, searches = choose_settings(
        first,
        RULES,
        rule=None,
        discount=0.9,
        step_size=0.1,
        whole=last,
        unexplained=lambda _: unexplained,
        **{"improvement": None, "gradient": "where others fail", **given},
    )
    return settings, searches, first.asked, last.asked


@pytest.mark.parametrize(
    ("gain", "expected"), [(RETAINING_MARGIN - 1, 0.0), (RETAINING_MARGIN + 1, None)]
)
def test_a_kept_share_needs_a_margin(gain, expected):
    settings, searches, _, _ = chosen({("td", 0.0): 0.0, ("exact", None): gain})
    assert settings["improvement"] == expected
    assert settings["rule"] == ("td" if expected == 0 else "exact")
    assert searches["improvement"]["> 0"]["exact"] == gain


def test_rules_that_carry_q_keep_nothing():
    assert ("q-learning", None) not in chosen({})[2]


@pytest.mark.parametrize(
    ("lead", "in_all", "expected"),
    [
        (10.0, CARRIED_MARGIN - 1, "exact"),
        (10.0, CARRIED_MARGIN + 1, "q-learning"),
        (SURE_MARGIN + 1, None, "q-learning"),
    ],
)
def test_all_stages_decide_where_the_first_ones_are_not_sure(lead, in_all, expected):
    table = {("exact", 0.0): 0.0, ("q-learning", 0.0): lead}
    whole = {("exact", 0.0): 0.0, ("q-learning", 0.0): in_all}
    settings, searches, _, asked = chosen(table, whole=whole, unexplained=0.0)
    assert settings["rule"] == expected
    assert bool(asked) == (in_all is not None)
    assert set(searches["all stages"]) == ({"exact", "q-learning"} if asked else set())


def test_what_a_rule_explains_spares_the_slow_ones():
    slow = {("q-learning, greedy", 0.0), (GRADIENT, 1.0)}
    table = {("exact", 0.0): 0.0}
    assert not slow & set(chosen(table, unexplained=POOR / 2)[2])
    assert slow <= set(chosen(table, unexplained=POOR * 2)[2])


def test_a_given_share_is_not_searched():
    settings, searches, asked, _ = chosen({("exact", 0.5): 5.0, ("td", 0.5): 1.0}, improvement=0.5)
    assert (settings["rule"], settings["improvement"]) == ("exact", 0.5)
    assert "improvement" not in searches
    assert {key[1] for key in asked} <= {0.5, 1.0}


class Stepped:
    """Log evidence that falls with the distance from the step size that suits a rule best."""

    def __init__(self, table, scale=1.0):
        self.table, self.scale, self.asked = table, scale, []

    def __call__(self, settings):
        best, height = self.table[settings["rule"]]
        self.asked.append(settings["rule"])
        off = np.log(settings["step_size"] / best) ** 2
        return self.scale * (height - 40 * off - 200 * settings["step_size_decay"])


@pytest.mark.parametrize(
    ("fresh", "following", "whole", "expected"),
    [
        # behind at a step size of 0.1, sure with its own; ahead there by less than the margin
        ((0.1, 0.0), (0.4, CARRIED_MARGIN + 5), 1.0, "q-learning"),
        ((0.1, 0.0), (0.4, CARRIED_MARGIN - 5), 1.0, "fresh"),
        ((0.1, 0.0), (0.4, CARRIED_MARGIN - 5), 2.0, "q-learning"),  # by all stages
        # ahead at a step size of 0.1 by more than the margin, and behind in the end
        ((0.6, 0.0), (0.1, -20.0), 1.0, "fresh"),
    ],
)
def test_rules_are_compared_with_their_own_step_sizes(fresh, following, whole, expected):
    table = {"fresh": fresh, "q-learning": following}
    first, every = Stepped(table), Stepped(table, whole)
    settings, searches = choose_settings(
        first,
        ("fresh", "q-learning"),
        rule=None,
        discount=0.9,
        step_size=None,
        step_size_decay=None,
        every_stage=every,
    )
    assert settings["rule"] == expected
    assert settings["step_size"] == pytest.approx(table[expected][0], rel=0.05)
    assert set(searches["own step sizes"]) == {"fresh", "q-learning"}
    assert every.asked == ["fresh", "q-learning"]


def test_rules_far_apart_are_not_compared_again():
    first = Stepped({"fresh": (0.1, 0.0), "q-learning": (0.1, -SURE_MARGIN - 1)})
    settings, searches = choose_settings(
        first, ("fresh", "q-learning"), rule=None, discount=0.9, step_size=None
    )
    assert "own step sizes" not in searches
    assert (settings["rule"], first.asked.count("q-learning")) == ("fresh", 1)
