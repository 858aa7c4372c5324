"""Scores of the study of simple spread: recovered rewards, and held-out prediction."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from malfl_sb3.randomness import torch_settings
from malfl_sb3.rewarded import RewardFunction
from numpy.typing import NDArray
from scipy.special import log_softmax
from simple_spread_learning import HeldOut
from torch import Tensor

from malfl_algos import LearningTrace
from malfl_algos.learners.soft_q import Descent, follow, minimise
from malfl_algos.networks import mlp
from malfl_algos.networks.encoding import Encoder
from malfl_algos.scores.agreement import pearson, spearman

__all__ = ["LogPolicy", "likelihoods", "mean_likelihood", "next_policies", "reward_correlations"]

FloatArray = NDArray[np.float64]
LogPolicy = Callable[[NDArray[Any]], FloatArray]
"""Observations `(n, ...)` -> log-probabilities of the agent's actions `(n, n_actions)`."""

HIDDEN = (64, 64)
UPDATES = 3000
BATCH_SIZE = 512
LEARNING_RATE = 3e-3
TARGET_RATE = 0.05


def reward_correlations(
    rewards: Mapping[str, RewardFunction], held_out: Sequence[HeldOut]
) -> dict[str, dict[str, float | None]]:
    """Return per agent the correlation of a reward with the ground truth over held-out steps."""
    found = {}
    for agent, reward in rewards.items():
        estimate = np.concatenate([reward(own.observations, own.joint_actions) for own in held_out])
        truth = np.concatenate([own.rewards[agent] for own in held_out])
        found[agent] = {
            "pearson": pearson(estimate, truth).value,
            "spearman": spearman(estimate, truth).value,
        }
    return found


def likelihoods(log_policies: Mapping[str, LogPolicy], held_out: HeldOut) -> dict[str, float]:
    """Return per agent the mean log-likelihood of its actions under a policy, in nats per step."""
    return {
        agent: mean_likelihood(log_policy(held_out.observations[agent]), held_out, index)
        for index, (agent, log_policy) in enumerate(log_policies.items())
    }


def mean_likelihood(log_policy: FloatArray, held_out: HeldOut, agent_index: int) -> float:
    """Return the mean log-probability of an agent's actions under `(n, n_actions)`, in nats."""
    chosen = held_out.joint_actions[:, agent_index].astype(np.int64)
    return float(log_policy[np.arange(len(chosen)), chosen].mean())


def next_policies(
    rewards: Mapping[str, RewardFunction],
    policies: Mapping[str, LogPolicy],
    trace: LearningTrace,
    *,
    improvement: str,
    discount: float,
    temperature: float,
    rng: np.random.Generator,
) -> dict[str, LogPolicy]:
    """Predict the policies of the next stage by one improvement under some rewards.

    A network is fitted to q along the steps of the last stage. With soft improvement the next
    policy is the softmax of q / alpha, where q contains entropies, (5) and (6). With proximal
    improvement it is the last policy times exp(q / alpha), where q contains rewards alone.

    Args:
        rewards: per agent.
        policies: per agent, of that stage.
        trace: only its last stage is used.
        improvement: `soft` or `proximal`.
        discount: gamma in [0, 1).
        temperature: alpha > 0.
        rng: one seed is drawn from it per agent.
    """
    steps = trace.stages[-1].transitions
    assert steps is not None
    assert trace.spaces is not None
    assert steps.observations is not None
    assert steps.next_observations is not None
    found = {}
    for index, agent in enumerate(trace.agents):
        after = np.asarray(steps.next_observations[agent])
        log_after = policies[agent](after)
        policy_after = np.exp(log_after)
        paid = rewards[agent](steps.observations, np.asarray(steps.joint_actions))
        paid = paid - paid.mean()  # the mean (offset) shifts q equally for all actions
        entropy_after = -(policy_after * log_after).sum(axis=1) * (improvement == "soft")
        goes_on = np.full(len(paid), discount)
        if steps.terminations is not None:
            goes_on[steps.terminations] = 0.0
        before = np.asarray(steps.observations[agent])
        encoder = Encoder(trace.spaces[index]).standardised(before)
        # q in units of the temperature
        q = _fitted_q(
            encoder.encode(before),
            np.asarray(steps.joint_actions)[:, index],
            paid / temperature + goes_on * entropy_after,
            goes_on[:, None] * policy_after,
            encoder.encode(after),
            generator=mlp.generator_from(rng),
        )
        start = policies[agent] if improvement == "proximal" else None
        found[agent] = _improved(q, encoder, start)
    return found


def _fitted_q(
    before: NDArray[np.float32],
    actions: NDArray[Any],
    constants: FloatArray,
    weights: FloatArray,
    after: NDArray[np.float32],
    *,
    generator: torch.Generator,
) -> list[Tensor]:
    """Fit a network q with q(o)[a] = constant + sum_b weight[b] q(o')[b] on average."""
    n_actions = weights.shape[1]
    columns = [
        torch.from_numpy(np.ascontiguousarray(column))
        for column in (
            before,
            actions.astype(np.int64),
            constants.astype(np.float32),
            weights.astype(np.float32),
            after,
        )
    ]
    q = mlp.init(generator, (before.shape[1], *HIDDEN, n_actions), last_scale=0.0)
    target = [tensor.detach().clone() for tensor in q]

    def loss(rows: NDArray[np.int64]) -> Tensor:
        o, a, constant, weight, following = (column[rows] for column in columns)
        with torch.no_grad():
            goal = constant + (weight * mlp.apply(target, following)).sum(dim=1)
        chosen = mlp.apply(q, o).gather(1, a[:, None])[:, 0]
        return (chosen - goal).square().mean()

    with torch_settings(1):
        minimise(
            loss,
            q,
            n_rows=len(before),
            descent=Descent(UPDATES, LEARNING_RATE, BATCH_SIZE),
            generator=generator,
            after=partial(follow, target, q, TARGET_RATE),
        )
    return q


def _improved(q: list[Tensor], encoder: Encoder, start: LogPolicy | None) -> LogPolicy:
    """Return the softmax of q, times the policy `start` if there is one."""

    def log_policy(observations: NDArray[Any]) -> FloatArray:
        with torch.no_grad():
            outputs = mlp.apply(q, torch.from_numpy(encoder.encode(observations)))
        logits = outputs.double().numpy()
        if start is not None:
            logits = logits + start(observations)
        return np.asarray(log_softmax(logits, axis=1))

    return log_policy
