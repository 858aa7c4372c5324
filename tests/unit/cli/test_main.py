"""Errors: their cause, the exit status, one line, and a traceback with `--traceback`."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from fake_plugins import install

from malfl_algos.cli import table
from malfl_algos.cli.main import main
from malfl_algos.plugins.loading import MissingExtra, PluginError, PluginFault
from malfl_env.errors import InputError

SHOW = r"\(--traceback shows where\)"
PLUGINS = """
from dataclasses import dataclass
from fake_plugins import CountingObserver, FakeLearner
from malfl_algos import Stage
from malfl_env import InputError

@dataclass(frozen=True)
class Learner(FakeLearner):
    fault: str = "ValueError"
    def learn(self, env, *, n_stages, rng):
        for stage in super().learn(env, n_stages=n_stages, rng=rng):
            yield stage
            if self.fault == "stage":
                yield Stage()
            raise {"ValueError": ValueError, "InputError": InputError, "exit": SystemExit}[
                self.fault
            ]("too\\nsmall")

@dataclass(frozen=True)
class Observer(CountingObserver):
    fault: str = "ValueError"
    def recover(self, trace, **given):
        raise {"ValueError": ValueError, "InputError": InputError, "exit": SystemExit}[
            self.fault
        ]("too\\nsmall")
