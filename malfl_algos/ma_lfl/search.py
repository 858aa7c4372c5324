"""The candidates of a search for settings, and a memory that lets several searches share them.

A search uses the first stages alone. The trend of an experiment recovers rewards from the first 2,
3, ... stages, so from `SEARCH_STAGES` stages on every recovery makes the same search. Within
`remembering` it is made once, and its values are those that each recovery would find by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

from malfl_algos.ma_lfl.race import Race, Races, Runner

__all__ = ["Found", "Memory", "Search", "key_of", "remembering"]

Settings = Mapping[str, Any]


class Found(NamedTuple):
    """What a fit says about a candidate.

    Args:
        log_evidence: of all agents.
        unexplained: share of the variance of the improvements that is left to noise; None: it is
            not defined for this rule.
    """

    log_evidence: float
    unexplained: float | None


class _Entry(NamedTuple):
    found: Found
    races: Races


Memory = dict[Hashable, _Entry]
_memory: ContextVar[Memory | None] = ContextVar("memory of searches", default=None)


@contextmanager
def remembering(memory: Memory) -> Iterator[None]:
    """Searches of the same data with the same options inside this context share candidates.

    Args:
        memory: of the searches so far; empty at first. It grows.
    """
    token = _memory.set(memory)
    try:
        yield
    finally:
        _memory.reset(token)


def key_of(settings: Settings) -> tuple[Any, ...]:
    """The settings as a key."""
    return tuple(sorted(settings.items()))


class Search:
    """The candidates that one recovery has tried.

    Args:
        data: identifies the data and options of the search; None: it shares nothing.
        fit: the fit of a candidate; its runner says when to give it up. None: it is never given up.
        prior: log of the prior probability of a candidate's rule, up to a constant.
        runs: whether a candidate is compared after every iteration.

    Attributes:
        tried: settings and log evidence of every candidate, in order.
    """

    def __init__(
        self,
        data: Hashable | None,
        fit: Callable[[Settings, Runner | None], Found],
        prior: Callable[[Settings], float],
        runs: Callable[[Settings], bool],
    ) -> None:
        self._data, self._fit, self._prior, self._runs = data, fit, prior, runs
        self._history: tuple[Hashable, ...] = ()
        self._races = Races()
        self._values: dict[Hashable, tuple[float, float | None]] = {}
        self.tried: list[tuple[Settings, float]] = []

    def evidence(self, settings: Settings) -> float:
        """Log evidence of a candidate; tried again, it is what it was."""
        key = key_of(settings)
        if key in self._values:
            return self._values[key][0]
        # when a candidate is given up depends on those before it
        self._history = (*self._history, key)
        memory = _memory.get() if self._data is not None else None
        entry = None if memory is None else memory.get((self._data, self._history))
        if entry is None:
            entry = _Entry(self._found(settings), self._races.copied())
            if memory is not None:
                memory[self._data, self._history] = entry
        else:
            self._races = entry.races.copied()
        value = entry.found.log_evidence + self._prior(settings)
        self._values[key] = value, entry.found.unexplained
        self.tried.append((dict(settings), value))
        return value

    def unexplained(self, settings: Settings) -> float:
        """Share of the variance of the improvements that a tried candidate leaves to noise."""
        share = self._values[key_of(settings)][1]
        assert share is not None
        return share

    def _found(self, settings: Settings) -> Found:
        if not self._runs(settings):
            return self._fit(settings, None)
        name = key_of({**settings, "improvement": None})
        race: Race = self._races.of(settings)
        runner = Runner(race, name, searched=settings["improvement"] is None)
        found = self._fit(settings, runner)
        return found._replace(log_evidence=runner.scored(found.log_evidence))
