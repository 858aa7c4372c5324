"""From numbers to words."""

from __future__ import annotations

import json

import pytest

from malfl_algos.verdict import Verdict
from malfl_algos.verdict.deciding import CHECKS, Check, contradicted, decide, not_measured
from malfl_algos.verdict.words import joined, verdict_from
from malfl_env.errors import InputError

CHECK = Check("share", 0.9, 0.5, True, "the share is {value:.2f} of {rule}", "try {rule}")
OTHER = Check("error", 1.0, 2.0, False, "the error is {value:.1f}", "measure", needed=False)


@pytest.mark.parametrize(
    ("share", "word"), [(0.95, "believe"), (0.7, "doubt"), (0.4, "do not believe")]
)
def test_the_word_follows_the_number(share, word):
    verdict = decide({"share": share, "rule": "td"}, [CHECK])
    assert verdict.word == word
    assert verdict.reasons == (f"the share is {share:.2f} of td",)
    assert verdict.advice == (() if word == "believe" else ("try td",))


def test_the_worst_number_decides_and_comes_first():
    verdict = decide({"share": 0.7, "error": 3.0}, [CHECK, OTHER])
    assert verdict.word == "do not believe"
    assert verdict.reasons == ("the error is 3.0", "the share is 0.70 of ?")


def test_a_reason_against_has_its_own_words_and_advice_is_given_once():
    check = Check("gain", 0.1, 0.0, True, "{value} gained", "learn; measure", against="no gain")
    assert decide({"gain": 1.0}, [check]).reasons == ("1.0 gained",)
    verdict = decide({"gain": -1.0, "error": 3.0}, [check, OTHER])
    assert verdict.reasons == ("no gain", "the error is 3.0")
    assert verdict.advice == ("learn", "measure")


def test_a_missing_number_is_named_and_doubted():
    verdict = decide({"error": 0.5, "missing": {"share": "two stages are too few"}}, [CHECK, OTHER])
    assert verdict.word == "doubt"
    assert verdict.reasons == ("share is missing: two stages are too few",)
    assert decide({"share": 1.0}, [CHECK, OTHER]).word == "believe"


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
