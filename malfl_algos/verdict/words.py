"""What a verdict is."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from malfl_env.arguments import typed
from malfl_env.checks import shown
from malfl_env.errors import InputError

__all__ = ["NOT_JUDGED", "WORDS", "Verdict", "Word", "joined", "verdict_from"]

Word = Literal["believe", "doubt", "do not believe"]
WORDS: Sequence[Word] = ("believe", "doubt", "do not believe")
"""From the best to the worst."""


@typed
@dataclass(frozen=True)
class Verdict:
    """Whether to believe a recovered reward; made without any ground truth.

    Args:
        word: `believe`, `doubt` or `do not believe`.
        reasons: one sentence each, with its numbers; what speaks against the reward comes first.
        numbers: the numbers that the verdict stands on, by name; JSON.
        advice: what to try next, one sentence each.
        agents: the verdict on each agent's reward, by agent id; empty for one agent alone.
        arrays: what figures show of it, by name: `calibration` `(2, n_bins, 3)` and `divergence`
            `(2,)` of the held-out prediction and of no change (see
            `malfl_algos.verdict.drawn.calibration`), `halves` `(2, 2, n_states)`, mean and sd of
            the reward of each half, and `states`, their joint states. They are no part of `plain`,
            and of no account when verdicts are compared.

    Raises:
        InputError: for another word.
    """

    word: Word
    reasons: tuple[str, ...] = ()
    numbers: Mapping[str, Any] = field(default_factory=dict)
    advice: tuple[str, ...] = ()
    agents: Mapping[str, Verdict] = field(default_factory=dict)
    arrays: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)

    def __post_init__(self) -> None:
        if self.word not in WORDS:
            raise InputError(f"word must be one of {', '.join(WORDS)}, got {self.word!r}")

    def of(self, agent: str) -> Verdict:
        """The verdict on one agent's reward; this one if agents have none of their own."""
        if not isinstance(agent, Hashable):
            raise InputError(f"agent must be an id, got {shown(agent)}")
        return self.agents.get(agent, self)

    @property
    def title(self) -> str:
        """The word; `not judged yet` for the verdict of a result that nobody has judged."""
        return "not judged yet" if self == NOT_JUDGED else self.word

    def line(self) -> str:
        """The word, the first reason and the first advice, in one line."""
        advice = f"; try: {self.advice[0]}" if self.advice else ""
        return f"{self}{advice}"

    def __str__(self) -> str:
        return f"{self.title}: {self.reasons[0]}" if self.reasons else self.title

    def summary(self) -> str:
        """The word with its first reason, then all reasons and all advice, one a line."""
        lines = [str(self)]
        lines += [f"  reason: {reason}" for reason in self.reasons[1:]]
        lines += [f"  try: {advice}" for advice in self.advice]
        return "\n".join(lines)

    def plain(self) -> dict[str, Any]:
        """The verdict in JSON types."""
        content = {
            "word": self.word,
            "reasons": list(self.reasons),
            "numbers": dict(self.numbers),
            "advice": list(self.advice),
        }
        if self.agents:
            content["agents"] = {str(agent): own.plain() for agent, own in self.agents.items()}
        return content


NOT_JUDGED = Verdict(
    "doubt",
    (
        "call malfl_algos.judge(result, trace, game=..., discount=..., temperature=..., "
        "observer=observer) to learn whether to believe these rewards",
    ),
)
"""Of a result that nobody has judged; its word is `doubt`, the best that can be said."""
_EARLIER = "no verdict was made: every number that it stands on is missing"
"""The reason of `NOT_JUDGED` in files of earlier versions."""


def joined(agents: Mapping[str, Verdict]) -> Verdict:
    """One verdict on the rewards of several agents: the worst word, and whose it is."""
    worst = max(agents.values(), key=lambda own: WORDS.index(own.word)).word
    named = [(agent, own) for agent, own in agents.items() if own.word == worst]
    reasons = [f"{agent}: {reason}" for agent, own in named for reason in own.reasons]
    advice = dict.fromkeys(advice for _, own in named for advice in own.advice)
    return Verdict(worst, tuple(reasons), {}, tuple(advice), dict(agents))


def verdict_from(content: Any) -> Verdict:
    """The verdict that `Verdict.plain` wrote; `NOT_JUDGED` itself if it is that one.

    Raises:
        InputError: for anything else.
    """
    try:
        found = Verdict(
            content["word"],
            tuple(map(str, content["reasons"])),
            dict(content["numbers"]),
            tuple(map(str, content["advice"])),
            {agent: verdict_from(own) for agent, own in content.get("agents", {}).items()},
        )
    except (TypeError, KeyError, AttributeError, ValueError) as fault:
        raise InputError(f"verdict must be one that malfl wrote: {fault}") from fault
    return NOT_JUDGED if found == NOT_JUDGED or found.reasons == (_EARLIER,) else found
