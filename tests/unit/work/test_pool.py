"""Pools: real processes, and simulated executors whose workers die."""

import errno
import multiprocessing
import os
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool

import pytest
from dying_plugins import halved
from hypothesis import given
from hypothesis import strategies as st
from joblib.externals.loky import get_reusable_executor

from malfl_algos.work.pool import Pool, in_parallel, local_pool
from malfl_env.errors import InputError


@pytest.fixture(scope="module", autouse=True)
def _no_worker_is_left():
    """End the workers afterwards: later tests would reuse them, but they lack other plugins."""
    yield
    get_reusable_executor().shutdown(kill_workers=True)


@pytest.mark.parametrize("jobs", [1, 2, 3, None])
def test_all_items_are_done_once(jobs):
    assert sorted(in_parallel(halved, range(7), jobs=jobs)) == [0, 0.5, 1, 1.5, 2, 2.5, 3]
    assert list(in_parallel(halved, [], jobs=jobs)) == []


@pytest.mark.parametrize(("jobs", "at"), [(2, 0), (2, 3), (2, 6), (5, 3)])
def test_a_worker_that_dies_costs_its_own_item_only(jobs, at):
    items = [0, 2, 4, 6, 8, 10]
    items.insert(at, 13)
    done = sorted(local_pool(jobs).run(halved, items, on_death=lambda item, words: -item))
    assert done == [-13, 0, 1, 2, 3, 4, 5]


def test_a_single_item_does_not_take_this_process_along():
    assert list(local_pool(2).run(halved, [13], on_death=lambda item, words: "died")) == ["died"]


def test_a_death_without_on_death_is_an_error():
    with pytest.raises(RuntimeError, match="a worker process died on 13"):
        list(in_parallel(halved, [2, 13, 4], jobs=2))


@pytest.mark.parametrize("jobs", [1, 2])
def test_what_the_work_raises_is_raised(jobs):
    with pytest.raises(KeyError, match="99"):
        list(in_parallel(halved, [2, 99, 4], jobs=jobs))
    assert sorted(in_parallel(halved, [2, 4], jobs=jobs)) == [1, 2]


def test_workers_end_with_what_asked_for_them():
    results = in_parallel(time.sleep, [0.01, 60, 60], jobs=2)
    assert next(results) is None
    started = time.monotonic()
    results.close()
    assert time.monotonic() - started < 30
    assert sorted(in_parallel(os.path.basename, ["a/b", "c"], jobs=2)) == ["b", "c"]


class FakeExecutor:
    """Items wait in a queue until some are submitted to workers, which process the last one first.

    Args:
        fates: of each item: "sound", "kills once" or "kills".
        isolated: whether a killing item is lost alone, or with all submitted items.
        ahead: number of items that are submitted before any is processed.
    """

    def __init__(self, fates, *, isolated, ahead):
        self.fates, self.isolated, self.ahead = fates, isolated, ahead
        self.begun = Counter()
        self.queue = []

    def submit(self, function, work, item, number, notes):
        future = FakeFuture(self)
        self.queue.append((future, work, item))
        return future

    def step(self):
        future, work, item = self.queue.pop()
        self.begun[item] += 1
        fate = self.fates[item]
        if fate == "kills" or (fate == "kills once" and self.begun[item] == 1):
            lost = [future, *([] if self.isolated else [other for other, _, _ in self.queue])]
            if not self.isolated:
                self.queue.clear()
            for one in lost:
                one.set_exception(BrokenProcessPool("worker gone"))
        else:
            future.set_result(work(item))


class FakeFuture(Future):
    """A future that finishes when it is waited for."""

    def __init__(self, executor):
        super().__init__()
        self.executor = executor


@pytest.fixture(autouse=True)
def _waiting_does_the_work(monkeypatch):
    from malfl_algos.work import pool

    def wait(doing, return_when):
        fakes = [future for future in doing if isinstance(future, FakeFuture)]
        while fakes and not any(future.done() for future in doing):
            fakes[0].executor.step()
        return original(doing, return_when=return_when)

    original = pool.wait
    monkeypatch.setattr(pool, "wait", wait)


@given(
    fates=st.lists(st.sampled_from(("sound", "kills once", "kills")), max_size=12),
    ahead=st.integers(1, 5),
    retries=st.integers(0, 2),
    isolated=st.booleans(),
)
def test_each_item_has_one_result_and_only_the_guilty_are_given_up(fates, ahead, retries, isolated):
    executor = FakeExecutor(fates, isolated=isolated, ahead=ahead)
    pool = Pool(lambda n_items: executor, ahead, "a fake", isolated=isolated)
    results = list(
        pool.run(
            lambda item: (item, "sound"),
            range(len(fates)),
            on_death=lambda item, words: (item, words),
            retries=retries,
        )
    )
    assert sorted(item for item, _ in results) == list(range(len(fates)))
    for item, came in results:
        if fates[item] == "kills":
            assert came.endswith("BrokenProcessPool: worker gone")
            assert 1 + retries <= executor.begun[item] <= 3 + retries
        elif fates[item] == "sound" or retries > 0:
            assert came == "sound"


def test_an_executor_that_takes_nothing_is_an_error():
    class Closed:
        def submit(self, *_):
            raise ConnectionError("the scheduler is gone")

    pool = Pool(lambda n_items: Closed(), 2, "a fake")
    with pytest.raises(RuntimeError, match="a fake: ConnectionError: the scheduler is gone"):
        list(pool.run(halved, [2]))


def test_an_error_after_which_an_item_is_given_up_at_once():
    executor = FakeExecutor(["kills", "sound"], isolated=True, ahead=2)
    pool = Pool(lambda n_items: executor, 2, "a fake", isolated=True, final=(BrokenProcessPool,))
    results = pool.run(str, [0, 1], on_death=lambda item, words: words, retries=5)
    assert sorted(results) == ["1", "BrokenProcessPool: worker gone"]
    assert executor.begun[0] == 1


DAEMON = """
import multiprocessing
from malfl_algos.work.pool import in_parallel, local_pool
from malfl_env.errors import InputError

def tried():
    try:
        local_pool(2)
    except InputError as fault:
        print(fault)
    print(local_pool(None).note)
    print(list(in_parallel(abs, [-1], jobs=None)), flush=True)

process = multiprocessing.get_context("fork").Process(target=tried, daemon=True)
process.start()
process.join()
"""


def test_a_daemonic_worker_does_the_work_itself():
    ran = subprocess.run(
        [sys.executable, "-c", DAEMON], capture_output=True, text=True, timeout=120, check=True
    )
    rejection, note, done = ran.stdout.splitlines()
    assert rejection.endswith("may not start others; use --jobs 1")
    assert "daemonic" in note
    assert done == "[1]"


def test_without_semaphores_this_process_does_the_work(monkeypatch):
    """As in containers whose /dev/shm cannot be written to."""

    def no_lock():
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(multiprocessing.get_context("spawn"), "Lock", no_lock)
    with pytest.raises(InputError, match=r"Read-only file system\); use --jobs 1"):
        local_pool(2)
    pool = local_pool(None)
    assert pool.jobs == 1
    assert "semaphores" in pool.note
    assert local_pool(1).note == ""
