"""Scores of recovered rewards."""

from malfl_algos.scores.calibration import calibration
from malfl_algos.scores.correlation import MeanInterval, Score, mean_interval, pearson, spearman
from malfl_algos.scores.distances import RewardSpace, averaged_space, epic, joint_space, starc
from malfl_algos.scores.prediction import Prediction, prediction_scores
from malfl_algos.scores.regret import TruePlay, regret, true_play

__all__ = [
    "MeanInterval",
    "Prediction",
    "RewardSpace",
    "Score",
    "TruePlay",
    "averaged_space",
    "calibration",
    "epic",
    "joint_space",
    "mean_interval",
    "pearson",
    "prediction_scores",
    "regret",
    "spearman",
    "starc",
    "true_play",
]
