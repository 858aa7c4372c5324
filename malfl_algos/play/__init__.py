"""Play a stage: tabular games in compiled loops, other parallel games step by step.

Public: the names in `__all__`, for learners; the modules of this package are private. Read
`tabular` or `episodes` first.
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
