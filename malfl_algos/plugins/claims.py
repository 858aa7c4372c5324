"""Whether actions are draws from the policies that a learner claims to have played.

Frequencies are tested with e-values: ratios of the likelihood of the counts under another policy,
or a mixture of policies, to the likelihood under the claimed policy. If the claim holds, the
expectation of such a ratio is at most 1 for every sample size and stopping rule, so the ratio
exceeds 1 / p with a probability of at most p (Ville's inequality). The same holds for the mean of
several ratios. No approximation for rare actions is needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln, logsumexp, xlogy

from malfl_algos.contract import LearnedStage

__all__ = [
    "FALSE_ALARM",
    "contradiction",
    "evidence_against",
    "log_e_values",
    "log_ratio",
]

FloatArray = NDArray[np.float64]
Policies = Sequence[NDArray[Any]]

FALSE_ALARM = 1e-9
"""Upper bound on the probability that one test rejects a stage of a correct learner."""

_LARGEST = 2**22  # entries of counts whose joint actions are tested
_CONCENTRATIONS = (1.0, 10.0, 100.0, 1000.0)
_TILTS = (-1.0, -0.3, -0.1, 0.1, 0.3, 1.0)


def contradiction(stage: LearnedStage, agents: Sequence[str]) -> str | None:
    """How the actions of a stage contradict the policies claimed for it; None if they do not.

    A correct learner is accused with a probability of at most `FALSE_ALARM`. Each agent is tested
    alone: if policies move within a stage, and their averages are claimed, the agents' actions are
    dependent.

    Args:
        stage: of types and shapes as in the contract.
        agents: ids in the order of the actions.
    """
    policies = [np.asarray(stage.truth.policies[agent], dtype=np.float64) for agent in agents]
    if stage.observed.joint_counts is None:
        return _of_steps(stage, agents, policies)
    counts = stage.observed.counts
    for index, agent in enumerate(agents):
        impossible = np.argwhere((_own(counts, index) > 0) & (policies[index] == 0))
        if len(impossible):
            state, action = map(int, impossible[0])
            return f"in joint state {state}, {agent} played action {action} of probability 0"
    evidence, what = evidence_against(counts, policies, jointly=False)
    if evidence <= -np.log(FALSE_ALARM):
        return None
    return f"{what} are not draws from the policies claimed (evidence e^{evidence:.0f})"


def _of_steps(stage: LearnedStage, agents: Sequence[str], policies: Policies) -> str | None:
    steps = stage.observed.transitions
    assert steps is not None
    for index, agent in enumerate(agents):
        own, row = np.unique(policies[index], axis=0, return_inverse=True)
        counts = np.zeros(own.shape, dtype=np.int64)
        np.add.at(counts, (row.ravel(), np.asarray(steps.joint_actions[:, index])), 1)
        if np.any((counts > 0) & (own == 0)):
            return f"{agent} played an action of probability 0"
        values = np.concatenate(list(log_e_values(counts, own).values()))
        evidence = float(logsumexp(values) - np.log(len(values)))
        if evidence > -np.log(FALSE_ALARM):
            return (
                f"the actions of {agent} are not draws from the policies claimed "
                f"(evidence e^{evidence:.0f})"
            )
    return None


def log_e_values(counts: NDArray[Any], probabilities: NDArray[Any]) -> dict[str, FloatArray]:
    """Logarithms of e-values against a claimed policy, by the kind of difference that they test.

    Args:
        counts: whole numbers >= 0, `(n_rows, n_actions)`.
        probabilities: the claimed policy; rows sum to 1, positive where counts are positive.

    Returns:
        "row": one per row and Dirichlet mixture around the claimed policy, from wide to narrow;
        "all rows": their sums over rows; "one action": one per action and tilt, over all rows.
    """
    totals = counts.sum(axis=1)
    claimed = xlogy(counts, probabilities).sum(axis=1)
    rows = []
    for concentration in _CONCENTRATIONS:
        prior = concentration * probabilities * counts.shape[1]
        weight = prior.sum(axis=1)
        with np.errstate(invalid="ignore"):  # actions of probability 0 that were not played
            gained = np.where(counts > 0, gammaln(counts + prior) - gammaln(prior), 0.0)
        rows.append(gammaln(weight) - gammaln(weight + totals) + gained.sum(axis=1) - claimed)
    tilted = [
        tilt * counts.sum(axis=0) - totals @ np.log1p(probabilities * np.expm1(tilt))
        for tilt in _TILTS
    ]
    return {
        "row": np.concatenate(rows),
        "all rows": np.array([row.sum() for row in rows]),
        "one action": np.concatenate(tilted),
    }


def evidence_against(
    joint_counts: NDArray[Any], policies: Policies, *, jointly: bool = True
) -> tuple[float, str]:
    """Logarithm of the mean of all e-values, and the actions with the highest e-value.

    Args:
        joint_counts: `(n_states, *n_actions)`; actions of probability 0 have count 0.
        policies: claimed policies, per agent in order `(n_states, n_actions)`.
        jointly: whether to test also that the agents draw their actions independently.
    """
    n_all = len(joint_counts)
    seen = np.flatnonzero(joint_counts.reshape(len(joint_counts), -1).any(axis=1))
    joint_counts, policies = joint_counts[seen], [policy[seen] for policy in policies]
    n_states = len(joint_counts)
    if not n_states:
        return -np.inf, "no actions"
    small = jointly and joint_counts.size <= _LARGEST
    joint = np.ones((n_states, 1))
    claims: dict[str, FloatArray] = {}
    for index, policy in enumerate(policies):
        values = log_e_values(_own(joint_counts, index), policy)
        claims[f"the actions of agent_{index}"] = np.concatenate(list(values.values()))
        if small:
            joint = (joint[:, :, None] * policy[:, None, :]).reshape(n_states, -1)
    if small:
        values = log_e_values(joint_counts.reshape(n_states, -1), joint)
        claims["the joint actions"] = np.concatenate(list(values.values()))
    everything = np.concatenate(list(claims.values()))
    n_unseen = (n_all - n_states) * len(_CONCENTRATIONS) * len(claims)  # e-values of 1
    weights = np.ones(len(everything) + 1)
    weights[-1] = n_unseen
    total = float(logsumexp(np.append(everything, 0.0), b=weights))
    return total - float(np.log(weights.sum())), max(
        claims, key=lambda name: float(claims[name].max())
    )


def log_ratio(joint_counts: NDArray[Any], one: Policies, other: Policies) -> float:
    """Log likelihood of the counts under one joint policy minus that under another."""
    ratio = 0.0
    for index, (rival, own) in enumerate(zip(one, other, strict=True)):
        played = _own(joint_counts, index)
        ratio += float((xlogy(played, rival) - xlogy(played, own)).sum())
    return ratio


def _own(joint_counts: NDArray[Any], index: int) -> NDArray[Any]:
    """Counts of one agent's actions, `(n_states, n_actions)`."""
    others = tuple(axis for axis in range(1, joint_counts.ndim) if axis != index + 1)
    return np.asarray(joint_counts.sum(axis=others))
