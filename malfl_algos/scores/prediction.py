"""Held-out prediction: a score of rewards that needs no ground truth.

Soft policy iteration under the recovered rewards predicts the policies of a stage from those of the
stage before. This prediction is scored on the actions that the agents played, and so are two
baselines that need no reward: no change, and uniform play. The prediction is held out only for
stages that the rewards were not recovered from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import xlogy

from malfl_algos.scores.means import Score
from malfl_algos.soft import log_soft_improvement, soft_evaluation
from malfl_env.arguments import Discount, Temperature, typed
from malfl_env.errors import InputError
from malfl_env.markov_game import MarkovGame

__all__ = [
    "PREDICTIONS",
    "Prediction",
    "estimated_policy",
    "predicted_log_policies",
    "prediction_score",
    "prediction_scores",
]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

PREDICTIONS = ("predicted", "no_change", "uniform")
"""The prediction from the rewards, and the two baselines."""

PSEUDO_COUNT = 0.3
"""Dirichlet prior of an estimated policy, in visits of each action."""


@typed
@dataclass(frozen=True)
class Prediction:
    """How well policies predicted the actions that were played.

    Args:
        log_likelihood: mean over the steps of log pi(a | s), in nats; <= 0, higher is better.
        divergence: KL(observed frequencies || pi), mean over the steps, in nats; >= 0, 0 is best.
            It is the largest possible log-likelihood of these steps minus `log_likelihood`.
        n_steps: number of steps scored.
    """

    log_likelihood: Score
    divergence: Score
    n_steps: int


@typed
def estimated_policy(counts: IntArray) -> FloatArray:
    """(n(s, a) + c) / (N(s) + c * n_actions), c = 0.3: `(n_states, n_actions)`, all > 0."""
    smoothed = counts + PSEUDO_COUNT
    return np.asarray(smoothed / smoothed.sum(axis=-1, keepdims=True))


@typed
def predicted_log_policies(
    game: MarkovGame,
    joint_policy: Sequence[FloatArray],
    *,
    discount: Discount,
    temperature: Temperature,
) -> list[FloatArray]:
    """Log-policies after one step of soft policy iteration by all agents at once, (5) and (6).

    Args:
        game: dynamics and rewards.
        joint_policy: `(n_states, n_actions)` per agent: the policies of the stage before.
        discount: gamma in [0, 1).
        temperature: alpha > 0.

    Returns:
        `(n_states, n_actions)` per agent. They depend on a reward's scale, but not on its mean.

    Raises:
        InputError, ArithmeticError: as `soft_evaluation`.
    """
    return [
        log_soft_improvement(
            soft_evaluation(game, joint_policy, index, discount=discount, temperature=temperature)[
                0
            ],
            temperature=temperature,
        )
        for index in range(game.n_agents)
    ]


@typed
def prediction_score(log_policies: Sequence[FloatArray], counts: Sequence[IntArray]) -> Prediction:
    """Score the predicted policies of one agent on the actions that it played.

    Args:
        log_policies: per stage log pi(a | s), `(n_states, n_actions)`.
        counts: per stage the visits of (s, a), int `(n_states, n_actions)`.

    Returns:
        Means over all steps of all stages. None with a reason if there are no steps, or if an
        action was played that has probability 0 in the prediction.
    """
    n_steps = int(sum(own.sum() for own in counts))
    if not n_steps:
        nothing = Score(None, "the stages to predict have no steps")
        return Prediction(nothing, nothing, 0)
    total = best = 0.0
    for log_policy, own in zip(log_policies, counts, strict=True):
        played = own > 0
        total += float((own[played] * log_policy[played]).sum())
        visits = np.maximum(own.sum(axis=1, keepdims=True), 1)
        best += float(xlogy(own, own / visits).sum())
    if not np.isfinite(total):
        impossible = Score(None, "an action was played that has probability 0 in the prediction")
        return Prediction(impossible, impossible, n_steps)
    return Prediction(Score(total / n_steps), Score(max((best - total) / n_steps, 0.0)), n_steps)


@typed
def prediction_scores(
    game: MarkovGame,
    rewards: Mapping[str, FloatArray],
    joint_counts: Sequence[IntArray],
    *,
    first_stage: int,
    discount: Discount,
    temperature: Temperature,
) -> dict[str, dict[str, Prediction]]:
    """Predict every stage from `first_stage` on from the one before it, and score the predictions.

    The policies of the stage before are estimated from its counts (`estimated_policy`).

    Args:
        game: the dynamics.
        rewards: per agent id `(n_states,)` or `(n_states, *n_actions)`; the agents to predict.
        joint_counts: per stage the visits of joint states and actions, int
            `(n_states, *n_actions)`. The rewards should be recovered from stages before
            `first_stage`.
        first_stage: number of the first stage to predict, counted from 0; 1..n_stages - 1.
        discount, temperature: of the learners.

    Returns:
        The score per agent id and per name in `PREDICTIONS`.

    Raises:
        InputError: counts of another game, a `first_stage` out of range, or a reward that is not
            finite or has another shape.
    """
    shape = (game.n_states, *game.n_actions)
    for stage in joint_counts:
        if stage.shape != shape:
            raise InputError(
                f"joint_counts of a stage have shape {stage.shape}, the game has {shape}"
            )
    if len(joint_counts) < 2:
        raise InputError(f"joint_counts must be of at least 2 stages, got {len(joint_counts)}")
    if not 1 <= first_stage < len(joint_counts):
        raise InputError(
            f"first_stage must be 1..{len(joint_counts) - 1}, got {first_stage}: "
            "a stage is predicted from the stage before it"
        )
    action_counts = [_action_counts(counts) for counts in joint_counts]
    silent = np.zeros(game.n_states)
    rewarded = game.with_rewards([rewards.get(agent, silent) for agent in game.agents])
    before, after = action_counts[first_stage - 1 : -1], action_counts[first_stage:]
    joint_policies = [[estimated_policy(own) for own in stage] for stage in before]
    predicted = [
        predicted_log_policies(rewarded, policies, discount=discount, temperature=temperature)
        for policies in joint_policies
    ]
    scores = {}
    for index in (index for index, agent in enumerate(game.agents) if agent in rewards):
        counts = [stage[index] for stage in after]
        n_actions = game.n_actions[index]
        candidates = (
            [policies[index] for policies in predicted],
            [np.log(policies[index]) for policies in joint_policies],
            [np.full((game.n_states, n_actions), -np.log(n_actions))] * len(counts),
        )
        scores[game.agents[index]] = {
            name: prediction_score(candidate, counts)
            for name, candidate in zip(PREDICTIONS, candidates, strict=True)
        }
    return scores


def _action_counts(joint_counts: IntArray) -> list[IntArray]:
    """Visits of (state, own action) per agent, each `(n_states, n_actions)`."""
    axes = range(1, joint_counts.ndim)
    return [joint_counts.sum(axis=tuple(a for a in axes if a != own)) for own in axes]
