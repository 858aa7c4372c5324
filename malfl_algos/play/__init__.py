"""Playing a stage: tabular games in compiled loops, any parallel game step by step.

Public: the names in `__all__`, for learners. The modules below this package are private.
"""

from malfl_algos.play.episodes import joined, play_stage
from malfl_algos.play.games import Games, games_of
from malfl_algos.play.tabular import StageSample, observed_stage, sample_stage, tabular_game

__all__ = [
    "Games",
    "StageSample",
    "games_of",
    "joined",
    "observed_stage",
    "play_stage",
    "sample_stage",
    "tabular_game",
]
