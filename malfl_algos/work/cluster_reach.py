"""Whether a cluster can be reached, found out within a stated time.

Neither Dask nor Ray keeps to a limit when something listens that does not answer, and Ray takes
minutes where nothing listens: so a connection is tried first, then a process of its own joins the
cluster and leaves it, and that process can be ended.
"""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from urllib.parse import urlsplit

from malfl_env.errors import InputError

__all__ = ["check_reachable"]

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
"""Seconds at most that a library may take to load."""
_PAUSE = 0.5


def check_reachable(name: str, address: str, *, seconds: float) -> None:
    """Refuse a cluster that does not answer.

    Args:
        name: dask or ray.
        address: host:port with or without a scheme; for Dask also a scheduler file (.json), for
            Ray also `auto`.
        seconds: within which it must answer.

    Raises:
        InputError: with what was tried, and what came of it.
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
    """Connect and hang up; tried again and again, as a cluster may be about to start."""
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
    """Join a cluster and leave it, in a process of its own; what went wrong, if anything."""
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
