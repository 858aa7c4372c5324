"""Independent stable-baselines3 learners, side by side on one PettingZoo parallel environment.

Read `training` first. `train_independent` does not depend on malfl_algos; the learner plugins in
`malfl_sb3.learners` are built on it.
"""

from malfl_sb3.partners import partner_view
from malfl_sb3.training import IndependentTraining, train_independent
from malfl_sb3.view import AgentView, agent_views

__all__ = ["AgentView", "IndependentTraining", "agent_views", "partner_view", "train_independent"]
