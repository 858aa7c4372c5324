"""One pool for all work: processes of this machine, a Dask cluster or a Ray cluster.

All three are executors as in `concurrent.futures`, with a method `submit`. This module does what is
common to them: it yields results as soon as they are finished, independently of the number of
workers, and gives every item one result, even if workers die.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
import traceback
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, wait
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import joblib
from joblib.externals.loky import get_reusable_executor

from malfl_algos.work.telling import noted_in, remove_note
from malfl_algos.work.threads import one_blas_thread
from malfl_env.errors import InputError

__all__ = ["Executor", "Pool", "in_parallel", "local_pool"]

Item = TypeVar("Item")
Result = TypeVar("Result")

_ENVIRONMENT = {
    name: "1"
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS")
}
_IDLE = 300  # seconds until a worker without work ends


class Executor(Protocol):
    """The one method of an executor that a pool needs."""

    def submit(self, function: Callable[..., Any], /, *arguments: Any) -> Future[Any]:
        """Call a function in a worker."""
        ...


@dataclass(frozen=True)
class Pool:
    """Workers that process items.

    Args:
        executor: returns an executor for a number of items, a new one if the last one broke; None:
            this process does the work.
        jobs: number of items at a time.
        description: kind and place of the workers, for messages.
        stop: ends an executor's work at once.
        isolated: whether a lost worker loses its own item only. If not, all submitted items are
            lost, and it is unknown which of them ended the worker.
        final: errors after which an item is not retried, because the executor itself retried it.
        note: why there are fewer workers than processors; empty if there are not.
    """

    executor: Callable[[int], Executor] | None
    jobs: int
    description: str
    stop: Callable[[Any], None] = lambda executor: None
    isolated: bool = False
    final: tuple[type[BaseException], ...] = ()
    note: str = ""

    def run(
        self,
        work: Callable[[Item], Result],
        items: Iterable[Item],
        *,
        on_death: Callable[[Item, str], Result] | None = None,
        retries: int = 0,
        log: Callable[[str], None] = lambda line: None,
        notes: Path | None = None,
    ) -> Generator[Result, None, None]:
        """Process all items; yields results in the order in which they are finished.

        If a lost worker loses all submitted items, these are retried together, after all others.
        Items that are lost a second time are retried one by one, which shows the item that ends its
        worker.

        Args:
            work: must not depend on earlier work in the same process.
            items: started in this order.
            on_death: maps an item that ended its worker, and the error, to its result.
            retries: how often an item that ended its worker is retried.
            log: receives a line for every retry.
            notes: folder of the notes of what each item's work says; see
                `malfl_algos.work.telling`. None: nobody reads them.

        Raises:
            RuntimeError: if an item ended its worker and `on_death` is None, or if the executor
                accepts no item.
            Exception: the error that `work` raised.
        """
        if self.executor is None:
            for number, item in enumerate(items):
                yield _with_one_thread(work, item, number, notes)
            return
        waiting = [_Try(item, number) for number, item in enumerate(items)]
        while waiting:
            fewest = min(tried.losses for tried in waiting)
            wave = [tried for tried in waiting if tried.losses == fewest]
            wave = wave if self.isolated or fewest < 2 else wave[:1]
            lost: list[tuple[_Try[Item], BaseException]] = []
            for tried, result in _wave(self, work, wave, lost, notes):
                waiting.remove(tried)
                yield result
            for tried, fault in lost:
                tried.losses += 1
                tried.deaths += self.isolated or len(wave) == 1
                if tried.deaths <= retries and not isinstance(fault, self.final):
                    continue
                waiting.remove(tried)
                if on_death is None:
                    raise RuntimeError(f"a worker process died on {tried.item}") from fault
                alone = (
                    "" if isinstance(fault, self.final) else f"{tried.deaths} time(s) while alone: "
                )
                yield on_death(tried.item, alone + _words(fault))
            again = [fault for tried, fault in lost if tried in waiting]
            if again:
                log(
                    f"a worker was lost, {len(again)} item(s) will be done again: "
                    f"{_words(again[0])}"
                )


def local_pool(jobs: int | None) -> Pool:
    """Processes of this machine.

    Args:
        jobs: number of processes; None: one per processor, or only this one if this machine or
            process cannot start others. With 1, this process does the work.

    Raises:
        InputError: for fewer than one process, or for several where none can be started.
    """
    if jobs is not None and jobs < 1:
        raise InputError(f"jobs must be a whole number >= 1, got {jobs}")
    workers = jobs or joblib.cpu_count()
    if workers == 1:
        return Pool(None, 1, "this process")
    obstacle = _obstacle()
    if obstacle and jobs is not None:
        raise InputError(f"--jobs {jobs} is not possible here: {obstacle}; use --jobs 1")
    if obstacle:
        return Pool(None, 1, "this process", note=f"as with --jobs 1: {obstacle}")

    def executor(n_items: int) -> Executor:
        made: Executor = get_reusable_executor(
            max_workers=min(workers, n_items),
            timeout=_IDLE,
            env=_ENVIRONMENT,
            initializer=_prepare_worker,
            initargs=(os.getpid(),),
        )
        return made

    return Pool(
        executor,
        workers,
        f"{workers} processes of this machine",
        stop=lambda made: made.shutdown(wait=True, kill_workers=True),
    )


def _obstacle() -> str:
    """Why this process cannot start workers; empty if it can."""
    if multiprocessing.current_process().daemon:
        return "this process is a daemonic worker itself, which may not start others"
    try:
        multiprocessing.get_context("spawn").Lock()
    except (OSError, ImportError) as fault:  # no /dev/shm, or not writable
        return f"the system gives no semaphores ({fault})"
    return ""


def in_parallel(
    work: Callable[[Item], Result], items: Sequence[Item], *, jobs: int | None
) -> Generator[Result, None, None]:
    """`Pool.run` on processes of this machine; an item that ends its worker is an error."""
    return local_pool(jobs).run(work, items)


@dataclass(eq=False)
class _Try(Generic[Item]):
    """An unfinished item, how often it was lost with a worker, and how often it ended one."""

    item: Item
    number: int
    losses: int = 0
    deaths: int = 0


@dataclass(frozen=True)
class _Raised:
    """An error that `work` raised, in place of its result; other errors come from the executor."""

    error: Exception
    story: str


def _wave(
    pool: Pool,
    work: Callable[[Item], Result],
    wave: Sequence[_Try[Item]],
    lost: list[tuple[_Try[Item], BaseException]],
    notes: Path | None,
) -> Generator[tuple[_Try[Item], Result], None, None]:
    """Process items until all are done, or a worker is lost with several of them; fills `lost`."""
    assert pool.executor is not None
    waiting, doing = list(reversed(wave)), dict[Future[Any], _Try[Item]]()
    with _interrupts_held():
        executor = pool.executor(len(wave))
    ended = False
    try:
        while doing or (waiting and (pool.isolated or not lost)):
            while waiting and len(doing) < pool.jobs and (pool.isolated or not lost):
                tried = waiting.pop()
                try:
                    with _interrupts_held():
                        made = executor.submit(_in_worker, work, tried.item, tried.number, notes)
                        doing[made] = tried
                except Exception as fault:
                    if not (doing or lost):
                        raise RuntimeError(f"{pool.description}: {_words(fault)}") from fault
                    lost.append((tried, fault))
            for future in wait(doing, return_when=FIRST_COMPLETED).done:
                tried = doing.pop(future)
                try:
                    result = future.result()
                except (Exception, CancelledError) as fault:
                    remove_note(notes, tried.number)  # its process may not have done so
                    lost.append((tried, fault))
                    continue
                if isinstance(result, _Raised):
                    raise result.error from RuntimeError(f"in a worker:\n{result.story}")
                yield tried, result
        ended = True
    finally:
        if not ended:  # interrupted, or an error
            for future in doing:
                future.cancel()
            pool.stop(executor)


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Delay Ctrl-C, and the end of the terminal, until the context ends.

    Processes that are started within the context ignore both permanently, unless they enable them.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGHUP})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _in_worker(
    work: Callable[[Item], Result], item: Item, number: int, notes: Path | None
) -> Result | _Raised:
    """Process an item in any thread of a worker process."""
    from malfl_algos.work.compilation import tell_of_compilation_in_worker

    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is handled by the parent process
    tell_of_compilation_in_worker()
    try:
        return _with_one_thread(work, item, number, notes)
    except Exception as error:
        return _Raised(error, traceback.format_exc())


def _with_one_thread(
    work: Callable[[Item], Result], item: Item, number: int, notes: Path | None
) -> Result:
    # one thread: results must not depend on how BLAS distributes its sums
    with one_blas_thread(), noted_in(notes, number, str(item)):
        return work(item)


def _words(fault: BaseException) -> str:
    return " ".join(f"{type(fault).__name__}: {fault}".split())[:300]


def _prepare_worker(parent: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # the parent ends this worker
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    """End this worker when its parent has ended; a killed parent cannot end its workers."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)
