"""The `malfl` command: it parses the arguments, runs a command and reports errors.

Exit status: 0, done; 1, a run failed, by an error of a plugin or of ours; 2, bad input or a missing
package, and nothing was written; 130, interrupted; 129 or 143, asked to end by SIGHUP or
SIGTERM. An error is one line, or one line per part that failed; `--traceback` adds the traceback.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from types import FrameType
from typing import Any, NoReturn

from malfl_algos.cli import (  # noqa: F401  (they add to the table)
    check,
    experiments,
    imports,
    plugins,
    report,
    traces,
)
from malfl_algos.cli.table import COMMANDS, log, tell
from malfl_algos.plugins.interruption import pass_interruption
from malfl_algos.plugins.loading import PluginError, PluginFault
from malfl_algos.plugins.options import suggestion
from malfl_env.errors import InputError

__all__ = ["main", "make_parser"]

_CHOICE = re.compile(r"invalid choice: '([^']*)' \(choose from (.*)\)")
_EXTRA = (
    "scipy",
    "numba",
    "yaml",
    "matplotlib",
    "joblib",
    "tqdm",
    "threadpoolctl",
    "docstring_parser",
    "pydantic",
)
_SHOW = "--traceback shows where"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        argv: arguments of the command; None: those of the process.

    Returns:
        The exit status, as listed above.
    """
    given = list(sys.argv[1:] if argv is None else argv)
    _open_closed_streams()
    arguments = argparse.Namespace()
    try:
        with _terminable():
            arguments = _parse(given)
            _check_extra(arguments.command)
            return COMMANDS[arguments.command].run(arguments)
    except KeyboardInterrupt as fault:
        log(f"malfl: interrupted{_what_then(arguments)}")
        return 128 + (fault.number if isinstance(fault, _Terminated) else signal.SIGINT)
    except Exception as fault:
        if "--traceback" in given:
            of_units = getattr(fault, "tracebacks", ())
            log("\n".join(of_units or [traceback.format_exc()]).rstrip())
        return _report(fault)


class _Terminated(KeyboardInterrupt):
    """Raised in the main thread when the process is asked to end (SIGTERM, SIGHUP).

    Args:
        number: of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@contextmanager
def _terminable() -> Iterator[None]:
    """Within the context, a signal that asks the process to end raises `_Terminated`.

    Batch systems send SIGTERM, a terminal that closes sends SIGHUP. A signal that is ignored
    (`nohup`) stays ignored. An error that an interruption led to is raised as the interruption.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {n: signal.getsignal(n) for n in numbers if signal.getsignal(n) != signal.SIG_IGN}
    for number in before:
        signal.signal(number, _raise)
    try:
        yield
    except Exception as fault:
        pass_interruption(fault)
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _raise(number: int, frame: FrameType | None) -> None:
    raise _Terminated(number)


def make_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    parser = _Parser(
        prog="malfl",
        description="Recover the rewards of agents from how they learn.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"malfl {_version()}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, entry in COMMANDS.items():
        command = commands.add_parser(
            name,
            help=entry.purpose,
            description=entry.purpose,
            allow_abbrev=False,
            add_help=entry.plugin is None,
        )
        if entry.plugin is not None:
            command.add_argument(
                "-h",
                "--help",
                action=_PluginHelp,
                help="show this help and, if a plugin is named, its options",
            )
        for argument in entry.arguments:
            command.add_argument(*argument.names, **argument.settings)
        command.add_argument(
            "--traceback", action="store_true", help="also show the traceback of an error"
        )
    return parser


class _Parser(argparse.ArgumentParser):
    """Raises errors as `InputError`, in one line, without the usage."""

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message}{_nearest(message)} (see {self.prog} --help)")


def _nearest(message: str) -> str:
    """The choice that a wrong word of the command line may mean."""
    found = _CHOICE.search(message)
    return "" if found is None else suggestion(found[1], re.findall(r"[\w-]+", found[2]))


class _PluginHelp(argparse.Action):
    """Shows the help of a command and the options of the plugin that was named."""

    def __init__(self, option_strings: Sequence[str], dest: str, **settings: Any) -> None:
        super().__init__(
            option_strings,
            argparse.SUPPRESS,
            nargs=0,
            default=argparse.SUPPRESS,
            help=settings.get("help"),
        )

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: object,
        option_string: str | None = None,
    ) -> NoReturn:
        kind = COMMANDS[parser.prog.split()[-1]].plugin
        assert kind is not None
        text = parser.format_help()
        name = namespace.observer if kind == "observer" else namespace.name
        if name is not None:
            text += "\n" + plugins.plugin_help(kind, name, namespace.config) + "\n"
        tell(text.rstrip("\n"))
        parser.exit()


def _parse(given: Sequence[str]) -> argparse.Namespace:
    parser = make_parser()
    arguments, unknown = parser.parse_known_args(_help_last(given))
    if unknown:
        known = _option_names(parser, arguments.command)
        raise InputError(
            f"unknown argument {unknown[0]!r}{suggestion(unknown[0].partition('=')[0], known)} "
            f"(see malfl {arguments.command} --help)"
        )
    return arguments


def _help_last(given: Sequence[str]) -> Sequence[str]:
    """The arguments with `--help` moved to the end, so that the plugin is parsed before it."""
    wanted = [word for word in given if word in ("-h", "--help")]
    if not (wanted and given[0] in COMMANDS and COMMANDS[given[0]].plugin):
        return given
    return [*(word for word in given if word not in wanted), wanted[0]]


def _option_names(parser: argparse.ArgumentParser, command: str) -> list[str]:
    (commands,) = (a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    return [name for action in commands.choices[command]._actions for name in action.option_strings]


def _check_extra(command: str) -> None:
    if not COMMANDS[command].needs_extra:
        return
    missing = [module for module in _EXTRA if find_spec(module) is None]
    if missing:
        raise ImportError(
            f'malfl {command} needs {", ".join(missing)}: pip install "malfl-env[algos]"'
        )


def _what_then(arguments: argparse.Namespace) -> str:
    """How to continue an interrupted run; empty for a command that cannot."""
    entry = COMMANDS.get(getattr(arguments, "command", ""))
    if entry is None or not entry.resumes:
        return ""
    without = "without --overwrite " * getattr(arguments, "overwrite", False)
    return f"; run the same command {without}again to continue"


def _report(fault: Exception) -> int:
    """Print the error; returns the exit status."""
    words = str(fault) or type(fault).__name__
    unexpected = isinstance(fault, (NotImplementedError, RecursionError))
    if isinstance(fault, PluginFault):
        lines, status = [f"{words} ({_SHOW})"], 1
    elif isinstance(fault, (InputError, PluginError, ImportError)):
        lines, status = [words], 2
    elif isinstance(fault, (OSError, MemoryError, RuntimeError)) and not unexpected:
        lines, status = words.splitlines(), 1
    else:
        lines, status = [f"internal error: {type(fault).__name__}: {words} ({_SHOW})"], 1
    for line in lines:
        log("malfl: " + " ".join(line.split()))
    return status


def _open_closed_streams() -> None:
    """Open the null device in place of closed output streams (`2>&-`, services).

    It takes the lowest free descriptors, so that no other file becomes standard error by accident.
    """
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            stream = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
            os.set_inheritable(stream.fileno(), True)
            setattr(sys, name, stream)


def _version() -> str:
    try:
        return version("malfl-env")
    except PackageNotFoundError:
        return "unknown"
