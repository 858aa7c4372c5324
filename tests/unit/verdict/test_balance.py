"""Contradictions between counts and dynamics."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from recovery_cases import learn
from scipy.stats import chi2_contingency

from malfl_algos.verdict.balance import (
    broken_steps,
    chance_misfit,
    expected_arrivals,
    imbalance,
    policy_misfit,
    repeated,
)
from malfl_algos.verdict.change import policy_change
from malfl_env.markov_game import Factor, MarkovGame


def renumbered(game: MarkovGame) -> MarkovGame:
    """The game with down and up exchanged for the first agent."""
    first, *others = game.factors
    changed = Factor(
        first.agents, first.successors[:, [1, 0, 2, 3, 4]], first.probabilities[:, [1, 0, 2, 3, 4]]
    )
    return replace(game, factors=(changed, *others))


def test_arrivals_of_one_step():
    _, game = learn(episodes=1, n_stages=2)
    counts = np.zeros((81, 5, 5), dtype=np.int64)
    counts[3, 0, 4] = 7
    arrivals = expected_arrivals(game, counts)
    assert arrivals[game.next_states[3, 0, 4]] == 7
    assert arrivals.sum() == 7


def test_a_complete_log_is_balanced_and_one_of_another_game_is_not():
    trace, game = learn(episodes=20, n_stages=3)
    stages = [stage.counts for stage in trace.stages]
    assert imbalance(game, stages) == 0.0
    assert imbalance(renumbered(game), stages) > 0.05


def test_steps_that_are_missing_unbalance_the_log():
    trace, game = learn(episodes=20, n_stages=2)
    rng = np.random.default_rng(0)
    thinned = [rng.binomial(stage.counts, 0.2) for stage in trace.stages]
    assert imbalance(game, thinned) > 0.01


def test_chance_of_the_right_and_of_a_wrong_game():
    trace, game = learn(episodes=100, n_stages=2, slip=0.3)
    seen = trace.stages[0].seen_next_states
    columns = (seen.rows, seen.next_states, seen.counts)
    assert 0.5 < chance_misfit(game, *columns) < 1
    _, calmer = learn(episodes=1, n_stages=2, slip=0.1)
    assert chance_misfit(calmer, *columns) > 5
    assert imbalance(game, [stage.counts for stage in trace.stages]) < 0.002


def test_a_game_without_chance_has_no_misfit_of_chance():
    _, game = learn(episodes=1, n_stages=2)
    rows = np.full(1, 3 * 25)
    after = np.array([game.next_states[3, 0, 0]])
    assert chance_misfit(game, rows, after, np.array([1000])) is None


def test_broken_steps_are_counted_within_episodes():
    states, after = np.array([0, 1, 2, 0, 5]), np.array([1, 2, 3, 1, 6])
    ends = np.array([False, False, True, False, True])
    assert broken_steps(states, after, ends) == pytest.approx(1 / 3)


def test_actions_that_follow_known_policies_and_others_that_do_not():
    rng = np.random.default_rng(0)
    policies = rng.dirichlet(np.ones(4), size=(3, 50))
    counts = rng.multinomial(200, policies)
    assert 0.5 < policy_misfit(counts, policies) < 1
    assert policy_misfit(counts, policies[::-1]) > 10
    assert policy_misfit(np.zeros_like(counts), policies) is None


def test_few_degrees_of_freedom_are_not_mistaken_for_a_contradiction():
    """One state with three actions: by chance their squares exceed 1.3 times the degrees of freedom
    in a quarter of the logs."""
    rng = np.random.default_rng(0)
    policies = np.full((1, 1, 3), 1 / 3)
    found = [policy_misfit(rng.multinomial(300, policies), policies) for _ in range(500)]
    assert np.mean(np.array(found) > 1) < 0.01
    assert policy_misfit(np.array([[[200, 50, 50]]]), policies) > 3


def test_a_policy_that_does_not_change_is_told_from_one_that_does():
    rng = np.random.default_rng(0)
    policies = rng.dirichlet(np.ones(4), size=50)
    kept = rng.multinomial(rng.integers(5, 200, size=(6, 50)), policies)
    value, chance = policy_change(kept)
    assert value == pytest.approx(1, abs=0.15)
    assert chance > 0.01
    moved = kept.copy()
    moved[3] = rng.multinomial(100, rng.dirichlet(np.ones(4), size=50))
    assert policy_change(moved)[1] < 1e-6
    table = rng.integers(10, 90, size=(3, 1, 4))
    found = chi2_contingency(table[:, 0], correction=False)
    assert policy_change(table) == pytest.approx((found.statistic / found.dof, found.pvalue))
    assert policy_change(kept[:1]) is None
    assert policy_change(np.zeros_like(kept)) is None


def test_repeated_stages():
    one, two = np.ones((2, 2), dtype=np.int64), np.eye(2, dtype=np.int64)
    empty = np.zeros((2, 2), dtype=np.int64)
    assert repeated([one, two, one, one, empty, empty]) == 2
    assert repeated([one, two]) == 0
