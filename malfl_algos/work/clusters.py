"""Pools on clusters: Dask and Ray, each with the interface of an executor.

Dask and Ray exceed their time limits if the other side accepts a connection but does not answer,
and Ray needs minutes if nothing listens at the address. Therefore this module first tries a plain
connection. Then a separate process, which can be ended, joins the cluster and leaves it.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any, Literal
from urllib.parse import urlsplit

import joblib

from malfl_algos.work.pool import Pool, local_pool
from malfl_env.errors import InputError

__all__ = ["BackendName", "open_pool"]

BackendName = Literal["loky", "dask", "ray"]
_MODULES = {"dask": "distributed", "ray": "ray"}
_OBJECT_STORE = 100 * 2**20
"""Bytes of shared memory for a local Ray cluster: cells and their rows are small."""


@contextmanager
def open_pool(
    name: BackendName,
    *,
    address: str | None = None,
    jobs: int | None = None,
    connect_timeout: int = 20,
) -> Iterator[Pool]:
    """Connect to a cluster, or start workers on this machine; both end with the context.

    Args:
        name: kind of pool; "loky": processes of this machine.
        address: of the cluster; None: a small cluster is started on this machine.
        jobs: number of items at a time; None: the number of processors.
        connect_timeout: seconds until a cluster counts as unreachable, without the time that its
            library takes to load.

    Raises:
        InputError: if the cluster cannot be reached (the message says what was tried) or has no
            workers.
        ImportError: if its library is not installed.
    """
    if jobs is not None and jobs < 1:
        raise InputError(f"jobs must be a whole number >= 1, got {jobs}")
    if connect_timeout < 1:
        raise InputError(f"connect-timeout must be >= 1 second, got {connect_timeout}")
    if name == "loky":
        if address is not None:
            raise InputError("--address needs a cluster: choose --backend dask or ray, too")
        yield local_pool(jobs)
        return
    if find_spec(_MODULES[name]) is None:
        raise ImportError(f'--backend {name} needs {name}: pip install "malfl-env[{name}]"')
    if address is not None:
        _check_reachable(name, address, seconds=connect_timeout)
    with (_dask if name == "dask" else _ray)(address, jobs, connect_timeout) as pool:
        yield pool


@contextmanager
def _dask(address: str | None, jobs: int | None, connect_timeout: int) -> Iterator[Pool]:
    from distributed import Client, KilledWorker

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
        description = f"Dask at {client.scheduler.address}, {at_a_time} of {threads} threads"
        executor = client.get_executor(pure=False)
        # Dask itself retries items that were lost with a worker, until an item has ended several
        yield Pool(
            lambda n_items: executor, at_a_time, description, isolated=True, final=(KilledWorker,)
        )


class _RayExecutor:
    """Ray's tasks as an executor."""

    def __init__(self, ray: Any) -> None:
        self._call = ray.remote(num_cpus=1, max_retries=0)(_call)

    def submit(self, function: Callable[..., Any], /, *arguments: Any) -> Future[Any]:
        """Call a function in a worker."""
        future: Future[Any] = self._call.remote(function, *arguments).future()
        return future


def _call(function: Callable[..., Any], *arguments: Any) -> Any:
    return function(*arguments)


@contextmanager
def _without_usage_statistics() -> Iterator[None]:
    """Turn off Ray's usage statistics unless the user set the variable; restores the variable."""
    name = "RAY_USAGE_STATS_ENABLED"
    asked = name in os.environ
    os.environ.setdefault(name, "0")
    try:
        yield
    finally:
        if not asked:
            del os.environ[name]


