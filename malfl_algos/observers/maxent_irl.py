"""Observer `maxent-irl`: maximum causal entropy inverse reinforcement learning (Ziebart 2010).

It uses only the last stage and assumes that each agent has finished learning: the agent is softly
optimal against the others' last policies, which are averaged into the dynamics. It does not use the
improvement from stage to stage, on which MA-LfL is based.

Read these files in this order: this one, `reading`, `malfl_algos.soft.soft_optimal` (the likelihood
of actions and its maximum).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from malfl_algos.contract import API_VERSION, Problem, RecoveredRewards, Source
from malfl_algos.ma_lfl.reward_models import identification
from malfl_algos.observers.reading import check_pseudo_count, dynamics_of, last_stage, without_data
from malfl_algos.soft import averaged_transition
from malfl_algos.soft.soft_optimal import MaxEntFit, fit_reward, identified_rank
from malfl_algos.trace import LearningTrace
from malfl_env.errors import InputError
from malfl_env.markov_game import MarkovGame

__all__ = ["MaxEntIrl"]

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class MaxEntIrl:
    """Maximum entropy IRL: the reward of the state that makes the last stage's actions most likely.

    Args:
        prior_variance: variance > 0 of the Gaussian prior with mean 0 on every reward value, in
            units of the temperature squared (1.0 at temperature 3 is a standard deviation of 3).
            The prior is needed because actions leave some directions of the reward unidentified,
            and because without it an action that was never played drives the reward to infinity. A
            larger variance weakens the prior and needs more iterations.
        pseudo_count: pseudo-count c > 0 in the estimate `(n(s, a) + c) / (N(s) + |A| c)` of the
            others' policies.
    """

    prior_variance: float = 1.0
    pseudo_count: float = 0.3

    api_version: ClassVar[tuple[int, int]] = API_VERSION

    def __post_init__(self) -> None:
        if not 0 < self.prior_variance < np.inf:
            raise InputError(f"prior_variance must be > 0 and finite, got {self.prior_variance}")
        check_pseudo_count(self.pseudo_count)

    def recover(
        self,
        trace: LearningTrace,
        *,
        game: MarkovGame | None,
        discount: float | None,
        temperature: float | None,
        known_policies: Mapping[str, FloatArray] | None = None,
    ) -> RecoveredRewards:
        """Recover every agent's reward `(n_states,)`; see `malfl_algos.contract.Observer`.

        Raises:
            InputError: also if the discount is None, because one stage does not determine it.
            ArithmeticError: if the maximisation does not reach its tolerance.
        """
        problem = Problem(trace, game, discount, temperature, known_policies)
        discount, temperature = problem.given("discount"), problem.given("temperature")
        last = last_stage(problem, pseudo_count=self.pseudo_count)
        game, covered = dynamics_of(trace, problem.game)
        informed = (last.visits > 0) & covered
        if not informed.any():
            raise InputError(
                "game is None, and the dynamics cannot be estimated, because no state of the last "
                "stage has a transition for each of its joint actions: give the game"
            )
        rewards, diagnostics = {}, {}
        for index, agent in enumerate(trace.agents):
            transition = averaged_transition(game, last.policies, index)
            weights = last.weights[index] * informed[:, None]
            fit = fit_reward(
                transition, weights, discount=discount, prior_variance=self.prior_variance
            )
            rewards[agent] = temperature * fit.reward
            diagnostics[agent] = self._diagnose(fit, transition, weights, informed, discount)
        return RecoveredRewards(
            rewards=rewards, diagnostics=diagnostics, source=Source.of(problem, self)
        )

    def _diagnose(
        self,
        fit: MaxEntFit,
        transition: sp.csr_array,
        weights: FloatArray,
        informed: NDArray[np.bool_],
        discount: float,
    ) -> dict[str, Any]:
        n_unknowns = len(fit.reward)
        rank = identified_rank(transition, informed) if discount > 0 else 0
        rows = np.repeat(informed, weights.shape[1])
        reached = np.asarray(transition.T @ rows) > 0
        identified = identification(
            n_unknowns=n_unknowns,
            rank=rank,
            n_without_data=int((~informed & ~reached).sum()),
            per_state=1,
        )
        identified["identification"] += "; if the agent is softly optimal"
        frequency = weights[informed] / weights[informed].sum(axis=1, keepdims=True)
        terms = np.log(np.where(frequency > 0, frequency, 1)) - fit.log_policy[informed]
        return {
            "method": "maxent-irl",
            "learner_model": "softly optimal in the last stage",
            "reward_model": "state",
            "dynamics": "the others averaged by their last policies (uniform without data)",
            "n_unknowns": n_unknowns,
            **identified,
            "representative": "the reward at a maximum of the posterior density; its mean is 0",
            "prior_variance": self.prior_variance,
            "divergence_from_observed": float((weights[informed] * terms).sum() / weights.sum()),
            "gradient": fit.gradient,
            "iterations": fit.iterations,
            **without_data(informed),
        }
