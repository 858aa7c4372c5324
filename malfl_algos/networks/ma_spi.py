"""MA-SPI with networks: soft policy iteration by agents in games that nobody can list."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, ClassVar

import numpy as np
import torch
from gymnasium.spaces import MultiDiscrete
from numpy.typing import NDArray
from pettingzoo import ParallelEnv

from malfl_algos.contract import API_VERSION, LearnedStage, PlayedStage
from malfl_algos.networks.encoding import Encoder
from malfl_algos.networks.mlp import generator_from, torch_device
from malfl_algos.networks.settings import NetworkSettings
from malfl_algos.networks.soft_q import (
    Agent,
    AgentSteps,
    fit_soft_q,
    new_agent,
    probabilities,
    project_policy,
)
from malfl_algos.sampling import observed_stage, sample_stage
from malfl_algos.spaces import narrowed
from malfl_env import markov_game
from malfl_env.checks import check_table_bytes
from malfl_env.markov_game import MarkovGame

__all__ = ["MaSpiNetwork"]

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class MaSpiNetwork(NetworkSettings):
    discount: float
    temperature: float
    episodes: int = 3000
    episode_length: int = 1000
    keep_transitions: bool = False

    api_version: ClassVar[tuple[int, int]] = API_VERSION

    def learn(
        self, env: ParallelEnv[str, Any, Any], *, n_stages: int, rng: np.random.Generator
    ) -> Iterator[LearnedStage]:
        game = markov_game(env)
        return self._stages(game, n_stages, rng)

    def _stages(
        self, game: MarkovGame, n_stages: int, rng: np.random.Generator
    ) -> Iterator[LearnedStage]:
        generator = generator_from(rng)
        space: Any = MultiDiscrete(list(game.observation_shape))
        digits = narrowed(game.observation(np.arange(game.n_states)), space)
        agents = [new_agent(Encoder(space), n, self, generator) for n in game.n_actions]
        for _ in range(n_stages):
            joint_policy = [probabilities(agent, digits) for agent in agents]
            with np.errstate(divide="ignore"):
                logs = [np.log(p) for p in joint_policy]
            sample = sample_stage(
                game, logs, seed=int(rng.integers(2**64, dtype=np.uint64)),
                episodes=self.episodes, episode_length=self.episode_length,
                discount=self.discount, temperature=self.temperature, step_size=0.0, keep_steps=True,
            )
            yield LearnedStage(
                observed_stage(game, sample, keep_transitions=self.keep_transitions, complete=True),
                dict(zip(game.agents, joint_policy, strict=True)),
            )
            s, a, t, _ends = sample.steps
            own = np.stack(np.unravel_index(a, game.n_actions), axis=-1)
            obs, nxt = digits[s], digits[t]
            for i, agent in enumerate(agents):
                r = game.reward(i)
                r = r[s] if r.ndim == 1 else r.reshape(game.n_states, -1)[s, a]
                steps = AgentSteps(obs, own[:, i], r, nxt)
                if not self.warm_start:
                    agent.q = new_agent(agent.encoder, game.n_actions[i], self, generator).q
                fit_soft_q(agent, steps, self, discount=self.discount, temperature=self.temperature, generator=generator)
                project_policy(agent, obs, self, generator=generator)
