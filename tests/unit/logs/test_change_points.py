"""Change points: the evidence against enumeration, and changes that are there or not."""

from __future__ import annotations

from itertools import combinations, pairwise
from math import comb, log

import numpy as np
import pytest

from malfl_algos import LearningTrace
from malfl_algos.logs.change_points import best_partition, run_evidence


def log_probability(actions, n_actions):
    """One by one: every action given those before it, with a prior count of 1/2 for each."""
    counts = np.full(n_actions, 0.5)
    total = 0.0
    for action in actions:
        total += log(counts[action] / counts.sum())
        counts[action] += 1
    return total


def test_the_evidence_is_that_of_actions_one_after_another():
    rng = np.random.default_rng(0)
    state, action = rng.integers(0, 2, 40), rng.integers(0, 3, 40)
    block = np.arange(40) // 10
    evidence = run_evidence(state, action, block, n_blocks=4, n_actions=3)
    for first in range(4):
        for stop in range(first + 1, 5):
            inside = (block >= first) & (block < stop)
            wanted = sum(log_probability(action[inside & (state == s)], 3) for s in (0, 1))
            assert evidence[first, stop] == pytest.approx(wanted)


def test_the_best_partition_is_that_of_enumeration():
    rng = np.random.default_rng(1)
    for _ in range(20):
        n = 6
        evidence = rng.normal(0, 3, (n, n + 1))
        scores = {}
        for k in range(n):
            for bounds in combinations(range(1, n), k):
                edges = [0, *bounds, n]
                fit = sum(evidence[a, b] for a, b in pairwise(edges))
                scores[bounds] = fit - log(comb(n - 1, k))
        best = max(scores, key=scores.get)
        found, gain = best_partition(evidence)
        assert tuple(found.tolist()) == best
        assert gain == pytest.approx(scores[best] - scores[()])


def play(probabilities, seed=0, per_part=400):
    """One agent in two states, whose probability of action 1 changes from part to part."""
    rng = np.random.default_rng(seed)
    p = np.repeat(probabilities, per_part)
    n = len(p)
    return {
        "state": rng.integers(0, 2, n),
        "action": (rng.random(n) < p).astype(int),
        "episode": np.arange(n) // 20,
        "step": np.arange(n) % 20,
    }


def cut(table):
    roles = {"actions": {"x": "action"}, "change_points": True}
    return LearningTrace.from_table(table, state="state", episode="episode", step="step", **roles)


def test_changes_are_found_where_they_are():
    for seed in range(3):
        trace = cut(play([0.1, 0.5, 0.9], seed))
        sizes = [stage.n_steps for stage in trace.stages]
        assert len(sizes) == 3
        np.testing.assert_allclose(np.cumsum(sizes)[:2], [380, 760], atol=60)
        assert "2 changes of policy found among 100 blocks of time" in trace.notes[-1]


def test_no_change_is_found_where_there_is_none():
    traces = [cut(play([0.3], seed, per_part=1200)) for seed in range(5)]
    assert [trace.n_stages for trace in traces] == [1] * 5
    assert "no change of policy is found" in traces[0].notes[-1]


def test_a_few_steps_are_one_block_each():
    trace = cut({"state": [0, 0, 0], "action": [1, 1, 0], "episode": [0] * 3, "step": range(3)})
    assert trace.n_stages == 1
