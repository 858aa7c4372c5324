"""Observer `lfl`: Learning from a Learner (Jacq et al., ICML 2019) for each agent separately.

A single-agent observer treats the other agents as a part of the environment, which does not change
from stage to stage. The other agents are therefore averaged into one transition P(s' | s, a^i),
which is the same in (11) and (12) for every stage. Otherwise `lfl` equals `ma-lfl-own-action`.
Jacq et al. estimate the dynamics from the trajectories, and stop the regression after 200 steps of
Adam from zero; both are options here.

Read these files in this order: `paper`, this one, `malfl_algos.ma_lfl.adam` for `fit: adam`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from malfl_algos.contract import Problem
from malfl_algos.ma_lfl.recovery import Improvements
from malfl_algos.ma_lfl.regression import Fit, design_matrix, least_squares
from malfl_algos.observers.paper import MaLfl, equations_of, fit_by_adam
from malfl_algos.observers.reading import dynamics_of
from malfl_env.errors import InputError
from malfl_env.markov_game import MarkovGame

__all__ = ["Lfl", "mean_policy"]

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Lfl(MaLfl):
    """Single-agent Learning from a Learner, with the other agents averaged into fixed dynamics.

    Args:
        reward_model: `own_action` r(s, a^i), as in the single-agent method, or `state` r(s).
        entropy_coefficient: weight lambda >= 0 of the entropy bonus in the policy estimate,
            equation (10) of the paper.
        fit: `exact`, the least-squares solution of (12) of smallest norm; or `adam`, as published:
            the point that Adam reaches from zero in `epochs` steps, which is a regularised
            solution.
        epochs: number of steps of Adam, >= 1; with `exact` it has no effect.
        learning_rate: of Adam, > 0; with `exact` it has no effect.
        dynamics: `given`, those of the game, estimated only if there is no game; or `estimated`, as
            published: estimated from the trace, even if the game is given.

    With `own_action`, the reward is identified only up to shaping by any function of the joint
    state: with a fixed transition there are as many unidentified directions as joint states.
    """

    reward_model: Literal["own_action", "state"] = "own_action"
    fit: Literal["exact", "adam"] = "exact"
    epochs: int = 200
    learning_rate: float = 1.0
    dynamics: Literal["given", "estimated"] = "given"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.reward_model not in ("own_action", "state"):
            raise InputError(
                f"reward_model must be own_action or state, got {self.reward_model!r}: the "
                "single-agent method has no joint actions"
            )
        for name, allowed in (("fit", ("exact", "adam")), ("dynamics", ("given", "estimated"))):
            if getattr(self, name) not in allowed:
                raise InputError(
                    f"{name} must be {' or '.join(allowed)}, got {getattr(self, name)!r}"
                )
        if self.epochs < 1:
            raise InputError(f"epochs must be >= 1, got {self.epochs}")
        if not 0 < self.learning_rate < np.inf:
            raise InputError(f"learning_rate must be > 0 and finite, got {self.learning_rate}")

    def _dynamics(self, problem: Problem) -> tuple[MarkovGame, NDArray[np.bool_]]:
        return dynamics_of(problem.trace, problem.game if self.dynamics == "given" else None)

    def _averaged(
        self, policies: Sequence[FloatArray], visits: NDArray[np.int64]
    ) -> list[FloatArray]:
        return [mean_policy(policy, visits) for policy in policies]

    def _regress(self, improvements: Improvements) -> tuple[Fit, dict[str, Any]]:
        blocks, potentials = equations_of(improvements, self.reward_model)
        fit = least_squares(blocks, potentials, improvements.targets, improvements.seen)
        further: dict[str, Any] = {}
        if self.fit == "adam":
            fit, further = fit_by_adam(
                improvements,
                design_matrix(blocks, potentials),
                fit,
                learning_rate=self.learning_rate,
                epochs=self.epochs,
            )
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
