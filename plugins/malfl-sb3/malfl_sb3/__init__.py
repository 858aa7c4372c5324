"""Independent stable-baselines3 learners, side by side on one PettingZoo parallel environment.

Read `training` first. `train_independent` does not depend on malfl_algos; the learner plugins in
`malfl_sb3.learners` are built on it. `Sb3Learner` is the base class for plugins with other
algorithms.
"""

from typing import TYPE_CHECKING, Any

from malfl_sb3.partners import partner_view
from malfl_sb3.training import IndependentTraining, train_independent
from malfl_sb3.view import AgentView, agent_views

if TYPE_CHECKING:
    from malfl_sb3.stages import Sb3Learner

__all__ = [
    "AgentView",
    "IndependentTraining",
    "Sb3Learner",
    "agent_views",
    "partner_view",
    "train_independent",
]


def __getattr__(name: str) -> Any:
    if name == "Sb3Learner":  # it imports malfl_algos, which training does not need
        from malfl_sb3.stages import Sb3Learner

        return Sb3Learner
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
