"""Gradients of an agent's feature expectations or return, from a trace and its policies."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from malfl_algos.contract import Problem
from malfl_algos.ma_lfl.gpomdp import episodes_of, exact_gradient, gpomdp_gradient
from malfl_algos.ma_lfl.gpomdp_sums import bytes_of_sums, sums_of_episodes
from malfl_algos.observers.reading import dynamics_of, stage_arrays
from malfl_algos.soft import averaged_transition, others_joint_policy
from malfl_algos.trace import LearningTrace

__all__ = ["computed_gradients", "followed_gradient", "sampled_gradients"]

FloatArray = NDArray[np.float64]

MOST_BYTES = 2**28
"""Memory for the sums of all stages, from which gradients follow fast; else episodes are followed
anew for every gradient."""


def sampled_gradients(
    trace: LearningTrace,
    log_policies: Sequence[FloatArray],
    index: int,
    features: FloatArray | sp.csr_array,
    discount: float,
) -> FloatArray:
    """Gradients from the steps of each stage but the last, `(n_improvements, S, A, k)`.

    Args:
        features: with mean 0; or the identity, whose mean is removed from the gradients.
    """
    found = []
    for stage, log_policy in zip(stage_arrays(trace)[:-1], log_policies[index], strict=False):
        assert stage.steps is not None
        episodes = episodes_of(
            stage.steps.states, stage.steps.joint_actions, stage.steps.episode_ends
        )
        found.append(
            gpomdp_gradient(np.exp(log_policy), episodes, index, features, discount=discount)
        )
    gradients = np.stack(found)
    if isinstance(features, sp.csr_array):
        gradients -= gradients.mean(axis=-1, keepdims=True)
    return gradients


def followed_gradient(
    problem: Problem,
    log_policies: Sequence[FloatArray],
    index: int,
    features: tuple[FloatArray, FloatArray],
    chosen: Literal["gpomdp", "exact"],
) -> Callable[[int, FloatArray, FloatArray], FloatArray]:
    """The gradient of an agent's return at a stage, for any policy of its own and weights.

    Args:
        log_policies: of the others, as they played.
        features: as a table over joint states (and actions), and as the agent's unknowns.
    """
    trace, discount = problem.trace, problem.given("discount")
    if chosen == "gpomdp":
        table = features[0]
        cut = [
            episodes_of(own.steps.states, own.steps.joint_actions, own.steps.episode_ends)
            for own in stage_arrays(trace)[:-1]
            if own.steps is not None
        ]

        shape = trace.n_states, trace.n_actions[index]
        if sum(bytes_of_sums(own, *shape, table.shape[-1]) for own in cut) <= MOST_BYTES:
            sums = [
                sums_of_episodes(
                    own, index, table, n_states=shape[0], n_actions=shape[1], discount=discount
                )
                for own in cut
            ]
            return lambda stage, policy, weights: sums[stage].gradient(policy, weights)

        def sampled(stage: int, policy: FloatArray, weights: FloatArray) -> FloatArray:
            gains = (table @ weights)[..., None]
            return gpomdp_gradient(policy, cut[stage], index, gains, discount=discount)[..., 0]

        return sampled
    game, _ = dynamics_of(trace, problem.game)
    policies = [np.exp(log) for log in log_policies]
    others, own_first = others_joint_policy(policies, index), features[1]
    transitions = [
        averaged_transition(game, [own[number] for own in policies], index)
        for number in range(trace.n_stages - 1)
    ]

    def computed(stage: int, policy: FloatArray, weights: FloatArray) -> FloatArray:
        gains = own_first @ weights
        if gains.ndim > 1:
            gains = np.einsum("so,sao->sa", others[stage], gains)
        return exact_gradient(
            policy,
            transitions[stage],
            gains[..., None],
            start=game.start_distribution,
            discount=discount,
        )[..., 0]

    return computed


def computed_gradients(
    problem: Problem,
    log_policies: Sequence[FloatArray],
    index: int,
    features: FloatArray,
    discount: float,
) -> FloatArray:
    """Gradients from the dynamics under each stage's policies, `(n_improvements, S, A, k)`.

    Args:
        features: `(n_states, k)` or `(n_states, n_own, n_others, k)`.
    """
    game, _ = dynamics_of(problem.trace, problem.game)
    policies = [np.exp(log) for log in log_policies]
    others = others_joint_policy(policies, index)
    found = []
    for number in range(problem.trace.n_stages - 1):
        transition = averaged_transition(game, [own[number] for own in policies], index)
        gains = features
        if features.ndim > 2:
            gains = np.einsum("so,saok->sak", others[number], features)
        found.append(
            exact_gradient(
                policies[index][number],
                transition,
                gains,
                start=game.start_distribution,
                discount=discount,
            )
        )
    return np.stack(found)
