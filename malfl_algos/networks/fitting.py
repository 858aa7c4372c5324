"""Fit one agent's reward: an ensemble, fitted and saved member by member."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from malfl_algos.networks.estimated_policies import EstimatedPolicies, estimate_policies
from malfl_algos.networks.followed import followed_policies
from malfl_algos.networks.gathering import Gathered
from malfl_algos.networks.members import Counts, Details, Fitting, MemberFit, fit_member
from malfl_algos.networks.recovered_functions import Member, member_arrays, member_from_arrays
from malfl_algos.work.telling import say
from malfl_env.errors import InputError

__all__ = ["Fitted", "fit_agent", "follow"]

FloatArray = NDArray[np.float64]

MOVED = ("agreement", "identified", "expected", "halves", "halves_expected")
"""Details of `form: moves` that say how far its reward can be believed."""
HELD_OUT = 0.1
"""Share of the episodes of every stage that is held out, for early stopping."""


@dataclass(frozen=True, eq=False)
class Fitted:
    """One agent's fit.

    Args:
        members: of the ensemble.
        policies: of all agents, as functions of the agent's observations.
        diagnostics: JSON values.
    """

    members: tuple[Member, ...]
    policies: EstimatedPolicies
    diagnostics: dict[str, Any]


def fit_agent(
    gathered: Gathered, fitting: Fitting, known: Mapping[int, FloatArray] | None = None
) -> Fitted:
    """Fit one agent.

    Args:
        gathered: the steps as the agent observes them.
        fitting: settings shared by all agents.
        known: by agent index, policies that are known exactly, `(n_stages, n_observations,
            n_actions)`.
    """
    members: list[Member] = []
    details: list[Details] = []
    first_policies: EstimatedPolicies | None = None
    for number in range(fitting.options.ensemble):
        counts = _counts(gathered, fitting, number)
        policies = _policies(gathered, fitting, counts, number)
        first_policies = first_policies or policies
        # noise, prior and learning rule are chosen once, by the first member
        chosen = details[0] if details and "noise_variance" in details[0] else None
        fit = MemberFit(gathered, fitting, counts, policies, known or {}, number, chosen)
        say(f"member {number + 1} of {fitting.options.ensemble}")
        member, detail = _saved(fit)
        members.append(member)
        details.append(detail)
    assert first_policies is not None
    return Fitted(
        tuple(members),
        first_policies,
        {
            "form": fitting.options.form,
            "reward_model": fitting.options.reward_model,
            "improvement": details[0].get("improvement", 0.0),
            "improvement_interval": details[0].get("improvement_interval"),
            "scale": details[0].get("scale", "temperature"),
            **{name: details[0][name] for name in MOVED if name in details[0]},
            "discount": fitting.discount,
            "n_observations": len(gathered.inputs),
            "n_distinct_steps": sum(len(steps.here) for steps in gathered.stages),
            "policy_loss": first_policies.losses[-1][1] if first_policies.losses else None,
            "policy_rounds": len(first_policies.losses),
            "prediction": details[0].get("prediction"),
            "members": [{k: v for k, v in one.items() if k != "prediction"} for one in details],
            "representative": "mean of the members' posterior means, mean removed",
        },
    )


def follow(
    views: Sequence[Gathered], fitting: Fitting, given: Mapping[int, FloatArray]
) -> Mapping[int, FloatArray]:
    """Return known policies after the rounds of option `rounds`; see `followed_policies`.

    Args:
        views: the steps as each agent observes them.
        fitting: settings shared by all agents.
        given: policies that are known exactly, as in `fit_agent`.

    Raises:
        InputError: for rounds where agents do not share their observations.
    """
    known = given
    if fitting.options.rounds and any(view.view != views[0].view for view in views):
        raise InputError("rounds must be 0 where agents do not observe the same")
    for _ in range(fitting.options.rounds):
        fits = []
        for view in views:
            counts = _counts(view, fitting, 0)
            policies = _policies(view, fitting, counts, 0)
            fits.append(MemberFit(view, fitting, counts, policies, known, 0, None, last=False))
        known = followed_policies(fits, [fit_member(fit) for fit in fits], given)
    return known


def _counts(gathered: Gathered, fitting: Fitting, number: int) -> Counts:
    """Return the counts of the steps that a member is fitted to."""
    apart = np.random.default_rng(fitting.sequence(gathered.view, 0))
    drawn = np.random.default_rng(fitting.sequence(gathered.view, 1, number))
    found = Counts([], [], [])
    for steps in gathered.stages:
        kept = np.ones(steps.n_blocks)
        kept[apart.permutation(steps.n_blocks)[: max(1, round(HELD_OUT * steps.n_blocks))]] = 0.0
        weights = np.ones(steps.n_blocks)
        if fitting.options.bootstrap:
            share = np.full(steps.n_blocks, 1 / steps.n_blocks)
            weights = drawn.multinomial(steps.n_blocks, share).astype(np.float64)
        parts = [steps.counts(w) for w in (weights, weights * kept, weights * (1 - kept))]
        # a stage with a single block, or without drawn blocks, serves for training and stopping
        parts = [part if part.any() else parts[0] for part in parts]
        for kind, part in zip(
            (found.everything, found.training, found.held_out), parts, strict=True
        ):
            kind.append(part)
    return found


def _policies(
    gathered: Gathered, fitting: Fitting, counts: Counts, number: int
) -> EstimatedPolicies:
    """Return the policies that a member uses; they are trained at most once."""
    key = gathered.view, number if fitting.options.bootstrap else 0
    if key not in fitting.policies:
        fitting.policies[key] = estimate_policies(
            gathered,
            counts.training,
            counts.held_out,
            entropy_coefficient=fitting.options.entropy_coefficient,
            **fitting.training(f"policies_{key[0]}_{key[1]}", *key, 2),
        )
    return fitting.policies[key]


def _saved(fit: MemberFit) -> tuple[Member, Details]:
    """Return a member and its details, from its checkpoint if there is one."""
    gathered, fitting = fit.gathered, fit.fitting
    saver = fitting.checkpoints.named(
        f"agent_{gathered.agent_index}_member_{fit.number}", n_inputs=gathered.inputs.shape[1]
    )
    found = None if saver is None else saver.load()
    if found is None or saver is None:
        member, detail = fit_member(fit)
        if saver is not None:
            saver.save(member_arrays(member), detail)
        return member, detail
    arrays, detail = found
    try:
        member = member_from_arrays(
            arrays,
            fitting.options.reward_model,
            gathered.n_actions,
            gathered.agent_index,
            fitting.device,
        )
    except (KeyError, TypeError, ValueError, RuntimeError) as fault:
        raise saver.broken(fault) from fault
    return member, detail
