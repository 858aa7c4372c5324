"""What long work is doing at the moment, for whoever shows it; silent if nobody does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

__all__ = ["heard_by", "say"]

_listener: ContextVar[Callable[[str], None] | None] = ContextVar("listener", default=None)


def say(words: str) -> None:
    """Say which part of the work comes now, in a few words."""
    listener = _listener.get()
    if listener is not None:
        listener(words)


@contextmanager
def heard_by(listener: Callable[[str], None]) -> Iterator[None]:
    """Work inside this context is heard by the listener, unless another one is nearer."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)
