"""Play a stage of any game under the present policies of models, which do not change."""

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
    """Play episodes in many games side by side, with one call of a model for all games.

    Args:
        games: copies of one game.
        models: per agent, with discrete actions.
        episodes: number of episodes.
        episode_length: steps after which an episode is cut.
        rng: seeds the games and draws the actions. The global generators of torch, NumPy and Python
            are restored afterwards, even if the game draws from them.

    Returns:
        The stage. The agents did not learn from its transitions (`complete=False`).

    Raises:
        InputError: if agents end at different times, or if a model's policy cannot be read.
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
