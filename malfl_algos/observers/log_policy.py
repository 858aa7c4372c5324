"""Observer `log-policy`: the log of the last policy as the reward.

This is a baseline that uses neither the dynamics nor the improvement between stages. For a softly
optimal agent, alpha log pi is its reward shaped by its value, so the same policy is optimal for
both. It says little about the reward of single states.

Read these files in this order: this one, `reading`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from malfl_algos.contract import API_VERSION, Problem, RecoveredRewards, Source
from malfl_algos.ma_lfl.reward_models import in_joint_order
from malfl_algos.observers.reading import check_pseudo_count, last_stage, without_data
from malfl_algos.trace import LearningTrace
from malfl_env.markov_game import MarkovGame

__all__ = ["LogPolicy", "log_policy_reward"]

FloatArray = NDArray[np.float64]

SMALLEST = float(np.finfo(np.float64).tiny)
"""Replaces a probability of 0, whose logarithm is not finite."""


@dataclass(frozen=True)
class LogPolicy:
    """A baseline: alpha log pi_H(a^i | s) of the last stage H is taken as the reward r(s, a^i).

    Args:
        pseudo_count: pseudo-count c > 0 in the policy estimate `(n(s, a) + c) / (N(s) + |A| c)`.
    """

    pseudo_count: float = 0.3

    api_version: ClassVar[tuple[int, int]] = API_VERSION

    def __post_init__(self) -> None:
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
        """Recover every agent's reward; see `malfl_algos.contract.Observer`.

        The game and the discount are not used, so both may be None.

        Raises:
            InputError: as in `malfl_algos.contract.Problem`; also if the last stage is empty.
        """
        problem = Problem(trace, game, discount, temperature, known_policies)
        temperature = problem.given("temperature")
        last = last_stage(problem, pseudo_count=self.pseudo_count)
        rewards, diagnostics = {}, {}
        for index, agent in enumerate(trace.agents):
            policy = last.policies[index]
            informed = (last.visits > 0) | last.known[index]
            own = log_policy_reward(policy, informed, temperature=temperature)
            rewards[agent] = in_joint_order(own, "own_action", index, trace.n_actions)
            diagnostics[agent] = _diagnose(policy, informed)
        return RecoveredRewards(
            rewards=rewards, diagnostics=diagnostics, source=Source.of(problem, self)
        )


def log_policy_reward(
    policy: FloatArray, informed: NDArray[np.bool_], *, temperature: float
) -> FloatArray:
    """r(s, a) = alpha log pi(a | s) in states with data, and their mean in all other states.

    Args:
        policy: `(n_states, n_actions)`; a probability of 0 counts as the smallest normal float64.
        informed: whether the policy of a state is known or estimated from data, bool `(n_states,)`;
            at least one is.
        temperature: alpha > 0.

    Returns:
        `(n_states, n_actions)`, finite.
    """
    reward = temperature * np.log(np.maximum(policy, SMALLEST))
    reward[~informed] = reward[informed].mean()
    return np.asarray(reward)


def _diagnose(policy: FloatArray, informed: NDArray[np.bool_]) -> dict[str, Any]:
    return {
        "method": "log-policy",
        "learner_model": "no learner model: the log policy is used as the reward",
        "reward_model": "own_action",
        "n_unknowns": policy.size,
        "identification": (
            "not identified: one policy does not determine a reward; for a softly optimal agent "
            "this one is the agent's reward shaped by its value of each state"
        ),
        "representative": "of all rewards for which the policy is softly optimal, the one for "
        "which every state has the value 0",
        "probabilities_of_0": int((policy < SMALLEST).sum()),
        "filled_with": "the mean over the states that have data",
        **without_data(informed),
    }
