"""Stages cut into parts, for learners whose policy follows their action values at every step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln

from malfl_algos.ma_lfl.alternation import AgentFit
from malfl_algos.ma_lfl.replay import steps_of
from malfl_algos.ma_lfl.stages import StageArrays, Steps

__all__ = ["cut_stages", "log_orders", "of_stages"]

FloatArray = NDArray[np.float64]


def cut_stages(
    stages: Sequence[StageArrays], n_parts: int, *, explain_first: bool
) -> list[StageArrays]:
    """Cut stages into parts within which a policy that follows q hardly moves.

    The first stage, in which q changes most, is cut into twice as many parts, whose lengths grow.

    Args:
        stages: with steps.
        n_parts: number of parts of each stage but the first.
        explain_first: whether the actions of the first stage are to be explained. It is then cut
            after an empty part, for which there is nothing to explain. Otherwise it stays whole.
    """
    parts: list[StageArrays] = []
    none = np.zeros_like(stages[0].joint_counts)
    for number, stage in enumerate(stages):
        steps = steps_of(stage)
        if number == 0 and not explain_first:
            parts.append(stage)
            continue
        shares = np.linspace(0, 1, n_parts + 1)
        if number == 0:
            parts.append(StageArrays(none))
            shares = np.linspace(0, 1, 2 * n_parts + 1) ** 2
        edges = np.unique(np.rint(shares * len(steps.states)).astype(int)).tolist()
        parts += [
            StageArrays(_counts(steps, first, end, none), steps, (first, end))
            for first, end in pairwise(edges)
        ]
    return parts


def _counts(steps: Steps, first: int, end: int, like: NDArray[np.int64]) -> NDArray[np.int64]:
    """Joint counts of the steps from `first` to `end`."""
    at = (steps.states[first:end], *steps.joint_actions[first:end].T)
    flat = np.ravel_multi_index([column.astype(np.int64) for column in at], like.shape)
    return np.bincount(flat, minlength=like.size).reshape(like.shape)


def of_stages(
    fit: AgentFit, index: int, stages: Sequence[StageArrays], parts: Sequence[StageArrays]
) -> AgentFit:
    """The fit of parts as one of the stages: comparable evidence, and policies of whole stages.

    The evidence of counts of whole stages is the larger, the more orders of the actions have these
    counts. The evidence of the parts is given the factor by which they have fewer.

    Args:
        fit: of the parts.
        index: the agent.
        stages, parts: before and after `cut_stages`.
    """
    explained = stages if parts[0].steps is None else stages[1:]
    orders = log_orders(explained, index) - log_orders(parts[1:], index)
    evidence = fit.posterior.evidence
    assert evidence.log_evidence is not None
    evidence = replace(evidence, log_evidence=evidence.log_evidence + orders)
    policies = np.stack([_averaged(fit.policies, index, stage, parts) for stage in stages])
    posterior = replace(fit.posterior, evidence=evidence)
    return replace(fit, policies=policies, posterior=posterior)


def log_orders(stages: Sequence[StageArrays], index: int) -> float:
    """Log of the number of orders in which an agent's actions can have been played."""
    total = 0.0
    for stage in stages:
        counts = stage.action_counts(index)
        total += float(gammaln(counts.sum(axis=1) + 1).sum() - gammaln(counts + 1).sum())
    return total


def _averaged(
    policies: FloatArray, index: int, stage: StageArrays, parts: Sequence[StageArrays]
) -> FloatArray:
    """The policy of a stage, averaged over visits; of the last part in states without visits."""
    own = [number for number, part in enumerate(parts) if part.steps is stage.steps]
    visits = np.stack([parts[number].action_counts(index).sum(axis=1) for number in own])
    weights = visits + 1e-9 * (np.arange(len(own)) == len(own) - 1)[:, None]
    average = np.einsum("ps,psa->sa", weights / weights.sum(axis=0), policies[own])
    return np.asarray(average / average.sum(axis=1, keepdims=True))
