"""Learners, observers and scores for games of agents that learn.

Public: the names in `__all__`, and the packages and modules `contract` (what plugins implement),
`plugins`, `testing`, `soft`, `scores` and `play`. Every other module is private.
"""

from malfl_algos.observation_trace import ObservationTrace
from malfl_algos.trace import LearningTrace

__all__ = ["LearningTrace", "ObservationTrace"]
