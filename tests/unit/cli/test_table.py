"""Functions of all commands: output, and checks of files before heavy imports."""

from __future__ import annotations

import argparse
import io
import os
import subprocess
import sys

import pytest

from malfl_algos.cli.main import make_parser
from malfl_algos.cli.table import COMMANDS, existing, tell, whole
from malfl_env.errors import InputError

HEAVY = ("scipy", "numba", "matplotlib", "pandas", "torch")


@pytest.mark.parametrize(
    ("argv", "status"),
    [
        ("--help", 0),
        ("--version", 0),
        ("plugins", 0),
        ("reproduce --config absent", 2),
        ("learn --config absent --output-dir out", 2),
        ("recover absent --observer ma-lfl --output-dir out", 2),
        ("score absent --ground-truth absent", 2),
        ("score absent --trace absent", 2),
        ("check absent", 2),
        ("sweep absent --output-dir out", 2),
        ("export absent --format parquet --output out", 2),
        ("import absent --output out.npz", 2),
        ("verify absent", 2),
        ("report absent --output page.html", 2),
        ("nonsense", 2),
    ],
)
def test_a_missing_file_is_reported_before_heavy_imports(tmp_path, argv, status):
    program = (
        "import sys\nfrom malfl_algos.cli.main import main\n"
        "try: status = main(sys.argv[1:])\n"
        "except SystemExit as end: status = end.code\n"
        f"heavy = sorted(set({HEAVY}) & set(sys.modules))\n"
        "assert not heavy, heavy\n"
        "sys.exit(status)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *argv.split()],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert done.returncode == status, done.stderr
    assert len(done.stderr.splitlines()) == (status == 2)
    assert list(tmp_path.iterdir()) == []


def test_the_list_above_covers_every_command():
    """Add a new command to the list above."""
    assert set(COMMANDS) == {
        *("reproduce", "learn", "recover", "score", "check", "sweep", "export", "verify"),
        *("plugins", "import", "report"),
    }


def test_every_command_takes_traceback_and_has_a_purpose():
    (commands,) = (a for a in make_parser()._actions if a.dest == "command")
    assert isinstance(commands.choices, dict)
    assert set(commands.choices) == set(COMMANDS)
    for name, parser in commands.choices.items():
        assert "--traceback" in parser.format_help(), name
        assert COMMANDS[name].purpose[0].isupper()


def test_control_characters_and_what_cannot_be_encoded_are_escaped():
    stream = io.TextIOWrapper(io.BytesIO(), encoding="cp1252")
    tell("a\x1b[31m\u202e\r\x07 \u0141\xf3d\u017a\nb \udcff", to=stream)
    stream.seek(0)
    assert stream.read() == "a\\x1b[31m\\u202e\\r\\x07 \\u0141\xf3d\\u017a\nb \\udcff\n"


def test_a_closed_pipe_is_no_error():
    read, write = os.pipe()
    os.close(read)
    with open(write, "w", encoding="utf-8") as stream:
        tell("nobody listens", to=stream)
        tell("nor now", to=stream)


def test_missing_paths_are_rejected(tmp_path):
    existing(str(tmp_path), None)
    for path in (str(tmp_path / "x"), "a\x00b", "\udcff"):
        with pytest.raises(InputError, match="no such file or folder"):
            existing(None, path)


def test_whole_numbers_mean_what_is_written():
    assert [whole(text) for text in ("0", "10", "+3", "-3")] == [0, 10, 3, -3]
    for text in ("010", "1_000", "0x10", "1:30", "1.0", "1e3", " 1", "٣", "", "9" * 200):
        with pytest.raises(argparse.ArgumentTypeError, match="must be a whole number"):
            whole(text)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
@pytest.mark.parametrize(("stream", "status"), [("stderr", 0), ("stdout", 3)])
def test_a_full_standard_error_does_not_end_the_work_and_a_full_standard_output_is_named(
    stream, status
):
    program = (
        "import sys\nfrom malfl_algos.cli.table import tell\n"
        f"try: tell('text', to=sys.{stream})\n"
        "except OSError as fault: sys.exit(3 if 'standard output: No space' in str(fault) else 4)\n"
    )
    with open("/dev/full", "w") as full:
        done = subprocess.run([sys.executable, "-c", program], **{stream: full})
    assert done.returncode == status
