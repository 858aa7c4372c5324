"""Scores of recovered rewards."""

from malfl_algos.scores.correlation import MeanInterval, Score, mean_interval, pearson, spearman

__all__ = ["MeanInterval", "Score", "mean_interval", "pearson", "spearman"]
