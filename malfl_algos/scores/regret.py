"""Regret: the value lost by learning from recovered instead of ground-truth rewards."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from malfl_algos.scores.means import Score
from malfl_algos.scores.prediction import predicted_log_policies
from malfl_algos.soft import soft_evaluation
from malfl_env.arguments import Count, Discount, Temperature, typed
from malfl_env.errors import InputError
from malfl_env.markov_game import MarkovGame

__all__ = ["TruePlay", "regret", "start_values", "trained_policies", "true_play"]

FloatArray = NDArray[np.float64]

NO_GAP = 1e-12
"""Relative difference of two values below which it is rounding error."""


@typed
@dataclass(frozen=True, eq=False)
class TruePlay:
    """Values reached with the ground-truth rewards: the scale of a regret.

    Args:
        game: dynamics and ground-truth rewards.
        discount, temperature: of the learners.
        n_stages: of training.
        trained: per agent the value of the start state after training on the ground-truth rewards.
        uniform: per agent the value of the start state when all agents play uniformly.
    """

    game: MarkovGame
    discount: Discount
    temperature: Temperature
    n_stages: Count
    trained: tuple[float, ...]
    uniform: tuple[float, ...]


def trained_policies(
    game: MarkovGame, *, discount: Discount, temperature: Temperature, n_stages: Count
) -> list[FloatArray]:
    """Policies after stages of exact MA-SPI, in which all agents learn at once.

    Args:
        game: dynamics, and the rewards that the agents learn from.
        discount: gamma in [0, 1).
        temperature: alpha > 0.
        n_stages: number of improvements, starting from the uniform policy.

    Returns:
        `(n_states, n_actions)` per agent.
    """
    policies = [np.full((game.n_states, n), 1 / n) for n in game.n_actions]
    for _ in range(n_stages):
        improved = predicted_log_policies(
            game, policies, discount=discount, temperature=temperature
        )
        policies = [np.exp(log_policy) for log_policy in improved]
    return policies


def start_values(
    game: MarkovGame, joint_policy: list[FloatArray], *, discount: Discount
) -> tuple[float, ...]:
    """Per agent the discounted value of the start state under its reward, without entropy."""
    return tuple(
        game.at_start(
            soft_evaluation(game, joint_policy, index, discount=discount, temperature=0.0)[1]
        )
        for index in range(game.n_agents)
    )


@typed
def true_play(
    game: MarkovGame, *, discount: Discount, temperature: Temperature, n_stages: Count
) -> TruePlay:
    """Train on the ground-truth rewards, once for all regrets against them.

    Args:
        game: dynamics and ground-truth rewards.
        discount, temperature, n_stages: as in `trained_policies`.
    """
    trained = trained_policies(game, discount=discount, temperature=temperature, n_stages=n_stages)
    uniform = trained_policies(game, discount=discount, temperature=temperature, n_stages=0)
    return TruePlay(
        game,
        discount,
        temperature,
        n_stages,
        start_values(game, trained, discount=discount),
        start_values(game, uniform, discount=discount),
    )


@typed
def regret(recovered: Mapping[str, FloatArray], truth: TruePlay) -> dict[str, Score]:
    """Regret of every agent when all agents learn together from recovered rewards.

    `|V(recovered) - V(ground truth)| / |V(ground truth) - V(uniform)|`. V is the discounted value
    of the start state, without entropy, under the agent's ground-truth reward: after training on
    the recovered rewards, after training on the ground-truth rewards, and for uniform play.

    Args:
        recovered: per agent id `(n_states,)` or `(n_states, *n_actions)`. Agents that are left out
            learn from their ground-truth rewards. The regret depends on a reward's scale, because
            the temperature is fixed, but not on its mean.
        truth: from `true_play`.

    Returns:
        Per agent id of `recovered` a value >= 0: 0 means no loss, 1 the loss of uniform play. A
        constant reward has a regret of exactly 1. None with a reason if ground-truth and uniform
        play have the same value, or a recovered reward is not finite.

    Raises:
        InputError: a reward has another shape, or its agent is not in the game.
    """
    game = truth.game
    unknown = [agent for agent in recovered if agent not in game.agents]
    if unknown:
        raise InputError(
            f"unknown agent {unknown[0]}; the agents of the game are {', '.join(game.agents)}"
        )
    for agent, reward in recovered.items():
        if not np.all(np.isfinite(reward)):
            why = f"the estimate of {agent}'s reward has values that are not finite"
            return {agent: Score(None, why) for agent in recovered}
    learned_from = game.with_rewards(
        [recovered.get(agent, game.reward(index)) for index, agent in enumerate(game.agents)]
    )
    policies = trained_policies(
        learned_from,
        discount=truth.discount,
        temperature=truth.temperature,
        n_stages=truth.n_stages,
    )
    reached = start_values(game, policies, discount=truth.discount)
    return {
        agent: _share(reached[index], truth.trained[index], truth.uniform[index])
        for index, agent in enumerate(game.agents)
        if agent in recovered
    }


def _share(reached: float, trained: float, uniform: float) -> Score:
    gap = abs(trained - uniform)
    if gap <= NO_GAP * max(abs(trained), abs(uniform), NO_GAP):
        return Score(
            None, "agents trained on the ground-truth rewards reach the value of uniform play"
        )
    return Score(abs(reached - trained) / gap)
