"""A learner on a thread of its own that runs only while it holds the baton.

`LearnerThread.resume` hands the baton over and waits until the learner asks for something (a step
or a new episode), ends, or fails: at any moment one thread runs and all others wait, so that a
program of many threads has one order of events.
"""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any, TypeAlias

__all__ = ["Failed", "Finished", "LearnerThread", "Request", "Reset", "Step", "Stopped"]

_LATE = 1.0  # seconds given to a learner that has already been given up


@dataclass(frozen=True)
class Reset:
    """The learner wants a new episode."""


@dataclass(frozen=True)
class Step:
    """The learner has chosen its action."""

    action: Any


@dataclass(frozen=True)
class Finished:
    """The learner has learned as much as it was told to."""


@dataclass(frozen=True)
class Failed:
    """The learner raised."""

    error: BaseException


Request: TypeAlias = Reset | Step | Finished | Failed


class Stopped(BaseException):
    """Raised within a learner that has to end before its time; no code should catch it."""


class LearnerThread:
    """A learner that can be resumed and stopped.

    Args:
        agent: id of its agent, for messages.
        work: what it does; within it `ask` may be called.
        timeout: seconds that it may take until it asks; None: as long as it likes.
    """

    def __init__(self, agent: str, work: Callable[[], object], *, timeout: float | None) -> None:
        self.agent = agent
        self._work = work
        self._timeout = timeout
        self._answers: SimpleQueue[Any] = SimpleQueue()
        self._requests: SimpleQueue[Request] = SimpleQueue()
        self._stopped = False
        self._late = False
        context = contextvars.copy_context()
        # a daemon, so that a learner that hangs for ever does not keep the interpreter from ending
        self._thread = threading.Thread(
            target=context.run, args=(self._run,), name=f"malfl-sb3 {agent}", daemon=True
        )

    def resume(self, answer: Any = None) -> Request:
        """Let the learner run until it asks, ends or fails.

        Args:
            answer: to its last request; nothing at the first call.

        Raises:
            TimeoutError: if it takes too long.
        """
        if self._thread.ident is None:
            self._thread.start()
        else:
            self._answers.put(answer)
        try:
            return self._requests.get(timeout=self._timeout)
        except Empty:
            self._late = True
            raise TimeoutError(
                f"the learner of {self.agent} took more than {self._timeout} seconds between two "
                "steps: raise timeout (None: no limit) if it only needs longer. Its thread ends at "
                "its next step."
            ) from None

    def ask(self, request: Request) -> Any:
        """Ask for something; to be called within the learner's work.

        Raises:
            Stopped: if the learner has to end.
            RuntimeError: if called from any other thread.
        """
        if threading.current_thread() is not self._thread:
            raise RuntimeError(
                f"the view of {self.agent} is in training: only its learner may use it"
            )
        if not self._stopped:
            self._requests.put(request)
            answer = self._answers.get()
        if self._stopped:
            raise Stopped
        return answer

    def stop(self) -> None:
        """End the learner, wherever it waits, and wait until its thread has ended."""
        self._stopped = True
        self._answers.put(None)
        if self._thread.ident is not None:
            self._thread.join(_LATE if self._late else self._timeout)

    def _run(self) -> None:
        try:
            self._work()
        except Stopped:
            pass
        except BaseException as error:
            self._requests.put(Failed(error))
        else:
            self._requests.put(Finished())
