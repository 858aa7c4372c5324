"""What the next stages say of a reward where learners improve their last policy by their advantage.

Gradient and trust-region learners (PPO is one) do not jump to exp(q / alpha), equation (6): they
move on from where they are. Mirror descent is their plain form,

    pi_{h+1}(a | o) proportional to pi_h(a | o) exp(q_h(o, a) / alpha),

with q_h the unregularised action values of stage h. From the first stage on that adds up: alpha
log pi_{h+1} = alpha log pi_0 + q_0 + ... + q_h up to a constant per observation. The sum is used,
not the single moves: those are small, and would be read off the difference of two estimates.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from malfl_algos.networks.action_values import (
    RewardFeatures,
    StageRows,
    action_values,
    played_rows,
)
from malfl_algos.networks.dynamics import Chances, Dynamics
from malfl_algos.networks.gathering import Gathered

__all__ = ["proximal_rows"]

FloatArray = NDArray[np.float64]


def proximal_rows(
    gathered: Gathered,
    counts: Sequence[FloatArray],
    features: FloatArray,
    reward: RewardFeatures,
    dynamics: Dynamics,
    chances: Chances,
    *,
    discount: float,
    temperature: float,
    max_rows: int,
    rng: np.random.Generator,
) -> list[StageRows]:
    """What each stage but the first says, given the policies of the first.

    Args:
        gathered, counts, features, reward, dynamics, chances, discount: as `stage_rows` takes them.
        temperature: alpha, the inverse of the learners' step.
        max_rows, rng: likewise.

    Returns:
        Per stage h, at observations of stage h + 1: coefficients are the sum of those of
        q_0 .. q_h, the offset is alpha log pi_0. Errors of the stages' regressions count as
        independent.
    """
    agent, n_moves = gathered.agent_index, len(gathered.stages) - 1
    drawn = [
        played_rows(gathered, stage + 1, counts[stage + 1], max_rows=max_rows, rng=rng)
        for stage in range(n_moves)
    ]
    starts = np.cumsum([0, *(len(rows) for rows, _ in drawn)])
    everywhere = np.concatenate([rows for rows, _ in drawn])
    total = np.zeros((len(everywhere), gathered.n_own, reward.map.n_features))
    leverages: list[FloatArray] = []
    values: list[FloatArray] = []
    for stage in range(n_moves):
        later = slice(starts[stage], None)
        q, leverage, value = action_values(
            gathered,
            stage,
            counts,
            features,
            reward,
            dynamics,
            chances,
            rows=everywhere[later],
            discount=discount,
            temperature=0.0,
        )
        total[later] += q[..., :-1]
        leverages.append(leverage)
        values.append(value)
    found = []
    for stage, (rows, played) in enumerate(drawn):
        own = slice(starts[stage], starts[stage + 1])
        first = np.log(np.maximum(chances(rows, 0)[agent], 1e-300))
        leverage_of = {
            past: leverages[past][starts[stage] - starts[past] :][: len(rows)]
            for past in range(stage + 1)
        }
        found.append(
            StageRows(
                stage,
                rows,
                total[own],
                temperature * first,
                played,
                np.zeros(played.shape),
                leverage_of,
                values[stage],
            )
        )
    return found
