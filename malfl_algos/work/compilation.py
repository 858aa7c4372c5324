"""The only wrapper of numba, and the message that code is being compiled.

numba saves compiled functions in a cache folder, and later processes load them. If no folder can be
written to, or a file in it is damaged, functions are compiled again; this costs time, but the run
continues. Processes that need the same function at the same time wait for the first of them, and
load what it compiled. Commands and scripts write one line to standard error when they wait for
compilation.
"""

from __future__ import annotations

import atexit
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any, Literal
from uuid import uuid4

import numba
import numpy as np
from numba.core import event
from numba.core.caching import FunctionCache
from numba.core.compiler_lock import global_compiler_lock

__all__ = ["compiled", "splitmix64", "tell_of_compilation", "tell_of_compilation_in_worker", "turn"]

WAIT = 60.0
"""Seconds that a process waits for another one that compiles the same function."""

_TOLD = "MALFL_COMPILATION_TOLD"
"""Environment variable that a command passes to its processes: path of a file that exists after the
message was written; the command removes it."""


def compiled(
    *, fused: bool = False, inline: Literal["always", "never"] = "never"
) -> Callable[[Callable[..., Any]], Any]:
    """Decorate a function so that numba compiles it at the first call and caches it if possible.

    The rest of numba's `fastmath` is not offered: it reorders sums where arrays lie far enough from
    each other in memory, so that equal calls had results that differed in the last bits.

    Args:
        fused: whether a product and a sum may be rounded once.
        inline: as `numba.njit` takes it.
    """
    fastmath = {"contract"} if fused else False

    def decorate(function: Callable[..., Any]) -> Any:
        dispatcher: Any = numba.njit(nogil=True, fastmath=fastmath, inline=inline)(function)
        with suppress(RuntimeError):  # no cache folder can be written to: compile in memory
            dispatcher._cache = _Cache(dispatcher.py_func)
            dispatcher.compile = _in_turn(dispatcher._cache, dispatcher.compile)
        return dispatcher

    return decorate


def _in_turn(cache: _Cache, compile_now: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Compile a signature, unless another process has just done so."""

    def compile_once(signature: Any) -> Any:
        with global_compiler_lock, cache.turns:
            return compile_now(signature)

    return compile_once


@contextmanager
def turn(path: Path, wait: float = WAIT) -> Iterator[bool]:
    """Wait until no other process is inside this context for the same file.

    Args:
        path: of a file, which is created, stays, and is empty.
        wait: seconds after which to go on in any case, as where files cannot be locked.

    Yields:
        Whether it is this process's turn.
    """
    with ExitStack() as held:
        yield _locked(held, path, wait)


def _locked(held: ExitStack, path: Path, wait: float) -> bool:
    try:
        import fcntl

        path.parent.mkdir(parents=True, exist_ok=True)
        file = held.enter_context(path.open("a"))
    except (ImportError, OSError):
        return False
    end = time.monotonic() + wait
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() > end:
                return False
            time.sleep(0.02)
        except OSError:
            return False


class _Cache(FunctionCache):
    """numba's cache; after a damaged file or a full disk, functions are compiled again.

    A function that is not there yet is compiled inside `turns`, and looked up a second time first.
    """

    def __init__(self, function: Any) -> None:
        super().__init__(function)  # type: ignore[no-untyped-call]
        self.turns = ExitStack()
        self._turn = Path(self.cache_path) / f"{function.__module__}.{function.__qualname__}.lock"

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        found = self._loaded(sig, target_context)
        if found is None:
            self.turns.enter_context(turn(self._turn))
            found = self._loaded(sig, target_context)
        return found

    def _loaded(self, sig: Any, target_context: Any) -> Any:
        try:
            return super().load_overload(sig, target_context)  # type: ignore[no-untyped-call]
        except Exception:  # a damaged pickle raises exceptions of any type
            with suppress(OSError):
                self.flush()  # type: ignore[no-untyped-call]
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        with suppress(OSError):
            super().save_overload(sig, data)  # type: ignore[no-untyped-call]


@compiled(inline="always")
def splitmix64(state: Any) -> Any:  # pragma: no cover
    """Random bits for compiled loops: SplitMix64 (Steele, Lea, Flood 2014).

    Args:
        state: uint64 counter, which the caller has already advanced.

    Returns:
        64 random bits, uint64.
    """
    z = state
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@cache
def tell_of_compilation() -> None:
    """Write one line to standard error when a function of this package is compiled from now on.

    If numba finds no folder that it can write to, which it treats as an error, functions are cached
    for this process and the processes that it starts. Call this before they are loaded.
    """
    if _TOLD not in os.environ:
        os.environ[_TOLD] = os.path.join(tempfile.gettempdir(), f"malfl-{uuid4()}")
        atexit.register(_clean, os.environ[_TOLD])
    try:
        numba.njit(_looked_up, cache=True)
    except RuntimeError:  # no such folder
        config: Any = numba.config
        config.CACHE_DIR = os.environ["NUMBA_CACHE_DIR"] = _cache_of(os.environ[_TOLD])
    tell_of_compilation_in_worker()


@cache
def tell_of_compilation_in_worker() -> None:
    """The same in a process that a command has started; no effect if the command did not ask."""
    if _TOLD in os.environ:
        register: Any = event.register
        register("numba:compile", _Teller())


class _Teller(event.Listener):
    """Reports compilations, but not functions loaded from the cache."""

    def on_start(self, event: Any) -> None:
        function = event.data["dispatcher"]
        path = function.stats.cache_path
        ours = (function.py_func.__module__ or "").partition(".")[0] in ("malfl_algos", "malfl_env")
        if path is None or not ours or _told_before():
            return
        line = f"compiling numerical code, some seconds, once: kept in {path}"
        if path.startswith(_cache_of(os.environ[_TOLD])):
            line = (
                "compiling numerical code, some seconds, on every run: numba can write neither to "
                "its cache folder nor beside the package (NUMBA_CACHE_DIR names another)"
            )
        if sys.stderr.isatty():  # overwrite a progress bar, which its next step draws again
            line = "\r" + line.ljust(shutil.get_terminal_size().columns - 1)
        with suppress(OSError, ValueError):  # closed or full: a note is not worth an error
            print(line, file=sys.stderr, flush=True)

    def on_end(self, event: Any) -> None:
        """Do nothing."""


def _told_before() -> bool:
    try:
        open(os.environ[_TOLD], "x").close()
    except OSError:
        return True
    return False


def _cache_of(marker: str) -> str:
    """Folder of the temporary cache, which lives as long as the command."""
    return f"{marker}-cache"


def _clean(marker: str) -> None:
    Path(marker).unlink(missing_ok=True)
    shutil.rmtree(_cache_of(marker), ignore_errors=True)


def _looked_up() -> None:
    """A function for which numba looks for a cache folder."""
