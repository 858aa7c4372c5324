"""A search that gives up candidates early: their log evidence is compared after every iteration."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Race", "Races", "Runner"]

LAGS = {1: 300.0, 2: 100.0}
"""A candidate whose log evidence after so many iterations is this far below the best one's is given
up. On learners of all rules, the rule that won in the end was at most 120 below the best one after
the first iteration, and ahead after the second.
"""
LEAST_GAIN = 2.0
"""Candidates with rho > 0 whose first iteration gains less than this over rho = 0 are given up."""


@dataclass
class Race:
    """The log evidence of the candidates of one search, which share their data.

    Args:
        best: largest log evidence of all candidates after so many iterations.
        plain: log evidence after the first iteration by candidate, for rho = 0.
        leader: largest log evidence of candidates that were not given up.
    """

    best: dict[int, float] = field(default_factory=dict)
    plain: dict[Hashable, float] = field(default_factory=dict)
    leader: float = -float("inf")


@dataclass
class Races:
    """The races of the candidates with the first steps, and of those with other steps, by rule.

    `LAGS` holds between rules with one step size. Under others a rule may be far behind another one
    after one iteration and ahead after two, so each races with itself.

    Args:
        first: step size and decay of the first candidate.
        by_rule: the races; None: of the candidates with the first steps.
    """

    first: tuple[Any, Any] | None = None
    by_rule: dict[str | None, Race] = field(default_factory=dict)

    def of(self, settings: Mapping[str, Any]) -> Race:
        """The race of a candidate."""
        steps = settings["step_size"], settings["step_size_decay"]
        if self.first is None:
            self.first = steps
        rule = None if steps == self.first else settings["rule"]
        return self.by_rule.setdefault(rule, Race())

    def copied(self) -> Races:
        """A copy whose races go on without these."""
        of_rules = {
            rule: Race(dict(own.best), dict(own.plain), own.leader)
            for rule, own in self.by_rule.items()
        }
        return Races(self.first, of_rules)


@dataclass
class Runner:
    """One candidate of a search.

    Args:
        race: the search.
        name: its settings other than rho.
        searched: whether rho > 0 is searched; otherwise it is given.
        lag: how far it was behind when it was given up; 0: it was not.
    """

    race: Race
    name: Hashable
    searched: bool
    lag: float = 0.0

    def gives_up(self, number: int, value: float) -> bool:
        """Whether to stop after iteration `number`, whose log evidence is `value`."""
        race = self.race
        best = race.best[number] = max(value, race.best.get(number, value))
        if number == 1 and not self.searched:
            race.plain[self.name] = value
        lag = best - value
        idle = number == 1 and self.searched and self.name in race.plain
        if lag > LAGS.get(number, float("inf")):
            self.lag = lag
        elif idle and value < race.plain[self.name] + LEAST_GAIN:
            self.lag = max(lag, LEAST_GAIN)
        return self.lag > 0

    def scored(self, value: float) -> float:
        """The final log evidence; of a candidate that was given up, the leader's minus its lag."""
        if self.lag:
            return self.race.leader - self.lag
        self.race.leader = max(self.race.leader, value)
        return value
