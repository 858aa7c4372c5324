"""One writer at a time in a run folder: the file `run.lock`, which says who that is.

Own code rather than the library filelock: its lock of the system does not say who holds it, and
its lock that does takes over from a dead process without a word, some by the age of a file.

The lock becomes visible together with its content, by a hard link, which is atomic on network file
systems, too. On one host the system's own lock on the file (flock) tells whether the holder lives:
it goes with the process, so that neither a reused process number nor the clock can mislead. Where
a file system has none, the process number and the time the process was started decide.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType
from typing import Literal

from malfl_algos.storage.durable import make_folder, naming_no_space, partial_file

fcntl: ModuleType | None
try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

__all__ = ["LOCK_NAME", "Holder", "RunLocked", "lock_state", "run_lock"]

LOCK_NAME = "run.lock"
_PATIENCE = 0.5  # seconds: somebody may be taking over, or only looking
State = Literal["alive", "dead", "unknown"]


class RunLocked(RuntimeError):
    """Another process works in the run folder; the message says which."""


@dataclass(frozen=True)
class Holder:
    """Who holds a lock.

    Args:
        host: the name of its host.
        pid: its process number there.
        started: when the system says it was started, in its own units; None: it does not say.
        flock: whether it holds the system's lock on the file, too.
    """

    host: str
    pid: int
    started: int | None
    flock: bool

    def __str__(self) -> str:
        return f"process {self.pid} on host {self.host}"


@contextmanager
def run_lock(root: Path, *, log: Callable[[str], None]) -> Iterator[None]:
    """Hold the lock of a run folder, which is made where it is not there.

    A lock that a process of this host left when it died is taken over, and `log` is told.

    Raises:
        RunLocked: where another process holds it, or one on another host may.
        NoSpace: where there is no room for the lock.
    """
    path = root / LOCK_NAME
    with naming_no_space(path):
        make_folder(root)
        descriptor = _acquire(path, log)
    owner = os.getpid()
    try:
        yield
    finally:
        if os.getpid() == owner:  # not in a process that was forked off
            _release(path, descriptor)


def lock_state(root: Path) -> tuple[Holder | None, State] | None:
    """Who holds the lock of a run folder, and whether it lives; None: there is no lock.

    The holder is None where the lock cannot be read; `unknown` is also the state of a process on
    another host.
    """
    try:
        descriptor = os.open(root / LOCK_NAME, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        return _state(descriptor, looking=True)
    finally:
        os.close(descriptor)


def _acquire(path: Path, log: Callable[[str], None]) -> int:
    """An open descriptor of the lock, which is ours then."""
    until = time.monotonic() + _PATIENCE
    while True:
        temporary = partial_file(path)
        descriptor = _write(temporary)
        try:
            # not found: another one took our preparations for left over, or the lock is gone
            with suppress(FileNotFoundError):
                if _place(temporary, path, log, patient=time.monotonic() < until):
                    return descriptor
            os.close(descriptor)
        except BaseException:
            os.close(descriptor)
            raise
        finally:
            temporary.unlink(missing_ok=True)
        time.sleep(0.02)


def _write(path: Path) -> int:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        holder = Holder(socket.gethostname(), os.getpid(), _started(os.getpid()), False)
        if _flock(descriptor):
            holder = Holder(holder.host, holder.pid, holder.started, True)
        os.write(descriptor, json.dumps(asdict(holder)).encode())
        os.fsync(descriptor)
    except BaseException:
        os.close(descriptor)
        path.unlink(missing_ok=True)
        raise
    return descriptor


def _place(temporary: Path, path: Path, log: Callable[[str], None], *, patient: bool) -> bool:
    """Make the prepared lock the lock; False: try again."""
    if _link(temporary, path):
        return True
    there = os.open(path, os.O_RDWR)
    try:
        holder, state = _state(there)
        if state == "dead":  # and if it has the system's lock, it is ours now
            if not os.path.samestat(os.fstat(there), os.stat(path)):
                return False  # others were faster
            os.replace(temporary, path)
            log(f"took over the lock of {holder}, which is gone")
            return True
        if patient:
            return False
        raise RunLocked(_refusal(path, holder, state))
    finally:
        os.close(there)


def _link(temporary: Path, path: Path) -> bool:
    try:
        os.link(temporary, path)
    except FileExistsError:
        return False
    except FileNotFoundError:
        raise
    except OSError:  # no hard links on this file system
        try:
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        except FileExistsError:
            return False
        os.replace(temporary, path)
    return True


def _refusal(path: Path, holder: Holder | None, state: State) -> str:
    if holder is None:
        return (
            f"{path.parent} is in use: {path} is there and cannot be read; "
            "if no run works there, remove it"
        )
    if state == "alive":
        return (
            f"{path.parent} is in use by {holder} (or one that it started): "
            "wait for it, or choose another folder"
        )
    return (
        f"{path.parent} is in use by {holder}, and from {socket.gethostname()} it cannot be told "
        f"whether that process is still there: wait for it; if it is gone, remove {path}"
    )


def _release(path: Path, descriptor: int) -> None:
    with suppress(FileNotFoundError):
        if os.path.samestat(os.fstat(descriptor), os.stat(path)):
            path.unlink()
    if fcntl is not None:
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_UN)  # also for processes that were forked off
    os.close(descriptor)


def _state(descriptor: int, *, looking: bool = False) -> tuple[Holder | None, State]:
    """Who made a lock, and whether it lives.

    If it is dead and this is not only looking, the system's lock on the file is ours.
    """
    try:
        given = json.loads(os.read(descriptor, 4096))
        holder = Holder(str(given["host"]), int(given["pid"]), given["started"], given["flock"])
    except (ValueError, KeyError, TypeError):
        return None, "unknown"
    if holder.host != socket.gethostname():
        return holder, "unknown"
    if holder.flock and fcntl is not None:
        return holder, "dead" if _flock(descriptor, shared=looking) else "alive"
    return holder, "alive" if _is_running(holder) else "dead"


def _flock(descriptor: int, *, shared: bool = False) -> bool:
    if fcntl is None:
        return False
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except OSError:  # another has it, or there are no such locks on this file system
        return False
    return True


def _is_running(holder: Holder) -> bool:
    if os.name == "nt":  # where this question would end the process
        return True
    try:
        os.kill(holder.pid, 0)
    except PermissionError:
        pass
    except (ProcessLookupError, OverflowError):
        return False
    now = _started(holder.pid)
    return None in (now, holder.started) or now == holder.started


def _started(pid: int) -> int | None:
    """Ticks between the start of the system and that of a process, as Linux tells."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        return int(stat.rpartition(")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return None
