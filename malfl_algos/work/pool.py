"""Work shared out over processes, such that results do not depend on how many there are."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

import joblib
from joblib.externals.loky import get_reusable_executor

from malfl_algos.work.interruption import interrupts_held
from malfl_algos.work.threads import one_blas_thread

__all__ = ["in_parallel"]

Item = TypeVar("Item")
Result = TypeVar("Result")

_ENVIRONMENT = {
    name: "1"
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS")
}
_IDLE = 300  # seconds until a worker without work goes


def in_parallel(
    work: Callable[[Item], Result],
    items: Sequence[Item],
    *,
    jobs: int | None,
    on_death: Callable[[Item], Result] | None = None,
) -> Generator[Result, None, None]:
    """Do all items; results come in the order in which they are done.

    A worker process that dies costs no item but its own: the items that were being done are done
    again, each in a process of its own.

    Args:
        work: must not depend on what was done before it in the same process.
        items: begun in this order.
        jobs: processes at a time; None: one per processor. One: this process.
        on_death: the result of an item that ended its process.

    Raises:
        RuntimeError: for an item that ended its process, where there is no `on_death`.
    """
    workers = jobs or joblib.cpu_count()
    if workers == 1:
        for item in items:
            yield _with_one_thread(work, item)
        return
    waiting = deque(items)
    while waiting:
        suspects = yield from _in_pool(work, waiting, min(workers, len(waiting)))
        for item in suspects:
            if (yield from _in_pool(work, deque([item]), 1)):
                if on_death is None:
                    raise RuntimeError(f"a worker process died on {item}")
                yield on_death(item)


def _in_pool(
    work: Callable[[Item], Result], waiting: deque[Item], workers: int
) -> Generator[Result, None, list[Item]]:
    """Do items until none waits or a worker dies; returns those that were lost with it."""
    doing: dict[Future[Result], Item] = {}
    lost: list[Item] = []
    ended = False
    with interrupts_held():
        pool = _pool(workers)
    try:
        while doing or (waiting and not lost):
            while waiting and not lost and len(doing) < workers:
                item = waiting.popleft()
                try:
                    with interrupts_held():
                        doing[pool.submit(_with_one_thread, work, item)] = item
                except BrokenProcessPool:
                    lost.append(item)
            for future in wait(doing, return_when=FIRST_COMPLETED).done:
                item = doing.pop(future)
                try:
                    result = future.result()
                except BrokenProcessPool:
                    lost.append(item)
                else:
                    yield result
        ended = True
        return lost
    finally:
        if not ended:  # interrupted, or an error
            pool.shutdown(wait=True, kill_workers=True)


def _pool(workers: int) -> Any:
    return get_reusable_executor(
        max_workers=workers,
        timeout=_IDLE,
        env=_ENVIRONMENT,
        initializer=_prepare_worker,
        initargs=(os.getpid(),),
    )


def _with_one_thread(work: Callable[[Item], Result], item: Item) -> Result:
    # the same in every process: results must not depend on how BLAS shares out its sums
    with one_blas_thread():
        return work(item)


def _prepare_worker(parent: int) -> None:
    from malfl_algos.work.compilation import tell_of_compilation_in_worker

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that started it
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    tell_of_compilation_in_worker()


def _end_with(parent: int) -> None:
    """A process that is killed cannot end its workers; they have to look."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)
