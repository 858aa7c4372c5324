"""A learner on its own thread, which runs only during its turn.

`LearnerThread.resume` starts a turn and waits until the learner asks for a step or a new episode,
ends, or fails. At any moment one thread runs and all others wait, so that the order of events is
fixed.
"""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any, TypeAlias

__all__ = ["Failed", "Finished", "LearnerThread", "Request", "Reset", "Step", "Stopped"]

_LATE = 1.0  # seconds to wait for a learner that has already exceeded its timeout


@dataclass(frozen=True)
class Reset:
    """The learner asks for a new episode."""


@dataclass(frozen=True)
class Step:
    """The learner has chosen its action."""

    action: Any


@dataclass(frozen=True)
class Finished:
    """The learner has made all its steps."""


@dataclass(frozen=True)
class Failed:
    """The learner raised an exception."""

    error: BaseException


Request: TypeAlias = Reset | Step | Finished | Failed


class Stopped(BaseException):
    """Raised inside a learner that has to end early; no code should catch it."""


class LearnerThread:
    """A learner that can be resumed and stopped.

    Args:
        agent: id of its agent, for messages.
        work: the learning; it may call `ask`.
        timeout: seconds that a turn may take; None: no limit.
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
        # a daemon, so that the interpreter can exit even if a learner hangs
        self._thread = threading.Thread(
            target=context.run, args=(self._run,), name=f"malfl-sb3 {agent}", daemon=True
        )

    def resume(self, answer: Any = None) -> Request:
        """Let the learner run until it asks, ends or fails.

        Args:
            answer: to its last request; None at the first call.

        Raises:
            TimeoutError: if the turn takes too long.
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
                "steps: raise timeout (None: no limit) if it needs more time. Its thread ends at "
                "its next step."
            ) from None

    def ask(self, request: Request) -> Any:
        """Send a request and wait for the answer; only the learner's thread may call this.

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
        """End the learner and wait until its thread has ended."""
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
