"""Runs under signals, full disks, damage, concurrent runs and plugins that end their process."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from nursery import FAKES, Nursery, content, environment, stamps

GAME = {"game": {"size": 2}, "iterations": 3, "reward_families": ["homogeneous"], "seeds": [0, 1]}
COMPLETE = "interrupted; run the same command again to continue"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("faults")
    (place / "game.yaml").write_text(yaml.safe_dump(GAME))
    return place


@pytest.fixture(scope="module")
def argv(folder: Path) -> list[str]:
    return ["reproduce", "--config", str(folder / "game.yaml"), *FAKES, "--output-dir"]


@pytest.fixture(scope="module")
def nursery(folder: Path, argv: list[str]) -> Iterator[Nursery]:
    with Nursery(folder, [*argv, str(folder / "undisturbed")], figures=True) as made:
        yield made


@pytest.fixture(scope="module")
def undisturbed(folder: Path, nursery: Nursery) -> Path:
    """A finished run with figures, made without disturbance; tests must not change it."""
    return folder / "undisturbed"


def _prepare(limits: tuple[int, int]) -> None:
    """In the child: the limits, and SIGHUP as in a terminal, also if the tests run under nohup."""
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(scope="module")
def start(folder: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts a run of `malfl` in a new session; its remaining processes are killed at the end."""
    (folder / "processes").mkdir()
    variables = environment(folder / "processes")
    started = []

    def run(
        *argv: str, largest_file: int = resource.RLIM_INFINITY, **further: str
    ) -> subprocess.Popen[str]:
        limits = (largest_file, resource.RLIM_INFINITY)
        process = subprocess.Popen(
            [sys.executable, "-m", "malfl_algos", *argv],
            env={**variables, **further},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            preexec_fn=lambda: _prepare(limits),
        )
        started.append(process)
        return process

    yield run
    for process in started:
        for pid in _session(process.pid):
            os.kill(pid, signal.SIGKILL)
        process.communicate()


def _session(leader: int) -> dict[int, str]:
    """The processes of a session that still run, and their commands."""
    found = {}
    for place in Path("/proc").glob("[0-9]*"):
        try:
            session = int((place / "stat").read_text().rpartition(")")[2].split()[3])
            command = (place / "cmdline").read_bytes()
        except OSError:
            continue
        if session == leader and command:  # it has none any more while it ends
            found[int(place.name)] = command.decode()
    return found


def _wait(condition: Callable[[], Any], process: subprocess.Popen[str] | None = None) -> None:
    until = time.monotonic() + 120
    while not condition():
        assert process is None or process.poll() is None, process.communicate()
        assert time.monotonic() < until
        time.sleep(0.05)


def _waiting(argv: list[str], root: Path, *further: str) -> list[str]:
    plugins = ["--observers", "waiting", "--jobs", "2"]
    return [*argv[:-1], *plugins, *further, argv[-1], str(root)]


@pytest.mark.parametrize(
    ("number", "whole_group", "status"),
    [
        (signal.SIGINT, True, 130),
        pytest.param(signal.SIGINT, False, 130, marks=pytest.mark.slow),
        (signal.SIGTERM, False, 143),
        (signal.SIGHUP, True, 129),
    ],
)
def test_asked_to_end_a_run_ends_cleanly(
    tmp_path, argv, start, nursery, number, whole_group, status
):
    root = tmp_path / "run"
    process = start(*_waiting(argv, root), WAIT_FOR="/never")
    _wait(lambda: len(list(root.rglob(".waiting.partial"))) == 2, process)
    (os.killpg if whole_group else os.kill)(process.pid, number)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err.splitlines()[-1]) == (status, f"malfl: {COMPLETE}")
    assert "Traceback" not in err
    # joblib's resource tracker goes when it sees that all others went
    assert all("resource_tracker" in command for command in _session(process.pid).values())
    _wait(lambda: not _session(process.pid))
    assert [path.name for path in root.rglob(".*")] == []
    assert not (root / "run.lock").exists()
    checked = nursery.run("verify", str(root))
    assert checked["status"] == 1
    assert [line.partition(": ")[2] for line in checked["output"].splitlines()] == ["missing"] * 2
    assert nursery.run(*_waiting(argv, root, "--jobs", "1"))["status"] == 0


