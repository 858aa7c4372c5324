"""From numbers to words."""

from __future__ import annotations

import json

import pytest

from malfl_algos.verdict import Verdict
from malfl_algos.verdict.deciding import CHECKS, Check, contradicted, decide, not_measured
from malfl_algos.verdict.words import NOT_JUDGED, joined, verdict_from
from malfl_env.errors import InputError

SHARE = "the share is {value:.2f} of {rule}"
CHECK = Check("share", 0.9, 0.5, True, SHARE, "try {rule}", carries="shared: {capped:.2f}")
PART = Check("part", 0.9, 0.5, True, "the part is {value:.2f}", "measure")
OTHER = Check("error", 1.0, 2.0, False, "the error is {value:.1f}", "measure", needed=False)


@pytest.mark.parametrize(
    ("share", "word"), [(0.95, "believe"), (0.7, "doubt"), (0.4, "do not believe")]
)
def test_the_word_follows_the_number(share, word):
    verdict = decide({"share": share, "rule": "td"}, [CHECK])
    assert verdict.word == word
    carried = (f"shared: {share:.2f}", "nothing speaks against the reward")
    against = (f"the share is {share:.2f} of td",)
    assert verdict.reasons == (carried if word == "believe" else against)
    assert verdict.advice == (() if word == "believe" else ("try td",))


def test_the_worst_number_decides_and_comes_first():
    verdict = decide({"share": 0.7, "error": 3.0}, [CHECK, OTHER])
    assert verdict.word == "do not believe"
    assert verdict.reasons == ("the error is 3.0", "the share is 0.70 of ?")


def test_only_what_carries_a_reward_is_a_reason_to_believe_it():
    """No sentence that counts against a reward is used in its favour, whatever the numbers."""
    numbers = {"rule": "exact", "expected_low": 0.9, "expected": 0.95, "halves": 0.9}
    numbers |= {"explained": 0.97, "identified": 1.034, "halves_expected": 0.92}
    numbers |= {
        check.name: check.doubt + (1e-3 if check.higher_is_better else -1e-3)
        for check in CHECKS
        if check.name not in numbers
    }
    verdict = decide(numbers)
    assert verdict.word == "believe"
    assert verdict.reasons == (
        "Pearson r with the ground truth is expected to be 0.95, and above 0.90 with probability "
        "95 %, if the agents learn as the rule exact says",
        "on held-out stages a reward explains 97.0% of the change of policy, beyond the noise of "
        "counts and of the rule exact",
        "rewards from odd and from even improvements correlate at 0.90, expected 0.92",
        "the data say more than the prior about 100% of the reward of visited states",
        f"nothing speaks against the reward ({len(CHECKS) - 4} further numbers are within bounds)",
    )


def test_a_low_correlation_is_one_reason():
    numbers = {"expected": 0.41, "expected_low": 0.24, "rule": "td"}
    checks = [check for check in CHECKS if check.name in numbers]
    (reason,) = decide(numbers, checks).reasons
    assert "expected to be 0.41, and above 0.24 with" in reason


@pytest.mark.parametrize(
    ("chance", "first"), [(0.4, "the policies hardly"), (1e-6, "the data say")]
)
def test_policies_that_do_not_change_are_the_first_reason(chance, first):
    checks = [check for check in CHECKS if check.name in ("identified", "gain_over_no_change")]
    numbers = {"identified": 0.2, "gain_over_no_change": 0.4}
    numbers |= {"policy_change": 1.0, "policy_change_p_value": chance}
    verdict = decide(numbers, checks)
    assert verdict.word == "doubt"
    assert verdict.reasons[0].startswith(first)
    assert ("check that the agents learned" in verdict.advice[0]) == (chance > 0.01)
    told = decide({**numbers, "gain_over_no_change": -1.0}, checks)  # which says it already
    assert told.reasons[0].startswith("learning for a reward explains")
    assert decide({**numbers, "identified": 0.9}, checks).word == "believe"


def test_the_advice_on_other_rules_names_what_to_try():
    assert "ma-lfl-bellman with learner auto" in " ".join(decide({"explained": 0.1}).advice)
    advice = decide({"explained": 0.1}, other_rule="try lfl").advice
    assert "the agents may learn by another rule: try lfl" in advice


def test_a_verdict_that_nobody_made_says_so():
    text = NOT_JUDGED.summary()
    assert text.startswith("not judged yet: call malfl_algos.judge(result, trace, game=..., ")
    assert "observer=observer)" in text
    assert NOT_JUDGED.word == "doubt"
    assert "doubt" not in text
    earlier = "no verdict was made: every number that it stands on is missing"
    for reasons in (NOT_JUDGED.reasons, [earlier]):
        saved = {"word": "doubt", "reasons": reasons, "numbers": {}, "advice": []}
        assert verdict_from(saved) is NOT_JUDGED
    assert verdict_from({**saved, "reasons": ["why"]}).title == "doubt"


def test_advice_is_given_once():
    check = Check("gain", 0.1, 0.0, True, "no gain", "learn; measure")
    verdict = decide({"gain": -1.0, "error": 3.0}, [check, OTHER])
    assert verdict.reasons == ("no gain", "the error is 3.0")
    assert verdict.advice == ("learn", "measure")


def test_a_missing_number_is_named_and_doubted():
    verdict = decide({"error": 0.5, "missing": {"share": "two stages are too few"}}, [CHECK, OTHER])
    assert verdict.word == "doubt"
    assert verdict.reasons == ("share is missing: two stages are too few",)
    assert decide({"share": 1.0}, [CHECK, OTHER]).word == "believe"
    both = decide({"missing": {"share": "no data", "part": "no data"}}, [CHECK, PART])
    assert both.reasons == ("share and part are missing: no data",)


def test_what_is_not_a_number_is_never_believed():
    assert decide({"share": float("nan")}, [CHECK]).word == "doubt"
    assert decide({"share": 1.0, "error": float("nan")}, [CHECK, OTHER]).word == "doubt"


def test_a_saved_verdict_comes_back():
    verdict = joined({"a": decide({"share": 0.7}, [CHECK])})
    assert verdict_from(json.loads(json.dumps(verdict.plain()))) == verdict
    for damaged in (None, {}, {**verdict.plain(), "word": "perhaps"}, {"word": "doubt"}):
        with pytest.raises(InputError):
            verdict_from(damaged)


def test_every_check_speaks_whatever_is_missing():
    for check in CHECKS:
        verdict = decide({check.name: 1.0}, [check])
        assert verdict.reasons


def test_joined_takes_the_worst_word():
    good, bad = decide({"share": 1.0}, [CHECK]), decide({"share": 0.1}, [CHECK])
    both = joined({"a": good, "b": bad})
    assert both.word == "do not believe"
    assert both.reasons == ("b: the share is 0.10 of ?",)
    assert both.agents["a"] is good
    assert str(both).startswith("do not believe: b:")


def test_words_are_checked():
    with pytest.raises(InputError, match="'believe', 'doubt', 'do not believe'"):
        Verdict("maybe")
    assert contradicted("a wall").word == "do not believe"
    assert "share is missing: no data" in str(not_measured("share", "no data"))
