"""What is shown while work goes on, on a terminal and without one."""

from __future__ import annotations

import errno
import io
import os
import time
from pathlib import Path

import pytest
from dying_plugins import said_until_heard

from malfl_algos.work import progress as module
from malfl_algos.work.pool import local_pool
from malfl_algos.work.progress import Progress
from malfl_algos.work.telling import noted_in, part, read_notes, say


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


@pytest.fixture
def _no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr", io.StringIO())


def test_lines_are_at_most_five_seconds_apart() -> None:
    assert module.TICK + module.LINE <= 5


@pytest.mark.usefixtures("_quick", "_no_terminal")
@pytest.mark.parametrize(
    ("total", "start", "left"),
    [(3, "phase: 0 of 3 done, ", "time left not known yet: "), (None, "phase: ", "")],
)
def test_lines_without_a_terminal(total: int | None, start: str, left: str) -> None:
    lines: list[str] = []
    with Progress("phase", total, log=lines.append):
        say("iteration 2 of at most 8")
        _waited(lambda: len(lines) > 1)
    assert set(lines) == {f"{start}0 s passed, {left}iteration 2 of at most 8"}


def test_the_time_left_follows_from_the_shares_of_all_units(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sys.stderr", io.StringIO())
    now = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(module.threading, "Thread", _NoThread)
    lines: list[str] = []
    with Progress("phase", 4, log=lines.append) as shown:
        shown.step("one: done")
        now[0] = 150.0
        with noted_in(shown.notes, 1, "two"), part("trend", 0.5, 1.0):
            say("td", 0.5)
            with noted_in(shown.notes, 2, "three"), noted_in(shown.notes, 3, "four"):
                shown._move()
        shown._move()  # too soon
        now[0] += module.LINE
        shown._move()
    # 1.75 of 4 steps took 150 s; then 1 of 4 took 154 s
    assert lines[1:] == [
        "phase: 1 of 4 done, 2 min 30 s passed, about 3 min 13 s left: "
        "two: trend, td; three; 1 more at work",
        "phase: 1 of 4 done, 2 min 34 s passed, about 7 min 42 s left",
    ]


class _NoThread:
    """A thread that does nothing."""

    def __init__(self, **options: object) -> None:
        """Take what a thread takes."""

    def start(self) -> None:
        """Do nothing."""


@pytest.mark.usefixtures("_quick", "_no_terminal")
@pytest.mark.parametrize("jobs", [1, 2])
def test_work_in_worker_processes_is_heard(jobs: int, tmp_path: Path) -> None:
    lines: list[str] = []

    def log(line: str) -> None:
        lines.append(line)
        if line.endswith(": half of it"):
            (tmp_path / "stop").touch()

    with Progress("phase", 1, log=log) as shown:
        items = [str(tmp_path / "stop")]
        list(local_pool(jobs).run(said_until_heard, items, notes=shown.notes))
        assert shown.notes is not None
        assert list(shown.notes.iterdir()) == []
    assert f"{items[0]}: half of it" in lines[-1]
    assert " left: " in lines[-1]
    assert not shown.notes.exists()


def test_notes_that_cannot_be_written_do_not_end_the_work(tmp_path: Path) -> None:
    with noted_in(tmp_path / "absent", 0, "unit"):
        say("words", 0.5)
    assert read_notes(tmp_path / "absent") == []
