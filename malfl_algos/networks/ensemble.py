"""One agent's reward network: an ensemble, fitted member by member, each saved when it is done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from malfl_algos.networks.estimated_policies import EstimatedPolicies
from malfl_algos.networks.fitting import Fitting, chances_of, counts_of, policies_of
from malfl_algos.networks.gathering import Gathered
from malfl_algos.networks.members import fit_member
from malfl_algos.networks.recovered_functions import Member, member_arrays, member_from_arrays

__all__ = ["Fitted", "fit_agent"]

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Fitted:
    """What came of it.

    Args:
        members: of the ensemble.
        policies: everyone's, as functions of what the agent observes.
        diagnostics: for JSON.
    """

    members: tuple[Member, ...]
    policies: EstimatedPolicies
    diagnostics: dict[str, Any]


def fit_agent(
    gathered: Gathered, fitting: Fitting, known: Mapping[int, FloatArray] | None = None
) -> Fitted:
    """Fit one agent.

    Args:
        gathered: the steps as it sees them.
        fitting: how.
        known: policies known for certain, by agent index, `(n_stages, n_observations, n_actions)`.
    """
    members: list[Member] = []
    details: list[dict[str, Any]] = []
    policies: EstimatedPolicies | None = None
    chosen: dict[str, Any] | None = None
    for number in range(fitting.ensemble):
        data = counts_of(gathered, fitting, number)
        estimated = policies_of(gathered, fitting, data, number)
        policies = policies or estimated
        saver = fitting.checkpoints.named(
            f"agent_{gathered.agent_index}_member_{number}", n_inputs=gathered.inputs.shape[1]
        )
        found = None if saver is None else saver.load()
        if found is not None and saver is not None:
            try:
                one = member_from_arrays(
                    found[0],
                    fitting.reward_model,
                    gathered.n_actions,
                    gathered.agent_index,
                    fitting.device,
                )
                detail = found[1]
            except (KeyError, TypeError, ValueError, RuntimeError) as fault:
                raise saver.broken(fault) from fault
        else:
            chances = chances_of(gathered, estimated, known or {})
            one, detail = fit_member(gathered, fitting, data, chances, estimated, number, chosen)
            if saver is not None:
                saver.save(member_arrays(one), detail)
        members.append(one)
        details.append(detail)
        chosen = chosen or (detail if "noise_variance" in detail else None)
    assert policies is not None
    return Fitted(tuple(members), policies, _diagnostics(gathered, fitting, policies, details))


def _diagnostics(
    gathered: Gathered,
    fitting: Fitting,
    policies: EstimatedPolicies,
    details: Sequence[dict[str, Any]],
) -> dict[str, Any]:
    return {
        "form": fitting.form,
        "reward_model": fitting.reward_model,
        "improvement": fitting.improvement,
        "discount": fitting.discount,
        "n_observations": len(gathered.inputs),
        "n_distinct_steps": sum(len(steps.here) for steps in gathered.stages),
        "policy_loss": policies.losses[-1][1] if policies.losses else None,
        "policy_rounds": len(policies.losses),
        "prediction": details[0].get("prediction"),
        "members": [{k: v for k, v in one.items() if k != "prediction"} for one in details],
        "representative": "mean of the members' posterior means, mean removed",
    }
