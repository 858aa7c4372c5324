"""Learners, observers and scores for games of agents that learn."""

from malfl_algos.observation_trace import ObservationTrace
from malfl_algos.trace import LearningTrace

__all__ = ["LearningTrace", "ObservationTrace"]
