"""Rules of learners that the evidence may choose from, by what the counts allow."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from malfl_algos.ma_lfl.carried_rules import Carried, choice_of, follows_q
from malfl_algos.ma_lfl.greedy import exploration_spread
from malfl_algos.ma_lfl.stages import StageArrays

__all__ = ["possible_rules"]

LEAST_VISITS = 30
"""Smallest mean number of visits of a pair of state and action in a stage with which the evidence
may choose rules of learners that carry their q over.
"""
MOST_SPREAD = 2.0
"""Largest `exploration_spread` of frozen epsilon-greedy choices. It was at most 1.2 for such
learners, deep Q-learners included, with any amount of data, and 7 to 990 for other learners with
300 episodes of 1000 steps in a stage or more.
"""


def possible_rules(
    rules: tuple[str, ...], stages: Sequence[StageArrays]
) -> tuple[tuple[str, ...], str | None]:
    """The rules that the evidence may choose from, and why others are left out.

    Which pairs (s, a) a learner visited is an input of its model. With few visits that input nearly
    tells the actions that the model has to predict, which favours rules of learners that carry
    their q over. An agent with one action explores nothing, so that epsilon-greedy choices cannot
    be fitted to it. If there are no other rules, all are kept.
    """
    left: list[str] = []
    plain = tuple(rule for rule in rules if not follows_q(rule))
    if not plain or plain == rules:
        return rules, None
    shape = stages[0].joint_counts.shape
    visits = np.mean([stage.joint_counts.sum() for stage in stages]) / (shape[0] * max(shape[1:]))
    if visits < LEAST_VISITS:
        left = [rule for rule in rules if rule not in plain]
        return plain, (
            f"{'; '.join(left)}: a stage visits a pair of state and action {visits:.3g} times on "
            f"average, fewer than {LEAST_VISITS}; give learner to assume such a rule"
        )
    greedy = [rule for rule in rules if choice_of(rule) == "greedy"]
    if min(shape[1:]) == 1:
        return tuple(rule for rule in rules if rule not in greedy), (
            f"{', '.join(greedy)}: an agent has one action, which shows no exploration"
        )
    frozen = [rule for rule in greedy if Carried.named(rule).policy == "frozen"]
    spread = max(_spread(stages, index) for index in range(len(shape) - 1)) if frozen else 0.0
    if spread <= MOST_SPREAD:
        return rules, None
    return tuple(rule for rule in rules if rule not in frozen), (
        f"{'; '.join(frozen)}: how often the least played actions are played differs between "
        f"states {spread:.3g} times as much as chance allows if all are explored alike"
    )


def _spread(stages: Sequence[StageArrays], index: int) -> float:
    return exploration_spread(
        np.stack([stage.action_counts(index) for stage in stages]).astype(float)
    )
