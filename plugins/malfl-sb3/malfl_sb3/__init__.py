"""Independent stable-baselines3 learners, side by side on one PettingZoo parallel environment.

`train_independent` is a library of its own and knows nothing of malfl; `malfl_sb3.learners` holds
the learner plugins that are built on it.
"""

from malfl_sb3.partners import partner_view
from malfl_sb3.training import IndependentTraining, train_independent
from malfl_sb3.view import AgentView, agent_views

__all__ = ["AgentView", "IndependentTraining", "agent_views", "partner_view", "train_independent"]
