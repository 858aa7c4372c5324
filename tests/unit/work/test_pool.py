import os
import time

import pytest
from dying_plugins import halved

from malfl_algos.work.pool import in_parallel


@pytest.mark.parametrize("jobs", [1, 2, 3, None])
def test_all_items_are_done_once(jobs):
    assert sorted(in_parallel(halved, range(7), jobs=jobs)) == [0, 0.5, 1, 1.5, 2, 2.5, 3]
    assert list(in_parallel(halved, [], jobs=jobs)) == []


@pytest.mark.parametrize(("jobs", "at"), [(2, 0), (2, 3), (2, 6), (5, 3)])
def test_a_worker_that_dies_costs_its_own_item_only(jobs, at):
    items = [0, 2, 4, 6, 8, 10]
    items.insert(at, 13)
    done = sorted(in_parallel(halved, items, jobs=jobs, on_death=lambda item: -item))
    assert done == [-13, 0, 1, 2, 3, 4, 5]


def test_a_single_item_does_not_take_this_process_along():
    assert list(in_parallel(halved, [13], jobs=2, on_death=lambda item: "died")) == ["died"]


def test_a_death_that_nobody_waits_for_is_an_error():
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
