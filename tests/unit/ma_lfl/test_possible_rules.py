"""Which rules the counts leave possible."""

import numpy as np
import pytest

from malfl_algos.ma_lfl.greedy import exploration_spread
from malfl_algos.ma_lfl.possible_rules import MOST_SPREAD, possible_rules
from malfl_algos.ma_lfl.stages import StageArrays

RULES = ("td", "q-learning", "q-learning, greedy", "q-learning, moving, greedy")


def counts_of(policies, visits, seed=0):
    rng = np.random.default_rng(seed)
    return np.stack([[rng.multinomial(visits, row) for row in policy] for policy in policies])


def greedy_policies(n_states=60, n_actions=4):
    best = np.random.default_rng(1).integers(n_actions, size=(4, n_states))
    return [
        (1 - epsilon) * np.eye(n_actions)[own] + epsilon / n_actions
        for own, epsilon in zip(best, (1.0, 0.7, 0.4, 0.1), strict=True)
    ]


def soft_policies(n_states=60, n_actions=4):
    q = np.random.default_rng(2).normal(size=(4, n_states, n_actions))
    return np.exp(q) / np.exp(q).sum(axis=-1, keepdims=True)


@pytest.mark.parametrize("visits", [60, 1000, 100_000])
def test_frozen_epsilon_greedy_choices_explore_alike_everywhere(visits):
    assert exploration_spread(counts_of(greedy_policies(), visits).astype(float)) < 1.5


def test_other_choices_do_not():
    assert exploration_spread(counts_of(soft_policies(), 1000).astype(float)) > 10 * MOST_SPREAD


def test_too_few_states_or_actions_tell_nothing():
    assert exploration_spread(counts_of(soft_policies(n_states=8), 1000).astype(float)) == 0
    assert exploration_spread(counts_of(soft_policies(n_actions=2), 1000).astype(float)) == 0
    assert exploration_spread(np.zeros((3, 60, 4))) == 0


@pytest.mark.parametrize(
    ("policies", "visits", "kept", "why"),
    [
        (greedy_policies(), 1000, RULES, None),
        (
            soft_policies(),
            1000,
            ("td", "q-learning", "q-learning, moving, greedy"),
            "explored alike",
        ),
        (greedy_policies(), 50, ("td",), "fewer than 30"),
    ],
)
def test_rules_left_out_are_said(policies, visits, kept, why):
    stages = [StageArrays(own) for own in counts_of(policies, visits)]
    found, said = possible_rules(RULES, stages)
    assert found == kept
    assert said is None if why is None else why in said


def test_a_rule_that_is_given_is_kept():
    stages = [StageArrays(own) for own in counts_of(soft_policies(), 1000)]
    assert possible_rules(("q-learning, greedy",), stages) == (("q-learning, greedy",), None)


def test_one_action_shows_no_exploration():
    stages = [StageArrays(np.full((8, 1, 3), 100))] * 3
    found, said = possible_rules(RULES, stages)
    assert found == ("td", "q-learning")
    assert "an agent has one action" in said
