"""The improvements between successive policies: the targets (11) and the other inputs of (12)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.special import rel_entr

from malfl_algos.soft import averaged_transition, expected_next, others_joint_policy
from malfl_env.errors import InputError
from malfl_env.markov_game import MarkovGame

__all__ = ["Improvements", "improvements_of", "reward_targets"]

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Improvements:
    """The inputs of (12) from one agent's successive policies.

    Args:
        agent_index: i.
        others: probabilities of the other agents' joint actions,
            `(n_improvements, n_states, n_others)`.
        transitions: per improvement `averaged_transition`, `(n_states * n_actions, n_states)`.
        targets: Y of (11), `(n_improvements, n_states, n_actions)`.
        seen: whether the state was visited before and after the improvement, bool
            `(n_improvements, n_states)`; otherwise its targets are not used.
        discount: gamma.
    """

    agent_index: int
    others: FloatArray
    transitions: Sequence[sp.csr_array]
    targets: FloatArray
    seen: NDArray[np.bool_]
    discount: float


def improvements_of(
    game: MarkovGame,
    policies: Sequence[FloatArray],
    agent_index: int,
    seen: NDArray[np.bool_],
    *,
    averaged: Sequence[FloatArray] | None = None,
    discount: float,
    temperature: float,
) -> Improvements:
    """The inputs of (12) for one agent.

    Args:
        game: the dynamics.
        policies: per agent `(n_stages, n_states, n_actions)`, at least two stages.
        agent_index: i.
        seen: as in `Improvements`.
        averaged: policies by which the other agents are averaged into the dynamics; None:
            `policies`.
        discount: gamma in [0, 1).
        temperature: alpha > 0.

    Raises:
        InputError: as in `reward_targets`.
    """
    own = policies[agent_index]
    transitions = [
        averaged_transition(game, [policy[stage] for policy in averaged or policies], agent_index)
        for stage in range(len(own) - 1)
    ]
    targets = [
        reward_targets(before, after, transition, discount=discount, temperature=temperature)
        for before, after, transition in zip(own[:-1], own[1:], transitions, strict=True)
    ]
    others = others_joint_policy(policies, agent_index)[:-1]
    return Improvements(agent_index, others, transitions, np.stack(targets), seen, discount)


def reward_targets(
    policy: FloatArray,
    improved: FloatArray,
    transition: sp.csr_array,
    *,
    discount: float,
    temperature: float,
) -> FloatArray:
    """Targets of one improvement, equation (11).

    Y(s, a) = alpha log pi'(a | s) + alpha gamma E[KL(pi(s') || pi'(s'))], the expectation over the
    other agents' actions and the next state.

    Args:
        policy: pi_h of the agent, `(n_states, n_actions)`.
        improved: pi_{h+1}, same shape, positive.
        transition: `averaged_transition` under the joint policy of stage h.
        discount: gamma in [0, 1).
        temperature: alpha > 0.

    Returns:
        `(n_states, n_actions)`. Shaping the reward by a function of the state does not change it.

    Raises:
        InputError: if the improved policy has a probability of 0, whose logarithm is not finite.
    """
    if not np.all(improved > 0):
        state, action = np.argwhere(~(improved > 0))[0]
        raise InputError(
            f"the improved policy has probability {improved[state, action]} for action {action} in "
            f"state {state}; equation (11) takes its logarithm, so it must be positive"
        )
    divergence = rel_entr(policy, improved).sum(axis=-1)
    drift = discount * temperature * expected_next(transition, divergence)
    return np.asarray(temperature * np.log(improved) + drift)
