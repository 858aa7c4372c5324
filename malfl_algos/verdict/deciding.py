"""From numbers to a verdict: which number speaks against a reward, from which value on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import isnan
from typing import Any

from malfl_algos.verdict.words import WORDS, Verdict, Word

__all__ = ["CHECKS", "HISTORY_CHECKS", "RULE", "Check", "contradicted", "decide", "not_measured"]


@dataclass(frozen=True)
class Check:
    """One number, and what its values mean.

    Args:
        name: of the number.
        doubt: from this value on the reward is doubted.
        reject: from this value on it is not believed; None: this number alone never rejects.
        higher_is_better: the direction.
        says: the reason if the number speaks against the reward, with `{value}` and the other
            numbers by name.
        advice: what to try if the number speaks against the reward.
        needed: whether a verdict without this number can be no better than doubt.
        carries: what the number says for a reward that is believed, with `{capped}`, the value or
            1 if it is larger; empty: it is not among the reasons to believe.
    """

    name: str
    doubt: float
    reject: float | None
    higher_is_better: bool
    says: str
    advice: str
    needed: bool = True
    carries: str = ""

    def word(self, value: float) -> Word:
        """What the value alone means."""
        sign = 1 if self.higher_is_better else -1
        if self.reject is not None and sign * value < sign * self.reject:
            return "do not believe"
        return "doubt" if sign * value < sign * self.doubt else "believe"


RULE = "the agents may learn by another rule: {other_rule}"
_OTHER_RULE = "try ma-lfl-bellman with learner auto, or ma-lfl-replay if the log holds every step"
_EXPECTED = (
    "Pearson r with the ground truth is expected to be {expected:.2f}, and above "
    "{expected_low:.2f} with probability 95 %, if the agents learn as the rule {rule} says"
)
_HALVES = (
    "rewards from odd and from even improvements correlate at {halves:.2f}, expected "
    "{halves_expected:.2f}"
)
_EXPLAINED = (
    "on held-out stages a reward explains {value:.1%} of the change of policy, beyond the noise of "
    "counts and of the rule {rule}"
)
_UNCHANGED = (
    "the policies hardly change from stage to stage, no more than by chance (chi-squared per "
    "degree of freedom {policy_change:.2f}): nothing was learned, it was learned before, or the "
    "log is too short to show it"
)
_STILL = 0.01
"""Probability, from which on a change of policies as small is as by chance."""
_LEARNING = "check that the agents learned while the log was written"
_GAME = "check the game: dynamics, numbering of states and actions, start"
_ORDER = "check the order of the stages, and that none is missing or repeated"
_DATA = "gather more episodes per stage, or more stages early in learning"

CHECKS: Sequence[Check] = (
    Check(
        "expected_low",
        0.85,
        None,
        True,
        _EXPECTED,
        _DATA,
        carries=_EXPECTED,
    ),
    Check(
        "gain_over_no_change",
        0.02,
        0.0,
        True,
        "learning for a reward explains the policies hardly or no better than drift without any "
        "reward (log evidence per row: {value:.3f})",
        f"{_LEARNING}; {RULE}",
    ),
    Check(
        "expected",
        0.6,
        0.6,
        True,
        _EXPECTED,
        _DATA,
    ),
    Check(
        "explained",
        0.8,
        0.6,
        True,
        _EXPLAINED,
        RULE,
        carries=_EXPLAINED,
    ),
    Check(
        "misfit",
        1.75,
        3.0,
        False,
        "errors on held-out stages are {value:.2f} times as large as expected (posterior "
        "predictive p = {p_value:.2g})",
        f"{_ORDER}; {RULE}",
    ),
    Check(
        "halves_shortfall",
        0.2,
        0.4,
        False,
        _HALVES,
        f"{_ORDER}; {RULE}",
        carries=_HALVES,
    ),
    Check(
        "unsettled",
        0.5,
        None,
        False,
        "the fit of the rule {rule} still changed after {passes} iterations",
        f"more iterations (option passes); {RULE}",
        needed=False,
    ),
    Check(
        "unvisited_states",
        0.1,
        None,
        False,
        "a stage does not visit {value:.0%} of the states: under exact evaluation their policies "
        "enter every action value, and they are guesses, so that deviations are too small and the "
        "expected r is too high",
        "ma-lfl-history, which needs few visits of a state",
        needed=False,
    ),
    Check(
        "start_deficit",
        10.0,
        10.0,
        False,
        "the log does not begin where the agents began to learn with initial_q uniform_others: "
        "zero is more probable, by a log evidence of {value:.0f}",
        "set initial_q to zero",
        needed=False,
    ),
    Check(
        "changes_deficit",
        0.02,
        None,
        False,
        "log evidence per step of rewards that change with stage {best_changes} less that of stage "
        "{changes} is {value:.3f}",
        "set reward_changes to {best_changes}",
        needed=False,
    ),
    Check(
        "unpredicted_noise",
        0.012,
        None,
        False,
        "the agents' policies vary by a variance of {value:.3f} (of q over the temperature) that "
        "neither counts nor the rule {rule} account for",
        RULE,
        needed=False,
    ),
    Check(
        "noise_scale",
        2.0,
        None,
        False,
        "the noise is {value:.1f} times the variance that the rule {rule} predicts",
        RULE,
        needed=False,
    ),
    Check(
        "stage_noises_spread",
        50.0,
        None,
        False,
        "the noise variance of one improvement is {value:.0f} times that of the median improvement",
        _ORDER,
        needed=False,
    ),
    Check(
        "unaccounted_visits",
        0.004,
        0.03,
        False,
        "{value:.1%} of the visits are to states to which the game does not lead that often",
        f"{_GAME}; if episodes begin in many states, or steps are missing, give all transitions",
    ),
    Check(
        "broken_steps",
        0.001,
        0.03,
        False,
        "{value:.1%} of the steps do not begin where the step before ended",
        "log every step, and mark the ends of episodes",
        needed=False,
    ),
    Check(
        "chance_misfit",
        1.3,
        3.0,
        False,
        "next states differ from the game's probabilities {value:.2f} times as much as chance "
        "allows",
        _GAME,
        needed=False,
    ),
    Check(
        "policy_misfit",
        1.5,
        4.0,
        False,
        "the actions differ from the known policies {value:.2f} times as much as chance allows",
        "check that the known policies are those of these stages, in this order",
        needed=False,
    ),
    Check(
        "identified",
        0.5,
        0.1,
        True,
        "the data say more than the prior about only {value:.0%} of the reward of visited states",
        _DATA,
        carries="the data say more than the prior about {capped:.0%} of the reward of visited "
        "states",
    ),
    Check(
        "repeated_stages",
        0.5,
        None,
        False,
        "{value} stages hold exactly the counts of another stage",
        "remove repeated stages, or check how the log was cut into stages",
    ),
    Check(
        "rule_deficit",
        0.02,
        None,
        False,
        "log evidence per row of the rule {best_rule} less that of {rule} is {value:.3f}",
        "let the observer choose the rule (learner auto), or choose {best_rule}",
        needed=False,
    ),
    Check(
        "discount_deficit",
        0.008,
        None,
        False,
        "log evidence per row of discount {best_discount} less that of {discount} is {value:.3f}",
        "check the discount, or let ma-lfl-bellman profile it (discount null)",
        needed=False,
    ),
    Check(
        "moving_discount_deficit",
        0.04,
        None,
        False,
        "log evidence per row of discount {best_discount} less that of {discount} is {value:.3f}",
        "check the discount, or let ma-lfl-bellman profile it (discount null)",
        needed=False,
    ),
)
"""In the order in which reasons are given, if they are equally bad."""
HISTORY_CHECKS: Sequence[Check] = tuple(
    replace(
        check,
        name="gain_over_no_learning",
        says="learning for a reward explains the policies hardly or no better than no learning at "
        "all (log likelihood per row: {value:.3f})",
    )
    if check.name == "gain_over_no_change"
    else check
    for check in CHECKS
)
"""For rewards that explain the whole history from the first policy on."""


def decide(
    numbers: Mapping[str, Any],
    checks: Sequence[Check] = CHECKS,
    *,
    notes: Sequence[str] = (),
    other_rule: str = _OTHER_RULE,
) -> Verdict:
    """The verdict on one agent's reward.

    Args:
        numbers: by name; None where a number could not be computed, with the reason under
            `missing`, a mapping by name.
        checks: the checks.
        notes: further reasons for doubt.
        other_rule: what to try where the agents may learn by another rule.

    Returns:
        The worst word of all checks. The reasons are those that speak against the reward, the worst
        first; if none does, the numbers that carry it. Reasons and advice that several checks give
        are given once.
    """
    found: list[tuple[Word, str, str]] = [("doubt", note, "") for note in notes]
    told = numbers.get("missing", {})
    missing: dict[str, list[str]] = {}
    speaking, passed = [], []
    for check in checks:
        value = numbers.get(check.name)
        if value is None or isnan(value):
            if check.needed or value is not None:
                why = told.get(check.name, "not computed" if value is None else "not a number")
                missing.setdefault(why, []).append(check.name)
            continue
        fields = _Fields(
            {**numbers, "value": value, "capped": min(value, 1.0), "other_rule": other_rule}
        )
        own = check.word(value)
        if own == "believe":
            passed.append(check.carries.format_map(fields))
            continue
        speaking.append(check.name)
        found.append((own, check.says.format_map(fields), check.advice.format_map(fields)))
    found[:0] = [("doubt", _missing(names, why), "") for why, names in missing.items()]
    if not found:
        return Verdict("believe", _carried(passed), dict(numbers))
    found.sort(key=lambda entry: -WORDS.index(entry[0]))
    word = found[0][0]
    if _unchanged(numbers, speaking):
        found.insert(0, (word, _UNCHANGED.format_map(numbers), _LEARNING))
    reasons = dict.fromkeys(reason for _, reason, _ in found)
    advice = dict.fromkeys(one for _, _, own in found for one in own.split("; ") if one)
    return Verdict(word, tuple(reasons), dict(numbers), tuple(advice))


def _missing(names: Sequence[str], why: str) -> str:
    """The reason for doubt where numbers are missing for the same cause."""
    *others, last = names
    listed = f"{', '.join(others)} and {last} are" if others else f"{last} is"
    return f"{listed} missing: {why}"


def _carried(passed: Sequence[str]) -> tuple[str, ...]:
    """Reasons to believe, from what the checks say for a reward, empty where they say nothing."""
    told = [one for one in passed if one]
    n_further = len(passed) - len(told)
    noun = "number is" if n_further == 1 else "numbers are"
    further = f" ({n_further} further {noun} within bounds)" if n_further else ""
    return (*told, f"nothing speaks against the reward{further}")


def _unchanged(numbers: Mapping[str, Any], speaking: Sequence[str]) -> bool:
    """Whether little is identified because policies do not change, and no check says so.

    Agents that play at random are explained by a reward that is the same everywhere, and better
    than by drift; so the gain over drift does not tell that they do not learn.
    """
    chance = numbers.get("policy_change_p_value")
    told = any(name.startswith("gain_over") for name in speaking)
    return "identified" in speaking and not told and chance is not None and chance > _STILL


class _Fields(dict[str, Any]):
    """Numbers for a sentence; a missing one is shown as a question mark."""

    def __missing__(self, key: str) -> Any:
        return _Unknown()


class _Unknown:
    def __format__(self, spec: str) -> str:
        return "?"


def contradicted(reason: str) -> Verdict:
    """The verdict where trace and game exclude each other."""
    return Verdict("do not believe", (reason,), {}, (_GAME,))


def not_measured(name: str, why: str, advice: str = "") -> Verdict:
    """The verdict where a number is missing without which nothing can be said."""
    return Verdict(
        "doubt",
        (f"{name} is missing: {why}",),
        {name: None, "missing": {name: why}},
        (advice,) if advice else (),
    )
