"""Policies of all stages, in states not visited too: those that the fitted values imply.

By (6) the values of a stage imply the next policies everywhere. Where the next stage was visited,
its policy is the mode of the counts under that prediction; elsewhere it is the prediction. Stages
follow one after another, so that the policies of a stage enter the values behind the next one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from malfl_algos.ma_lfl.policy_estimation import working_response
from malfl_algos.networks.action_values import ValueModel, action_values
from malfl_algos.networks.members import Details, MemberFit, value_model
from malfl_algos.networks.recovered_functions import Member
from malfl_algos.networks.tables import fetched, like

__all__ = ["followed_policies"]

FloatArray = NDArray[np.float64]

LEAST_NOISE = 1e-3
"""Smallest variance of a learner's noise, in units of alpha squared; smaller ones would leave the
counts no voice."""


def followed_policies(
    fits: Sequence[MemberFit],
    members: Sequence[tuple[Member, Details]],
    given: Mapping[int, FloatArray],
) -> dict[int, FloatArray]:
    """Return per agent the policies `(n_stages, n_observations, n_actions)`.

    Args:
        fits: of all agents, which share their observations; their policies of the first stage stay.
        members: the fitted rewards, and the details of their fits.
        given: known policies by agent; they stay.
    """
    gathered, fitting = fits[0].gathered, fits[0].fitting
    rows = np.arange(len(gathered.inputs))
    n_stages, alpha = len(gathered.stages), fitting.temperature
    found = {
        agent: np.empty((n_stages, len(rows), n)) for agent, n in enumerate(gathered.n_actions)
    }
    for agent, policy in enumerate(fits[0].probabilities(rows, 0)):
        found[agent][0] = policy
    models = []
    for fit, (member, _) in zip(fits, members, strict=True):
        features = member.features.map.table(gathered.inputs)
        models.append(value_model(replace(fit, known=found), features, member.features))
    for stage in range(n_stages - 1):
        for agent, (model, (member, details)) in enumerate(zip(models, members, strict=True)):
            if agent in given:
                found[agent][stage + 1] = given[agent][stage + 1]
                continue
            noise = max(float(details["noise_variance"]), LEAST_NOISE * alpha**2)
            found[agent][stage + 1] = _next(model, member, stage, alpha, noise)
    return found


def _next(model: ValueModel, member: Member, stage: int, alpha: float, noise: float) -> FloatArray:
    """Return an agent's policy of the next stage at all observations."""
    rows = np.arange(len(model.features))
    q, _, _ = action_values(model, stage, rows, temperature=alpha)
    values = fetched(q[..., :-1] @ like(q, member.mean) + q[..., -1])
    policy = softmax(values / alpha, axis=1)
    there, counts = model.gathered.action_counts(stage + 1, model.counts[stage + 1])
    spread = np.full(counts.shape, noise)
    policy[there] = working_response(values[there], spread, counts, temperature=alpha)[1]
    return np.asarray(policy / policy.sum(axis=1, keepdims=True))
