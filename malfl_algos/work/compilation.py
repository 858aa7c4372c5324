"""The one wrapper of numba, and the note that code is being compiled.

numba keeps what it has compiled in a folder, and later processes load it. Without a folder that can
be written to, or with a damaged file in it, functions are compiled anew: this costs time, never the
run. Commands and scripts say on standard error, once, that the first run waits for compilation.
"""

from __future__ import annotations

import atexit
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any
from uuid import uuid4

import numba
import numpy as np
from numba.core import event
from numba.core.caching import FunctionCache

__all__ = ["compiled", "splitmix64", "tell_of_compilation", "tell_of_compilation_in_worker"]

_TOLD = "MALFL_COMPILATION_TOLD"
"""Environment variable, for the processes that a command starts: a file that is there once it was
said, and goes with the command."""


def compiled(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """Decorate a function to be compiled by numba when it is first called, and kept if possible.

    Args:
        options: of `numba.njit`, beside `nogil=True` and `cache`.
    """

    def decorate(function: Callable[..., Any]) -> Any:
        dispatcher: Any = numba.njit(nogil=True, **options)(function)
        with suppress(RuntimeError):  # no folder can be written to: compile in memory
            dispatcher._cache = _Cache(dispatcher.py_func)  # type: ignore[no-untyped-call]
        return dispatcher

    return decorate


class _Cache(FunctionCache):
    """numba's cache, in which a damaged file or a full disk costs a compilation only."""

    def load_overload(self, sig: Any, target_context: Any) -> Any:
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
    """From now on say on standard error, once, that functions of this package are being compiled.

    Where numba finds no folder that it can write to, which it takes for an error, functions are
    kept for this process and those that it starts. To be called before they are loaded.
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
    """The same in a process that a command has started; nothing where it was not asked for."""
    if _TOLD in os.environ:
        register: Any = event.register
        register("numba:compile", _Teller())


class _Teller(event.Listener):
    """Hears of compilations, not of functions loaded from the cache."""

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
        if sys.stderr.isatty():  # over a progress bar, which is drawn again at its next step
            line = "\r" + line.ljust(shutil.get_terminal_size().columns - 1)
        print(line, file=sys.stderr, flush=True)

    def on_end(self, event: Any) -> None:
        """Nothing to say."""


def _told_before() -> bool:
    try:
        open(os.environ[_TOLD], "x").close()
    except OSError:
        return True
    return False


def _cache_of(told: str) -> str:
    """Folder for what cannot be kept for longer."""
    return f"{told}-cache"


def _clean(told: str) -> None:
    Path(told).unlink(missing_ok=True)
    shutil.rmtree(_cache_of(told), ignore_errors=True)


def _looked_up() -> None:
    """What numba is asked to find a cache for."""
