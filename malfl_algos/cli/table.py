"""The table of commands, and what several commands share.

Commands import what they need when they run, and look at their files first: a file that is missing
is reported before scipy, numba or matplotlib is loaded.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, TextIO

from malfl_env.errors import InputError

if TYPE_CHECKING:
    from malfl_algos.experiments.config import ExperimentConfig, PluginConfig

__all__ = [
    "COMMANDS",
    "Argument",
    "Command",
    "argument",
    "command",
    "config_argument",
    "count_arguments",
    "existing",
    "log",
    "picked",
    "read_config",
    "tell",
    "tell_of_compilation",
    "whole",
]


@dataclass(frozen=True)
class Argument:
    """What `argparse.ArgumentParser.add_argument` is called with."""

    names: tuple[str, ...]
    settings: dict[str, Any]


@dataclass(frozen=True)
class Command:
    """An entry of the table.

    Args:
        purpose: for `--help`, verb first.
        arguments: in the order of `--help`.
        run: does the work and returns the exit status.
        plugin: what kind of plugin the command names; its options are part of `--help`.
        needs_extra: whether the extra `algos` must be installed.
        resumes: whether the same command finishes what an interruption left.
    """

    purpose: str
    arguments: tuple[Argument, ...]
    run: Callable[[argparse.Namespace], int]
    plugin: Literal["learner", "observer"] | None = None
    needs_extra: bool = True
    resumes: bool = False


COMMANDS: dict[str, Command] = {}
"""By name. The decorator `command` fills it."""


def command(
    name: str, purpose: str, *arguments: Argument, **settings: Any
) -> Callable[[Callable[[argparse.Namespace], int]], Callable[[argparse.Namespace], int]]:
    """Enter a function into the table of commands; `settings` are further fields of `Command`."""

    def enter(run: Callable[[argparse.Namespace], int]) -> Callable[[argparse.Namespace], int]:
        COMMANDS[name] = Command(purpose, arguments, run, **settings)
        return run

    return enter


def argument(*names: str, **settings: Any) -> Argument:
    """Describe an argument as `argparse` does."""
    return Argument(names, settings)


def whole(text: str) -> int:
    """Read a whole number from the command line."""
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a whole number, got {text!r}") from None


def config_argument(what: str = "keys left out have the paper's settings") -> Argument:
    """`--config FILE`."""
    return argument("--config", metavar="FILE", help=f"read this YAML file; {what}")


def count_arguments() -> Iterable[Argument]:
    """The sizes of an experiment."""
    for name, text in (
        ("iterations", "number of learning stages (default: 10)"),
        ("episodes", "episodes per stage (default: 3000)"),
        ("episode-length", "steps per episode (default: 1000)"),
    ):
        yield argument(f"--{name}", type=whole, metavar="N", help=text)


def existing(*paths: str | None) -> None:
    """Reject paths at which there is nothing; None passes."""
    for path in paths:
        if path is not None and not os.path.exists(path):
            raise InputError(f"{path}: no such file or folder")


def read_config(path: str | None) -> ExperimentConfig:
    """The configuration in a file; the paper's settings without one."""
    from malfl_algos.experiments.config import ExperimentConfig, load_config

    return ExperimentConfig() if path is None else load_config(path)


def picked(name: str, defined: Iterable[PluginConfig]) -> dict[str, Any]:
    """The plugin that a configuration defines under this label or name, else the bare one."""
    from malfl_algos.experiments.config import PluginConfig

    known = list(defined)
    for plugin in (*(p for p in known if p.label == name), *(p for p in known if p.name == name)):
        return asdict(plugin)
    return asdict(PluginConfig(name, name.rpartition(":")[2]))


def tell_of_compilation() -> None:
    """Say, from now on, when functions are compiled. To be called before they are imported."""
    from malfl_algos.work.compilation import tell_of_compilation as begin

    begin()


def tell(text: str, *, to: TextIO | None = None) -> None:
    """Print whatever a text holds: the work is done, and telling of it must not fail.

    Control characters, which a file's name or content may bring, and characters that the stream
    cannot encode are escaped. A reader who has left is no error.

    Args:
        text: one line or more.
        to: standard output when left out.
    """
    stream = to or sys.stdout
    shown = "".join(
        letter if letter.isprintable() or letter == "\n" else ascii(letter)[1:-1] for letter in text
    )
    encoding = getattr(stream, "encoding", None) or "utf-8"
    try:
        print(shown.encode(encoding, "backslashreplace").decode(encoding), file=stream, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def log(line: str) -> None:
    """Tell on standard error how far a command is."""
    tell(line, to=sys.stderr)
