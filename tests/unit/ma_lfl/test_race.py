"""A search gives up candidates early and chooses as one that does not."""

import numpy as np
import pytest
from recovery_cases import learn

from malfl_algos.ma_lfl.race import LAGS, LEAST_GAIN, Race, Races, Runner
from malfl_algos.observers.bayesian import MaLflBellman


def test_a_candidate_far_behind_is_given_up_and_listed_by_its_lag():
    race = Race()
    best, far = Runner(race, "best", False), Runner(race, "far", False)
    assert not best.gives_up(1, -10.0)
    assert not best.gives_up(2, -900.0)
    assert best.scored(-900.0) == -900.0
    assert far.gives_up(1, -11.0 - LAGS[1])
    assert far.scored(0.0) == -900.0 - 1.0 - LAGS[1]


def test_a_candidate_a_little_behind_goes_on():
    race = Race()
    Runner(race, "best", False).gives_up(1, 0.0)
    other = Runner(race, "other", False)
    assert not other.gives_up(1, 1.0 - LAGS[1])
    assert other.scored(-3.0) == -3.0


@pytest.mark.parametrize(("gain", "given_up"), [(0.0, True), (2 * LEAST_GAIN, False)])
def test_a_share_of_the_policy_has_to_gain(gain, given_up):
    race = Race()
    Runner(race, "td", False).gives_up(1, -50.0)
    assert Runner(race, "td", True).gives_up(1, -50.0 + gain) == given_up
    assert not Runner(race, "exact", True).gives_up(1, -50.0)


@pytest.mark.parametrize("evaluation", ["td", "exact"])
def test_the_choice_is_that_of_a_whole_search(evaluation, monkeypatch):
    trace, game = learn(size=2, episodes=60, evaluation=evaluation)
    given = {"game": game.without_rewards(), "discount": 0.9, "temperature": 3.0}
    raced = MaLflBellman().recover(trace, **given)
    monkeypatch.setattr(Runner, "gives_up", lambda self, number, value: False)
    whole = MaLflBellman().recover(trace, **given)
    for agent in trace.agents:
        np.testing.assert_array_equal(raced.rewards[agent], whole.rewards[agent])


def test_rules_race_with_each_other_under_the_first_steps_only():
    races = Races()
    first = {"rule": "fresh", "step_size": 0.1, "step_size_decay": 0.0}
    shared = races.of(first)
    assert races.of({**first, "rule": "q-learning"}) is shared
    own = races.of({**first, "step_size": 0.3})
    assert own is not shared
    assert races.of({**first, "step_size_decay": 0.5}) is own
    assert races.of({**first, "rule": "q-learning", "step_size": 0.3}) is not own
