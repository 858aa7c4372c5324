"""Scores of what an observer recovered, as rows of a table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from malfl_algos.experiments.cell import Recovered
from malfl_algos.scores.inputs import HeldOut, Need, Reference, ScoringInputs
from malfl_algos.scores.registry import score_agent, score_names

__all__ = ["OF_A_RUN", "posterior_parts", "score_rows", "scored_rows"]

OF_A_RUN: Sequence[Need] = ("ground_truth", "dynamics", "posterior_covariance")
"""What a run has to score rewards with: everything but stages that they were not recovered from."""


def posterior_parts(arrays: Mapping[str, NDArray[np.float64]]) -> dict[str, Any]:
    """`sd` and `covariance` per agent id, from the arrays of `posterior.npz`."""
    return {
        part: {
            name.removesuffix(f"_{part}"): array
            for name, array in arrays.items()
            if name.endswith(f"_{part}")
        }
        for part in ("sd", "covariance")
    }


def score_rows(
    recovered: Mapping[str, Mapping[str, NDArray[np.float64]]],
    truth: Mapping[str, NDArray[np.float64]],
    states: NDArray[np.bool_] | None,
) -> Iterator[dict[str, Any]]:
    """Rows `agent`, the scores that need nothing but the ground-truth reward, `reason` of the first
    that is None, and `observing` where there is one.

    Args:
        recovered: by observing agent ("" for none), per agent id the reward.
        truth: per agent id the true reward.
        states: bool `(n_states,)`: the joint states that count; None: all.
    """
    for observing, rewards in recovered.items():
        inputs = ScoringInputs(rewards, Reference(truth, states))
        for agent in (agent for agent in truth if agent in rewards):
            row = {"agent": agent, **score_agent(inputs, agent, score_names("ground_truth"))}
            row["reason"] = next(iter(row.pop("reasons").values()), None)
            yield {"observing": observing, **row} if observing else row


def scored_rows(
    reference: Reference, recovered: Recovered, *, held_out: HeldOut | None = None
) -> Iterator[dict[str, Any]]:
    """Rows `agent`, the scores of the registry, and `reasons` for those that are None.

    Args:
        reference: the ground truth.
        recovered: by observing agent; where there is one, it stands in the row as `observing`.
        held_out: stages to predict; without them the rows have no columns for predictions.
    """
    available = [*OF_A_RUN, "trace"] if held_out else OF_A_RUN
    for observing, result in recovered.items():
        inputs = ScoringInputs(
            rewards=result.rewards,
            reference=reference,
            covariance=result.covariance or {},
            sd=result.sd or {},
            held_out=held_out,
        )
        for agent in (agent for agent in reference.truth if agent in result.rewards):
            row = {"agent": agent, **score_agent(inputs, agent, score_names(*available))}
            yield {"observing": observing, **row} if observing else row
