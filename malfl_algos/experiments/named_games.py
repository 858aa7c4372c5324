"""A game that is named by a file or by a function: `none`, FILE.npz or MODULE:FACTORY."""

from __future__ import annotations

import logging
import multiprocessing
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from hashlib import sha256
from importlib import import_module
from typing import Any

import numpy as np

from malfl_algos.storage.origins import game_hash
from malfl_env import MarkovGame, markov_game
from malfl_env.checks import shown
from malfl_env.errors import InputError

__all__ = [
    "NO_GAME",
    "OWN",
    "check_name",
    "game_checksum",
    "named_game",
    "runs_code",
    "with_family",
]

NO_GAME = "none"
"""The name that stands for unknown dynamics, which are estimated from the trace."""
OWN = "own"
"""The family of the rewards that a game brings with it."""

_FILE = ".npz"
_FUNCTION = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", re.ASCII)
_LOG = logging.getLogger("malfl")


def check_name(value: Any) -> str:
    """A name of a game; nothing is read or run.

    Raises:
        InputError: for any other value.
    """
    if value is None:
        return NO_GAME
    if isinstance(value, str) and (
        value == NO_GAME or value.endswith(_FILE) or _FUNCTION.fullmatch(value)
    ):
        return value
    raise InputError(
        "game must be none, FILE.npz, MODULE:FACTORY, or in YAML a mapping of the grid world's "
        f"settings, got {shown(value)}"
    )


def runs_code(name: str) -> bool:
    """Whether making the game runs a function of a module."""
    return name != NO_GAME and not name.endswith(_FILE)


def named_game(name: str) -> MarkovGame:
    """The game of a name, with the rewards that it brings, if any.

    A module is looked for among the installed ones, and then in the current folder. A process says
    once that it runs the function.

    Raises:
        InputError: for `none`, a file that is not a game, and a function that cannot be imported,
            fails, or returns anything else than a game.
    """
    if name == NO_GAME:
        raise InputError(
            "game is none, and this needs a game: give FILE.npz (MarkovGame.save writes it) or "
            "MODULE:FACTORY"
        )
    if runs_code(name):
        return _made(name, os.getcwd())
    changed = os.stat(name).st_mtime_ns if os.path.exists(name) else 0
    return _read(os.path.abspath(name), name, changed)


def game_checksum(name: str) -> str:
    """A hash of the game's dynamics and rewards, which a name alone does not fix."""
    game = named_game(name)
    digest = sha256(game_hash(game).encode())
    for table in (game.start_distribution, *(game.rewards or ())):
        digest.update(f"{table.shape}".encode())
        digest.update(np.ascontiguousarray(table).tobytes())
    return digest.hexdigest()


def with_family(game: MarkovGame, entries: Sequence[Any] | None, *, name: str) -> MarkovGame:
    """The game with the rewards of a family.

    Args:
        game: of the name.
        entries: per agent a table of numbers; None: the rewards that the game brings.
        name: of the game, for messages.

    Raises:
        InputError: for a game without rewards, or tables that do not fit.
    """
    if entries is not None:
        return game.with_rewards([np.asarray(own, dtype=np.float64) for own in entries])
    if game.rewards is None:
        raise InputError(
            f"game {name} brings no rewards, and a learner needs them: give rewards to "
            "MarkovGame.from_tables, or define a family of tables in YAML (families)"
        )
    return game


@lru_cache(maxsize=16)
def _read(path: str, name: str, changed: int) -> MarkovGame:
    return MarkovGame.load(name)


@lru_cache(maxsize=16)
def _made(name: str, folder: str) -> MarkovGame:
    """The game that a function makes; the folder is where the module may be."""
    module_name, _, path = name.partition(":")
    with _importable(folder):
        function = _function(name, module_name, path)
        if multiprocessing.parent_process() is None:
            origin = getattr(sys.modules[module_name], "__file__", None) or "built in"
            _LOG.warning("malfl: game %s runs the code of %s", name, origin)
        try:
            made = function()
        except Exception as fault:
            raise InputError(f"game {name} failed: {_words(fault)}") from fault
    if isinstance(made, MarkovGame):
        return made
    if not callable(getattr(made, "reset", None)):
        raise InputError(
            f"game {name} made a {type(made).__name__}: it must return a MarkovGame, or a "
            "PettingZoo environment with a method markov_game()"
        )
    try:
        return markov_game(made)
    except InputError as fault:
        raise InputError(f"game {name}: {fault}") from fault


def _function(name: str, module_name: str, path: str) -> Callable[[], Any]:
    try:
        found: Any = import_module(module_name)
        for part in path.split("."):
            found = getattr(found, part)
    except Exception as fault:  # a module runs any code when it is imported
        raise InputError(
            f"game {name} cannot be imported: {_words(fault)}; the module must be installed, or "
            "be in the current folder"
        ) from fault
    if not callable(found):
        raise InputError(f"game {name} is a {type(found).__name__}, it must be a function")
    return found  # type: ignore[no-any-return]


@contextmanager
def _importable(folder: str) -> Iterator[None]:
    """Let modules of the folder be imported, after the installed ones."""
    before = sys.path[:]
    sys.path.append(folder)
    try:
        yield
    finally:
        sys.path[:] = before


def _words(fault: BaseException) -> str:
    """An exception in one line."""
    return f"{type(fault).__name__}: {' '.join(str(fault).split())[:200]}"
