"""What is shown while work goes on, on a terminal and without one."""

from __future__ import annotations

import errno
import io
import os
import time

import pytest

from malfl_algos.work import progress as module
from malfl_algos.work.progress import Progress
from malfl_algos.work.telling import say


class _Gone(io.StringIO):
    """A terminal that goes away."""

    here = True

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        if not self.here:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return super().write(text)


@pytest.mark.parametrize("here", [True, False])
def test_a_terminal_that_goes_away_does_not_end_the_work(
    monkeypatch: pytest.MonkeyPatch, here: bool
) -> None:
    stream = _Gone()
    stream.here = here
    monkeypatch.setattr("sys.stderr", stream)
    with Progress("phase", 3, log=lambda line: None) as progress:
        progress.step("one")
        stream.here = False
        time.sleep(0.2)
        progress.step("two")
        progress.step("three")


@pytest.fixture
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TICK", 0.02)
    monkeypatch.setattr(module, "LINE", 0.04)


def _waited(found: object) -> None:
    """Wait until a condition holds, at most some seconds."""
    assert callable(found)
    end = time.monotonic() + 20
    while not found():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.usefixtures("_quick")
def test_a_bar_moves_while_no_step_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = _Gone()
    monkeypatch.setattr("sys.stderr", stream)
    with Progress("phase", 3, log=lambda line: None) as progress:
        progress.step("one")
        say("iteration 2 of at most 8")
        _waited(lambda: "1/3" in stream.getvalue() and "iteration 2 of at" in stream.getvalue())
        say("iteration 3 of at most 8")
        _waited(lambda: "iteration 3 of at most 8" in stream.getvalue())
    length = len(stream.getvalue())
    time.sleep(0.1)
    assert len(stream.getvalue()) == length


@pytest.mark.usefixtures("_quick")
@pytest.mark.parametrize(("total", "start"), [(3, "phase: 0 of 3 done, "), (None, "phase: ")])
def test_lines_without_a_terminal(
    monkeypatch: pytest.MonkeyPatch, total: int | None, start: str
) -> None:
    monkeypatch.setattr("sys.stderr", io.StringIO())
    lines: list[str] = []
    with Progress("phase", total, log=lines.append):
        say("iteration 2 of at most 8")
        _waited(lambda: len(lines) > 1)
    assert all(line.startswith(start) for line in lines)
    assert all(line.endswith(" s so far: iteration 2 of at most 8") for line in lines)
