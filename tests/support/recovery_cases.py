"""Traces to recover rewards from, shared by the tests of the Bayesian observers."""

from __future__ import annotations

from typing import Any

import numpy as np
from exact import exact_policies

from malfl_algos.contract import RecoveredRewards
from malfl_algos.learners.ma_spi import MaSpi
from malfl_algos.trace import LearningTrace, Stage
from malfl_env import MarkovGame, grid_world_v0, markov_game

SETTINGS = {"discount": 0.9, "temperature": 3.0}


def learn(
    family: str = "heterogeneous",
    *,
    episodes: int = 30,
    n_stages: int = 4,
    seed: int = 0,
    temperature: float = 3.0,
    evaluation: str = "td",
    keep: bool = True,
    step_size: float = 0.1,
    **options: object,
) -> tuple[LearningTrace, MarkovGame]:
    """A trace of the paper's learners, by default with a hundredth of its data, and their game."""
    env = grid_world_v0.parallel_env(rewards=family, **options)
    learner = MaSpi(
        discount=0.9,
        temperature=temperature,
        evaluation=evaluation,
        step_size=step_size,
        episodes=episodes,
        keep_transitions=keep,
    )
    stages = learner.learn(env, n_stages=n_stages, rng=np.random.default_rng(seed))
    return LearningTrace(tuple(stage.observed for stage in stages)), markov_game(env)


def known_exactly(
    game: MarkovGame, n_stages: int, visits: int = 1
) -> tuple[LearningTrace, dict[str, np.ndarray]]:
    """A trace of exact learners, and their policies as known policies.

    In every joint state that the game can reach, each joint action that the policies allow was
    played `visits` times.
    """
    stages = exact_policies(game, n_stages, **SETTINGS)
    reached = reachable(game).reshape(-1, *[1] * game.n_agents)
    seen = []
    for stage in stages:
        possible = reached.astype(np.int64)
        for index, policy in enumerate(stage):
            shape = [game.n_states, *[1] * game.n_agents]
            shape[index + 1] = game.n_actions[index]
            possible = possible * (policy > 0).reshape(shape)
        seen.append(Stage(visits * possible))
    return LearningTrace(tuple(seen)), {
        agent: np.stack([stage[index] for stage in stages])
        for index, agent in enumerate(game.agents)
    }


def reachable(game: MarkovGame) -> np.ndarray:
    """Joint states that can follow the game's start under some joint actions, `(n_states,)`."""
    successors, probabilities = game.joint_successors()
    reached = np.arange(game.n_states) == game.start
    for _ in range(game.n_states):
        reached[successors[reached][probabilities[reached] > 0]] = True
    return reached


def recovered_exactly(
    observer: Any, game: MarkovGame, n_stages: int = 10, visits: int = 1000
) -> RecoveredRewards:
    """Rewards recovered from the policies of exact learners."""
    trace, policies = known_exactly(game, n_stages, visits)
    rules = {"game": game.without_rewards(), "known_policies": policies, **SETTINGS}
    return observer.recover(trace, **rules)
