"""One writer at a time in a run folder: the file `run.lock`, which says who that is.

The system's lock on the file (flock) decides whether the holder lives: it ends with the process, so
neither a reused process number nor the clock can mislead. On a file system without such locks, the
process number and the time at which the process was started decide.

This is our own code, not the library filelock, for three reasons. A filelock file stays in the
folder after the run (removing it lets two processes in), or is emptied by whoever asks for the lock
(versions 3). It cannot be looked at without being created, as `malfl verify` must in a folder that
it may only read. And it takes a lock that is free locally for free, also when the holder is on
another machine and the network file system does not hand locks on.
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
_PATIENCE = 0.5  # seconds: another process may be taking over, or only looking
State = Literal["alive", "dead", "unknown"]


class RunLocked(RuntimeError):
    """Another process works in the run folder; the message says which."""


@dataclass(frozen=True)
class Holder:
    """Who holds a lock.

    Args:
        host: the name of its host.
        pid: its process number there.
        started: when the system says that the process was started, in its own units; None: unknown.
        flock: whether it also holds the system's lock on the file.
        machine: identifies the running system, whatever host names its containers have; None:
            unknown.
        since: date and time, for people.
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
    """Hold the lock of a run folder, which is made where it is not there.

    A lock that a process of this machine left when it died is taken over, and `log` is told.

    Raises:
        RunLocked: where another process holds it, or one on another machine may.
        NoSpace: where there is no room for the lock.
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
    """Who holds the lock of a run folder, and whether it lives; None: there is no lock.

    The holder is None where the lock cannot be read; `unknown` is also the state of a process on
    another machine. Nothing is written.
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
    """An open descriptor of the lock, which is ours then."""
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
                raise RunLocked(_refusal(path, holder, state))
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
        time.sleep(0.02)


def _write(path: Path, descriptor: int, *, flock: bool, created: bool) -> None:
    """Say who holds the lock, in one write, which no other process sees half done."""
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
    """Who holds a lock, and whether it lives.

    Args:
        descriptor: of the lock file.
        locked: whether the system's lock on it could be taken; None: the system has none here.
    """
    os.lseek(descriptor, 0, os.SEEK_SET)
    content = os.read(descriptor, 4096)
    try:
        holder = Holder(**json.loads(content))
        if not is_whole(holder.pid):
            raise TypeError(holder.pid)
    except (ValueError, TypeError, RecursionError):
        if locked is False:
            return None, "alive"  # it is about to write who it is
        return None, "dead" if locked and not content else "unknown"  # it died before it wrote
    if locked is False:
        return holder, "alive"
    here = holder.host == socket.gethostname()
    if locked and holder.flock and (here or None is not holder.machine == _machine()):
        return holder, "dead"
    if not here:
        return holder, "unknown"
    return holder, "alive" if _is_running(holder) else "dead"


def _refusal(path: Path, holder: Holder | None, state: State) -> str:
    if holder is None and state == "unknown":
        return (
            f"{path.parent} is in use: {path} is there and cannot be read; "
            "if no run works there, remove it"
        )
    if state == "alive":
        who = f"{holder} (or one that it started)" if holder else "another process"
        return f"{path.parent} is in use by {who}: wait for it, or choose another folder"
    return (
        f"{path.parent} is in use by {holder}, and from {socket.gethostname()} it cannot be told "
        f"whether that process is still there: wait for it; if it is gone, remove {path}"
    )


def _is_at(path: Path, descriptor: int) -> bool:
    """Whether the open file is still the one of this name."""
    with suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    return False


def _flock(descriptor: int, *, shared: bool = False) -> bool | None:
    """Take the system's lock on a file. False: another has it; None: there are none here."""
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
