"""Work shared out over processes, such that results do not depend on how many there are."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import joblib
from threadpoolctl import threadpool_limits

__all__ = ["in_parallel"]

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_parallel(
    work: Callable[[Item], Result], items: Sequence[Item], *, jobs: int | None
) -> Iterator[Result]:
    """Do all items; results come in the order in which they are done.

    Args:
        work: must not depend on what was done before it in the same process.
        items: begun in this order.
        jobs: processes at a time; None: one per processor. One: this process.
    """
    workers = min(jobs or joblib.cpu_count(), len(items))
    if workers <= 1:
        for item in items:
            yield _with_one_thread(work, item)
        return
    pool = joblib.Parallel(n_jobs=workers, batch_size=1, return_as="generator_unordered")
    yield from pool(joblib.delayed(_in_worker)(work, item) for item in items)


def _with_one_thread(work: Callable[[Item], Result], item: Item) -> Result:
    # the same in every process: results must not depend on how BLAS shares out its sums
    with threadpool_limits(1):
        return work(item)


def _in_worker(work: Callable[[Item], Result], item: Item) -> Result:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that started it
    return _with_one_thread(work, item)
