"""Ctrl-C at safe moments; and a request to end (SIGTERM, as batch systems send it) as Ctrl-C."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["Terminated", "interrupts_held", "terminable"]


class Terminated(KeyboardInterrupt):
    """Raised in the main thread when the process is asked to end."""


@contextmanager
def terminable() -> Iterator[None]:
    """Within it, SIGTERM raises `Terminated`."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, _raise)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def interrupts_held() -> Iterator[None]:
    """Keep Ctrl-C waiting until the context ends; for processes that are started within it, for
    good, unless they let it in themselves.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _raise(number: int, frame: FrameType | None) -> None:
    raise Terminated
