"""Learners, observers and scores for games of agents that learn.

Public: the names in `__all__`, and the packages and modules `contract` (what plugins implement),
`plugins`, `testing`, `soft`, `scores` and `play`. Every other module is private.
"""

from malfl_algos.contract import RecoveredRewards
from malfl_algos.trace import LearningTrace, Stage, Transitions

__all__ = ["LearningTrace", "RecoveredRewards", "Stage", "Transitions"]
