"""The `malfl` command: parsing, and one line on standard error for bad input.

The commands themselves are in `malfl_algos.cli.commands` and `malfl_algos.cli.plugin_commands`.
Both are imported when they are wanted, so that `--help` loads nothing heavy.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import Any, Literal, NoReturn

from malfl_algos.cli.arguments import COMMANDS
from malfl_algos.plugins.options import suggestion
from malfl_algos.work.interruption import Terminated, terminable
from malfl_env.errors import InputError

__all__ = ["main", "make_parser"]

_EXTRA = (
    "scipy",
    "numba",
    "yaml",
    "matplotlib",
    "joblib",
    "tqdm",
    "threadpoolctl",
    "docstring_parser",
)
_COMPILING = ("learn", "recover", "reproduce", "score", "sweep")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        argv: its arguments; those of the process when left out.

    Returns:
        The exit status: 0, done; 1, something failed on the way; 2, bad input, nothing written;
            130, interrupted; 143, asked to end.
    """
    from malfl_algos.plugins.loading import PluginError

    arguments = argparse.Namespace()
    try:
        with terminable():
            arguments = _parse(argv)
            return _command(arguments.command)(arguments)
    except (ValueError, PluginError) as fault:
        return _complain(fault, status=2)
    except ImportError as fault:
        return _complain(fault, status=2)
    except (OSError, MemoryError, RuntimeError) as fault:
        return _complain(fault, status=1)
    except KeyboardInterrupt as fault:
        same = "the same command " + "without --overwrite " * getattr(arguments, "overwrite", False)
        _say(f"malfl: interrupted; {same}again finishes what is missing")
        return 143 if isinstance(fault, Terminated) else 130


def make_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    parser = _Parser(
        prog="malfl",
        description="Agents that learn, observers that recover what they want.",
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, help_text, add_arguments in COMMANDS:
        about_plugin = name in ("learn", "recover")
        command = commands.add_parser(
            name,
            help=help_text,
            description=help_text,
            allow_abbrev=False,
            add_help=not about_plugin,
        )
        if about_plugin:
            command.add_argument(
                "-h",
                "--help",
                action=_PluginHelp,
                help="with a NAME, the options of that plugin, too",
            )
        add_arguments(command)
    return parser


class _Parser(argparse.ArgumentParser):
    """Complains by raising, in one line, without the usage."""

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message} (see {self.prog} --help)")


class _PluginHelp(argparse.Action):
    """The help of a command, and the options of the plugin that is named before it."""

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
        text = parser.format_help()
        kind: Literal["learner", "observer"] = (
            "observer" if hasattr(namespace, "observer") else "learner"
        )
        name = namespace.observer if kind == "observer" else namespace.name
        if name is not None:
            from malfl_algos.cli.plugin_commands import plugin_help

            text += "\n" + plugin_help(kind, name, namespace.config) + "\n"
        print(text, end="")
        parser.exit()


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = make_parser()
    arguments, unknown = parser.parse_known_args(_help_last(argv))
    if unknown:
        known = _option_names(parser, arguments.command)
        raise InputError(
            f"unknown argument {unknown[0]!r}{suggestion(unknown[0].partition('=')[0], known)} "
            f"(see malfl {arguments.command} --help)"
        )
    return arguments


def _help_last(argv: Sequence[str] | None) -> list[str]:
    """The arguments with a call for help at their end, where all else has been read."""
    given = list(sys.argv[1:] if argv is None else argv)
    wanted = [word for word in given if word in ("-h", "--help")]
    if not (wanted and given[0] in ("learn", "recover")):
        return given
    return [*(word for word in given if word not in wanted), wanted[0]]


def _option_names(parser: argparse.ArgumentParser, command: str) -> list[str]:
    (commands,) = (a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    return [name for action in commands.choices[command]._actions for name in action.option_strings]


def _command(name: str) -> Callable[[argparse.Namespace], int]:
    if name == "plugins":
        from malfl_algos.cli.plugin_commands import plugins

        return plugins
    missing = [module for module in _EXTRA if find_spec(module) is None]
    if missing:
        raise ImportError(
            f'malfl {name} needs {", ".join(missing)}: pip install "malfl-env[algos]"'
        )
    if name in _COMPILING:
        from malfl_algos.work.compilation import tell_of_compilation

        tell_of_compilation()
    from malfl_algos.cli import commands

    return commands.COMMANDS[name]


def _complain(fault: BaseException, *, status: int) -> int:
    lines = str(fault).splitlines() if status == 1 else [str(fault)]
    for line in lines or [type(fault).__name__]:
        _say("malfl: " + " ".join(line.split()))
    return status


def _say(line: str) -> None:
    print(line, file=sys.stderr)
