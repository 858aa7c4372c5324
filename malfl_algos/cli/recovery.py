"""What `malfl recover` and `malfl check` share: an observer, a trace, and the game of a trace."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, NamedTuple

from malfl_algos.cli.table import (
    Argument,
    config_argument,
    existing,
    game_argument,
    given_game,
    option_argument,
    picked,
    read_config,
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
    from malfl_algos.trace import LearningTrace
    from malfl_env import MarkovGame

__all__ = ["Recovery", "read_recovery", "recovery_arguments"]


class Recovery(NamedTuple):
    """The observer of a command, and the arguments of its `recover`.

    `board` is the configuration of the grid world, or None for another game.
    """

    plugin: Plugin
    wanted: PluginConfig
    observer: Observer
    trace: LearningTrace
    game: MarkovGame | None
    discount: float | None
    temperature: float | None
    board: dict[str, Any] | None

    @property
    def given(self) -> dict[str, Any]:
        """The arguments of `recover` besides the trace."""
        return {"game": self.game, "discount": self.discount, "temperature": self.temperature}


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

    config = read_config(arguments.config, arguments.game)
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
    return Recovery(plugin, wanted, observer, trace, game, *read_scale(arguments, config), board)


def _check_sizes(game: MarkovGame, trace: LearningTrace, name: str) -> None:
    """Reject a trace of another size than the game's."""
    if (trace.n_states, trace.n_actions) != (game.n_states, game.n_actions):
        raise InputError(
            f"{name} is of a game with {trace.n_states} joint states and actions "
            f"{trace.n_actions}, the configuration's game has {game.n_states} and "
            f"{game.n_actions}: give its game with --game FILE.npz or MODULE:FACTORY, or "
            "--game none to estimate the dynamics from the trace"
        )
