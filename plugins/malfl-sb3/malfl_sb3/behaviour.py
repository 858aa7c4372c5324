"""The exploration policy of an algorithm, for many observations at once."""

from __future__ import annotations

import inspect
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

__all__ = ["check_readable", "log_behaviour"]

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
        InputError: as `check_readable`, or for other actions.
    """
    check_readable(model)
    if isinstance(model, DQN):
        with np.errstate(divide="ignore"):
            return np.log(_epsilon_greedy(model, observations))
    policy = model.policy
    assert isinstance(policy, ActorCriticPolicy)
    policy.set_training_mode(False)
    with torch.no_grad():
        distribution = policy.get_distribution(policy.obs_to_tensor(observations)[0])
    if not isinstance(distribution, CategoricalDistribution):
        raise InputError(f"actions must be Discrete, got {model.action_space}")
    logits = distribution.distribution.logits.cpu().numpy()
    return np.asarray(log_softmax(logits.astype(np.float64), axis=-1))


def check_readable(model: BaseAlgorithm) -> None:
    """Reject models whose probabilities of actions are not a function of the observation.

    Raises:
        InputError: with the reason.
    """
    policy, name = model.policy, type(model).__name__
    if hasattr(policy, "lstm_hidden_state_shape"):
        reason = "its policy has a memory, but a stage has one policy for every observation"
    elif "action_masks" in inspect.signature(policy.predict).parameters:
        reason = "it needs action masks, but stages are played without them; use PPO instead"
    elif isinstance(model, DQN) or isinstance(policy, ActorCriticPolicy):
        return
    else:
        reason = "only actor-critic policies and the exploration policy of DQN can be read"
    raise InputError(
        f"{name} cannot make stages: {reason} (train_independent takes it; allowed in stages: PPO, "
        "A2C, TRPO and others with an ActorCriticPolicy, DQN)"
    )


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
