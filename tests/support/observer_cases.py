"""Small games for the observer with networks, and their exact policies and steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

import numpy as np
import torch
from gymnasium.spaces import Box, Discrete

from malfl_algos import LearningTrace, Stage
from malfl_algos.learners.ma_spi import MaSpi
from malfl_algos.networks.encoding import Encoder
from malfl_algos.networks.features import FeatureMap
from malfl_algos.networks.gathering import Gathered, Steps
from malfl_algos.soft import log_soft_improvement, soft_evaluation
from malfl_env import grid_world_v0, markov_game
from malfl_env.markov_game import MarkovGame

DISCOUNT, TEMPERATURE = 0.9, 3.0


def board(size: int = 2) -> MarkovGame:
    """A grid world with rewards; with two rows both agents' moves matter to each other."""
    return markov_game(grid_world_v0.parallel_env(size=size, rewards="heterogeneous"))


@lru_cache(maxsize=4)
def played(size: int = 2, stages: int = 4, episodes: int = 60, length: int = 100) -> LearningTrace:
    """A trace of exact learners, with its steps."""
    learner = MaSpi(
        discount=DISCOUNT,
        temperature=TEMPERATURE,
        evaluation="exact",
        episodes=episodes,
        episode_length=length,
        keep_transitions=True,
    )
    env = grid_world_v0.parallel_env(size=size, rewards="heterogeneous")
    run = learner.learn(env, n_stages=stages, rng=np.random.default_rng(5))
    return LearningTrace(tuple(stage.observed for stage in run))


def exact_policies(game: MarkovGame, stages: int) -> list[list[np.ndarray]]:
    """Policies of exact MA-SPI, per stage and agent."""
    logs = [np.full((game.n_states, n), -np.log(n)) for n in game.n_actions]
    found = []
    for _ in range(stages):
        joint = [np.exp(log) for log in logs]
        found.append(joint)
        logs = [
            log_soft_improvement(
                soft_evaluation(game, joint, i, discount=DISCOUNT, temperature=TEMPERATURE)[0],
                temperature=TEMPERATURE,
            )
            for i in range(game.n_agents)
        ]
    return found


def exact_steps(
    game: MarkovGame, policies: Sequence[Sequence[np.ndarray]], agent_index: int = 0
) -> tuple[Gathered, list[np.ndarray]]:
    """Every possible step once, observed as the state's index, and its probability in every stage.

    All states have equal weights under any policies.
    """
    grid = np.indices((game.n_states, *game.n_actions)).reshape(1 + game.n_agents, -1)
    here, actions = grid[0], grid[1:].T
    after = game.next_states[tuple(grid)]
    number = np.arange(len(here))
    steps = Steps(here, after, actions, np.ones(len(here)), number, number * 0, 1)
    space = Discrete(game.n_states)
    inputs = np.eye(game.n_states, dtype=np.float32)
    gathered = Gathered(
        inputs,
        (steps,) * len(policies),
        agent_index,
        game.n_actions,
        Encoder(space),
        agent_index,
    )
    probabilities = []
    for joint in policies:
        probability = np.ones(len(here))
        for agent, own in enumerate(joint):
            probability = probability * own[here, actions[:, agent]]
        probabilities.append(probability)
    return gathered, probabilities


def one_hot_map(n_states: int) -> FeatureMap:
    """Features that are the inputs themselves, and a constant."""
    hidden = [torch.zeros(n_states, 1), torch.zeros(1)]
    scale = np.concatenate([[0.0], np.ones(n_states)])
    return FeatureMap(hidden, np.zeros(n_states + 1), scale)


def in_a_box(size: int = 2, episodes: int = 20, jitter: float = 0.2) -> LearningTrace:
    """The trace with real-valued observations, no two alike: digits with noise."""
    rng = np.random.default_rng(0)
    trace = played(size, 4, episodes).with_observations(board(size).without_rewards())
    width = 2 * len(trace.agents)
    space = Box(-1.0, float(size), (width,), np.float32)
    stages = []
    for stage in trace.stages:
        steps, seen = stage.transitions, {}
        for kind in ("observations", "next_observations"):
            digits = np.asarray(getattr(steps, kind)["agent_0"]).astype(np.float32)
            noise = rng.uniform(-jitter, jitter, digits.shape).astype(np.float32)
            seen[kind] = dict.fromkeys(trace.agents, digits + noise)
        # the observation after a step equals the one before the next step
        first = seen["observations"]["agent_0"]
        after = seen["next_observations"]["agent_0"]
        goes_on = ~np.asarray(steps.episode_ends[:-1])
        after[:-1][goes_on] = first[1:][goes_on]
        stages.append(Stage(transitions=replace(steps, states=None, next_states=None, **seen)))
    return LearningTrace(tuple(stages), trace.agents, trace.n_actions, (space,) * len(trace.agents))
