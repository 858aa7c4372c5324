"""Whether counts of actions were drawn from the policies that a learner says it played.

The tests are by e-values: ratios of the likelihood of the counts under some other policy, or a
mixture of others, to that under the claimed one. Under the claim the expectation of such a ratio is
at most 1, whatever the sample size and whoever decided when to stop, so it exceeds 1 / p with a
probability of at most p (Ville's inequality); so does the mean of any number of them. Nothing is
approximated for rare actions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln, logsumexp, xlogy

from malfl_env.testing.protocol import fail

__all__ = ["FALSE_ALARM", "check_frequencies", "check_own_frequencies", "log_e_values"]

FloatArray = NDArray[np.float64]
Policies = Sequence[NDArray[Any]]

FALSE_ALARM = 1e-9
"""Probability, at most, that the counts of an honest learner's stage are blamed, in each test."""

_CONCENTRATIONS = (1.0, 10.0, 100.0, 1000.0)
_TILTS = (-1.0, -0.3, -0.1, 0.1, 0.3, 1.0)


def log_e_values(counts: NDArray[Any], probabilities: NDArray[Any]) -> dict[str, FloatArray]:
    """Logarithms of e-values against a claim, by the kind of deviation that they look for.

    Args:
        counts: whole numbers >= 0, `(n_rows, n_actions)`.
        probabilities: the claim; rows sum to 1, positive wherever counts are.

    Returns:
        "row": one per row and Dirichlet mixture around the claim, from wide to narrow; "all rows":
        their sums over rows; "one action": one per action and tilt, all rows together.
    """
    totals = counts.sum(axis=1)
    claimed = xlogy(counts, probabilities).sum(axis=1)
    rows = []
    for concentration in _CONCENTRATIONS:
        prior = concentration * probabilities * counts.shape[1]
        weight = prior.sum(axis=1)
        with np.errstate(invalid="ignore"):  # 0 plays of probability 0 say nothing
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


def check_frequencies(
    counts: Sequence[NDArray[Any]], policies: Sequence[Policies], where: Sequence[str]
) -> None:
    """Every agent's actions follow its policy, and the agents draw independently of each other.

    Args:
        counts: joint counts of every stage, possible under its policies.
        policies: claimed for every stage, per agent in order `(n_states, n_actions)`.
        where: name of every stage, for messages.

    Raises:
        AssertionError: where they do not, or fit the policies of the stage before or after better.
    """
    limit = -np.log(FALSE_ALARM)
    for number, own in enumerate(counts):
        for other in {number - 1, number + 1} & set(range(len(counts))):
            ratio = _log_ratio(own, policies[other], policies[number])
            if ratio > limit and _evidence(own, policies[other])[0] <= limit:
                detail = (
                    f"it was played under the policies that are claimed for stage {other} "
                    f"(likelihood ratio e^{ratio:.0f})"
                )
                fail("counts contradict the policies", where[number], detail)
    for number, own in enumerate(counts):
        evidence, what = _evidence(own, policies[number])
        if evidence > limit:
            detail = f"{what} are not draws from the policies claimed (evidence e^{evidence:.0f})"
            fail("counts contradict the policies", where[number], detail)


def check_own_frequencies(
    agent: str, counts: NDArray[Any], policies: NDArray[Any], where: str
) -> None:
    """One agent's actions follow the policies claimed.

    Args:
        agent: its id.
        counts: of its actions, `(n_rows, n_actions)`, possible under its policies.
        policies: claimed, `(n_rows, n_actions)`.
        where: for messages.
    """
    values = np.concatenate(list(log_e_values(counts, policies).values()))
    evidence = float(logsumexp(values) - np.log(len(values)))
    if evidence > -np.log(FALSE_ALARM):
        detail = f"the actions of {agent} are not draws from the policies claimed"
        fail("counts contradict the policies", where, f"{detail} (evidence e^{evidence:.0f})")


def _evidence(joint_counts: NDArray[Any], policies: Policies) -> tuple[float, str]:
    """Logarithm of the mean of all e-values, and whose are the highest."""
    n_states = len(joint_counts)
    joint = np.ones((n_states, 1))
    claims: dict[str, FloatArray] = {}
    for index, policy in enumerate(policies):
        values = log_e_values(_own(joint_counts, index), policy)
        claims[f"the actions of agent_{index}"] = np.concatenate(list(values.values()))
        joint = (joint[:, :, None] * policy[:, None, :]).reshape(n_states, -1)
    values = log_e_values(joint_counts.reshape(n_states, -1), joint)
    claims["the joint actions"] = np.concatenate(list(values.values()))
    everything = np.concatenate(list(claims.values()))
    mean = float(logsumexp(everything) - np.log(len(everything)))
    return mean, max(claims, key=lambda name: float(claims[name].max()))


def _log_ratio(joint_counts: NDArray[Any], one: Policies, other: Policies) -> float:
    """Log likelihood of the counts under one joint policy, less that under another."""
    ratio = 0.0
    for index, (rival, own) in enumerate(zip(one, other, strict=True)):
        played = _own(joint_counts, index)
        ratio += float((xlogy(played, rival) - xlogy(played, own)).sum())
    return ratio


def _own(joint_counts: NDArray[Any], index: int) -> NDArray[Any]:
    """Counts of one agent's actions, `(n_states, n_actions)`."""
    others = tuple(axis for axis in range(1, joint_counts.ndim) if axis != index + 1)
    return np.asarray(joint_counts.sum(axis=others))