"""


@pytest.fixture
def _odd_plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "odd_plugins.py").write_text(PLUGINS)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "odd_plugins", raising=False)
    install(
        tmp_path / "plugins",
        monkeypatch,
        {
            "malfl.learners": {"odd": "odd_plugins:Learner", "fake": "fake_plugins:FakeLearner"},
            "malfl.observers": {"odd": "odd_plugins:Observer"},
        },
    )
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")


def test_version(capsys):
    with pytest.raises(SystemExit) as end:
        main(["--version"])
    assert end.value.code == 0
    assert capsys.readouterr().out == f"malfl {version('malfl-env')}\n"


@pytest.mark.parametrize(
    ("fault", "status", "line"),
    [
        (InputError("size must\nbe > 0"), 2, "malfl: size must be > 0"),
        (PluginError("say a:x or b:x"), 2, "malfl: say a:x or b:x"),
        (MissingExtra("pip install x"), 2, "malfl: pip install x"),
        (PluginFault("learner 'x' failed"), 1, rf"malfl: learner 'x' failed {SHOW}"),
        (ImportError("needs x"), 2, "malfl: needs x"),
        (OSError(28, "no space"), 1, r"malfl: \[Errno 28\] no space"),
        (RuntimeError("one\ntwo"), 1, "malfl: one\nmalfl: two"),
        (ValueError("axis 3"), 1, rf"malfl: internal error: ValueError: axis 3 {SHOW}"),
        (KeyError("x"), 1, rf"malfl: internal error: KeyError: 'x' {SHOW}"),
        (NotImplementedError(), 1, rf"malfl: internal error: NotImpl.*: NotImpl.* {SHOW}"),
        (InputError("name \x1b[31mred"), 2, r"malfl: name \\x1b\[31mred"),
    ],
)
def test_whose_fault_it_is(monkeypatch, capsys, fault, status, line):
    def fail(arguments: object) -> int:
        raise fault

    entry = table.Command("Fail.", (), fail, needs_extra=False)
    monkeypatch.setitem(table.COMMANDS, "fail", entry)
    assert main(["fail"]) == status
    out, err = capsys.readouterr()
    assert out == ""
    assert re.fullmatch(line + "\n", err)
    assert main(["fail", "--traceback"]) == status
    err = capsys.readouterr().err
    assert err.startswith("Traceback (most recent call last):")
    assert "in fail" in err
    assert re.search(line + "\n$", err)


@pytest.mark.parametrize(
    ("resumes", "line"),
    [
        (False, "malfl: interrupted\n"),
        (True, "malfl: interrupted; run the same command again to continue\n"),
    ],
)
def test_an_interruption_says_how_to_continue(monkeypatch, capsys, resumes, line):
    def fail(arguments: object) -> int:
        raise KeyboardInterrupt

    entry = table.Command("Fail.", (), fail, needs_extra=False, resumes=resumes)
    monkeypatch.setitem(table.COMMANDS, "fail", entry)
    assert main(["fail"]) == 130
    assert capsys.readouterr().err == line


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_in_compiled_code_is_an_interruption(monkeypatch, capsys, number):
    def fail(arguments: object) -> int:
        try:
            signal.raise_signal(number)
        except KeyboardInterrupt as fault:
            raise SystemError("returned a result with an exception set") from fault
        return 0

    entry = table.Command("Fail.", (), fail, needs_extra=False)
    monkeypatch.setitem(table.COMMANDS, "fail", entry)
    assert main(["fail"]) == 128 + number
    assert capsys.readouterr().err == "malfl: interrupted\n"


@pytest.mark.usefixtures("_odd_plugins")
@pytest.mark.parametrize("command", ["learn odd", "recover trace/trace.npz --observer odd"])
def test_single_commands_separate_errors_of_plugins_from_bad_input(capsys, command):
    if command.startswith("recover"):
        assert main(["learn", "fake", "--iterations", "2", "--output-dir", "trace"]) == 0
        capsys.readouterr()
    kind = "learner" if command.startswith("learn") else "observer"
    before = sorted(Path().rglob("*"))
    argv = [*command.split(), "--output-dir", "out"]
    assert main(argv) == 1
    assert capsys.readouterr().err == (
        f"malfl: {kind} 'odd' of distribution 'fakes' 1.2 failed: ValueError: too small "
        "(--traceback shows where)\n"
    )
    assert main([*argv, "--traceback"]) == 1
    assert "odd_plugins.py" in capsys.readouterr().err
    assert main([*argv, "--option", "fault=exit"]) == 1
    assert f"{kind} 'odd' of distribution 'fakes' 1.2 failed: SystemExit" in capsys.readouterr().err
    assert main([*argv, "--option", "fault=InputError"]) == 2
    assert capsys.readouterr().err == f"malfl: {kind} 'odd': too small\n"
    assert sorted(Path().rglob("*")) == before


@pytest.mark.usefixtures("_odd_plugins")
@pytest.mark.parametrize(
    ("learner", "complaint"),
    [
        ("odd --option fault=stage", "a stage "),
        ("fake --option mode=misshapen", "learner 'fake': stage 0: counts of another game: shape"),
        ("fake --option mode=short", "learner 'fake' yielded 1 stages, n_stages is 2"),
    ],
)
def test_stages_that_break_the_contract_are_the_learners_fault(capsys, learner, complaint):
    assert main(f"learn {learner} --iterations 2 --output-dir out".split()) == 1
    name = learner.split()[0]
    found = f"malfl: learner '{name}' of distribution 'fakes' 1.2 failed: {complaint}.*{SHOW}\n"
    assert re.fullmatch(found, capsys.readouterr().err)


@pytest.mark.usefixtures("_odd_plugins")
def test_units_of_a_run_show_their_tracebacks(capsys):
    argv = "reproduce --learner odd --observers log-policy --iterations 2 --seeds 0 --jobs 1"
    argv += " --reward-families homogeneous --output-dir out"
    assert main(argv.split()) == 1
    err = capsys.readouterr().err
    last = "malfl: family homogeneous, seed 0, learner 'odd': ValueError: too small"
    assert err.splitlines()[-1] == last
    assert "Traceback" not in err
    assert main([*argv.split(), "--traceback"]) == 1
    err = capsys.readouterr().err
    assert "odd_plugins.py" in err
    assert err.splitlines()[-1] == last


@pytest.mark.skipif(sys.platform == "win32", reason="descriptors are closed by the shell")
@pytest.mark.parametrize("closed", ["2>&-", ">&-", ">&- 2>&-"])
def test_closed_streams_are_no_error(tmp_path, closed):
    line = f'"{sys.executable}" -m malfl_algos plugins {closed}'
    done = subprocess.run(["sh", "-c", line], capture_output=True, cwd=tmp_path)
    assert done.returncode == 0
    assert done.stderr == b""