@pytest.mark.slow
def test_with_overwrite_the_way_to_go_on_is_another(tmp_path, argv, start):
    root = tmp_path / "run"
    process = start(*_waiting(argv, root, "--overwrite"), WAIT_FOR="/never")
    _wait(lambda: list(root.rglob(".waiting.partial")), process)
    process.send_signal(signal.SIGINT)
    assert process.communicate()[1].splitlines()[-1] == (
        "malfl: interrupted; run the same command without --overwrite again to continue"
    )


def test_workers_do_not_outlive_a_run_that_is_killed(tmp_path, argv, start):
    root = tmp_path / "run"
    process = start(*_waiting(argv, root), WAIT_FOR="/never")
    _wait(lambda: len(list(root.rglob(".waiting.partial"))) == 2, process)
    assert len(_session(process.pid)) >= 3
    process.kill()
    _wait(lambda: not _session(process.pid))


@pytest.mark.slow
def test_of_two_processes_in_one_folder_one_is_rejected(tmp_path, argv, start, nursery):
    root = tmp_path / "run"
    both = [start(*_waiting(argv, root), WAIT_FOR=str(tmp_path / "go on")) for _ in range(2)]
    _wait(lambda: any(process.poll() is not None for process in both))
    (tmp_path / "go on").touch()
    ends = [process.communicate() for process in both]
    winner, loser = sorted(range(2), key=lambda index: both[index].returncode)
    assert [both[winner].returncode, both[loser].returncode] == [0, 1]
    assert ends[loser] == (
        "",
        f"malfl: {root} is in use by process {both[winner].pid} on host {os.uname().nodename} "
        "(or one that it started): wait for it, or choose another folder\n",
    )
    alone = tmp_path / "alone"
    assert nursery.run(*_waiting(argv, alone, "--jobs", "1"))["status"] == 0
    assert content(root) == content(alone)


def test_a_run_in_progress_is_no_fault(tmp_path, argv, start, nursery):
    root = tmp_path / "run"
    process = start(*_waiting(argv, root), WAIT_FOR="/never")
    _wait(lambda: len(list(root.rglob(".waiting.partial"))) == 2, process)
    checked = nursery.run("verify", str(root))
    assert checked["status"] == 0
    assert checked["output"].splitlines()[0] == (
        f"in progress by process {process.pid} on host {os.uname().nodename}"
    )


@pytest.mark.parametrize(
    "limit",
    [
        0,
        2500,
        *(pytest.param(limit, marks=pytest.mark.slow) for limit in (200, 1000, 3000, 5000, 20000)),
    ],
)
def test_a_limit_of_file_sizes(tmp_path, argv, nursery, undisturbed, limit):
    root = tmp_path / "run"
    stopped = nursery.run(*argv, str(root), largest_file=limit)
    _check_no_space(stopped, root)
    assert nursery.run(*argv, str(root))["status"] == 0
    assert content(root) == content(undisturbed)


@pytest.mark.slow
def test_a_limit_of_file_sizes_met_in_a_worker(tmp_path, argv, start, nursery, undisturbed):
    root = tmp_path / "run"
    two = [word if word != "1" else "2" for word in argv]
    # room for the record, but not for the figures, which workers write
    process = start(*two, str(root), largest_file=20000)
    _, err = process.communicate()
    _check_no_space({"status": process.returncode, "output": err}, root)
    assert "figures/" in err.splitlines()[-1]
    assert nursery.run(*argv, str(root))["status"] == 0
    assert content(root) == content(undisturbed)


@pytest.mark.parametrize(
    "kilobytes", [24, *(pytest.param(size, marks=pytest.mark.slow) for size in (4, 64, 120))]
)
def test_a_full_disk(tmp_path, argv, nursery, undisturbed, kilobytes):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(disk)]
    try:
        mounted = subprocess.run(mount, capture_output=True, text=True)
    except OSError as fault:
        pytest.skip(f"no disk of its own for this test: {fault}")
    if mounted.returncode:
        pytest.skip(f"no disk of its own for this test: {mounted.stderr.strip()}")
    try:
        root = disk / "run"
        _check_no_space(nursery.run(*argv, str(root)), root)
        subprocess.run(["mount", "-o", "remount,size=10m", str(disk)], check=True)
        assert nursery.run(*argv, str(root))["status"] == 0
        assert content(root) == content(undisturbed)
        assert nursery.run("verify", str(root))["status"] == 0
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def _check_no_space(stopped: Mapping[str, Any], root: Path) -> None:
    *_, last = stopped["output"].splitlines()
    assert stopped["status"] == 1
    assert last.startswith(f"malfl: {root}")
    assert "no space to write it" in last
    assert "Traceback" not in stopped["output"]
    assert list(root.rglob(".*")) == []
    for path in root.rglob("*.json"):
        json.loads(path.read_text())


