"""Scores of what an observer recovered, as rows of a table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from malfl_algos.experiments.cell import Recovered
from malfl_algos.scores.inputs import HeldOut, Need, Reference, ScoringInputs
from malfl_algos.scores.registry import score_agent, score_names

__all__ = ["OF_A_RUN", "TRUTH_ALONE", "posterior_parts", "scored_rows"]

OF_A_RUN: Sequence[Need] = ("ground_truth", "dynamics", "posterior_covariance")
"""What a run has to score rewards with: everything but stages that they were not recovered from."""
TRUTH_ALONE: Sequence[Need] = ("ground_truth",)
"""What the trend and the cross-correlation are scored with."""


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


def scored_rows(
    reference: Reference,
    recovered: Recovered,
    available: Sequence[Need] = OF_A_RUN,
    *,
    held_out: HeldOut | None = None,
) -> Iterator[dict[str, Any]]:
    """Rows `agent`, the scores that need nothing but what is there, and `reasons` for those that
    are None.

    Args:
        reference: the ground truth.
        recovered: by observing agent; where there is one, it stands in the row as `observing`.
        available: what there is to score with.
        held_out: stages to predict.
    """
    names = score_names(*available, *(("trace",) if held_out else ()))
    for observing, result in recovered.items():
        inputs = ScoringInputs(
            rewards=result.rewards,
            reference=reference,
            covariance=result.covariance or {},
            sd=result.sd or {},
            held_out=held_out,
        )
        for agent in (agent for agent in reference.truth if agent in result.rewards):
            row = {"agent": agent, **score_agent(inputs, agent, names)}
            yield {"observing": observing, **row} if observing else row
