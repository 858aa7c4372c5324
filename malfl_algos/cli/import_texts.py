"""What `malfl import` says: of columns, labels and numbers, and errors in words of the command."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

from malfl_env.errors import InputError
from malfl_env.labels import Label, label_text

if TYPE_CHECKING:
    from malfl_algos.trace import LearningTrace

__all__ = ["counted", "in_words_of_options", "line", "quoted", "rare_labels", "unused"]

LONG = 100
"""Steps from which on a label that hardly occurs is worth a question."""
RARE = 2
"""Most occurrences of such a label."""
_OPTIONS = {
    "n_stages": "--stages",
    "n_states": "--n-states",
    "n_actions": "--n-actions",
    "own_state": "--own-state",
    "next_state": "--next-state",
    "episodes_per_stage": "--episodes-per-stage",
    "steps_per_stage": "--steps-per-stage",
    "change_points": "--change-points",
}
_PHRASES = {
    "gaps 'split'": "--gaps split",
    "(compact)": "(--compact)",
    "or compact)": "or --compact)",
    "leave compact out": "leave --compact out",
    "memory is": "--memory is",
    "memory must": "--memory must",
    "where memory": "where --memory",
    "by actions (": "by --actions (",
    "by agent and action (": "by --agent and --action (",
}
_ARGUMENT = re.compile(rf"(?<![\w'-])({'|'.join(_OPTIONS)})(?![\w'])")


@contextmanager
def in_words_of_options(columns: Collection[str]) -> Iterator[None]:
    """Name options, and not arguments of Python, in errors; columns of these names stay."""
    try:
        yield
    except InputError as fault:
        text = str(fault)
        for phrase, words in _PHRASES.items():
            text = text.replace(phrase, words)
        told = _ARGUMENT.sub(lambda m: m[1] if m[1] in columns else _OPTIONS[m[1]], text)
        raise InputError(told) from fault


def counted(number: int, noun: str) -> str:
    """A number with its noun, as `1 stage` or `2 stages`."""
    return f"{number} {noun}{'s' * (number != 1)}"


def line(label: Label) -> str:
    """A label in one line."""
    return " ".join(label_text(label).split())


def quoted(name: str) -> str:
    """A name, in quotes if it holds blanks."""
    return repr(name) if not name or any(own.isspace() for own in name) else name


def unused(columns: Sequence[str], used: Collection[str]) -> list[str]:
    """A line on the columns of a log that nothing is read from; none if there are none."""
    names = [quoted(name) for name in columns if name not in used]
    some = ", ".join(names[:30]) + (", ..." if len(names) > 30 else "")
    return [f"not used: {some}"] if names else []


def rare_labels(trace: LearningTrace) -> Iterator[str]:
    """A question about every label of an action that hardly occurs in a long log."""
    if (
        trace.actions is None
        or not trace.is_tabular
        or sum(stage.n_steps for stage in trace.stages) < LONG
    ):
        return
    for index, (agent, labels) in enumerate(zip(trace.agents, trace.actions, strict=True)):
        counts = np.sum([stage.action_counts(index).sum(axis=0) for stage in trace.stages], axis=0)
        for label, count in zip(labels, counts.tolist(), strict=True):
            if 0 < count <= RARE:
                times = "once" if count == 1 else "twice"
                yield f"action {line(label)!r} of agent {quoted(agent)} occurs {times}: a typo?"
