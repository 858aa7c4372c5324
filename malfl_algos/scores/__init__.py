"""Scores of recovered rewards: functions of arrays, and a registry that names each of them once.

Read `registry.py` first: it lists every score. Public are the names in `__all__`; the modules of
this package are private.
"""

from malfl_algos.scores.agreement import calibration, pearson, spearman
from malfl_algos.scores.distances import RewardSpace, averaged_space, epic, joint_space, starc
from malfl_algos.scores.inputs import HeldOut, Reference, ScoringInputs, reference, with_policies
from malfl_algos.scores.means import MeanInterval, Score, mean_interval, mean_of_rows
from malfl_algos.scores.prediction import Prediction, prediction_scores
from malfl_algos.scores.registry import SCORES, ScoreEntry, score_agent, score_names
from malfl_algos.scores.regret import TruePlay, regret, true_play

__all__ = [
    "SCORES",
    "HeldOut",
    "MeanInterval",
    "Prediction",
    "Reference",
    "RewardSpace",
    "Score",
    "ScoreEntry",
    "ScoringInputs",
    "TruePlay",
    "averaged_space",
    "calibration",
    "epic",
    "joint_space",
    "mean_interval",
    "mean_of_rows",
    "pearson",
    "prediction_scores",
    "reference",
    "regret",
    "score_agent",
    "score_names",
    "spearman",
    "starc",
    "true_play",
    "with_policies",
]
