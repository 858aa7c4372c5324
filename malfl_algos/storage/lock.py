"""One writer at a time in a run folder: the file `run.lock`, which names the writing process.

The system's lock on the file (flock) decides whether the holder is alive. It ends with the process,
so it is reliable even if process numbers are reused or the clock is wrong. On a file system without
such locks, the process number and the start time of the process decide.

This is our own code instead of the library filelock for three reasons. A filelock file stays in the
folder after the run (removing it would admit two processes), or every process that asks for the
lock empties it (version 3). Its state cannot be read without creating it, as `malfl verify` must do
in a read-only folder. And filelock acquires a lock that is free on this machine, even if the holder
is on another machine and the network file system does not share locks.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from types import ModuleType
from typing import Literal

from malfl_algos.storage.durable import make_folder, naming_no_space
from malfl_env.checks import is_whole

fcntl: ModuleType | None
try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

__all__ = ["LOCK_NAME", "Holder", "RunLocked", "lock_state", "run_lock"]

LOCK_NAME = "run.lock"
_PATIENCE = 0.5  # seconds: another process may hold the lock for a moment, to read it
State = Literal["alive", "dead", "unknown"]


class RunLocked(RuntimeError):
    """Another process works in the run folder; the message names it."""


@dataclass(frozen=True)
class Holder:
    """Who holds a lock.

    Args:
        host: the name of its host.
        pid: its process number there.
        started: start time of the process, in units of the system; None: unknown.
        flock: whether the process also holds the system's lock on the file.
        machine: identifies the running system, also across containers with different host names;
            None: unknown.
        since: date and time, for readers of the file.
    """

    host: str
    pid: int
    started: int | None
    flock: bool
    machine: str | None = None
    since: str | None = None

    def __str__(self) -> str:
        return f"process {self.pid} on host {self.host}"


@contextmanager
def run_lock(root: Path, *, log: Callable[[str], None]) -> Iterator[None]:
    """Hold the lock of a run folder; a missing folder is made.

    The lock of a dead process of this machine is taken over, with a line to `log`.

    Raises:
        RunLocked: if another process holds the lock, or a process on another machine may hold it.
        NoSpace: if the disk is full.
    """
    path, owner = root / LOCK_NAME, os.getpid()
    with naming_no_space(path):
        make_folder(root)
        descriptor = _acquire(path, log)
    try:
        yield
    finally:
        if os.getpid() == owner:  # not in a process that was forked off
            if _is_at(path, descriptor):
                path.unlink()
            if fcntl is not None:
                with suppress(OSError):
                    fcntl.flock(descriptor, fcntl.LOCK_UN)  # also for forked processes
            os.close(descriptor)


def lock_state(root: Path) -> tuple[Holder | None, State] | None:
    """The holder of a run folder's lock and its state; None if there is no lock.

    The holder is None if the lock cannot be read. The state of a process on another machine is
    `unknown`. Nothing is written.
    """
    try:
        descriptor = os.open(root / LOCK_NAME, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        return _state(descriptor, _flock(descriptor, shared=True))
    finally:
        os.close(descriptor)


def _acquire(path: Path, log: Callable[[str], None]) -> int:
    """Acquire the lock; returns its open descriptor."""
    until = time.monotonic() + _PATIENCE
    while True:
        created = not path.exists()
        flags = os.O_CREAT | os.O_EXCL if created else 0
        try:
            descriptor = os.open(path, os.O_RDWR | flags, 0o666)
        except (FileExistsError, FileNotFoundError):  # it came or went in between
            continue
        try:
            locked = _flock(descriptor)
            holder, state = _state(descriptor, locked)
            fresh = created and locked is not False
            if (fresh or state == "dead") and _is_at(path, descriptor):
                _write(path, descriptor, flock=bool(locked), created=created)
                if holder is not None:
                    log(f"took over the lock of {holder}, which is gone")
                return descriptor
            if state != "dead" and time.monotonic() >= until:
                raise RunLocked(_explanation(path, holder, state))
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
        time.sleep(0.02)


def _write(path: Path, descriptor: int, *, flock: bool, created: bool) -> None:
    """Write the holder of the lock in one call, so that no other process reads a part of it."""
    pid, now = os.getpid(), datetime.now(timezone.utc).isoformat(timespec="seconds")
    holder = Holder(socket.gethostname(), pid, _started(pid), flock, _machine(), now)
    text = json.dumps(asdict(holder)).encode()
    try:
        os.lseek(descriptor, 0, os.SEEK_SET)
        os.write(descriptor, text.ljust(os.fstat(descriptor).st_size))
        os.fsync(descriptor)
    except BaseException:
        if created:
            path.unlink(missing_ok=True)
        raise


def _state(descriptor: int, locked: bool | None) -> tuple[Holder | None, State]:
    """The holder of a lock, and its state.

    Args:
        descriptor: of the lock file.
        locked: whether the system's lock on it was acquired; None: the file system has no locks.
    """
    os.lseek(descriptor, 0, os.SEEK_SET)
    content = os.read(descriptor, 4096)
    try:
        holder = Holder(**json.loads(content))
        if not is_whole(holder.pid):
            raise TypeError(holder.pid)
    except (ValueError, TypeError, RecursionError):
        if locked is False:
            return None, "alive"  # it has not yet written its entry
        return None, "dead" if locked and not content else "unknown"  # it died before it wrote
    if locked is False:
        return holder, "alive"
    here = holder.host == socket.gethostname()
    if locked and holder.flock and (here or None is not holder.machine == _machine()):
        return holder, "dead"
    if not here:
        return holder, "unknown"
    return holder, "alive" if _is_running(holder) else "dead"


def _explanation(path: Path, holder: Holder | None, state: State) -> str:
    if holder is None and state == "unknown":
        return (
            f"{path.parent} is in use: {path} exists but cannot be read; "
            "if no run works there, remove it"
        )
    if state == "alive":
        who = f"{holder} (or one that it started)" if holder else "another process"
        return f"{path.parent} is in use by {who}: wait for it, or choose another folder"
    return (
        f"{path.parent} is in use by {holder}, and {socket.gethostname()} cannot find out whether "
        f"that process is still running: wait for it; if it has ended, remove {path}"
    )


def _is_at(path: Path, descriptor: int) -> bool:
    """Whether the open file is still the file at this path."""
    with suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    return False


def _flock(descriptor: int, *, shared: bool = False) -> bool | None:
    """Acquire the system's lock on a file. False: another has it; None: locks are not supported."""
    if fcntl is None:
        return None
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    except OSError:
        return None
    return True


def _machine() -> str | None:
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return None


def _is_running(holder: Holder) -> bool:
    if os.name == "nt":  # where os.kill would end the process
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
    """Ticks from the start of the system to that of a process, as Linux reports them."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        return int(stat.rpartition(")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return None
