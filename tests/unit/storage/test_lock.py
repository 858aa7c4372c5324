import json
import os
import signal
import socket
import subprocess
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from malfl_algos.storage import lock as module
from malfl_algos.storage.durable import NoSpace
from malfl_algos.storage.lock import LOCK_NAME, RunLocked, lock_state, run_lock

REPOSITORY = Path(__file__).parents[3]
HOLD = (
    "import sys, time\nfrom pathlib import Path\n"
    f"sys.path.insert(0, {str(REPOSITORY)!r})\n"
    "from malfl_algos.storage.lock import RunLocked, run_lock\n"
    "try:\n"
    "    with run_lock(Path(sys.argv[1]), log=print):\n"
    "        print('held', flush=True)\n"
    "        sys.stdin.read()\n"
    "except RunLocked as fault:\n"
    "    print(fault, flush=True)\n"
)


UNFIT = json.dumps({"host": socket.gethostname(), "pid": "y", "started": 1, "flock": False})


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PATIENCE", 0.05)


def _holder(root: Path) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", HOLD, str(root)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def _write(root: Path, **changes: object) -> Path:
    root.mkdir(exist_ok=True)
    whole = {"host": socket.gethostname(), "pid": os.getpid(), "started": 1, "flock": False}
    path = root / LOCK_NAME
    path.write_text(json.dumps({**whole, **changes}))
    return path


def test_a_lock_says_who_holds_it_and_goes_with_its_block(tmp_path):
    root = tmp_path / "new" / "run"
    with run_lock(root, log=pytest.fail):
        held = json.loads((root / LOCK_NAME).read_text())
        assert (held["host"], held["pid"]) == (socket.gethostname(), os.getpid())
        holder, state = lock_state(root)
        assert (holder.pid, state) == (os.getpid(), "alive")
    assert list(root.iterdir()) == []
    with pytest.raises(KeyError), run_lock(root, log=pytest.fail):
        raise KeyError
    assert list(root.iterdir()) == []
    assert lock_state(root) is None


def test_a_second_writer_is_rejected_and_the_first_is_named(tmp_path):
    process = _holder(tmp_path)
    assert process.stdout.readline() == "held\n"
    with pytest.raises(RunLocked, match=f"in use by process {process.pid} on host"):
        run_lock(tmp_path, log=pytest.fail).__enter__()
    assert [path.name for path in tmp_path.iterdir()] == [LOCK_NAME]
    process.communicate("")
    with run_lock(tmp_path, log=pytest.fail):
        pass


def test_of_many_who_find_a_lock_of_the_dead_one_takes_it(tmp_path):
    first = _holder(tmp_path)
    first.stdout.readline()
    first.send_signal(signal.SIGKILL)
    first.wait()
    holder, state = lock_state(tmp_path)
    assert (holder.pid, state) == (first.pid, "dead")
    rivals = [_holder(tmp_path) for _ in range(5)]
    heard = [rival.stdout.readline() for rival in rivals]
    note = f"took over the lock of {holder}, which is gone\n"
    assert heard.count(note) == 1
    winner = rivals[heard.index(note)]
    assert winner.stdout.readline() == "held\n"
    others = [line for line in heard if line != note]
    assert all(f"in use by process {winner.pid} on host" in line for line in others)
    for rival in rivals:
        rival.communicate("")
    assert list(tmp_path.iterdir()) == []


def test_a_lock_of_another_host_is_respected(tmp_path):
    path = _write(tmp_path, host="elsewhere", pid=7)
    with pytest.raises(RunLocked) as caught:
        run_lock(tmp_path, log=pytest.fail).__enter__()
    assert str(caught.value) == (
        f"{tmp_path} is in use by process 7 on host elsewhere, and {socket.gethostname()} cannot "
        "find out whether that process is still running: wait for it; if it has ended, remove "
        f"{path}"
    )
    assert lock_state(tmp_path)[1] == "unknown"
    path.unlink()
    with run_lock(tmp_path, log=pytest.fail):
        pass


@pytest.mark.parametrize("content", ["{", "[]", '{"host": "x"}', '{"pid": "y", "host": 1}', UNFIT])
def test_a_lock_that_cannot_be_read_is_respected(tmp_path, content):
    (tmp_path / LOCK_NAME).write_text(content)
    with pytest.raises(RunLocked, match="cannot be read; if no run works there, remove it"):
        run_lock(tmp_path, log=pytest.fail).__enter__()
    assert lock_state(tmp_path) == (None, "unknown")


def test_a_lock_whose_holder_died_before_it_wrote_its_name_is_free(tmp_path):
    (tmp_path / LOCK_NAME).touch()
    assert lock_state(tmp_path) == (None, "dead")
    with run_lock(tmp_path, log=pytest.fail):
        assert lock_state(tmp_path)[0].pid == os.getpid()
    assert list(tmp_path.iterdir()) == []


def test_a_killed_container_that_comes_back_under_another_name_takes_its_lock_over(tmp_path):
    notes: list[str] = []
    _write(tmp_path, host="pod-abc", pid=7, flock=True, machine=module._machine())
    assert lock_state(tmp_path)[1] == "dead"
    with run_lock(tmp_path, log=notes.append):
        assert lock_state(tmp_path)[0].host == socket.gethostname()
    assert notes == ["took over the lock of process 7 on host pod-abc, which is gone"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("machine", [None, "another"])
def test_a_lock_of_another_machine_is_respected_though_it_is_free_here(tmp_path, machine):
    _write(tmp_path, host="elsewhere", pid=7, flock=True, machine=machine)
    with pytest.raises(RunLocked, match="if it has ended, remove"):
        run_lock(tmp_path, log=pytest.fail).__enter__()


def test_a_lock_says_since_when_and_verify_looks_without_writing(tmp_path):
    with run_lock(tmp_path, log=pytest.fail):
        before = (tmp_path / LOCK_NAME).read_bytes()
        since = datetime.fromisoformat(json.loads(before)["since"])
        assert abs(datetime.now(timezone.utc) - since) < timedelta(minutes=1)
        assert lock_state(tmp_path)[1] == "alive"
        assert (tmp_path / LOCK_NAME).read_bytes() == before


def test_where_files_cannot_be_locked_a_process_is_known_by_its_start(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "fcntl", None)
    with run_lock(tmp_path, log=pytest.fail):
        assert not json.loads((tmp_path / LOCK_NAME).read_text())["flock"]
        with pytest.raises(RunLocked, match=f"process {os.getpid()} on host"):
            run_lock(tmp_path, log=pytest.fail).__enter__()
    # a process of the same number that was started at another time is another process
    notes: list[str] = []
    _write(tmp_path, started=module._started(os.getpid()) - 1)
    with run_lock(tmp_path, log=notes.append):
        pass
    assert len(notes) == 1
    # where the system does not tell, the number alone decides
    _write(tmp_path, started=None)
    with pytest.raises(RunLocked):
        run_lock(tmp_path, log=pytest.fail).__enter__()


def test_a_full_disk_leaves_no_lock(tmp_path, monkeypatch):
    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(NoSpace, match=LOCK_NAME):
        run_lock(tmp_path, log=pytest.fail).__enter__()
    assert list(tmp_path.iterdir()) == []


def test_a_lock_that_is_no_longer_ours_is_not_removed(tmp_path):
    with run_lock(tmp_path, log=pytest.fail):
        (tmp_path / LOCK_NAME).unlink()
        path = _write(tmp_path, host="elsewhere")
    assert path.exists()
