"""What it costs to learn from the recovered rewards instead of the true ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from malfl_algos.scores.means import Score
from malfl_algos.scores.prediction import predicted_log_policies
from malfl_algos.soft import soft_evaluation
from malfl_env.errors import InputError
from malfl_env.markov_game import MarkovGame

__all__ = ["TruePlay", "regret", "start_values", "trained_policies", "true_play"]

FloatArray = NDArray[np.float64]

NO_GAP = 1e-12
"""Smallest gap between two values, relative to them, that is not rounding."""


@dataclass(frozen=True, eq=False)
class TruePlay:
    """What the ground-truth rewards lead to: the scale on which a regret is measured.

    Args:
        game: dynamics and ground-truth rewards.
        discount, temperature: the learners'.
        n_stages: of training.
        trained: per agent the value of the start state after training on the ground-truth rewards.
        uniform: the same where everyone plays uniformly.
    """

    game: MarkovGame
    discount: float
    temperature: float
    n_stages: int
    trained: tuple[float, ...]
    uniform: tuple[float, ...]


def trained_policies(
    game: MarkovGame, *, discount: float, temperature: float, n_stages: int
) -> list[FloatArray]:
    """Policies that stages of exact MA-SPI lead to, everyone learning at once.

    Args:
        game: dynamics and the rewards that are learned from.
        discount: gamma in [0, 1).
        temperature: alpha > 0.
        n_stages: how often the agents evaluate and improve, from the uniform policy; 0 leaves it.

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
    game: MarkovGame, joint_policy: list[FloatArray], *, discount: float
) -> tuple[float, ...]:
    """Per agent the discounted value of the start state under its reward, without entropy."""
    return tuple(
        float(
            soft_evaluation(game, joint_policy, index, discount=discount, temperature=0.0)[1][
                game.start
            ]
        )
        for index in range(game.n_agents)
    )


def true_play(game: MarkovGame, *, discount: float, temperature: float, n_stages: int) -> TruePlay:
    """Train on the ground-truth rewards, once for all the regrets that are measured against them.

    Args: as `trained_policies`; the game's rewards are the true ones.
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


def regret(recovered: Mapping[str, FloatArray], truth: TruePlay) -> dict[str, Score]:
    """Regret of all agents learning from recovered rewards together.

    |V(trained on recovered) - V(trained on true)| / |V(trained on true) - V(uniform)|, V the
    discounted, unregularised value of the start state under the agent's ground-truth reward.

    Args:
        recovered: per agent id `(n_states,)` or `(n_states, *n_actions)`. Agents that are not in it
            learn from their ground-truth rewards. The mean of a reward does not matter, its scale
            does: the temperature is the learners'.
        truth: from `true_play`.

    Returns:
        Per agent id of `recovered` a value >= 0: 0 is no loss, 1 as much as uniform play loses (for
        rewards that say nothing, 1 exactly). None with a reason where true and uniform play
        are worth the same, or a recovered reward is not finite.

    Raises:
        InputError: for a reward of another shape, or of an agent that is not in the game.
    """
    game = truth.game
    unknown = [agent for agent in recovered if agent not in game.agents]
    if unknown:
        raise InputError(f"there is no {unknown[0]} in the game; the agents are {game.agents}")
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
            None, "play trained on the ground-truth rewards is worth as much as uniform play"
        )
    return Score(abs(reached - trained) / gap)
