"""What `malfl recover` and `malfl check` share: an observer, a trace, and the game of a trace."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Iterator
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from malfl_algos.cli.table import (
    Argument,
    config_argument,
    existing,
    game_argument,
    given_game,
    null_or_number,
    option_argument,
    picked,
    read_observed_config,
    read_options,
    read_scale,
    scale_arguments,
    tell_of_compilation,
)
from malfl_env.errors import InputError

if TYPE_CHECKING:
    from malfl_algos.contract import Observer
    from malfl_algos.experiments.config import PluginConfig
    from malfl_algos.plugins.discovery import Plugin
    from malfl_algos.recovered import RecoveredRewards
    from malfl_algos.trace import LearningTrace
    from malfl_env import MarkovGame

__all__ = [
    "Recovery",
    "asked_command",
    "named_result",
    "read_recovery",
    "recovery_arguments",
]


class Recovery(NamedTuple):
    """The observer of a command, and the arguments of its `recover`.

    `board` is the configuration of the grid world, or None for another game. `by_default` names
    those of discount and temperature that neither an option nor a file gives.
    """

    plugin: Plugin
    wanted: PluginConfig
    observer: Observer
    trace: LearningTrace
    game: MarkovGame | None
    discount: float | None
    temperature: float | None
    board: dict[str, Any] | None
    by_default: tuple[str, ...]

    @property
    def given(self) -> dict[str, Any]:
        """The arguments of `recover` besides the trace."""
        return {"game": self.game, "discount": self.discount, "temperature": self.temperature}

    def defaults(self) -> list[str]:
        """A line about each of discount and temperature that has its default."""
        return [
            f"{name}: {null_or_number(self.given[name])} (default; --{name} sets it)"
            for name in self.by_default
        ]


def recovery_arguments() -> Iterator[Argument]:
    """The arguments that `read_recovery` reads besides `trace` and `--observer`."""
    yield config_argument()
    yield game_argument()
    yield from scale_arguments()
    yield option_argument()


def read_recovery(arguments: argparse.Namespace) -> Recovery:
    """Make the observer, and load the trace and the game that it recovers rewards from."""
    from malfl_algos.experiments.config import PluginConfig
    from malfl_algos.plugins.loading import find_plugin

    config = read_observed_config(arguments)
    chosen = picked(arguments.observer, config.observers)
    chosen["options"] = {**chosen["options"], **read_options(arguments.option)}
    plugin = find_plugin("observer", chosen["name"])
    existing(arguments.trace)
    tell_of_compilation()
    from malfl_algos.experiments.cell import make_observer
    from malfl_algos.trace import LearningTrace
    from malfl_algos.trace.matching import in_numbering_of

    wanted = PluginConfig(**chosen)
    observer = make_observer(config, wanted, seed=config.seeds[0])
    trace = LearningTrace.load(arguments.trace)
    game = config.dynamics() if trace.is_tabular else None
    if game is not None and not given_game(arguments):
        _check_sizes(game, trace, arguments.trace)
    if game is not None:
        trace = in_numbering_of(game, trace, name=arguments.trace)
    board = None
    if game is not None and not isinstance(config.game, str):
        board = asdict(config.game)
    scale, asked = read_scale(arguments, config), vars(arguments)
    by_default = tuple(
        name
        for name in ("discount", "temperature")
        if arguments.config is None and asked[name] is None
    )
    return Recovery(plugin, wanted, observer, trace, game, *scale, board, by_default)


def named_result(result: RecoveredRewards, given: Recovery) -> RecoveredRewards:
    """The result, whose source has the plugin's name and says which arguments nobody gave."""
    if result.source is None:
        return result
    name = given.wanted.name
    source = replace(result.source, observer=name, by_default=given.by_default)
    return replace(result, source=source)


def asked_command(arguments: argparse.Namespace, given: Recovery) -> dict[str, Any]:
    """The command with the defaults it took, its versions, and the board if there is one."""
    from malfl_algos.experiments.records import versions

    words = ["malfl", "recover", arguments.trace, "--observer", arguments.observer]
    for name in ("config", "game", "discount", "temperature", "stages"):
        value = getattr(arguments, name)
        if name in given.by_default:
            value = null_or_number(given.given[name])
        if value is not None:
            words += [f"--{name}", str(value)]
    for pair in arguments.option:
        words += ["--option", pair]
    words += ["--output-dir", arguments.output_dir, *["--overwrite"] * arguments.overwrite]
    further = {} if given.board is None else {"board": given.board}
    return {"command": shlex.join(words), "versions": versions(), **further}


def _check_sizes(game: MarkovGame, trace: LearningTrace, name: str) -> None:
    """Reject a trace of another size than the game's."""
    if (trace.n_states, trace.n_actions) != (game.n_states, game.n_actions):
        raise InputError(
            f"{name} is of a game with {trace.n_states} joint states and actions "
            f"{trace.n_actions}, the configuration's game has {game.n_states} and "
            f"{game.n_actions}: give its game with --game FILE.npz or MODULE:FACTORY, or "
            "--game none to estimate the dynamics from the trace"
        )
