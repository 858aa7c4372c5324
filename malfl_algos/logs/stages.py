"""Time cut into stages: by a column, by numbers of episodes or steps, or into parts."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from malfl_algos.logs.change_points import find_change_points
from malfl_algos.logs.parts import first_of, parts, within
from malfl_algos.logs.rows import Steps
from malfl_env.checks import check_count
from malfl_env.errors import InputError

__all__ = ["Cut", "cut_stages"]

IntArray = NDArray[np.int64]


class Cut(NamedTuple):
    """How time is cut; exactly one field is set.

    Args:
        by_column: the stages are in the steps already.
        n_stages: into so many parts of equally many steps.
        episodes_per_stage, steps_per_stage: a new stage after so many.
        change_points: where the policies change, by the evidence.
    """

    by_column: bool = False
    n_stages: int | None = None
    episodes_per_stage: int | None = None
    steps_per_stage: int | None = None
    change_points: bool = False

    def checked(self) -> Cut:
        """The same, once exactly one field is set, to a number >= 1.

        Raises:
            InputError: for none or several, or a number that is not whole or below 1.
        """
        given = [
            name
            for name, own in zip(self._fields, self, strict=True)
            if own is not None and own is not False
        ]
        if len(given) != 1:
            words = "none" if not given else " and ".join(given)
            raise InputError(
                "say how time is cut into stages by exactly one of: stage (a column), n_stages, "
                f"episodes_per_stage, steps_per_stage, change_points; got "
                f"{words.replace('by_column', 'stage')}"
            )
        name = given[0]
        if name not in ("by_column", "change_points"):
            check_count(name, getattr(self, name), minimum=1)
        return self


def _every(number: int, noun: str) -> str:
    return f"every {noun}" if number == 1 else f"every {number} {noun}s"


def cut_stages(
    steps: Steps, cut: Cut, *, n_states: int, n_actions: tuple[int, ...]
) -> tuple[IntArray, str]:
    """The stage of every step, and a sentence about how it was found.

    The time of every subject is cut alike; stages of the same number are pooled.

    Args:
        steps: in the order of play.
        cut: how.
        n_states, n_actions: of the game; change points are searched in the counts.

    Returns:
        `(n_steps,)`, stages from 0 that all occur, and the sentence.

    Raises:
        InputError: for more stages than steps.
    """
    if cut.by_column:
        return steps.stage, "by their column"
    if cut.steps_per_stage is not None:
        place, _ = within(steps.subject)
        return place // cut.steps_per_stage, _every(cut.steps_per_stage, "step")
    if cut.episodes_per_stage is not None:
        episode = steps.episode - first_of(steps.subject, steps.episode)
        return episode // cut.episodes_per_stage, _every(cut.episodes_per_stage, "episode")
    if cut.n_stages is not None:
        stage, how = parts(steps, cut.n_stages)
        if cut.n_stages == 1:
            return stage, "one"
        return stage, f"{cut.n_stages} parts with about equally many steps, cut {how}"
    return find_change_points(steps, n_states=n_states, n_actions=n_actions)
