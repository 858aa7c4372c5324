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
    assert found.advice[0] == f"the agents may learn by another rule: try {BELLMAN}"


def test_rewards_of_exact_learners_are_doubted_where_stages_leave_states_out():
    trace, game = learn("homogeneous", episodes=1, size=3, evaluation="exact", keep=False)
    given = {"game": game.without_rewards(), **SETTINGS}
    observer = MaLflBellman(learner="exact", improvement=0.0, stages="same")
    verdict = judge(observer.recover(trace, **given), trace, **given, observer=observer)
    for found in verdict.agents.values():
        assert found.word != "believe"
        assert any("a stage does not visit" in reason for reason in found.reasons)
        assert HISTORY in found.advice


def test_a_verdict_takes_the_step_size_that_the_judged_result_tells():
    trace, game = learn(episodes=100, n_stages=5, size=2, step_size=0.4, keep=False)
    given = {"game": game.without_rewards(), **SETTINGS}
    explained = []
    for step_size in (0.1, 0.4):
        observer = MaLflHistory(learner="td", step_size=step_size, prior="iid", improvement=0.0)
        verdict = judge(observer.recover(trace, **given), trace, **given, observer=observer)
        explained.append(verdict.agents["agent_0"].numbers["explained"])
    assert explained[1] > explained[0] + 0.05
