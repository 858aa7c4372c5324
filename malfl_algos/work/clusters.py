"""Where the runs of a sweep are done: this machine, a Dask cluster or a Ray cluster, by joblib.

All three are one `joblib.Parallel` with another backend, whose results come as they are done.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Literal, TypeVar

import joblib

from malfl_algos.work.cluster_joblib import GivenUp, dask_backend, ray_backend
from malfl_algos.work.cluster_reach import check_reachable
from malfl_algos.work.interruption import interrupts_held
from malfl_env.errors import InputError

__all__ = ["BACKENDS", "Backend", "GivenUp", "open_backend", "work_through"]

Item = TypeVar("Item")
Result = TypeVar("Result")

BackendName = Literal["loky", "dask", "ray"]
BACKENDS: tuple[BackendName, ...] = ("loky", "dask", "ray")
_MODULES = {"dask": "distributed", "ray": "ray"}
_OBJECT_STORE = 100 * 2**20
"""Bytes of shared memory for a Ray of our own: runs and their rows are small."""


@dataclass(frozen=True)
class Backend:
    """A backend that is ready.

    Args:
        make: what joblib calls a backend, made anew for every call; None: runs are done in this
            process.
        jobs: runs at a time.
        ahead: runs that are handed out at a time, those that wait at their worker included.
        told: what and where it is, for people.
    """

    make: Callable[[], Any] | None
    jobs: int
    ahead: int
    told: str


def work_through(
    backend: Backend, work: Callable[[Item], Result], items: Iterator[Item]
) -> Iterator[Result | GivenUp]:
    """Do items in worker processes; results come in the order in which they are done.

    Args:
        backend: not one that does runs in this process.
        work: catches what goes wrong with an item.
        items: drawn as they are handed out.

    Returns:
        Results, and what the backend has given up.

    Raises:
        Exception: of the backend's own kind, where a worker was lost, and with it all that was
            handed out and has not come back.
    """
    assert backend.make is not None
    pool = joblib.Parallel(
        n_jobs=backend.jobs,
        backend=backend.make(),
        batch_size=1,
        pre_dispatch=backend.ahead,
        return_as="generator_unordered",
    )
    with interrupts_held():
        results = pool(joblib.delayed(work)(item) for item in items)
    yield from results


@contextmanager
def open_backend(
    name: BackendName, *, address: str | None, jobs: int | None, connect_timeout: int
) -> Iterator[Backend]:
    """Connect to a cluster, or start workers on this machine; both end with the context.

    Args:
        name: loky: processes of this machine.
        address: of the cluster; None: a small one of our own on this machine.
        jobs: runs at a time; None: as many as there are processors.
        connect_timeout: seconds until a cluster counts as unreachable, not counting those that it
            takes to load its library.

    Raises:
        InputError: where the cluster cannot be reached, with what was tried, or has no room.
        ImportError: where its library is not installed.
    """
    if jobs is not None and jobs < 1:
        raise InputError(f"jobs must be a whole number >= 1, got {jobs}")
    if connect_timeout < 1:
        raise InputError(f"connect-timeout must be >= 1 second, got {connect_timeout}")
    if name == "loky":
        if address is not None:
            raise InputError("--address is of a cluster: choose --backend dask or ray, too")
        yield _loky(jobs)
        return
    if find_spec(_MODULES[name]) is None:
        raise ImportError(f'--backend {name} needs {name}: pip install "malfl-env[{name}]"')
    if address is not None:
        check_reachable(name, address, seconds=connect_timeout)
    with (_dask if name == "dask" else _ray)(address, jobs, connect_timeout) as backend:
        yield backend


def _loky(jobs: int | None) -> Backend:
    wanted = jobs or joblib.cpu_count()
    if wanted == 1:
        return Backend(None, 1, 1, "this process")
    return Backend(lambda: "loky", wanted, wanted, f"{wanted} processes of this machine")


@contextmanager
def _dask(address: str | None, jobs: int | None, connect_timeout: int) -> Iterator[Backend]:
    from distributed import Client

    where: dict[str, Any]
    if address is None:
        where = {
            "n_workers": jobs or joblib.cpu_count(),
            "threads_per_worker": 1,
            "dashboard_address": None,
            "preload": ["import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)"],
        }
    else:
        where = {"scheduler_file" if address.endswith(".json") else "address": address}
    with Client(**where, timeout=connect_timeout, set_as_default=False) as client:
        try:
            client.wait_for_workers(1, timeout=connect_timeout)
        except TimeoutError:
            raise InputError(
                f"--backend dask: the scheduler at {address} has no worker, after waiting for "
                f"{connect_timeout} s: start some (dask worker {address})"
            ) from None
        threads = sum(client.ncores().values())
        at_a_time = min(jobs or threads, threads)
        told = f"Dask at {client.scheduler.address}, {at_a_time} of {threads} threads"
        yield Backend(lambda: dask_backend(client), at_a_time, at_a_time, told)


@contextmanager
def _ray(address: str | None, jobs: int | None, connect_timeout: int) -> Iterator[Backend]:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent anywhere unasked
    import ray

    quiet: dict[str, Any] = {"logging_level": "ERROR", "log_to_driver": False}
    if address is None:
        own = {"object_store_memory": _OBJECT_STORE, "include_dashboard": False}
        ray.init("local", num_cpus=max(2, jobs or joblib.cpu_count()), **own, **quiet)
    else:
        ray.init(address, **quiet)
    try:
        processors = int(ray.cluster_resources().get("CPU", 0))
        at_a_time = min(jobs or processors, processors)
        if at_a_time < 2:
            raise InputError(
                "--backend ray needs two processors or more of the cluster: it has "
                f"{processors}, --jobs is {jobs or 'not given'}"
            )
        told = f"Ray at {address or 'this machine'}, {at_a_time} of {processors} processors"
        # Ray's pool gives items to its workers in turn: the second in line evens that out
        yield Backend(ray_backend, at_a_time, 2 * at_a_time, told)
    finally:
        ray.shutdown()
