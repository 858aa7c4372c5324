"""What long work is doing at the moment, for whoever shows it; silent if nobody does.

A listener is a function. To listen to work in another process, let it write a note: a small file,
which the listener's process reads.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Note", "heard_by", "noted_in", "part", "read_notes", "remove_note", "say"]

Listener = Callable[[str, "float | None"], None]

_listener: ContextVar[Listener | None] = ContextVar("listener", default=None)


@dataclass(frozen=True)
class Note:
    """What one unit of work is doing.

    Args:
        unit: its name.
        words: which part of it comes now; empty: it has said nothing.
        share: how much of it is done, from 0 to 1; None: unknown.
    """

    unit: str
    words: str = ""
    share: float | None = None


def say(words: str, share: float | None = None) -> None:
    """Say which part of the work comes now.

    Args:
        words: a few words.
        share: how much of the work is done, from 0 to 1; None: unknown.
    """
    listener = _listener.get()
    if listener is not None:
        listener(words, share)


@contextmanager
def heard_by(listener: Listener) -> Iterator[None]:
    """Work inside this context is heard by the listener, unless another one is nearer."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


@contextmanager
def part(words: str, start: float, stop: float) -> Iterator[None]:
    """Work inside this context is a part of the whole; it is heard with the part's words first.

    Args:
        words: the part's name.
        start, stop: how much of the whole is done before and after it, from 0 to 1.
    """
    say(words, start)
    whole = _listener.get()

    def within(said: str, share: float | None) -> None:
        if whole is not None:
            whole(f"{words}, {said}", start + (stop - start) * (share or 0.0))

    with heard_by(within):
        yield


@contextmanager
def noted_in(folder: Path | None, number: int, unit: str) -> Iterator[None]:
    """What work inside this context says goes into a note, which is removed in the end.

    Args:
        folder: of the notes; None: nothing is written. If it cannot be written to, as on another
            machine, the work goes on without notes.
        number: of the unit.
        unit: its name.
    """
    if folder is None:
        yield
        return
    place = _place(folder, number)

    def write(words: str, share: float | None) -> None:
        unfinished = place.with_suffix(".tmp")
        with suppress(OSError):
            unfinished.write_text(json.dumps([unit, words, share]), encoding="utf-8")
            os.replace(unfinished, place)

    write("", None)
    try:
        with heard_by(write):
            yield
    finally:
        remove_note(folder, number)


def remove_note(folder: Path | None, number: int) -> None:
    """Remove the note of a unit that has ended, if there is one."""
    if folder is not None:
        with suppress(OSError):
            _place(folder, number).unlink(missing_ok=True)


def _place(folder: Path, number: int) -> Path:
    return folder / f"{number:09d}.json"


def read_notes(folder: Path) -> list[Note]:
    """The notes of the units at work, in the order of their numbers."""
    notes = []
    with suppress(OSError):
        for place in sorted(folder.glob("*.json")):
            with suppress(OSError, ValueError):
                unit, words, share = json.loads(place.read_text(encoding="utf-8"))
                notes.append(Note(unit, words, share))
    return notes
