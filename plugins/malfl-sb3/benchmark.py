"""Measure steps per second: one stable-baselines3 model alone, and two that learn side by side.

The result is the best of several repetitions. Usage: python benchmark.py [timesteps]
"""

from __future__ import annotations

import sys
from time import perf_counter
from typing import Any

import numpy as np
import torch
from malfl_sb3 import partner_view, train_independent
from malfl_sb3.view import AgentView
from stable_baselines3 import A2C, DQN, PPO
from stable_baselines3.common.base_class import BaseAlgorithm

from malfl_env import grid_world_v0

OPTIONS: dict[type[BaseAlgorithm], dict[str, Any]] = {
    PPO: {"n_steps": 512},
    A2C: {"n_steps": 16},
    DQN: {"learning_starts": 256},
}
REPEATS = 4


class Staying:
    """A partner whose actions take no time."""

    def predict(self, observation: Any, *, deterministic: bool) -> tuple[int, None]:
        return 4, None


def rates(algorithm: type[BaseAlgorithm], timesteps: int) -> tuple[float, float]:
    """Return steps per second of one model alone, and of a game of two learners."""

    def build(view: AgentView) -> BaseAlgorithm:
        return algorithm("MlpPolicy", view, device="cpu", **OPTIONS[algorithm])

    alone = build(partner_view(grid_world_v0.parallel_env(), "agent_0", {"agent_1": Staying()}))
    started = perf_counter()
    alone.learn(timesteps)
    between = perf_counter()
    env = grid_world_v0.parallel_env()
    train_independent(
        env,
        dict.fromkeys(env.possible_agents, build),
        total_timesteps=timesteps,
        rng=np.random.default_rng(0),
    )
    return timesteps / (between - started), timesteps / (perf_counter() - between)


def main() -> None:
    """Print a table of all algorithms."""
    torch.set_num_threads(1)
    timesteps = int(sys.argv[1]) if len(sys.argv) > 1 else 4096
    print("| | one model alone | a game of two learners | time per learner and step, compared |")
    print("|---|---|---|---|")
    for algorithm in OPTIONS:
        alone, both = np.max([rates(algorithm, timesteps) for _ in range(REPEATS)], axis=0)
        print(f"| {algorithm.__name__} | {alone:.0f} | {both:.0f} | {alone / both / 2:.2f} |")


if __name__ == "__main__":
    main()
