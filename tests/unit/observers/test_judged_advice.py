"""What to try where agents may learn by another rule."""

from __future__ import annotations

import pytest
from recovery_cases import SETTINGS, learn

from malfl_algos.observers.bayesian import MaLflBellman
from malfl_algos.observers.history import MaLflHistory
from malfl_algos.observers.judged_advice import other_rule
from malfl_algos.observers.judging import judge

REPLAY = "ma-lfl-replay, which follows every step of the log"
HISTORY = "ma-lfl-history, which needs few visits of a state"
BELLMAN = "ma-lfl-bellman with learner auto"
DISCOUNT = "discount null, which estimates the discount"


@pytest.mark.parametrize(
    ("observer", "used", "rule", "keep", "tries"),
    [
        (MaLflBellman(), "MaLflBellman", "td", True, [REPLAY, DISCOUNT]),
        (MaLflBellman(), "MaLflBellman", "exact", False, [HISTORY, DISCOUNT]),
        (
            MaLflBellman(learner="exact"),
            "MaLflBellman",
            "exact",
            True,
            [BELLMAN, REPLAY, HISTORY, DISCOUNT],
        ),
        (None, "MaLflReplay", "td", True, [BELLMAN, DISCOUNT]),
        (None, "MaLflHistory", "exact", False, [BELLMAN]),
    ],
)
def test_what_fits_the_log_and_was_not_used_is_named(observer, used, rule, keep, tries):
    trace, _ = learn(episodes=2, n_stages=3, keep=keep, size=4)
    assert other_rule(trace, 0.9, observer, used, rule) == "try " + ", or ".join(tries)


def test_if_nothing_else_fits_a_log_of_every_step_is_asked_for():
    trace, _ = learn(episodes=2, n_stages=3, keep=False)
    assert other_rule(trace, None, MaLflBellman(), "MaLflBellman", "exact").startswith(
        "log every step"
    )


def test_rewards_of_another_rule_than_the_likely_one_are_not_only_told_to_gather_data():
    trace, game = learn(episodes=30, n_stages=5, size=2, evaluation="td", keep=False)
    given = {"game": game.without_rewards(), **SETTINGS}
    observer = MaLflHistory(learner="exact", prior="iid", improvement=0.0)
    verdict = judge(observer.recover(trace, **given), trace, **given, observer=observer)
    found = verdict.agents["agent_0"]
    assert found.numbers["rule"] != "exact"
    assert found.word != "believe"
    assert found.advice[0] == f"try {BELLMAN}"
