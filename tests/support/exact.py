"""Exact MA-SPI as a plain recursion, apart from the learner that the package ships."""

from __future__ import annotations

import numpy as np

from malfl_algos.soft import log_soft_improvement, soft_evaluation
from malfl_env import MarkovGame

Policies = list[list[np.ndarray]]


def random_policies(
    game: MarkovGame, seed: int | np.random.Generator, concentration: float = 1.0
) -> list[np.ndarray]:
    """A policy `(n_states, n_actions)` for every agent, each row drawn from a Dirichlet."""
    rng = np.random.default_rng(seed)
    return [rng.dirichlet(np.full(n, concentration), size=game.n_states) for n in game.n_actions]


def exact_policies(
    game: MarkovGame, n_stages: int, *, discount: float, temperature: float
) -> Policies:
    """Joint policies of exact MA-SPI, `[stage][agent]`, from the uniform policy."""
    stages = [[np.full((game.n_states, n), 1 / n) for n in game.n_actions]]
    while len(stages) < n_stages:
        values = [
            soft_evaluation(game, stages[-1], index, discount=discount, temperature=temperature)[0]
            for index in range(game.n_agents)
        ]
        stages.append([np.exp(log_soft_improvement(q, temperature=temperature)) for q in values])
    return stages
