"""The table of commands, and functions that several commands share.

A command imports the modules that it needs when it runs, after it has looked for its files: a
missing file is reported before scipy, numba or matplotlib is imported.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, TextIO

from malfl_env.checks import shown
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
    "game_argument",
    "given_game",
    "known_scale_arguments",
    "log",
    "null_or_number",
    "option_argument",
    "picked",
    "read_config",
    "read_observed_config",
    "read_options",
    "read_scale",
    "scale_arguments",
    "set_keys",
    "tell",
    "tell_of_compilation",
    "whole",
    "whole_argument",
]

_NULL = "null"
_UNKNOWN = "unknown, the dynamics are estimated from the trace"


@dataclass(frozen=True)
class Argument:
    """The arguments of one call of `argparse.ArgumentParser.add_argument`."""

    names: tuple[str, ...]
    settings: dict[str, Any]


@dataclass(frozen=True)
class Command:
    """An entry of the table.

    Args:
        purpose: one sentence for `--help`, verb first.
        arguments: in the order of `--help`.
        run: does the work and returns the exit status.
        plugin: kind of the plugin that the command names, if it names one; `--help` then shows the
            options of that plugin.
        needs_extra: whether the extra `algos` must be installed.
        resumes: whether the same command, started again, finishes an interrupted run.
    """

    purpose: str
    arguments: tuple[Argument, ...]
    run: Callable[[argparse.Namespace], int]
    plugin: Literal["learner", "observer"] | None = None
    needs_extra: bool = True
    resumes: bool = False


_WHOLE = re.compile(r"[-+]?(0|[1-9][0-9]{0,99})")

COMMANDS: dict[str, Command] = {}
"""Commands by name; the decorator `command` adds to it."""


def command(
    name: str, purpose: str, *arguments: Argument, **settings: Any
) -> Callable[[Callable[[argparse.Namespace], int]], Callable[[argparse.Namespace], int]]:
    """Add a function to the table of commands; `settings` are further fields of `Command`."""

    def enter(run: Callable[[argparse.Namespace], int]) -> Callable[[argparse.Namespace], int]:
        COMMANDS[name] = Command(purpose, arguments, run, **settings)
        return run

    return enter


def argument(*names: str, **settings: Any) -> Argument:
    """An argument, described as for `argparse.ArgumentParser.add_argument`."""
    return Argument(names, settings)


def whole_argument(name: str, text: str, default: int | None = None) -> Argument:
    """An option whose value is a whole number; `text` is its help."""
    return argument(name, type=whole, metavar="N", default=default, help=text)


def whole(text: str) -> int:
    """Read a whole number from the command line, in decimal digits as in YAML."""
    if not _WHOLE.fullmatch(text):
        raise argparse.ArgumentTypeError(
            f"must be a whole number, got {shown(text)}: write decimal digits, no leading zero"
        )
    return int(text)


def config_argument(what: str = "keys left out have the paper's settings") -> Argument:
    """`--config FILE`."""
    return argument("--config", metavar="FILE", help=f"read this YAML file; {what}")


def game_argument(what: str = "") -> Argument:
    """`--game NAME`, which `read_config` reads."""
    return argument(
        "--game",
        metavar="NAME",
        help="use this game instead of the configuration's: FILE.npz (MarkovGame.save writes it); "
        "MODULE:FACTORY, a function that makes a game or its environment, of an installed module "
        "or one in the current folder: its code is run; or none: " + (what or _UNKNOWN),
    )


def count_arguments() -> Iterable[Argument]:
    """The sizes of an experiment."""
    yield whole_argument("--iterations", "number of learning stages (default: 10)")
    yield whole_argument("--episodes", "episodes per stage (default: 3000)")
    yield whole_argument("--episode-length", "steps per episode (default: 1000)")


def scale_arguments(unknown: str = "estimate it from the trace") -> Iterable[Argument]:
    """`--discount` and `--temperature`, which `read_scale` and `set_keys` read.

    Args:
        unknown: what is done about a discount of null.
    """
    yield argument(
        "--discount",
        type=_number_or_null,
        metavar="G",
        help=f"use this discount factor, in [0, 1), or null: {unknown} (default: that of --config, "
        "or else 0.9)",
    )
    yield argument(
        "--temperature",
        type=_number_or_null,
        metavar="T",
        help="use this temperature, > 0, or null: rewards in units of the temperature (default: "
        "that of --config, or else null with --game, and 3 in the paper's game)",
    )


def known_scale_arguments() -> Iterable[Argument]:
    """`--discount` and `--temperature` where both must be known; keys of the configuration."""
    yield argument(
        "--discount",
        type=_number,
        metavar="G",
        help="use this discount factor, in [0, 1) (default: that of the configuration, 0.9)",
    )
    yield argument(
        "--temperature",
        type=_number,
        metavar="T",
        help="use this temperature, > 0 (default: that of the configuration, 3)",
    )


def read_scale(
    arguments: argparse.Namespace, config: ExperimentConfig
) -> tuple[float | None, float | None]:
    """The discount and the temperature: of the command line, or else of the configuration."""

    def of(given: float | str | None, configured: float | None) -> float | None:
        if isinstance(given, str):
            return None
        return configured if given is None else given

    return of(arguments.discount, config.discount), of(arguments.temperature, config.temperature)


def null_or_number(value: float | None) -> str:
    """A discount or temperature as the command line has it."""
    return _NULL if value is None else f"{value:g}"


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a number, got {text!r}") from None


def _number_or_null(text: str) -> float | str:
    try:
        return _NULL if text == _NULL else float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a number or null, got {text!r}") from None


def option_argument() -> Argument:
    """`--option KEY=VALUE`, which `read_options` reads."""
    return argument(
        "--option",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="set an option of the plugin to a value in YAML; may be repeated",
    )


def read_options(pairs: Sequence[str]) -> dict[str, Any]:
    """The options that were given as KEY=VALUE."""
    from malfl_algos.storage.yaml_files import parse_yaml

    options = {}
    for pair in pairs:
        key, sign, value = pair.partition("=")
        if not (key and sign):
            raise InputError(f"--option must be KEY=VALUE, got {pair!r}")
        try:
            options[key] = parse_yaml(value)
        except InputError as fault:
            raise InputError(f"--option {key}: not valid YAML: {value!r}: {fault}") from fault
    return options


def set_keys(arguments: argparse.Namespace, *keys: str) -> dict[str, Any]:
    """The keys of a configuration that were given as options, with their values."""
    given = {key: getattr(arguments, key) for key in keys}
    return {
        key: None if value == _NULL else value for key, value in given.items() if value is not None
    }


def existing(*paths: str | None) -> None:
    """Reject a path that does not exist; None stands for an option that was not given."""
    for path in paths:
        if path is not None and not os.path.exists(path):
            raise InputError(f"{path}: no such file or folder")


def read_config(path: str | None, game: str | None = None) -> ExperimentConfig:
    """The configuration in a file, or else the paper's settings, with another game if given."""
    from malfl_algos.experiments.config import from_mapping, load_config

    if path is None:
        return from_mapping({} if game is None else {"game": game})
    return load_config(path, game=game)


