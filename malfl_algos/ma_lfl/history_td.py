"""Td learners within a learning history: action values with their noise, and their derivatives.

A td learner starts every stage with q = 0, and updates q(s, a) at the visits of (s, a) alone. Of a
stage of which only the counts are known, `malfl_algos.ma_lfl.learner_models.ExpectedTd` gives the
expectation and variance of q at its end, under the policies of the stage. Here these policies
follow from the rewards, so that the derivatives of q go through them, too: with
V(s) = sum_a pi(a | s) (q(s, a) - alpha log pi(a | s)) at any time of the stage,

  dV(s) = sum_a pi(a | s) (dq(s, a) + (q(s, a) - alpha log pi(a | s)) dlog pi(a | s)).

What the others played is part of the data, so q depends on the own policy and the own reward alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from malfl_algos.ma_lfl.learner_models import ExpectedTd, parts_of_stage, played_frequencies
from malfl_algos.ma_lfl.matrix_free_values import sweep
from malfl_algos.ma_lfl.stages import StageArrays
from malfl_algos.soft import entropy
from malfl_algos.work.compilation import compiled

__all__ = ["td_slopes", "td_values"]

FloatArray = NDArray[np.float64]
Single = NDArray[np.float32]


def td_values(
    learner: ExpectedTd,
    stage: StageArrays,
    policies: Sequence[FloatArray],
    agent_index: int,
    reward: FloatArray,
) -> tuple[FloatArray, FloatArray]:
    """Expectation and variance of an agent's action values at the end of a stage.

    Args:
        learner: of a reward of the state.
        stage: its counts.
        policies: per agent, `(n_states, n_actions)`.
        agent_index: the agent.
        reward: `(n_states,)`.

    Returns:
        Both `(n_states, n_actions)`; 0 where the pair was not visited.
    """
    own = policies[agent_index]
    _, transition = played_frequencies(learner.game, stage, agent_index)
    bonus = learner.temperature * np.asarray(transition @ entropy(own)).reshape(own.shape)
    q = sweep(
        transition.indptr,
        transition.indices,
        transition.data,
        learner.log_kept(stage, agent_index),
        own,
        (reward[:, None] + learner.discount * bonus)[..., None],
        learner.discount,
        parts_of_stage(),
    )[..., 0]
    return q, learner.stage_variance(stage, policies, agent_index, reward, q)


def td_slopes(
    learner: ExpectedTd,
    stage: StageArrays,
    policy: FloatArray,
    agent_index: int,
    reward: FloatArray,
    features: Single,
    moved: Single | None,
) -> Single:
    """Derivatives of the expected action values by the weights of the agent's reward.

    Args:
        learner, stage, agent_index, reward: as for `td_values`.
        policy: the agent's, `(n_states, n_actions)`.
        features: reward = features @ weights, `(n_states, n_weights)`.
        moved: derivatives of its log policy, `(n_states, n_actions, n_weights)`; None: it is fixed.

    Returns:
        `(n_states, n_actions, n_weights)`.
    """
    _, transition = played_frequencies(learner.game, stage, agent_index)
    fixed = np.zeros((0, policy.shape[1], features.shape[1]), np.float32)
    slopes: Single = _swept_slopes(
        (transition.indptr, transition.indices, transition.data),
        learner.log_kept(stage, agent_index),
        policy,
        learner.temperature * np.log(np.maximum(policy, 1e-300)),
        reward,
        features,
        fixed if moved is None else moved,
        learner.discount,
        parts_of_stage(),
    )
    return slopes


@compiled()
def _swept_slopes(  # noqa: C901, PLR0917 - a compiled loop over plain arrays
    transition: Any,
    log_kept: Any,
    policy: Any,
    log_policy: Any,
    reward: Any,
    features: Any,
    moved: Any,
    discount: Any,
    parts: Any,
) -> Any:  # pragma: no cover
    """See `td_slopes`; the action values themselves go along, since they weigh the policies."""
    pointers, columns, probabilities = transition
    (n_states, n_actions), width = policy.shape, features.shape[1]
    q, value = np.zeros((n_states, n_actions)), np.zeros(n_states)
    slope = np.zeros((n_states, n_actions, width), np.float32)
    ahead = np.zeros((n_states, width), np.float32)
    kept = np.exp(log_kept * parts[0])
    ratio = np.exp(log_kept * (parts[1] - parts[0]))
    for _ in range(len(parts)):
        value[:] = 0.0
        ahead[:] = 0.0
        for s in range(n_states):
            for a in range(n_actions):
                gain = q[s, a] - log_policy[s, a]
                value[s] += policy[s, a] * gain
                p, through = np.float32(policy[s, a]), np.float32(policy[s, a] * gain)
                for k in range(width):
                    ahead[s, k] += p * slope[s, a, k]
                if moved.shape[0]:
                    for k in range(width):
                        ahead[s, k] += through * moved[s, a, k]
        for s in range(n_states):
            for a in range(n_actions):
                share = 1.0 - kept[s, a]
                kept[s, a] *= ratio[s, a]
                if share == 0.0:
                    continue
                part = np.float32(share)
                q[s, a] += share * (reward[s] - q[s, a])
                for k in range(width):
                    slope[s, a, k] += part * (features[s, k] - slope[s, a, k])
                for entry in range(pointers[s * n_actions + a], pointers[s * n_actions + a + 1]):
                    t, w = columns[entry], share * discount * probabilities[entry]
                    q[s, a] += w * value[t]
                    one = np.float32(w)
                    for k in range(width):
                        slope[s, a, k] += one * ahead[t, k]
    return slope
