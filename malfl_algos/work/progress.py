"""Shows that long work goes on: a bar on a terminal, otherwise lines."""

from __future__ import annotations

import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from tqdm import tqdm

from malfl_algos.work.telling import Note, heard_by, read_notes

__all__ = ["Progress"]

TICK, LINE = 1.0, 4.0
"""Seconds between two moves of a bar, and seconds without a line after which a tick writes one.
So lines are at most `TICK + LINE` = 5 s apart, and there are at most 900 an hour."""
SHOWN = 2
"""Number of units at work whose words are shown; of others only the number is."""


class Progress:
    """Shows the progress of one phase. A context manager.

    A bar moves every second. It shows the time that has passed, the time that is left, and what the
    work says of itself (`malfl_algos.work.telling`), in this process and in others. Without a
    terminal there is a line for every step, and one after at most 5 seconds while no step ends. It
    is one line for all units at work, however many there are.

    The time left assumes that all steps take equally long. It counts steps that are done, and the
    shares of the steps at work that say theirs; it is unknown before any of either.

    Args:
        phase: its name.
        total: number of steps; None: the work is one step, and `step` is not called.
        log: receives the lines if standard error is not a terminal.
        unit: what the steps are, if they come from the work itself and need no line each.
    """

    notes: Path | None
    """Folder for the notes of units at work, inside the context; None: none could be made."""

    def __init__(
        self, phase: str, total: int | None, *, log: Callable[[str], None], unit: str | None = None
    ) -> None:
        self._phase, self._total, self._log, self._unit = phase, total, log, unit
        self._done, self._said = 0, Note("")
        self._started = self._told = time.monotonic()
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self._context = ExitStack()
        self.notes = None
        # disable=None: no bar unless the stream is a terminal
        settings: dict[str, Any] = {
            "total": total,
            "desc": phase,
            "dynamic_ncols": True,
            "leave": total is not None and unit is None,
            "bar_format": "{desc}: {elapsed}{postfix}"
            if total is None
            else "{desc}: {percentage:3.0f}%|{bar:10}| {n_fmt}/{total_fmt} [{elapsed}{postfix}]",
        }
        try:
            self._bar = tqdm(file=sys.stderr, disable=None, **settings)
        except OSError:
            self._bar = tqdm(disable=True, **settings)

    def step(self, what: str = "") -> None:
        """Count one finished step."""
        with self._lock:
            self._done += 1
            if self._bar.disable and self._unit is None:
                self._told = time.monotonic()
                self._log(f"{self._phase}: {self._done} of {self._total}: {what}")
            if self._bar.disable:
                return
            try:
                self._bar.set_postfix_str(self._shown(time.monotonic()), refresh=False)
                self._bar.update()
            except OSError:  # the terminal is gone; the work goes on
                self._bar.disable = True

    def hear(self, words: str, share: float | None = None) -> None:
        """Note what the work in this process is doing now, and how much of all steps is done."""
        self._said = Note("", words, share)

    def __enter__(self) -> Progress:
        with suppress(OSError):
            folder = tempfile.TemporaryDirectory(prefix="malfl-", ignore_cleanup_errors=True)
            self.notes = Path(self._context.enter_context(folder))
        self._context.enter_context(heard_by(self.hear))
        threading.Thread(target=self._tick, daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        fault: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()
        with self._lock, suppress(OSError):
            self._bar.close()
        self._context.close()

    def _tick(self) -> None:
        while not self._ended.wait(TICK):
            with self._lock:
                if self._ended.is_set():
                    return
                self._move()

    def _move(self) -> None:
        """Move the bar, or write a line if the last one is long ago."""
        now = time.monotonic()
        if self._bar.disable and now - self._told < LINE:
            return
        if not self._bar.disable:
            try:
                self._bar.set_postfix_str(self._shown(now), refresh=True)
            except OSError:
                self._bar.disable = True
            return
        self._told = now
        done = "" if self._total is None else f"{self._done} of {self._total} done, "
        line = f"{self._phase}: {done}{_time(now - self._started)} passed"
        self._log(", ".join(filter(None, [line, self._shown(now)])))

    def _shown(self, now: float) -> str:
        """The time left, and what the units at work say."""
        notes = [] if self.notes is None else read_notes(self.notes)
        parts = [self._left(now, notes), _words([*notes, self._said])]
        return ": ".join(filter(None, parts))

    def _left(self, now: float, notes: list[Note]) -> str:
        """The time left; empty for one step whose share is unknown."""
        total = self._total or 1
        done = self._done + sum(note.share or 0.0 for note in notes)
        if self._said.share is not None:
            done = self._said.share * total
        if done > 0:
            return f"about {_time((now - self._started) * max(total / done - 1, 0))} left"
        return "" if self._total is None else "time left not known yet"


def _words(notes: list[Note]) -> str:
    told = [": ".join(filter(None, [note.unit, note.words])) for note in notes]
    told = [words for words in told if words]
    more = [f"{len(told) - SHOWN} more at work"] if len(told) > SHOWN else []
    return "; ".join([*told[:SHOWN], *more])


def _time(seconds: float) -> str:
    """As `8 s`, `3 min 5 s` or `2 h 7 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
