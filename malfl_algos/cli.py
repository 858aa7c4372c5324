"""The `malfl` command: what is asked for, and one line on standard error where that cannot be done.

Only the parser and `malfl plugins` live here, so that `--help` loads nothing heavy; the other
commands are in `malfl_algos.commands`.
"""

from __future__ import annotations

import argparse
import sys
import traceback
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import NoReturn

from malfl_algos.options import suggestion

__all__ = ["main", "make_parser"]

_EXTRA = ("scipy", "numba", "yaml", "matplotlib", "joblib", "tqdm", "threadpoolctl")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        argv: its arguments; those of the process when left out.

    Returns:
        The exit status: 0, done; 1, something failed on the way; 2, bad input, nothing written;
            130, interrupted.
    """
    from malfl_algos.plugins import PluginError

    try:
        arguments = _parse(argv)
        return _command(arguments.command)(arguments)
    except (ValueError, PluginError) as fault:
        return _complain(fault, status=2)
    except ImportError as fault:
        return _complain(fault, status=2)
    except (OSError, MemoryError, RuntimeError) as fault:
        return _complain(fault, status=1)
    except KeyboardInterrupt:
        _say("malfl: interrupted; the same command again finishes what is missing")
        return 130


def make_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    parser = _Parser(
        prog="malfl",
        description="Agents that learn, observers that recover what they want.",
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, help_text, add_arguments in _COMMANDS:
        command = commands.add_parser(
            name, help=help_text, description=help_text, allow_abbrev=False
        )
        add_arguments(command)
    return parser


class _Parser(argparse.ArgumentParser):
    """Complains by raising, in one line, without the usage."""

    def error(self, message: str) -> NoReturn:
        raise ValueError(f"{message} (see {self.prog} --help)")


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = make_parser()
    arguments, unknown = parser.parse_known_args(argv)
    if unknown:
        known = _option_names(parser, arguments.command)
        raise ValueError(
            f"unknown argument {unknown[0]!r}{suggestion(unknown[0].partition('=')[0], known)} "
            f"(see malfl {arguments.command} --help)"
        )
    return arguments


def _option_names(parser: argparse.ArgumentParser, command: str) -> list[str]:
    (commands,) = (a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    return [name for action in commands.choices[command]._actions for name in action.option_strings]


def _command(name: str) -> Callable[[argparse.Namespace], int]:
    if name == "plugins":
        return _plugins
    missing = [module for module in _EXTRA if find_spec(module) is None]
    if missing:
        raise ImportError(
            f'malfl {name} needs {", ".join(missing)}: pip install "malfl-env[algos]"'
        )
    from malfl_algos import commands

    return commands.COMMANDS[name]


def _plugins(arguments: argparse.Namespace) -> int:
    """List the plugins from metadata alone, or load and check each."""
    from malfl_algos.plugins import PluginError, list_plugins, plugin_class

    n_broken = 0
    for plugin in list_plugins():
        if arguments.action == "list":
            print(
                f"{plugin.kind:8}  {plugin.name:20}  {plugin.distribution} {plugin.version}  "
                f"{plugin.value}"
            )
            continue
        try:
            plugin_class(plugin)
            print(f"ok      {plugin}")
        except PluginError:
            n_broken += 1
            print(f"broken  {plugin}")
            print(traceback.format_exc())
    return 1 if n_broken else 0


def _complain(fault: BaseException, *, status: int) -> int:
    lines = str(fault).splitlines() if status == 1 else [str(fault)]
    for line in lines or [type(fault).__name__]:
        _say("malfl: " + " ".join(line.split()))
    return status


def _say(line: str) -> None:
    print(line, file=sys.stderr)


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a whole number, got {text!r}") from None


def _add_config(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--config",
        metavar="FILE",
        help="YAML file; keys left out have the paper's settings (default: all of them)",
    )


def _add_counts(command: argparse.ArgumentParser) -> None:
    for name, help_text in (
        ("iterations", "stages of learning (default: 10)"),
        ("episodes", "episodes a stage (default: 3000)"),
        ("episode-length", "steps an episode (default: 1000)"),
    ):
        command.add_argument(f"--{name}", type=_whole, metavar="N", help=help_text)


def _add_plugin_options(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--option",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="an option of the plugin, its value in YAML; may be repeated",
    )


def _add_output(command: argparse.ArgumentParser, what: str) -> None:
    command.add_argument("--output-dir", metavar="DIR", required=True, help=f"folder for {what}")
    command.add_argument("--overwrite", action="store_true", help="replace such files there")


def _add_reproduce(command: argparse.ArgumentParser) -> None:
    _add_config(command)
    command.add_argument(
        "--output-dir",
        metavar="DIR",
        default="malfl-results",
        help="run folder (default: malfl-results); a run that is there already is finished: seeds, "
        "families and observers may be added, nothing else may differ",
    )
    command.add_argument(
        "--reward-families",
        nargs="+",
        metavar="NAME",
        help="families to run (default: homogeneous heterogeneous); further ones are defined in "
        "the configuration",
    )
    _add_counts(command)
    command.add_argument(
        "--seeds", nargs="+", type=_whole, metavar="K", help="one run each (default: 0 1 2 3 4)"
    )
    command.add_argument("--learner", metavar="NAME", help="who learns (default: ma-spi)")
    command.add_argument(
        "--observers",
        nargs="+",
        metavar="NAME",
        help="who recover rewards, by plugin name or by label in the configuration (default: "
        "ma-lfl ma-lfl-own-action ma-lfl-state ma-lfl-faithful)",
    )
    command.add_argument(
        "--seat",
        choices=("external", "agent"),
        help="external: policies are estimated; agent: the observer is one of the agents and knows "
        "its own (default: external)",
    )
    command.add_argument(
        "--jobs",
        type=_whole,
        metavar="N",
        help="worker processes (default: one per processor); results do not depend on it",
    )
    command.add_argument(
        "--fast",
        action="store_true",
        help="a smoke test: 4 iterations, 100 episodes of 200 steps, seed 0; goes before the "
        "configuration file, gives way to options",
    )
    command.add_argument(
        "--overwrite", action="store_true", help="start afresh in the folder of a run"
    )


def _add_learn(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "name", nargs="?", metavar="NAME", help="the learner (default: the configuration's, ma-spi)"
    )
    _add_config(command)
    _add_output(command, "trace.npz and ground_truth.npz")
    command.add_argument(
        "--reward-family", metavar="NAME", help="(default: the configuration's first, homogeneous)"
    )
    _add_counts(command)
    command.add_argument(
        "--seed", type=_whole, metavar="K", help="(default: the configuration's first, 0)"
    )
    _add_plugin_options(command)


def _add_recover(command: argparse.ArgumentParser) -> None:
    command.add_argument("trace", metavar="TRACE", help="trace.npz of a learner")
    command.add_argument(
        "--observer", metavar="NAME", required=True, help="plugin name, or label in --config"
    )
    _add_config(command)
    _add_output(command, "rewards.npz, diagnostics.json and what else the observer has")
    command.add_argument(
        "--stages",
        type=_whole,
        metavar="N",
        help="recover from the first N stages alone; malfl score tries the others (default: all)",
    )
    command.add_argument(
        "--estimate-dynamics",
        action="store_true",
        help="do not tell the observer the game's dynamics (default: those of the configuration)",
    )
    _add_plugin_options(command)


def _add_score(command: argparse.ArgumentParser) -> None:
    command.add_argument("rewards", metavar="REWARDS", help="rewards.npz of an observer")
    command.add_argument(
        "--ground-truth",
        metavar="FILE",
        help="ground_truth.npz of the learner: for correlation, distance (EPIC, STARC), regret and "
        "calibration, the last from posterior.npz beside REWARDS",
    )
    command.add_argument(
        "--trace",
        metavar="FILE",
        help="trace.npz of the learner: predict stages from those before them, which needs no "
        "truth: stages new to the rewards (malfl recover --stages), else the last",
    )
    command.add_argument(
        "--config",
        metavar="FILE",
        help="YAML file; only joint states that can occur in its game count (default: the paper's)",
    )
    command.add_argument("--json", metavar="FILE", help="write the scores there, too")


def _add_plugins(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "action",
        nargs="?",
        choices=("list", "doctor"),
        default="list",
        help="list (the default), or doctor: load and check each",
    )


_COMMANDS: tuple[tuple[str, str, Callable[[argparse.ArgumentParser], None]], ...] = (
    ("reproduce", "Run the paper, or an experiment like it, from end to end.", _add_reproduce),
    ("learn", "Let a learner learn; keep what may be seen apart from the truth.", _add_learn),
    ("recover", "Recover rewards from a learning trace.", _add_recover),
    ("score", "Judge recovered rewards, with the true ones or without.", _add_score),
    ("plugins", "List the learners and observers that are installed.", _add_plugins),
)
