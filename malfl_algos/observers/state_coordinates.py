"""What the states of a trace are, in coordinates: for priors of rewards that are alike where states
are.

The coordinates are the digits of the game's observations, in groups by the factor that they belong
to, and so by agent; or the columns of the states' labels, whose owners are unknown.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from malfl_algos.ma_lfl.reward_priors import Seen
from malfl_algos.trace import LearningTrace
from malfl_env.labels import Label
from malfl_env.markov_game import MarkovGame

__all__ = ["seen_states"]

FloatArray = NDArray[np.float64]

MOST_STEPS = 1e100
"""Numbers are coordinates if fewer median steps lie between them, so that squares are finite."""


def seen_states(trace: LearningTrace, game: MarkovGame | None) -> Seen | None:
    """The coordinates of the joint states; None for states that are mere numbers or single labels.

    Of a game with several factors, or with one agent, the digits of a factor are one group, which
    belongs to the agent that moves it. Otherwise every column of the labels is a group, and without
    labels every digit of the observation is. Digits are numbers with steps of 1. A column of
    numbers is divided by the median step between its distinct values; of other columns two values
    are at distance 1, or 0 if they are the same.
    """
    if game is not None and (len(game.factors) > 1 or game.n_agents == 1):
        found = _by_factor(game)
        if found is not None:
            return found
    labels = trace.states
    if labels is None and game is not None:
        labels = game.states
    if labels is not None and all(isinstance(own, tuple) for own in labels):
        found = _by_column(labels)
        if found is not None:
            return found
    if game is None or len(game.observation_shape) < 2:
        return None
    digits = game.observation(np.arange(game.n_states)).astype(np.float64)
    names = tuple(f"coordinate {place}" for place in range(digits.shape[1]))
    return Seen(names, tuple(digits.T[:, :, None]), None)


def _by_factor(game: MarkovGame) -> Seen | None:
    """The digits of every factor; None if factors have no digits of their own, or a single one."""
    digits = game.observation(np.arange(game.n_states)).astype(np.float64)
    names, groups, owners, place = [], [], [], 0
    for number, (factor, size) in enumerate(zip(game.factors, game.n_local, strict=True)):
        begin, reached = place, 1
        while reached < size and place < digits.shape[1]:
            reached *= game.observation_shape[place]
            place += 1
        if reached != size:
            return None
        if place > begin:
            names.append(f"factor {number}")
            groups.append(digits[:, begin:place])
            owners.append(factor.agents[0] if len(factor.agents) == 1 else -1)
    if sum(own.shape[1] for own in groups) < 2:
        return None
    return Seen(tuple(names), tuple(groups), tuple(owners))


def _by_column(labels: Sequence[Label]) -> Seen | None:
    """The columns of labels that are tuples; None if fewer than two of them vary."""
    rows = [own for own in labels if isinstance(own, tuple)]
    if len({len(own) for own in rows}) != 1:
        return None
    columns = list(enumerate(zip(*rows, strict=True)))
    varying = [(place, own) for place, own in columns if len(set(own)) > 1]
    if len(varying) < 2:
        return None
    names = tuple(f"column {place}" for place, _ in varying)
    return Seen(names, tuple(_coordinates(own) for _, own in varying), None)


def _coordinates(values: Sequence[Any]) -> FloatArray:
    """Numbers in units of their median step; other values at distance 1 from each other, and so
    numbers that double precision cannot tell apart or hold.
    """
    found = _in_steps(values)
    if found is not None:
        return found[:, None]
    known: dict[Any, str] = {}
    texts = np.array([known.setdefault(own, repr(own)) for own in values])
    return np.asarray((texts[:, None] == np.unique(texts)) / np.sqrt(2.0))


def _in_steps(values: Sequence[Any]) -> FloatArray | None:
    """Numbers in units of their median step; None if they are none that doubles tell apart."""
    if not all(isinstance(own, (int, float)) for own in values):
        return None
    least = min(values) if all(isinstance(own, int) for own in values) else 0
    try:
        numbers = np.array([float(own - least) for own in values])
    except OverflowError:  # a whole number beyond all doubles
        return None
    with np.errstate(over="ignore", invalid="ignore"):
        steps = np.diff(np.unique(numbers))
        if len(steps) + 1 < len(set(values)):
            return None
        found = numbers / np.median(steps)
        return found if float(np.ptp(found)) < MOST_STEPS else None
