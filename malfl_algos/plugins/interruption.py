"""Interruptions, also those that compiled code reports as errors of its own."""

from __future__ import annotations

__all__ = ["pass_interruption"]


def pass_interruption(fault: BaseException) -> None:
    """Raise the interruption that an exception is, or that led to it; return if there is none.

    A signal that arrives in a compiled loop makes it end with a `SystemError`, whose cause is the
    `KeyboardInterrupt`. Call this first where every exception of a plugin is caught.

    Args:
        fault: the exception. Its causes are searched, and the exceptions during whose handling it
            was raised.

    Raises:
        KeyboardInterrupt: the interruption itself, so that its signal stays known.
    """
    seen: set[int] = set()
    waiting: list[BaseException | None] = [fault]
    while waiting:
        one = waiting.pop()
        if one is None or id(one) in seen:
            continue
        if isinstance(one, KeyboardInterrupt):
            raise one
        seen.add(id(one))
        waiting += [one.__context__, one.__cause__]
