"""The same game with other rewards, for agents that are retrained on recovered rewards."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pettingzoo.utils import BaseParallelWrapper

from malfl_env.errors import InputError
from malfl_sb3.models import check_agents
from malfl_sb3.view import AnyParallelEnv

__all__ = ["RewardFunction", "Rewarded"]

RewardFunction: TypeAlias = Callable[
    [Mapping[Any, NDArray[Any]], NDArray[np.int64]], NDArray[np.float64]
]
"""Maps all agents' observations before the step and joint actions `(n, n_agents)` to `(n,)`."""


class Rewarded(BaseParallelWrapper[Any, Any, Any]):  # type: ignore[misc]  # it ships no types
    """A parallel environment whose rewards are functions of observations and joint actions.

    Args:
        env: an environment with discrete actions whose agents begin and end together. Its own
            rewards are hidden.
        rewards: per agent.

    Raises:
        InputError: if an agent has no reward, or a name is unknown; in a step, if a reward is not
            finite.
    """

    def __init__(self, env: AnyParallelEnv, rewards: Mapping[Any, RewardFunction]) -> None:
        check_agents("rewards", dict(rewards), list(env.possible_agents))
        super().__init__(env)
        self._rewards = dict(rewards)
        self._observations: dict[Any, NDArray[Any]] = {}

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[Any, Any], dict[Any, Any]]:
        """Begin an episode."""
        observations, infos = super().reset(seed=seed, options=options)
        self._remember(observations)
        return observations, infos

    def step(self, actions: dict[Any, Any]) -> tuple[dict[Any, Any], ...]:
        """Let all agents act; their rewards follow from the observations before this step."""
        agents = list(self.possible_agents)
        joint_action = np.array([[actions[agent] for agent in agents]], dtype=np.int64)
        paid = {
            agent: float(reward(self._observations, joint_action)[0])
            for agent, reward in self._rewards.items()
        }
        for agent, reward in paid.items():
            if not np.isfinite(reward):
                raise InputError(f"the reward of {agent} must be finite, got {reward}")
        observations, _, terminations, truncations, infos = super().step(actions)
        self._remember(observations)
        return observations, paid, terminations, truncations, infos

    def _remember(self, observations: Mapping[Any, Any]) -> None:
        # a copy: the environment may reuse its arrays
        self._observations = {
            agent: np.array(observed)[None] for agent, observed in observations.items()
        }