def test_a_folder_that_is_only_to_be_read(tmp_path, argv, undisturbed):
    """Root may write anywhere, so another user has to try."""
    program = (
        "import importlib, os, pkgutil, sys\n"
        "import malfl_algos\n"
        "from malfl_algos.cli.main import main\n"
        # the other user may be unable to read the folder in which the packages are installed
        "for module in pkgutil.walk_packages(malfl_algos.__path__, 'malfl_algos.'):\n"
        "    if not module.name.endswith(('__main__', 'network')):\n"
        "        try: importlib.import_module(module.name)\n"
        "        except ModuleNotFoundError: pass\n"
        "for name in 'scipy numba yaml matplotlib joblib tqdm threadpoolctl docstring_parser '"
        "'pydantic'.split(): importlib.import_module(name)\n"
        "from malfl_algos.experiments.config import from_mapping; from_mapping({'iterations': 3})\n"
        "if os.geteuid() == 0:\n"
        "    os.setgroups([]), os.setgid(65534), os.setuid(65534)\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    root = Path("/tmp") / f"malfl-only-to-be-read-{os.getpid()}"
    try:
        shutil.copytree(undisturbed, root)
        shutil.rmtree(root / "homogeneous" / "seed_0" / "counting")
        for path in (root, *root.rglob("*")):
            path.chmod(0o555 if path.is_dir() else 0o444)
        before = stamps(root)
        settings = ["--iterations", "3", "--seeds", "0", "1", *FAKES]
        done = subprocess.run(
            [sys.executable, "-c", program, "reproduce", *settings, "--output-dir", str(root)],
            env=environment(tmp_path),
            capture_output=True,
            text=True,
        )
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr == (
            f"malfl: the output folder {root} is not writable: no permission in {root}\n"
        )
        assert stamps(root) == before
    finally:
        for path in (root, *root.rglob("*")):
            path.chmod(0o755)
        shutil.rmtree(root)


@pytest.mark.parametrize("every", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize("damage", ["flip", "cut", "lose"])
def test_damage_of_any_file_is_named_and_repaired_or_rejected(
    tmp_path, argv, nursery, undisturbed, damage, every
):
    names = [p.relative_to(undisturbed).as_posix() for p in undisturbed.rglob("*") if p.is_file()]
    assert {Path(name).suffix for name in names} == {".npz", ".json", ".yaml", ".csv", ".png"}
    if not every:  # one of each kind, and the record
        names = ["run.json", *{Path(name).suffix: name for name in names}.values()]
    for name in dict.fromkeys(names):
        root = tmp_path / "run"
        shutil.copytree(undisturbed, root)
        path, kept = root / name, stamps(root)
        _damage(path, damage)
        checked = nursery.run("verify", str(root))
        assert checked["status"] == (2 if (damage, name) == ("lose", "run.json") else 1)
        first = checked["output"].splitlines()[0]
        assert first.startswith((f"{name}: ", f"{path}: ")) or name == "run.json" in first
        mended = nursery.run(*argv, str(root))
        if name == "run.json":
            assert mended["status"] == 2
            assert "run.json" in mended["output"]
            assert stamps(root) == kept
        else:
            assert mended["status"] == 0
            assert content(root) == content(undisturbed)
            # nothing else was written, but for what lies in the folder of the same unit
            unit = path.parent if "/seed_" in name else path
            now = stamps(root)
            for other, stamp in kept.items():
                if not (root / other).is_relative_to(unit):
                    assert now[other] == stamp, (name, other)
            assert nursery.run("verify", str(root))["status"] == 0
        shutil.rmtree(root)


def _damage(path: Path, damage: str) -> None:
    whole = bytearray(path.read_bytes())
    if damage == "lose":
        path.unlink()
        return
    whole[len(whole) // 2] ^= 1
    path.write_bytes(path.read_bytes()[:-3] if damage == "cut" else whole)


@pytest.mark.slow
def test_a_damaged_record_can_be_started_afresh(tmp_path, argv, nursery, undisturbed):
    root = tmp_path / "run"
    shutil.copytree(undisturbed, root)
    _damage(root / "run.json", "flip")
    assert nursery.run(*argv, str(root), "--overwrite")["status"] == 0
    assert content(root) == content(undisturbed)
    assert nursery.run("verify", str(root))["status"] == 0


@pytest.mark.parametrize("jobs", ["1", pytest.param("2", marks=pytest.mark.slow)])
def test_a_clock_that_jumps(tmp_path, argv, nursery, start, undisturbed, jobs):
    """The clock jumps by years at every reading; files have stamps before and after all runs."""
    (tmp_path / "clock").mkdir()
    (tmp_path / "clock" / "sitecustomize.py").write_text(
        "import itertools, time\n"
        "jumps = itertools.cycle([1e9, -1e9, 0.0, 5e8])\nnow = time.time\n"
        "time.time = lambda: now() + next(jumps)\n"
        "time.time_ns = lambda: int(1e9 * time.time())\n"
    )
    root = tmp_path / "run"
    path = environment(tmp_path)["PYTHONPATH"]
    jumping = os.pathsep.join([str(tmp_path / "clock"), path])
    command = [word if word != "1" else jobs for word in argv]
    process = start(*command, str(root), PYTHONPATH=jumping)
    process.communicate()
    assert process.returncode == 0
    assert content(root) == content(undisturbed)
    for number, path in enumerate(sorted(root.rglob("*"))):
        os.utime(path, (number % 2 * 4e9, number % 2 * 4e9))
    shutil.rmtree(root / "homogeneous" / "seed_1" / "counting")
    kept = stamps(root)
    assert nursery.run(*argv, str(root))["status"] == 0
    assert content(root) == content(undisturbed)
    assert {name: stamps(root)[name] for name in kept} == kept


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "death"),
    [
        ("learner", "exit"),
        ("learner", "exception"),
        ("observer", "exit"),
        ("observer", "sys.exit"),
    ],
)
def test_a_plugin_that_dies_costs_its_own_unit_only(tmp_path, argv, start, nursery, kind, death):
    root = tmp_path / "run"
    plugins = ["--jobs", "2", "--seeds", "0", "1", "2", "--observers", "counting", "dying"]
    if kind == "learner":
        plugins = [*plugins[:-1], "--learner", "dying-learner"]
    command = [*argv[:-1], *plugins, "--output-dir", str(root)]
    process = start(*command, DEATH=death)
    _, err = process.communicate()
    assert process.returncode == 1, err
    label = "dying-learner" if kind == "learner" else "dying"
    complaints = [line for line in err.splitlines() if line.startswith("malfl: ")]
    words = {
        "exit": "its process died: ended by the plugin, killed, or out of memory",
        "sys.exit": "SystemExit: gone",
        "exception": "RuntimeError: out of order",
    }[death]
    assert complaints == [f"malfl: family homogeneous, seed 1, {kind} {label!r}: {words}"]
    parts = json.loads((root / "run.json").read_text())["parts"]
    states = {name: part["state"] for name, part in parts.items()}
    failed = f"homogeneous/seed_1/{label}"
    assert states.pop(failed) == "failed"
    waiting = {"tables", "figures"}
    if kind == "learner":
        waiting.add("homogeneous/seed_1/counting")
    assert {name for name, state in states.items() if state != "done"} == waiting
    assert f"{failed}: failed: family homo" in nursery.run("verify", str(root))["output"]
    kept = stamps(root)
    assert nursery.run(*command, "--jobs", "1")["status"] == 0
    after = stamps(root)
    assert {name: after[name] for name in kept if "/seed_" in name} == {
        name: stamp for name, stamp in kept.items() if "/seed_" in name
    }
    assert nursery.run("verify", str(root))["status"] == 0
