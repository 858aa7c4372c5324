"""Small parallel environments and models for the tests."""

from __future__ import annotations

import hashlib
import random
import threading
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from malfl_sb3 import AgentView
from pettingzoo import ParallelEnv
from stable_baselines3 import A2C, DQN, PPO
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback


class Matching(ParallelEnv):
    """Each agent is rewarded for the action that its observation names; the others do not matter.

    Args:
        n_agents: number of agents.
        lengths: steps until each agent ends; one number for all.
        terminates: whether an end is a termination, else a truncation.
        random: whether observations are drawn, from the environment's own generator.
        global_random: whether they are drawn from NumPy's global one instead.
        action_space, space: of all agents.
    """

    metadata = {"name": "matching", "render_modes": []}  # noqa: RUF012
    render_mode = None

    def __init__(
        self,
        *,
        n_agents: int = 2,
        lengths: int | Mapping[str, int] = 5,
        terminates: bool = False,
        random: bool = True,
        global_random: bool = False,
        action_space: spaces.Space[Any] | None = None,
        space: spaces.Space[Any] | None = None,
    ) -> None:
        self.possible_agents = [f"agent_{index}" for index in range(n_agents)]
        self.agents: list[str] = []
        self.lengths = (
            dict.fromkeys(self.possible_agents, lengths) if isinstance(lengths, int) else lengths
        )
        self.terminates, self.random, self.global_random = terminates, random, global_random
        self._action_space = action_space or spaces.Discrete(3)
        self._space = space or spaces.Box(0.0, 1.0, (3,), np.float32)
        self.np_random = np.random.default_rng()
        self.calls: list[str] = []

    def observation_space(self, agent: str) -> spaces.Space[Any]:
        return self._space

    def action_space(self, agent: str) -> spaces.Space[Any]:
        return self._action_space

    def reset(self, seed: int | None = None, options: Any = None) -> tuple[Any, Any]:
        self.calls.append("reset")
        if seed is not None:
            self.np_random = np.random.default_rng(seed)
        self.agents = self.possible_agents[:]
        self.cycle = 0
        self._named = {agent: self._draw() for agent in self.agents}
        return self._observe(), {agent: {} for agent in self.agents}

    def step(self, actions: Mapping[str, Any]) -> tuple[Any, Any, Any, Any, Any]:
        self.calls.append("step")
        assert list(actions) == self.agents, "an action for each agent that is there"
        rewards = {
            agent: float(np.all(action == self._named[agent])) for agent, action in actions.items()
        }
        self.cycle += 1
        ended = {agent: self.cycle >= self.lengths[agent] for agent in self.agents}
        self._named = {agent: self._draw() for agent in self.agents}
        observations, infos = self._observe(), {agent: {} for agent in self.agents}
        self.agents = [agent for agent in self.agents if not ended[agent]]
        nobody = dict.fromkeys(ended, False)
        ends = (ended, nobody) if self.terminates else (nobody, ended)
        return observations, rewards, *ends, infos

    def _draw(self) -> int:
        if self.global_random:
            return int(np.random.randint(3))  # noqa: NPY002
        return int(self.np_random.integers(3)) if self.random else self.cycle % 3

    def _observe(self) -> dict[str, Any]:
        return {agent: np.eye(3, dtype=np.float32)[named] for agent, named in self._named.items()}


def ppo(view: AgentView, **options: Any) -> PPO:
    """A small PPO."""
    return PPO("MlpPolicy", view, **{"n_steps": 16, "batch_size": 16, "n_epochs": 2, **options})


def a2c(view: AgentView, **options: Any) -> A2C:
    """A small A2C."""
    return A2C("MlpPolicy", view, **{"n_steps": 8, **options})


def dqn(view: AgentView, **options: Any) -> DQN:
    """A small DQN."""
    small = {"learning_starts": 8, "batch_size": 8, "buffer_size": 200, "train_freq": 2}
    return DQN("MlpPolicy", view, **{**small, **options})


FACTORIES: dict[str, Callable[..., BaseAlgorithm]] = {"ppo": ppo, "a2c": a2c, "dqn": dqn}


def weights(model: BaseAlgorithm) -> str:
    """A checksum of all weights."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.policy.state_dict().items()):
        digest.update(name.encode() + tensor.cpu().numpy().tobytes())
    return digest.hexdigest()


def learner_threads() -> list[str]:
    """Names of the threads of learners that are alive."""
    return [t.name for t in threading.enumerate() if t.name.startswith("malfl-sb3")]


class Call(BaseCallback):
    """Call a function with the model at every step; training ends if it returns False."""

    def __init__(self, function: Callable[[BaseAlgorithm], Any]) -> None:
        super().__init__()
        self.function = function

    def _on_step(self) -> bool:
        return self.function(self.model) is not False


def global_state() -> tuple[Any, ...]:
    """Return the state of the global generators, and torch's number of threads."""
    numpy_state = np.random.get_state(legacy=False)  # noqa: NPY002
    return (
        random.getstate(),
        torch.get_rng_state().tolist(),
        numpy_state["state"]["key"].tolist(),
        numpy_state["state"]["pos"],
        numpy_state["has_gauss"],
        numpy_state["gauss"],
        torch.get_num_threads(),
    )
