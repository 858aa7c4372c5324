"""Playing a stage: tabular games in compiled loops, any parallel game step by step.

Public: the names in `__all__`, for learners. The modules below this package are private.
"""

from malfl_algos.play.episodes import joined, play_stage
from malfl_algos.play.games import Games, games_of
from malfl_algos.play.tabular import StageSample, observed_stage, sample_stage, tabular_game
from malfl_env.spaces import action_counts, observation_spaces

__all__ = [
    "Games",
    "StageSample",
    "action_counts",
    "games_of",
    "joined",
    "observation_spaces",
    "observed_stage",
    "play_stage",
    "sample_stage",
    "tabular_game",
]
