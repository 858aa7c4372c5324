"""Stages at the times at which the agents' policies change, found by the evidence.

Time is cut into blocks. A stage is a run of blocks in which every agent's policy is constant. The
actions of an agent in a state are multinomial, with a Dirichlet(1/2) prior on its policy, so the
evidence of a run is a Dirichlet-multinomial probability in closed form. All partitions of the
blocks into runs are compared by dynamic programming; a priori every number of stages is equally
probable, and so is every partition with this number of stages. This is exact inference of the
product partition model (Barry and Hartigan 1992, Annals of Statistics 20, 260-279).
"""

from __future__ import annotations

from math import lgamma

import numpy as np
from numpy.typing import NDArray

from malfl_algos.logs.parts import parts, within
from malfl_algos.logs.rows import Steps

__all__ = ["best_partition", "find_change_points", "run_evidence"]

_MOST_BLOCKS = 100
_MOST_CELLS = 2**23  # of the table of counts by block
_PRIOR = 0.5

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


def find_change_points(
    steps: Steps, *, n_states: int, n_actions: tuple[int, ...]
) -> tuple[IntArray, str]:
    """The stage of every step, and a sentence about the evidence.

    Args:
        steps: in the order of play.
        n_states, n_actions: of the game.

    Returns:
        `(n_steps,)`, stages from 0, and the sentence.
    """
    _, sizes = within(steps.subject)
    cells = sum(
        len(np.unique(steps.state * n_own + steps.actions[:, agent]))
        for agent, n_own in enumerate(n_actions)
    )
    n_blocks = max(1, min(_MOST_BLOCKS, int(sizes.min()), _MOST_CELLS // cells))
    block, _ = parts(steps, n_blocks)
    evidence = np.zeros((n_blocks, n_blocks + 1))
    for agent, n_own in enumerate(n_actions):
        evidence += run_evidence(
            steps.state, steps.actions[:, agent], block, n_blocks=n_blocks, n_actions=n_own
        )
    bounds, gain = best_partition(evidence)
    stage = np.searchsorted(bounds, block, side="right").astype(np.int64)
    if not len(bounds):
        return stage, f"no change of policy is found in {n_blocks} blocks of time: one stage"
    return stage, (
        f"{len(bounds)} changes of policy found among {n_blocks} blocks of time, log evidence "
        f"{gain:.1f} above that of one stage"
    )


def run_evidence(
    state: IntArray, action: IntArray, block: IntArray, *, n_blocks: int, n_actions: int
) -> FloatArray:
    """Log evidence of one agent's actions in every run of blocks.

    Args:
        state, action, block: `(n_steps,)`.
        n_blocks: blocks are numbered from 0.
        n_actions: of this agent.

    Returns:
        `(n_blocks, n_blocks + 1)`: entry `[i, j]` is of the blocks `i` to `j - 1`; 0 for `j <= i`.
    """
    _, cell = np.unique(state * n_actions + action, return_inverse=True)
    _, place = np.unique(state, return_inverse=True)
    evidence = np.zeros((n_blocks, n_blocks + 1))
    for index, prior, sign in ((cell, _PRIOR, 1.0), (place, n_actions * _PRIOR, -1.0)):
        size = int(index.max()) + 1
        flat = np.bincount(block * size + index.reshape(-1), minlength=n_blocks * size)
        total = np.zeros((n_blocks + 1, size), dtype=np.int64)
        np.cumsum(flat.reshape(n_blocks, size), axis=0, out=total[1:])
        # log Gamma(prior + n) - log Gamma(prior) for all counts n
        steps = np.log(prior + np.arange(int(total[-1].max())))
        table = np.concatenate([[0.0], np.cumsum(steps)])
        for first in range(n_blocks):
            evidence[first, first + 1 :] += sign * table[total[first + 1 :] - total[first]].sum(1)
    return evidence


def best_partition(evidence: FloatArray) -> tuple[IntArray, float]:
    """The most probable partition of blocks into runs.

    Args:
        evidence: as `run_evidence` returns it, summed over agents.

    Returns:
        The blocks at which the runs but the first begin, and by how much its log posterior
        probability exceeds that of a single run.
    """
    n_blocks = len(evidence)
    score = np.full((n_blocks + 1, n_blocks + 1), -np.inf)
    score[0, 0] = 0.0
    origin = np.zeros((n_blocks + 1, n_blocks + 1), dtype=np.int64)
    forward = np.where(np.arange(n_blocks + 1) > np.arange(n_blocks)[:, None], evidence, -np.inf)
    for n_runs in range(1, n_blocks + 1):
        candidates = score[n_runs - 1, :-1, None] + forward
        origin[n_runs] = np.argmax(candidates, axis=0)
        score[n_runs] = np.max(candidates, axis=0)
    prior = [-_log_binomial(n_blocks - 1, n_runs - 1) for n_runs in range(1, n_blocks + 1)]
    total = score[1:, -1] + np.array(prior)
    n_runs = int(np.argmax(total)) + 1
    bounds, end = [], n_blocks
    for left in range(n_runs, 1, -1):
        end = int(origin[left, end])
        bounds.append(end)
    return np.array(bounds[::-1], dtype=np.int64), float(total[n_runs - 1] - total[0])


def _log_binomial(n: int, k: int) -> float:
    return lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1)
