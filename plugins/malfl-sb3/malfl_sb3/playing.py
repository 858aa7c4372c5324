"""A stage of any game, played under the policies that models have now, which stand still."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.base_class import BaseAlgorithm

from malfl_algos.contract import LearnedStage, Stage
from malfl_algos.play import Games, joined, play_stage
from malfl_sb3.behaviour import log_behaviour
from malfl_sb3.randomness import RandomStreams, torch_settings
from malfl_sb3.schedules import ENVIRONMENT

__all__ = ["played_stage"]


def played_stage(
    games: Games,
    models: Mapping[Any, BaseAlgorithm],
    *,
    episodes: int,
    episode_length: int,
    rng: np.random.Generator,
) -> LearnedStage:
    """Play episodes, many games side by side; a model is called once for all of them.

    Args:
        games: copies of one game.
        models: per agent, of one discrete action.
        episodes: how many.
        episode_length: an episode that has not ended by then is cut.
        rng: seeds the games and draws the actions. The global generators of torch, NumPy and Python
            are as they were afterwards, though the game draw from them.

    Returns:
        The stage; its transitions are not those that anyone learned from.

    Raises:
        InputError: where agents do not end together, and for a model that cannot be read.
    """
    in_order: Sequence[BaseAlgorithm] = [models[agent] for agent in games.agents]

    def act(index: int, observations: NDArray[Any]) -> NDArray[np.float64]:
        return np.exp(log_behaviour(in_order[index], observations))

    streams = RandomStreams([ENVIRONMENT], rng)
    with torch_settings(1), streams.in_place():
        streams.use(ENVIRONMENT)
        stage = joined(
            play_stage(games, act, episodes=episodes, episode_length=episode_length, rng=rng)
        )
    steps = stage.observed.transitions
    assert steps is not None
    return replace(stage, observed=Stage(transitions=replace(steps, complete=False)))
