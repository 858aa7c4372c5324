"""Shows that long work goes on: a bar on a terminal, otherwise lines."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from types import TracebackType
from typing import Any

from tqdm import tqdm

from malfl_algos.work.telling import heard_by

__all__ = ["Progress"]

TICK, LINE = 1.0, 60.0
"""Seconds between two moves of a bar, and between two lines while no step ends."""


class Progress:
    """Shows the progress of one phase. A context manager.

    A bar moves every second with the time that has passed, the time that is left by the steps so
    far, and what the work in this process says (`malfl_algos.work.telling`). Without a terminal
    there is a line for every step, and one a minute while no step ends.

    Args:
        phase: its name.
        total: number of steps; None: unknown, and `step` is not called.
        log: receives the lines if standard error is not a terminal.
        unit: what the steps are, if they come from the work itself and need no line each.
    """

    def __init__(
        self, phase: str, total: int | None, *, log: Callable[[str], None], unit: str | None = None
    ) -> None:
        self._phase, self._total, self._log, self._unit = phase, total, log, unit
        self._done, self._words = 0, ""
        self._started = self._told = time.monotonic()
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self._context = ExitStack()
        # disable=None: no bar unless the stream is a terminal
        settings: dict[str, Any] = {"total": total, "desc": phase, "dynamic_ncols": True}
        if total is None:
            settings |= {"leave": False, "bar_format": "{desc}: {elapsed}{postfix}"}
        if unit is not None:
            settings |= {"leave": False, "unit": f" {unit}"}
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
            try:
                self._bar.update()
            except OSError:  # the terminal is gone; the work goes on
                self._bar.disable = True

    def hear(self, words: str) -> None:
        """Note what the work is doing now."""
        self._words = words

    def __enter__(self) -> Progress:
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
        self._context.close()
        with self._lock, suppress(OSError):
            self._bar.close()

    def _tick(self) -> None:
        while not self._ended.wait(TICK):
            with self._lock:
                if self._ended.is_set():
                    return
                self._move()

    def _move(self) -> None:
        """Move the bar, or write a line if a minute has passed since the last one."""
        if not self._bar.disable:
            try:
                self._bar.set_postfix_str(self._words, refresh=True)
            except OSError:
                self._bar.disable = True
            return
        now = time.monotonic()
        if now - self._told >= LINE:
            self._told = now
            done = "" if self._total is None else f"{self._done} of {self._total} done, "
            words = f": {self._words}" if self._words else ""
            self._log(f"{self._phase}: {done}{now - self._started:.0f} s so far{words}")
