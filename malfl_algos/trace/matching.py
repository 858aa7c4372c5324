"""The trace of a log in the numbering of a game: states and actions by name, or by number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from malfl_algos.trace import LearningTrace, NextStateCounts, Stage
from malfl_env.checks import check_table_bytes, shown
from malfl_env.errors import InputError
from malfl_env.labels import Label, label_key
from malfl_env.markov_game import MarkovGame

__all__ = ["in_numbering_of"]

IntArray = NDArray[np.int64]


def in_numbering_of(game: MarkovGame, trace: LearningTrace, *, name: str) -> LearningTrace:
    """The trace with the joint states and actions numbered as in a game.

    Where both have names, a name keeps its meaning; a game may have more states and actions than
    the log shows. Otherwise numbers keep their meaning; an imported log may end before the numbers
    of the game do, the trace of a learner has the sizes of its game. Agents correspond by their
    order.

    Args:
        game: it covers the log.
        trace: tabular.
        name: of the trace, for messages.

    Returns:
        The trace with the names of the game; itself if its numbers and names are the game's.

    Raises:
        InputError: naming the state or action that the game lacks, or the sizes that do not fit.
    """
    if trace.n_agents != len(game.n_actions):
        raise InputError(
            f"{name} has {trace.n_agents} agents ({', '.join(map(str, trace.agents))}), the game "
            f"has {game.n_agents}"
        )
    if trace.agents != game.agents and sorted(map(str, trace.agents)) == sorted(game.agents):
        raise InputError(
            f"{name} has the agents {', '.join(map(str, trace.agents))}, the game has them as "
            f"{', '.join(game.agents)}: import the log with the agents in this order"
        )
    shape = (game.n_states, *game.n_actions)
    if not trace.notes and trace.states is None and (trace.n_states, *trace.n_actions) != shape:
        raise InputError(
            f"{name} is of a game with {trace.n_states} joint states and actions "
            f"{trace.n_actions}, the given game has {game.n_states} and {game.n_actions}"
        )
    states = _numbers(
        f"{name}: joint states", trace.states, game.states, trace.n_states, game.n_states
    )
    actions = [
        _numbers(
            f"{name}: actions of {agent}",
            None if trace.actions is None else trace.actions[index],
            None if game.actions is None else game.actions[index],
            trace.n_actions[index],
            game.n_actions[index],
        )
        for index, agent in enumerate(trace.agents)
    ]
    state_names = trace.states if game.states is None else game.states
    action_names = trace.actions if game.actions is None else game.actions
    maps = (states, *actions)
    if all(np.array_equal(own, np.arange(n)) for own, n in zip(maps, shape, strict=True)):
        return replace(trace, states=state_names, actions=action_names)
    check_table_bytes(
        8 * trace.n_stages * int(np.prod(shape)),
        f"the counts of {trace.n_stages} stages in the numbering of the game",
    )
    stages = tuple(_renumbered(stage, maps, shape) for stage in trace.stages)
    return replace(
        trace,
        stages=stages,
        n_actions=game.n_actions,
        states=state_names,
        actions=action_names,
    )


def _numbers(
    what: str,
    given: Sequence[Label] | None,
    known: Sequence[Label] | None,
    n_given: int,
    n_known: int,
) -> IntArray:
    """The number in the game of every state, or of every action, of the log."""
    if given is not None and known is not None:
        exact = {label: number for number, label in enumerate(known)}
        as_text = {label_key(label): number for number, label in enumerate(known)}
        found = [exact.get(label, as_text.get(label_key(label))) for label in given]
        if None in found:
            absent = given[found.index(None)]
            raise InputError(f"{what}: the game has no {shown(absent)}; it has {_some(known)}")
        return np.array(found, dtype=np.int64)
    if n_given > n_known or (given is not None and n_given < n_known):
        hint = "" if given is None else "; give the game names, and they are matched"
        raise InputError(f"{what}: {n_given} in the log, the game has {n_known}{hint}")
    return np.arange(n_given)


def _some(labels: Sequence[Label]) -> str:
    return ", ".join(shown(own) for own in labels[:5]) + ", ..." * (len(labels) > 5)


def _renumbered(stage: Stage, maps: tuple[IntArray, ...], shape: tuple[int, ...]) -> Stage:
    counts = np.zeros(shape, dtype=np.int64)
    counts[np.ix_(*maps)] = stage.counts
    seen, steps = stage.next_state_counts, stage.transitions
    if seen is not None:
        before = np.unravel_index(seen.rows, stage.counts.shape)
        after = tuple(own[place] for own, place in zip(maps, before, strict=True))
        seen = NextStateCounts(
            np.ravel_multi_index(after, shape), maps[0][seen.next_states], seen.counts
        )
    if steps is not None:
        columns: dict[str, Any] = {
            "joint_actions": np.stack(
                [own[steps.joint_actions[:, index]] for index, own in enumerate(maps[1:])], axis=1
            )
        }
        for name in ("states", "next_states"):
            column = getattr(steps, name)
            if column is not None:
                columns[name] = maps[0][column]
        steps = replace(steps, **columns)
    return Stage(counts, seen, steps)
