"""Copies of a game that several processes play, each its own share; for games in plain Python."""

from __future__ import annotations

import gc
import multiprocessing
import signal
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from typing import Any
from weakref import finalize

import numpy as np
from numpy.typing import NDArray

from malfl_algos.play.moves import Moved, Observations
from malfl_env.errors import InputError

__all__ = ["SharedGames"]

IntArray = NDArray[np.int64]

_DIED = "a process that plays games has died"


class SharedGames:
    """Games played by several processes; the results are those of one process, to the byte.

    The processes end with `close`, with this object, or with this process.

    Args:
        one: one of the games.
        make: makes this many games, copies of one game; called in every process.
        sizes: the number of games of every process.

    Raises:
        InputError: if this process cannot start others, or the games cannot be made.
    """

    def __init__(self, one: Any, make: Callable[[int], Any], sizes: Sequence[int]) -> None:
        if multiprocessing.current_process().daemon:
            raise InputError("game_processes must be 1 in a process that may not start others")
        self.agents, self.spaces, self.n_actions = one.agents, one.spaces, one.n_actions
        self._ends = np.cumsum(sizes)
        self.n_games = int(self._ends[-1])
        # fork needs no copies that can be pickled; the processes touch nothing but their games
        methods = multiprocessing.get_all_start_methods()
        context: Any = multiprocessing.get_context("fork" if "fork" in methods else None)
        self._pipes: list[Connection] = []
        self._processes: list[Any] = []
        self.close = finalize(self, _end, self._pipes, self._processes)
        for size in sizes:
            ours, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(make, size, theirs), daemon=True)
            process.start()
            theirs.close()
            self._pipes.append(ours)
            self._processes.append(process)
        self._answers(self._pipes)

    def reset(self, rng: np.random.Generator) -> Observations:
        """Reset all games; returns per agent the observations `(n_games, ...)`."""
        return self.reset_with(rng.integers(2**31, size=self.n_games))

    def reset_with(self, seeds: IntArray) -> Observations:
        """Reset all games with these seeds `(n_games,)`."""
        parts = np.split(seeds, self._ends[:-1])
        found = self._asked([("reset_with", (part,)) for part in parts])
        return _joined(found)

    def step(self, numbers: IntArray, actions: IntArray) -> Moved:
        """One step in the games with these increasing numbers; actions `(n, n_agents)`."""
        cuts = np.searchsorted(numbers, self._ends)[:-1]
        starts = np.append(0, self._ends[:-1])
        own = [part - start for part, start in zip(np.split(numbers, cuts), starts, strict=True)]
        moves = zip(own, np.split(actions, cuts), strict=True)
        moved = self._asked([("step", move) if len(move[0]) else None for move in moves])
        return Moved(
            _joined([one.observations for one in moved]),
            *(
                np.concatenate([getattr(one, name) for one in moved])
                for name in ("rewards", "terminated", "truncated")
            ),
        )

    def _asked(self, calls: Sequence[tuple[str, tuple[Any, ...]] | None]) -> list[Any]:
        """Call a method of every share; the answers, in order. None: this share has a rest."""
        asked = [pipe for pipe, call in zip(self._pipes, calls, strict=True) if call is not None]
        try:
            for pipe, call in zip(asked, filter(None, calls), strict=True):
                pipe.send(call)
        except OSError as fault:
            self.close()
            raise RuntimeError(_DIED) from fault
        return self._answers(asked)

    def _answers(self, pipes: Sequence[Connection]) -> list[Any]:
        try:
            answers = [pipe.recv() for pipe in pipes]
        except (EOFError, OSError) as fault:
            self.close()
            raise RuntimeError(_DIED) from fault
        for answer in answers:
            if isinstance(answer, Exception):
                self.close()
                raise answer
        return answers


def _joined(parts: Sequence[Observations]) -> Observations:
    return tuple(np.concatenate(own) for own in zip(*parts, strict=True))


def _serve(make: Callable[[int], Any], size: int, pipe: Connection) -> None:
    """Make games, and answer calls until the pipe is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the other process ends this one
    gc.freeze()  # what the other process left to collect is not to be destroyed here
    try:
        games = make(size)
    except Exception as fault:  # raised again in the other process
        pipe.send(fault)
        return
    pipe.send(None)
    while True:
        try:
            name, arguments = pipe.recv()
        except (EOFError, OSError):
            return
        try:
            answer = getattr(games, name)(*arguments)
        except Exception as fault:  # raised again where the call came from
            answer = fault
        pipe.send(answer)


def _end(pipes: Sequence[Connection], processes: Sequence[Any]) -> None:
    for pipe in pipes:
        pipe.close()
    for process in processes:
        process.terminate()
        process.join()
