"""Runs of `malfl` in processes of their own that need no time to start: forked off a warm one."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from dying_plugins import ENTRIES as DYING
from fake_plugins import install

REPOSITORY = Path(__file__).parents[2]
FAKES = ("--learner", "fake", "--observers", "counting", "--jobs", "1")
"""Plugins that do next to nothing, in the process of the run itself."""

_COUNTED = {"os.rename", "os.link", "os.mkdir", "os.remove", "os.rmdir"}
_CHANGES = "changes to the file system: "


def environment(folder: Path, **further: str) -> dict[str, str]:
    """For a process that finds the repository, the tests' helpers and the fake plugins."""
    with pytest.MonkeyPatch.context() as patch:
        install(folder / "fakes", patch)
        install(folder / "dying", patch, DYING, name="dying")
        paths = [str(REPOSITORY), str(REPOSITORY / "tests" / "support"), *filter(None, sys.path)]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), **further}


def content(root: Path) -> dict[str, bytes]:
    """Every file of a run folder but `run.json`, which holds times."""
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file() and path != root / "run.json"
    }


def stamps(root: Path) -> dict[str, tuple[int, int]]:
    """Properties that change when one of these files is written again, even unchanged."""
    return {
        name: ((root / name).stat().st_ino, (root / name).stat().st_mtime_ns)
        for name in content(root)
    }


class Nursery:
    """Starts runs one at a time. A context manager.

    Args:
        folder: for its own files.
        warm_up: the arguments of a first run, in the process that later ones are forked off.
        figures: whether runs draw pictures.
    """

    def __init__(self, folder: Path, warm_up: Sequence[str], *, figures: bool) -> None:
        self._server = subprocess.Popen(
            [sys.executable, __file__, str(int(figures))],
            env=environment(folder),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._ask({"argv": list(warm_up)})["status"] == 0

    def run(
        self,
        *argv: str,
        kill_after: float | None = None,
        die_at: int = 0,
        largest_file: int | None = None,
    ) -> dict[str, Any]:
        """One run of `malfl`.

        Args:
            argv: its arguments.
            kill_after: seconds until SIGKILL; None: never.
            die_at: it kills itself before the change to the file system with this number.
            largest_file: the largest file that it may write, as by `ulimit -f`, in bytes.

        Returns:
            `status` (negative: the signal that ended it), `output`, `seconds`, and `changes`, the
            number of changes to the file system where it did not kill itself.
        """
        request = {"argv": argv, "die_at": die_at, "largest_file": largest_file}
        pid = self._ask({**request, "fork": True})["pid"]
        started = time.monotonic()
        timer = None
        if kill_after is not None:
            timer = threading.Timer(kill_after, os.killpg, (pid, signal.SIGKILL))
            timer.start()
        ended = self._hear()
        if timer is not None:
            timer.cancel()
            timer.join()
        output, _, told = ended["output"].partition(_CHANGES)
        changes = int(told) if told else None
        seconds = time.monotonic() - started
        return {**ended, "output": output, "seconds": seconds, "changes": changes}

    def __enter__(self) -> Nursery:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.communicate("")
        assert self._server.returncode == 0

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        assert self._server.stdin is not None
        self._server.stdin.write(json.dumps(request) + "\n")
        self._server.stdin.flush()
        return self._hear()

    def _hear(self) -> dict[str, Any]:
        assert self._server.stdout is not None
        answer = json.loads(self._server.stdout.readline())
        assert isinstance(answer, dict)
        return answer


def _serve(figures: bool) -> None:
    from malfl_algos import report as pictures
    from malfl_algos.cli.main import main

    answers = os.fdopen(os.dup(1), "w")
    if not figures:
        pictures.write_figures = lambda *_, **__: []
    _redirect(os.open(os.devnull, os.O_WRONLY))
    for line in sys.stdin:
        request = json.loads(line)
        if not request.get("fork"):
            print(json.dumps({"status": main(request["argv"])}), file=answers, flush=True)
            continue
        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:
            _run(main, request, writing)
        os.close(writing)
        print(json.dumps({"pid": pid}), file=answers, flush=True)
        with os.fdopen(reading) as output:
            text = output.read()
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        print(json.dumps({"status": code, "output": text}), file=answers, flush=True)


def _run(main: Any, request: dict[str, Any], output: int) -> None:
    os.setsid()
    _redirect(output)
    if request["largest_file"] is not None:
        limit = request["largest_file"]
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    changes = 0

    def count(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal changes
        if event in _COUNTED or (event == "open" and _makes(arguments)):
            changes += 1
            if changes == request["die_at"]:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(count)
    status = main(request["argv"])
    print(f"{_CHANGES}{changes}")
    sys.stdout.flush()
    os._exit(status)


def _makes(arguments: tuple[Any, ...]) -> bool:
    """Whether an audited call of open makes a file."""
    _, mode, flags = arguments
    return "x" in mode if isinstance(mode, str) else bool(flags & os.O_CREAT)


def _redirect(descriptor: int) -> None:
    for stream in (1, 2):
        os.dup2(descriptor, stream)
    os.close(descriptor)


if __name__ == "__main__":
    _serve(bool(int(sys.argv[1])))
