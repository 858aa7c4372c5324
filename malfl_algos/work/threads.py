"""BLAS and OpenMP held to one thread where it matters, in a process of several threads."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from threadpoolctl import ThreadpoolController

__all__ = ["one_blas_thread"]

_lock = threading.Lock()
_users = 0
_limits: list[Any] = []


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """One thread for each matrix product: results must not depend on how many threads share a sum.

    The limit of BLAS holds for the whole process. Of several users at once, the last one that
    leaves restores what the first one found; with `threadpoolctl.threadpool_limits` alone, the last
    would restore the limit of another user, for good. OpenMP's limit belongs to each thread.
    """
    global _users
    libraries = ThreadpoolController()
    blas = libraries.select(user_api="blas")
    with libraries.select(user_api="openmp").limit(limits=1):
        with _lock:
            if any(library["num_threads"] != 1 for library in blas.info()):
                _limits.append(blas.limit(limits=1))  # later ones: a library that is new
            _users += 1
        try:
            yield
        finally:
            with _lock:
                _users -= 1
                while _limits and not _users:
                    _limits.pop().restore_original_limits()
