"""The limit of BLAS threads ends with its last user."""

import threading

import pytest
from threadpoolctl import ThreadpoolController

from malfl_algos.work.threads import one_blas_thread


@pytest.fixture(autouse=True)
def _three_threads():
    """Set by threads that end: newer versions of threadpoolctl let one living thread set limits."""
    limits = []
    in_a_thread(lambda: limits.append(ThreadpoolController().limit(limits=3)))
    yield
    in_a_thread(limits[0].restore_original_limits)


def in_a_thread(action):
    thread = threading.Thread(target=action)
    thread.start()
    thread.join()


def blas_threads() -> set[int]:
    libraries = ThreadpoolController().select(user_api="blas")
    return {library["num_threads"] for library in libraries.info()}


def test_one_thread_within_and_as_before_after():
    assert blas_threads() == {3}
    with one_blas_thread():
        assert blas_threads() == {1}
        with one_blas_thread():
            assert blas_threads() == {1}
        assert blas_threads() == {1}
    assert blas_threads() == {3}
    with pytest.raises(KeyError), one_blas_thread():
        raise KeyError
    assert blas_threads() == {3}


def test_the_last_of_several_users_restores_what_the_first_found():
    users = [User() for _ in range(3)]
    for user in users:  # they enter one after the other, and leave in the same order
        user.enter()
        assert blas_threads() == {1}
    for user in users[:-1]:
        user.leave()
        assert blas_threads() == {1}
    users[-1].leave()
    assert blas_threads() == {3}


class User:
    """A thread that needs the limit from `enter` to `leave`."""

    def __init__(self) -> None:
        self.inside, self.may_leave = threading.Event(), threading.Event()
        self.thread = threading.Thread(target=self.run)

    def run(self) -> None:
        with one_blas_thread():
            self.inside.set()
            self.may_leave.wait(10)

    def enter(self) -> None:
        self.thread.start()
        assert self.inside.wait(10)

    def leave(self) -> None:
        self.may_leave.set()
        self.thread.join(10)
