"""The exploration policy of an algorithm, for many observations at once."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import log_softmax
from stable_baselines3 import DQN
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.distributions import CategoricalDistribution
from stable_baselines3.common.policies import ActorCriticPolicy

from malfl_env.errors import InputError

__all__ = ["log_behaviour"]

FloatArray = NDArray[np.float64]


def log_behaviour(model: BaseAlgorithm, observations: NDArray[Any]) -> FloatArray:
    """Return the log-probabilities of the actions that a model takes while it learns.

    Args:
        model: PPO, A2C or another model with an actor-critic policy, or DQN; with discrete actions.
        observations: `(n, ...)`.

    Returns:
        `(n, n_actions)`, -inf where the probability is 0. The policy of DQN is epsilon-greedy, and
        uniform before it has begun to learn.

    Raises:
        InputError: for another kind of model, or other actions.
    """
    if isinstance(model, DQN):
        with np.errstate(divide="ignore"):
            return np.log(_epsilon_greedy(model, observations))
    policy = model.policy
    if not isinstance(policy, ActorCriticPolicy):
        raise InputError(
            f"cannot read the policy of {type(model).__name__} (allowed: actor-critic or DQN)"
        )
    policy.set_training_mode(False)
    with torch.no_grad():
        distribution = policy.get_distribution(policy.obs_to_tensor(observations)[0])
    if not isinstance(distribution, CategoricalDistribution):
        raise InputError(f"actions must be Discrete, got {model.action_space}")
    logits = distribution.distribution.logits.cpu().numpy()
    return np.asarray(log_softmax(logits.astype(np.float64), axis=-1))


def _epsilon_greedy(model: DQN, observations: NDArray[Any]) -> FloatArray:
    model.policy.set_training_mode(False)
    with torch.no_grad():
        q = model.q_net(model.policy.obs_to_tensor(observations)[0]).cpu().numpy()
    # DQN draws uniformly before it learns; its epsilon is not set before its first step
    warming_up = model.num_timesteps < model.learning_starts
    epsilon = 1.0 if warming_up else model.exploration_rate
    policy = np.full(q.shape, epsilon / q.shape[-1])
    policy[np.arange(len(q)), q.argmax(axis=-1)] += 1 - epsilon
    return policy
