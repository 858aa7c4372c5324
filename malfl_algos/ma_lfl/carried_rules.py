"""Names of learners that carry q over: rule, policy within a stage, and choice of actions.

A name is the rule, followed by `moving` and `greedy` where they apply: `q-learning`, `q-learning,
moving`, `sarsa, greedy`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from malfl_algos.ma_lfl.greedy import Choice

__all__ = [
    "CARRIED_RULES",
    "POLICIES",
    "Carried",
    "CarriedRule",
    "among",
    "choice_of",
    "follows_q",
]

CarriedRule = Literal["q-learning", "sarsa", "expected-sarsa"]

CARRIED_RULES: tuple[CarriedRule, ...] = ("q-learning", "sarsa", "expected-sarsa")
POLICIES = ("frozen", "moving")


class Carried(NamedTuple):
    """A learner that carries q over from stage to stage.

    Args:
        rule: its update.
        policy: `frozen` within a stage, or `moving`.
        choice: of actions, `soft` or `greedy`.
    """

    rule: CarriedRule
    policy: str
    choice: Choice

    @property
    def name(self) -> str:
        """The name in options and diagnostics."""
        words = [self.policy] if self.policy == "moving" else []
        return ", ".join([self.rule, *words, *(["greedy"] if self.choice == "greedy" else [])])

    @classmethod
    def named(cls, name: str) -> Carried:
        """The learner of a name."""
        rule, *words = name.split(", ")
        return cls(
            CARRIED_RULES[CARRIED_RULES.index(rule)],
            "moving" if "moving" in words else "frozen",
            "greedy" if "greedy" in words else "soft",
        )


def follows_q(name: str) -> bool:
    """Whether learners of this rule choose by q alone, so that they keep no share of a policy."""
    return name.partition(", ")[0] in CARRIED_RULES


def choice_of(name: str) -> Choice:
    """How learners of this rule choose actions."""
    return Carried.named(name).choice if follows_q(name) else "soft"


def among(rules: Sequence[str], *, learner: str, policy: str, choice: str) -> tuple[str, ...]:
    """The rules that the options allow.

    Args:
        rules: rules that are tried unless a learner is named.
        learner: a rule without policy and choice, or `auto`.
        policy: of learners that carry q over, or `auto`.
        choice: likewise.
    """
    if learner not in ("auto", *CARRIED_RULES):
        return (learner,)
    if learner != "auto":
        rules = [
            Carried(learner, one, how).name  # type: ignore[arg-type]
            for one in POLICIES
            for how in ("soft", "greedy")
        ]
    return tuple(name for name in rules if _allowed(name, policy, choice))


def _allowed(name: str, policy: str, choice: str) -> bool:
    if not follows_q(name):
        return policy == "auto" and choice == "auto"
    own = Carried.named(name)
    return policy in ("auto", own.policy) and choice in ("auto", own.choice)
