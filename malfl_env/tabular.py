"""From an environment to its tabular model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from gymnasium.spaces import Discrete

from malfl_env.checks import check_table_bytes
from malfl_env.errors import InputError
from malfl_env.markov_game import MarkovGame
from malfl_env.rewards import Reward, reward_table
from malfl_env.rules import ACTIONS, GridRules, cell_factor

__all__ = ["grid_game", "markov_game"]


def markov_game(env: Any) -> MarkovGame:
    """The tabular model of an environment, for algorithms that read tables.

    Args:
        env: a grid world in parallel or AEC form, in any number of wrappers. Any other environment
            will do whose `unwrapped` has a method `markov_game()` that returns a `MarkovGame`.

    Returns:
        The model: dynamics, start and rewards, the same as the simulator's step by step.

    Raises:
        InputError: if the environment has no tabular model, or its reward tables would take more
            than `malfl_env.checks.MAX_TABLE_BYTES`.
    """
    core = getattr(env, "unwrapped", env)
    make = getattr(core, "markov_game", None)
    game = make() if callable(make) else None
    if not isinstance(game, MarkovGame):
        raise InputError(
            "env must be a grid world, or an environment with a method markov_game() that returns "
            f"a MarkovGame; got {_told(env)}"
        )
    return game


def _told(env: Any) -> str:
    """An environment's name, and what in its actions no table can hold."""
    metadata = getattr(env, "metadata", None)
    name = metadata.get("name") if isinstance(metadata, Mapping) else None
    told = f"{name!r}" if name else f"{env!r}"
    for agent in getattr(env, "possible_agents", None) or ():
        space = env.action_space(agent)
        if not isinstance(space, Discrete):
            return f"{told}, whose {agent} has actions that cannot be listed: {space}"
    return told


def grid_game(rules: GridRules, rewards: tuple[Reward, ...]) -> MarkovGame:
    """The tabular model of a grid world.

    Args:
        rules: the rules of the game.
        rewards: one per agent, as in the result of `grid_rewards`.

    Returns:
        One factor per agent: its cell, moved by its own action. Joint states are numbered over all
        cells, walls included; the observation's digits are the row and column of every agent.

    Raises:
        InputError: if the reward tables would take more than `malfl_env.checks.MAX_TABLE_BYTES`.
    """
    n_bytes = sum(
        reward.nbytes if isinstance(reward, np.ndarray) else 8 * rules.n_states
        for reward in rewards
    )
    what = f"the reward tables of a game of size {rules.size} with {rules.n_agents} agents"
    check_table_bytes(n_bytes, what)
    return MarkovGame(
        n_actions=(len(ACTIONS),) * rules.n_agents,
        factors=tuple(cell_factor(rules, index) for index in range(rules.n_agents)),
        start=rules.joint_state(rules.start_cells),
        observation_shape=(rules.size,) * (2 * rules.n_agents),
        rewards=tuple(reward_table(reward, rules, index) for index, reward in enumerate(rewards)),
    )