@contextmanager
def _ray(address: str | None, jobs: int | None, connect_timeout: int) -> Iterator[Pool]:
    import ray

    quiet: dict[str, Any] = {"logging_level": "ERROR", "log_to_driver": False}
    with _without_usage_statistics():
        if address is None:
            own = {"object_store_memory": _OBJECT_STORE, "include_dashboard": False}
            ray.init("local", num_cpus=jobs or joblib.cpu_count(), **own, **quiet)
        else:
            ray.init(address, **quiet)
    try:
        processors = int(ray.cluster_resources().get("CPU", 0))
        if processors < 1:
            raise InputError(f"--backend ray: the cluster at {address} has no processor")
        at_a_time = min(jobs or processors, processors)
        description = f"Ray at {address or 'this machine'}, {at_a_time} of {processors} processors"
        executor = _RayExecutor(ray)
        yield Pool(lambda n_items: executor, at_a_time, description, isolated=True)
    finally:
        ray.shutdown()


_JOIN = {
    "dask": """
from distributed import Client
faulthandler.dump_traceback_later(seconds, exit=True)
where = "scheduler_file" if address.endswith(".json") else "address"
Client(**{where: address}, timeout=seconds, set_as_default=False).close()
""",
    "ray": """
import ray
faulthandler.dump_traceback_later(seconds, exit=True)
ray.init(address, log_to_driver=False, logging_level="ERROR")
ray.shutdown()
""",
}
_HINTS = {
    "dask": "",
    "ray": " (if it asks for a token, as Ray's own clusters may: set RAY_AUTH_MODE=token)",
}
_START = "import faulthandler, sys\naddress, seconds = sys.argv[1], float(sys.argv[2])"
_LOADING = 120.0
"""Seconds that a library may take to load."""
_PAUSE = 0.5


def _check_reachable(name: str, address: str, *, seconds: float) -> None:
    """Reject a cluster that does not answer.

    Args:
        name: dask or ray.
        address: host:port with or without a scheme; for Dask also a scheduler file (.json), for
            Ray also `auto`.
        seconds: time limit for the answer.

    Raises:
        InputError: the message says what was tried, and with which result.
    """
    until = time.monotonic() + seconds
    tried = ""
    if not (address.endswith(".json") or address == "auto"):
        host, port = _host_and_port(name, address)
        _connect(name, address, (host, port), until, seconds)
        tried = f"something listens at {host}:{port}, but "
    remaining = max(1.0, until - time.monotonic())
    fault = _join(name, address, remaining)
    if fault is not None:
        raise InputError(
            f"--backend {name}: cannot reach a cluster at {address}: {tried}joining it failed: "
            f"{fault}"
        )


def _host_and_port(name: str, address: str) -> tuple[str, int]:
    try:
        parts = urlsplit(address if "://" in address else f"tcp://{address}")
        if parts.hostname and parts.port:
            return parts.hostname, parts.port
    except ValueError:
        pass
    also = "a scheduler file (.json)" if name == "dask" else "auto"
    raise InputError(f"--address must be HOST:PORT, or {also}, got {address!r}")


def _connect(
    name: str, address: str, target: tuple[str, int], until: float, seconds: float
) -> None:
    """Connect and disconnect; repeated until the time limit, because a cluster may be starting."""
    n_tries = 0
    while True:
        n_tries += 1
        try:
            with socket.create_connection(target, timeout=max(0.1, until - time.monotonic())):
                return
        except OSError as fault:
            if time.monotonic() + _PAUSE >= until:
                raise InputError(
                    f"--backend {name}: cannot reach a cluster at {address}: tried to connect to "
                    f"{target[0]}:{target[1]} for {seconds:g} s, {n_tries} time(s), the last: "
                    f"{fault.strerror or fault}"
                ) from fault
        time.sleep(_PAUSE)


def _join(name: str, address: str, seconds: float) -> str | None:
    """Join a cluster and leave it in a separate process; returns the error, or None."""
    command = [sys.executable, "-c", _START + _JOIN[name], address, str(seconds)]
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_LOADING + seconds,
        )
    except subprocess.TimeoutExpired:
        return f"{name} took more than {_LOADING:g} s to load"
    if done.returncode == 0:
        return None
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    if any(line.startswith("Timeout (") for line in lines):
        return f"no answer within {seconds:.0f} s{_HINTS[name]}"
    return lines[-1] if lines else f"the process that tried ended with status {done.returncode}"