def read_observed_config(arguments: argparse.Namespace) -> ExperimentConfig:
    """As `read_config`, for logs: without a file, the temperature of a named game is unknown."""
    if arguments.config is not None or arguments.game is None:
        return read_config(arguments.config, arguments.game)
    from malfl_algos.experiments.config import from_mapping

    return from_mapping({"game": arguments.game, "temperature": None})


def given_game(arguments: argparse.Namespace) -> bool:
    """Whether the user said which game it is; without that, it is the paper's."""
    return arguments.config is not None or arguments.game is not None


def picked(name: str, defined: Iterable[PluginConfig]) -> dict[str, Any]:
    """The plugin that a configuration defines under this label or name, else a bare one."""
    from malfl_algos.experiments.config import PluginConfig

    known = list(defined)
    for plugin in (*(p for p in known if p.label == name), *(p for p in known if p.name == name)):
        return asdict(plugin)
    return asdict(PluginConfig(name, name.rpartition(":")[2]))


def tell_of_compilation() -> None:
    """Announce each later compilation; call this before compiled functions are imported."""
    from malfl_algos.work.compilation import tell_of_compilation as begin

    begin()


def tell(text: str, *, to: TextIO | None = None) -> None:
    """Print any text.

    Control characters, for example of a file's name, and characters that the stream cannot encode
    are escaped. A closed pipe is not an error, and neither is a standard error that cannot be
    written to any more (a full disk, a terminal that is gone): work goes on without it.

    Args:
        text: one line or more.
        to: standard output when left out.

    Raises:
        OSError: if standard output cannot be written to, except for a closed pipe.
    """
    stream = to or sys.stdout
    shown = "".join(
        letter if letter.isprintable() or letter == "\n" else ascii(letter)[1:-1] for letter in text
    )
    encoding = getattr(stream, "encoding", None) or "utf-8"
    try:
        print(shown.encode(encoding, "backslashreplace").decode(encoding), file=stream, flush=True)
    except OSError as fault:
        # the buffer is written again at the end of the process, where it must not fail again
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        if not (stream is sys.stderr or isinstance(fault, BrokenPipeError)):
            raise OSError(fault.errno, f"standard output: {fault.strerror}") from fault


def log(line: str) -> None:
    """Print a line on standard error."""
    tell(line, to=sys.stderr)
