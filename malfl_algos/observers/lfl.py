"""Observer `lfl`: Learning from a Learner (Jacq et al., ICML 2019) for each agent separately.

A single-agent observer treats the other agents as a part of the environment, which does not change
from stage to stage. The other agents are therefore averaged into one transition P(s' | s, a^i),
which is the same in (11) and (12) for every stage. Otherwise `lfl` equals `ma-lfl-own-action`.

Read these files in this order: `paper`, this one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from malfl_algos.ma_lfl.recovery import Improvements
from malfl_algos.ma_lfl.regression import Fit
from malfl_algos.observers.paper import MaLfl
from malfl_env.errors import InputError

__all__ = ["Lfl", "mean_policy"]

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Lfl(MaLfl):
    """Single-agent Learning from a Learner, with the other agents averaged into fixed dynamics.

    Args:
        reward_model: `own_action` r(s, a^i), as in the single-agent method, or `state` r(s).
        entropy_coefficient: weight lambda >= 0 of the entropy bonus in the policy estimate,
            equation (10) of the paper.

    With `own_action`, the reward is identified only up to shaping by any function of the joint
    state: with a fixed transition there are as many unidentified directions as joint states.
    """

    reward_model: Literal["own_action", "state"] = "own_action"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.reward_model not in ("own_action", "state"):
            raise InputError(
                f"reward_model must be own_action or state, got {self.reward_model!r}: the "
                "single-agent method has no joint actions"
            )

    def _averaged(
        self, policies: Sequence[FloatArray], visits: NDArray[np.int64]
    ) -> list[FloatArray]:
        return [mean_policy(policy, visits) for policy in policies]

    def _regress(self, improvements: Improvements) -> tuple[Fit, dict[str, Any]]:
        fit, further = super()._regress(improvements)
        return fit, further | {
            "method": "lfl",
            "learner_model": "single agent, free potentials",
            "dynamics": "the other agents averaged over all stages, weighted by visits",
        }


def mean_policy(policies: FloatArray, visits: NDArray[np.int64]) -> FloatArray:
    """One policy for all stages: in each state the mean over stages, weighted by visits.

    Args:
        policies: `(n_stages, n_states, n_actions)`.
        visits: `(n_stages, n_states)`, >= 0. A state without visits gets the unweighted mean.

    Returns:
        `(n_stages, n_states, n_actions)`, every stage the same.
    """
    weights = np.where(visits.sum(axis=0) > 0, visits, 1).astype(np.float64)
    mean = np.einsum("hs,hsa->sa", weights / weights.sum(axis=0), policies)
    return np.broadcast_to(mean, policies.shape)
