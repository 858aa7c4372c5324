"""The tabular model of an environment."""

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

_PLAYED_BY = ("reset", "step", "last")
"""The methods of an environment that return observations and rewards."""


def markov_game(env: Any) -> MarkovGame:
    """The tabular model of an environment, for algorithms that read tables.

    Args:
        env: a grid world in parallel or AEC form, in any number of PettingZoo's own wrappers; or
            any environment or wrapper with a method `markov_game()` that returns the `MarkovGame`
            of its own `reset` and `step`.

    Returns:
        The model: dynamics, start and rewards, the same as the simulator's step by step.

    Raises:
        InputError: if the environment has no tabular model; if a wrapper or subclass has its own
            `reset` or `step`, because these may change rewards or moves; or if the reward tables
            would take more than `malfl_env.checks.MAX_TABLE_BYTES`.
    """
    layer = env
    while layer is not None and _definer(layer, "markov_game") is None:
        inside = _inside(layer)
        if inside is not None:
            _check_wrapper(layer)
        layer = inside
    if layer is not None:
        _check_own_game(layer)
    game = None if layer is None else layer.markov_game()
    if not isinstance(game, MarkovGame):
        raise InputError(
            "env must be a grid world, or an environment with a method markov_game() that returns "
            f"a MarkovGame; got {_description(env)}"
        )
    return game


def _definer(layer: Any, name: str) -> int | None:
    """Where an attribute is defined: 0, the object; i, the i-th class of its MRO; None, nowhere."""
    layers = (getattr(layer, "__dict__", {}), *(vars(cls) for cls in type(layer).__mro__))
    return next((depth for depth, names in enumerate(layers) if name in names), None)


def _inside(layer: Any) -> Any:
    """The environment inside a wrapper; None if the object is not a wrapper."""
    names = getattr(layer, "__dict__", {})
    return names.get("env", names.get("aec_env"))


def _check_wrapper(layer: Any) -> None:
    ancestry = type(layer).__mro__
    for name in _PLAYED_BY:
        depth = _definer(layer, name)
        if depth is None:
            continue
        if depth == 0 or ancestry[depth - 1].__module__.partition(".")[0] != "pettingzoo":
            raise InputError(
                f"env: the wrapper {type(layer).__name__} has its own {name}(), which may change "
                "rewards or moves: pass the environment inside it, or give the wrapper a method "
                "markov_game() that returns the game it plays"
            )


def _check_own_game(layer: Any) -> None:
    model = _definer(layer, "markov_game")
    for name in _PLAYED_BY:
        depth = _definer(layer, name)
        if depth is not None and model is not None and depth < model:
            raise InputError(
                f"env: {type(layer).__name__} has its own {name}(), but the markov_game() of the "
                "class it extends: give it a method markov_game() that returns the game it plays"
            )


def _description(env: Any) -> str:
    """An environment's name, and its first action space that is not enumerable."""
    metadata = getattr(env, "metadata", None)
    name = metadata.get("name") if isinstance(metadata, Mapping) else None
    described = f"{name!r}" if name else f"{env!r}"
    for agent in getattr(env, "possible_agents", None) or ():
        space = env.action_space(agent)
        if not isinstance(space, Discrete):
            return f"{described}, whose {agent} has actions that are not enumerable: {space}"
    return described


def grid_game(
    rules: GridRules, rewards: tuple[Reward, ...], *, observation_form: str = "cells"
) -> MarkovGame:
    """The tabular model of a grid world.

    Args:
        rules: the rules of the game.
        rewards: one per agent, as in the result of `grid_rewards`.
        observation_form: as in `MarkovGame`.

    Returns:
        A game with one factor per agent: its cell, moved by its own action. Joint states are
        numbered over all cells, walls included; the digits of an observation are the row and column
        of every agent.

    Raises:
        InputError: if the reward tables would take more than `malfl_env.checks.MAX_TABLE_BYTES`.
    """
    n_bytes = sum(
        reward.nbytes if isinstance(reward, np.ndarray) else 8 * rules.n_states
        for reward in rewards
    )
    what = f"the reward tables of a game of size {rules.size} with {rules.n_agents} agents"
    check_table_bytes(n_bytes, what)
    tables = tuple(reward_table(reward, rules, index) for index, reward in enumerate(rewards))
    for table in tables:
        table.flags.writeable = False  # no copy is needed
    return MarkovGame(
        n_actions=(len(ACTIONS),) * rules.n_agents,
        factors=tuple(cell_factor(rules, index) for index in range(rules.n_agents)),
        start=rules.joint_state(rules.start_cells),
        observation_shape=(rules.size,) * (2 * rules.n_agents),
        rewards=tables,
        observation_form=observation_form,
    )
