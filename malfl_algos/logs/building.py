"""The stages of a trace from steps in order."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from malfl_algos.logs.labels import Numbered
from malfl_algos.logs.rows import Steps
from malfl_algos.trace import LearningTrace, Stage, Transitions
from malfl_env.checks import check_table_bytes

__all__ = ["build_trace"]


def build_trace(
    steps: Steps,
    stage: NDArray[np.int64],
    *,
    agents: Sequence[str],
    states: Numbered,
    actions: Sequence[Numbered],
    terminated: NDArray[np.bool_] | None,
    notes: Sequence[str],
) -> LearningTrace:
    """The trace of steps whose stages are known.

    A stage that ends within an episode ends that episode for the trace; its next state is kept.

    Args:
        steps: in the order of play.
        stage: of every step, `(n_steps,)`; numbers that do not occur are left out.
        agents: their names.
        states, actions: names and numbers of states, and of every agent's actions.
        terminated: whether the game terminated at a step, `(n_steps,)`; None: unknown.
        notes: on how the trace was made.

    Raises:
        InputError: if the counts take more memory than is allowed.
    """
    shape = (states.size, *(own.size for own in actions))
    stages, numbers = np.unique(stage, return_inverse=True)
    order = np.argsort(numbers.reshape(-1), kind="stable")
    check_table_bytes(
        8 * prod(shape) * len(stages),
        f"the counts of {len(stages)} stages, {shape[0]} states and {shape[1:]} actions",
        "cut fewer stages, use states of fewer values, or number only the states that occur "
        "(compact)",
    )
    sizes = np.bincount(numbers.reshape(-1))
    complete = steps.n_gaps == steps.n_missed == 0 and len(np.unique(steps.subject)) == 1
    kept = []
    first = 0
    for size in sizes.tolist():
        rows = order[first : first + size]
        first += size
        ends = steps.ends[rows]
        ends[:-1] |= np.diff(rows) != 1
        ends[-1] = True
        columns = {
            "states": _narrow(steps.state[rows], shape[0]),
            "joint_actions": _narrow(steps.actions[rows], max(shape[1:])),
            "next_states": _narrow(steps.next_state[rows], shape[0]),
            "episode_ends": ends,
            "terminations": None if terminated is None else terminated[rows],
        }
        flat = np.ravel_multi_index((steps.state[rows], *steps.actions[rows].T), shape)
        counts = np.bincount(flat, minlength=prod(shape)).reshape(shape)
        kept.append(Stage(counts, None, Transitions(complete=complete, **_frozen(columns))))
    labels: Any = tuple(own.labels or tuple(range(own.size)) for own in actions)
    return LearningTrace(
        tuple(kept),
        tuple(agents),
        states=states.labels,
        actions=labels if any(own.labels is not None for own in actions) else None,
        notes=tuple(notes),
    )


def _narrow(numbers: NDArray[Any], size: int) -> NDArray[Any]:
    return numbers.astype(np.min_scalar_type(max(size - 1, 1)))


def _frozen(columns: dict[str, Any]) -> dict[str, Any]:
    """The arrays read-only, so that `Transitions` does not copy them."""
    for column in columns.values():
        if column is not None:
            column.flags.writeable = False
    return columns
