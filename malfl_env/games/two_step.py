"""The two-step task of Daw, Gershman, Seymour, Dayan, Dolan (2011), Neuron 69(6), 1204-1215."""

from __future__ import annotations

from typing import Any

import numpy as np

from malfl_env.checks import check_fraction, check_numbers
from malfl_env.errors import InputError
from malfl_env.markov_game import Factor, MarkovGame
from malfl_env.tabular_env import TabularEnv

__all__ = ["two_step"]


def two_step(
    *,
    common: float = 0.7,
    reward_probabilities: Any = ((0.25, 0.75), (0.4, 0.6)),
    **options: Any,
) -> TabularEnv:
    """One agent chooses twice in each trial; the first choice leads to one of two second stages.

    Joint states: 0 the first stage, 1 and 2 the second stages A and B. In state 0, action a leads
    to state 1 + a with probability `common`, otherwise to the other second stage. From the second
    stage every action leads back to state 0, the next trial. The reward of a second choice is its
    probability of a reward, 0 elsewhere. In the experiment these probabilities drift slowly; here
    they stay as given, so that one table describes the game.

    Args:
        common: probability of the common transition; 0.7 in the paper.
        reward_probabilities: `(2, 2)`: of each choice in the stages A and B, in [0, 1]; in the
            paper between 0.25 and 0.75.
        **options: of `malfl_env.TabularEnv`.

    Raises:
        InputError: for a probability outside [0, 1], or another number of them.
    """
    often = check_fraction("common", common)
    chances = check_numbers(
        "reward_probabilities", reward_probabilities, allowed="probabilities (2, 2)"
    )
    if chances.shape != (2, 2) or not np.all((chances >= 0) & (chances <= 1)):
        raise InputError(
            "reward_probabilities must be four numbers in [0, 1] of shape (2, 2), got "
            f"{chances.tolist()}"
        )
    successors = np.zeros((3, 2, 2), dtype=np.int64)
    probabilities = np.zeros((3, 2, 2))
    probabilities[1:, :, 0] = 1.0
    successors[0] = [1, 2]
    probabilities[0] = [[often, 1 - often], [1 - often, often]]
    game = MarkovGame(
        (2,),
        (Factor((0,), successors, probabilities),),
        0,
        rewards=(np.vstack([np.zeros((1, 2)), chances]),),
        states=("first", "A", "B"),
        actions=(("left", "right"),),
    )
    return TabularEnv(game, name="two_step", **options)
