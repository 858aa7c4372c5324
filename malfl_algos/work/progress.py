"""How far a phase is: a bar on a terminal, plain lines anywhere else."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import TracebackType

from tqdm import tqdm

__all__ = ["Progress"]


class Progress:
    """Counts the steps of one phase. A context manager.

    Args:
        phase: its name.
        total: number of steps.
        log: takes the lines where standard error is no terminal.
    """

    def __init__(self, phase: str, total: int, *, log: Callable[[str], None]) -> None:
        self._phase, self._total, self._log = phase, total, log
        self._done = 0
        # disable=None: no bar unless the stream is a terminal
        self._bar = tqdm(total=total, desc=phase, file=sys.stderr, disable=None, dynamic_ncols=True)

    def step(self, what: str) -> None:
        """One step is done."""
        self._done += 1
        if self._bar.disable:
            self._log(f"{self._phase}: {self._done} of {self._total}: {what}")
        self._bar.update()

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        fault: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.close()
