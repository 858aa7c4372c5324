"""Limits BLAS and OpenMP to one thread, safely in processes with several threads."""

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
    """Limit each matrix product to one thread, so that results do not depend on thread counts.

    The limit of BLAS holds for the whole process, so users are counted: the last one that leaves
    restores the number of threads that the first one found. With
    `threadpoolctl.threadpool_limits` alone, the last one could restore the limit of another user
    permanently. OpenMP has a limit for each thread.
    """
    global _users
    libraries = ThreadpoolController()
    blas = libraries.select(user_api="blas")
    with libraries.select(user_api="openmp").limit(limits=1):
        with _lock:
            if any(library["num_threads"] != 1 for library in blas.info()):
                _limits.append(blas.limit(limits=1))  # again for a library that was loaded later
            _users += 1
        try:
            yield
        finally:
            with _lock:
                _users -= 1
                while _limits and not _users:
                    _limits.pop().restore_original_limits()
