"""From a trace to rewards, the way that all variants of the paper's observer share.

Policies (10), targets (11), then a regression (12): which estimate of policies and which regression
is the variant's own affair.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from malfl_algos.contract import RecoveredRewards
from malfl_algos.ma_lfl.dynamics import estimated_game
from malfl_algos.ma_lfl.regression import Fit, RewardModel
from malfl_algos.ma_lfl.targets import reward_targets
from malfl_algos.soft.evaluation import averaged_transition, others_joint_policy
from malfl_algos.trace import LearningTrace
from malfl_env.errors import InputError
from malfl_env.markov_game import MarkovGame

__all__ = [
    "Estimator",
    "Improvements",
    "Regression",
    "check_fits",
    "in_joint_order",
    "recover_by_regression",
]

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Improvements:
    """What (12) needs of one agent's successive policies.

    Args:
        agent_index: i.
        others: probabilities of the other agents' joint actions,
            `(n_improvements, n_states, n_others)`.
        transitions: per improvement `averaged_transition`, `(n_states * n_actions, n_states)`.
        targets: Y of (11), `(n_improvements, n_states, n_actions)`.
        seen: whether the state was visited before and after the improvement, bool
            `(n_improvements, n_states)`; where not, its targets mean nothing.
        discount: gamma.
    """

    agent_index: int
    others: FloatArray
    transitions: Sequence[sp.csr_array]
    targets: FloatArray
    seen: NDArray[np.bool_]
    discount: float


Estimator = Callable[[NDArray[np.int64], int, int], FloatArray]
"""Counts `(n_states, n_actions)`, agent index, stage -> policy `(n_states, n_actions)`."""
Regression = Callable[[Improvements], tuple[Fit, dict[str, Any]]]
"""Improvements of one agent -> fit of (12), and what more to say in the diagnostics."""


def recover_by_regression(
    trace: LearningTrace,
    *,
    game: MarkovGame | None,
    discount: float | None,
    temperature: float,
    known_policies: Mapping[str, FloatArray] | None,
    model: RewardModel,
    estimate: Estimator,
    regress: Regression,
    as_seen_by_others: Callable[[FloatArray], FloatArray] = lambda policies: policies,
) -> RecoveredRewards:
    """Recover every agent's reward; arguments as in `malfl_algos.contract.Observer.recover`.

    Args:
        model: what the reward depends on.
        estimate: how a policy is estimated from counts.
        regress: how (12) is solved.
        as_seen_by_others: an agent's policies `(n_stages, n_states, n_actions)` -> those, in the
            same shape, by which it is averaged into the dynamics that the others see.

    Raises:
        InputError: for fewer than two stages, a trace of another game, an unknown discount, or
            policies that are none.
    """
    if trace.n_stages < 2:
        raise InputError(
            f"recovery needs at least two stages (one improvement), the trace has {trace.n_stages}"
        )
    if discount is None or not 0 <= discount < 1:
        raise InputError(
            f"discount must be in [0, 1), got {discount}; free potentials cannot tell it from data"
        )
    if not 0 < temperature < np.inf:
        raise InputError(f"temperature must be > 0 and finite, got {temperature}")
    covered = np.ones(trace.n_states, dtype=bool)
    if game is None:
        game, covered = estimated_game(trace)
    known = known_policies or {}
    check_fits(trace, game, known)
    policies = _policies(trace, known, estimate)
    seen_by_others = [as_seen_by_others(own) for own in policies]
    visited = np.stack([stage.state_counts > 0 for stage in trace.stages])
    if set(known) == set(trace.agents):
        visited[:] = True  # nothing is estimated, so nothing depends on visits
    seen = visited[:-1] & visited[1:] & covered
    fits, targets, diagnostics = {}, {}, {}
    for index, agent in enumerate(trace.agents):
        steps = [
            averaged_transition(game, [own[stage] for own in seen_by_others], index)
            for stage in range(trace.n_stages - 1)
        ]
        targets[agent] = np.stack(
            [
                reward_targets(before, after, step, discount=discount, temperature=temperature)
                for before, after, step in zip(
                    policies[index], policies[index][1:], steps, strict=False
                )
            ]
        )
        improvements = Improvements(
            index, others_joint_policy(policies, index)[:-1], steps, targets[agent], seen, discount
        )
        fits[agent], further = regress(improvements)
        diagnostics[agent] = _diagnose(fits[agent], model, seen) | further
    return RecoveredRewards(
        rewards={
            agent: in_joint_order(fit.reward, model, index, trace.n_actions)
            for index, (agent, fit) in enumerate(fits.items())
        },
        diagnostics=diagnostics,
        estimated_policies=dict(zip(trace.agents, policies, strict=True)),
        targets=targets,
        potentials={agent: fit.potentials for agent, fit in fits.items()},
    )


def check_fits(
    trace: LearningTrace, game: MarkovGame | None, known_policies: Mapping[str, FloatArray]
) -> None:
    """Refuse a trace of another game, and policies that are none."""
    if game is not None and (trace.n_states, trace.n_actions) != (game.n_states, game.n_actions):
        raise InputError(
            f"the trace is of a game with {trace.n_states} joint states and actions "
            f"{trace.n_actions}, the game given has {game.n_states} and {game.n_actions}"
        )
    for agent, policies in known_policies.items():
        if agent not in trace.agents:
            raise InputError(f"known_policies names {agent!r}; the agents are {trace.agents}")
        expected = (trace.n_stages, trace.n_states, trace.n_actions[trace.agents.index(agent)])
        if policies.shape != expected:
            raise InputError(
                f"the known policies of {agent} have shape {policies.shape}, expected {expected}"
            )
        if not (np.all(policies >= 0) and np.allclose(policies.sum(axis=-1), 1, atol=1e-9)):
            raise InputError(f"the known policies of {agent} are not distributions over actions")


def _policies(
    trace: LearningTrace,
    known_policies: Mapping[str, FloatArray],
    estimate: Estimator,
) -> list[FloatArray]:
    """Per agent `(n_stages, n_states, n_actions)`: known, else estimated from counts."""
    return [
        known_policies[agent]
        if agent in known_policies
        else np.stack(
            [
                estimate(stage.action_counts(index), index, number)
                for number, stage in enumerate(trace.stages)
            ]
        )
        for index, agent in enumerate(trace.agents)
    ]


def in_joint_order(
    reward: FloatArray, model: RewardModel, agent_index: int, n_actions: tuple[int, ...]
) -> FloatArray:
    """`(n_states,)` for `state`, else `(n_states, *n_actions)` with actions in agent order."""
    if model == "state":
        return reward[:, 0].copy()
    others = [n for index, n in enumerate(n_actions) if index != agent_index]
    own = n_actions[agent_index]
    sizes = others if model == "joint" else [1] * len(others)
    table = np.moveaxis(reward.reshape(len(reward), own, *sizes), 1, agent_index + 1)
    return np.broadcast_to(table, (len(reward), *n_actions)).copy()


def _diagnose(fit: Fit, model: RewardModel, seen: NDArray[np.bool_]) -> dict[str, Any]:
    if model == "state" and fit.n_unidentified == 1:
        verdict = "identified up to one additive constant"
    else:
        verdict = f"not identified: {fit.n_unidentified} of {fit.reward.size} directions are free"
    return {
        "learner_model": "free potentials",
        "reward_model": model,
        "n_unknowns": fit.reward.size,
        "rank": fit.rank,
        "n_unidentified": fit.n_unidentified,
        "identification": verdict,
        "representative": "nearest to zero of all rewards that fit equally well",
        "residual": fit.residual,
        "rows_left_out": int((~seen).sum()),
        "rows": int(seen.size),
    }
