"""Repeated matrix games: the same payoffs in every step."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from math import prod
from typing import Any

import numpy as np

from malfl_env.checks import check_numbers, is_whole, shown
from malfl_env.errors import InputError
from malfl_env.markov_game import Factor, MarkovGame
from malfl_env.tabular_env import TabularEnv

__all__ = ["matching_pennies", "matrix_game", "prisoners_dilemma"]


def matrix_game(
    payoffs: Any = (((3, 0), (5, 1)), ((3, 5), (0, 1))),
    *,
    memory: int = 1,
    actions: Sequence[Sequence[str]] | None = None,
    name: str = "matrix_game",
    **options: Any,
) -> TabularEnv:
    """A matrix game that is played again and again.

    Args:
        payoffs: per agent an array `(*n_actions)`: its payoff for each joint action. Two agents
            have two matrices, agent 0 choosing the row. Default: the prisoner's dilemma.
        memory: 1: the joint state is the joint action of the step before, and episodes begin in
            any of them with equal probabilities; 0: there is one joint state.
        actions: names of the actions, per agent.
        name: of the environment.
        **options: of `malfl_env.TabularEnv`.

    Raises:
        InputError: for payoffs of different shapes, with another number of axes than agents, or
            that are not finite; and for a memory that is neither 0 nor 1.
    """
    tables = [
        check_numbers(f"the payoffs of agent {index}", table, allowed="an array of numbers")
        for index, table in enumerate(payoffs)
    ]
    n_actions = tables[0].shape if tables else ()
    for index, table in enumerate(tables):
        if table.shape != n_actions or table.ndim != len(tables) or table.size == 0:
            raise InputError(
                f"the payoffs of {len(tables)} agents must be arrays of one shape with "
                f"{len(tables)} axes, got {table.shape} for agent {index}"
            )
    if not tables:
        raise InputError("payoffs must hold an array for each agent, got none")
    if not is_whole(memory) or memory not in (0, 1):
        raise InputError(f"memory must be 0 or 1, got {shown(memory)}")
    n_states = prod(n_actions) if memory else 1
    names = actions or [[f"action {a}" for a in range(n)] for n in n_actions]
    game = MarkovGame(
        n_actions,
        _last_actions(n_actions) if memory else _one_state(n_actions),
        0,
        start_probabilities=np.full(n_states, 1 / n_states),
        rewards=tuple(np.broadcast_to(table, (n_states, *n_actions)) for table in tables),
        states=tuple(map(",".join, product(*names))) if memory else ("always",),
        actions=tuple(map(tuple, names)),
    )
    return TabularEnv(game, name=name, **options)


def prisoners_dilemma(
    *,
    reward: float = 3.0,
    temptation: float = 5.0,
    punishment: float = 1.0,
    sucker: float = 0.0,
    **options: Any,
) -> TabularEnv:
    """The prisoner's dilemma; actions 0 cooperate, 1 defect.

    Args:
        reward, temptation, punishment, sucker: payoffs R (both cooperate), T (defect against a
            cooperator), P (both defect), S (cooperate against a defector), T > R > P > S.
        **options: of `matrix_game` and `malfl_env.TabularEnv`.

    Raises:
        InputError: for payoffs in another order.
    """
    if not temptation > reward > punishment > sucker:
        raise InputError(
            "a prisoner's dilemma needs temptation > reward > punishment > sucker, got "
            f"{temptation}, {reward}, {punishment}, {sucker}: use matrix_game for other payoffs"
        )
    own = np.array([[reward, sucker], [temptation, punishment]], dtype=np.float64)
    settings = {"name": "prisoners_dilemma", "actions": [["cooperate", "defect"]] * 2}
    return matrix_game((own, own.T), **{**settings, **options})


def matching_pennies(**options: Any) -> TabularEnv:
    """Matching pennies: agent 0 gets 1 if both coins show the same side, otherwise -1; agent 1
    gets the opposite. Options as of `matrix_game`.
    """
    own = np.array([[1.0, -1.0], [-1.0, 1.0]])
    settings = {"name": "matching_pennies", "actions": [["heads", "tails"]] * 2}
    return matrix_game((own, -own), **{**settings, **options})


def _last_actions(n_actions: tuple[int, ...]) -> tuple[Factor, ...]:
    """Per agent the factor whose local state is its last action."""
    factors = []
    for agent, n in enumerate(n_actions):
        table = np.broadcast_to(np.arange(n), (n, n))[..., None]
        factors.append(Factor((agent,), table, np.ones(table.shape)))
    return tuple(factors)


def _one_state(n_actions: tuple[int, ...]) -> tuple[Factor, ...]:
    table = np.zeros((1, *n_actions, 1), dtype=np.int64)
    return (Factor(tuple(range(len(n_actions))), table, np.ones(table.shape)),)
