"""The profile of an unknown discount: its maximum, its interval, and what the deviations gain."""

import numpy as np
import pytest

from malfl_algos.learners.ma_spi import MaSpi
from malfl_algos.ma_lfl.alternation import AgentFit
from malfl_algos.ma_lfl.discount_profile import (
    FALL,
    DiscountProfile,
    discount_profile,
    profiled,
    with_uncertain_discount,
)
from malfl_algos.ma_lfl.posterior import Evidence, Posterior
from malfl_algos.observers.bayesian import MaLflBellman
from malfl_algos.trace import LearningTrace
from malfl_env import MarkovGame, TabularEnv

OBSERVER = MaLflBellman(learner="exact", improvement=0.0, prior="iid")


def parabola(best, width):
    """Log evidence whose 95 % interval is log(1 - best) -+ width."""

    def evidence(discount):
        evidence.calls += 1
        return -7.0 - FALL * ((np.log1p(-discount) - np.log1p(-best)) / width) ** 2

    evidence.calls = 0
    return evidence


@pytest.mark.parametrize("best", [0.47, 0.88, 0.9, 0.961])
@pytest.mark.parametrize("width", [0.01, 0.2])
def test_the_interval_of_a_parabola_in_closed_form(best, width):
    evidence = parabola(best, width)
    found = discount_profile(evidence, 0.9)
    ends = 1 - (1 - best) * np.exp([width, -width])
    assert found.best == pytest.approx(best, abs=2e-4)
    np.testing.assert_allclose(found.interval, ends, atol=0.1 * (ends[1] - ends[0]))
    assert found.open_ends == ()
    assert evidence.calls == len(found.evidence) <= 16


def test_ends_where_the_evidence_does_not_fall_are_open():
    rising = discount_profile(parabola(0.999, 1.5), 0.7)
    assert (rising.best, rising.interval[1], rising.open_ends) == (0.99, 0.99, ("upper",))
    flat = discount_profile(lambda _: -3.0, 0.9)
    assert (flat.interval, flat.open_ends) == ((0.0, 0.99), ("lower", "upper"))


@pytest.mark.parametrize("start", [0.3, 0.9])
def test_small_discounts_are_tried_and_that_of_0_tells_nothing_about_them(start):
    near = parabola(0.1, 0.04)
    found = discount_profile(lambda own: -1e5 if own == 0 else near(own), start)
    ends = 1 - 0.9 * np.exp([0.04, -0.04])
    assert found.best == pytest.approx(0.1, abs=1e-3)
    np.testing.assert_allclose(found.interval, ends, atol=0.01)
    wide = parabola(0.1, 0.5)
    found = discount_profile(lambda own: -1e5 if own == 0 else wide(own), start)
    assert (found.interval[0], found.open_ends) == (0.0, ("lower",))
    assert 0 < found.places[0] < found.best


def test_the_interval_of_a_learner_with_a_small_discount_contains_it():
    trace, game = learned(3, 0.1)
    found = OBSERVER.recover(trace, game=game, discount=None, temperature=0.5)
    own = found.diagnostics["agent_0"]
    low, high = own["discount_interval"]
    assert low <= 0.1 <= high
    assert "lower" in own["discount_interval_open"]  # state rewards: a small one only rescales


def fit_of(mean, evidence=0.0):
    found = Posterior(np.array(mean), np.eye(2), np.eye(2), Evidence(evidence, 0.1, 1.0, 1.0, ()))
    return [AgentFit(found, np.zeros((2, 1, 2)), None, 1, True)]


def test_the_deviations_contain_those_of_the_discount():
    """A mean that is linear in log(1 - discount), whose sd is known: the covariance is exact."""
    slope, sd = np.array([2.0, -1.0]), 0.05
    ends = tuple(1 - 0.1 * np.exp(1.96 * sd * np.array([1.0, -1.0])))
    profile = DiscountProfile(0.9, ends, (), {ends[0]: -2.0, 0.9: 0.0, ends[1]: -2.0})
    sides = [fit_of(slope * np.log1p(-end)) for end in profile.places]
    wide = with_uncertain_discount(fit_of([0.0, 0.0]), sides, profile)[0].posterior.covariance()
    np.testing.assert_allclose(wide, np.eye(2) + sd**2 * np.outer(slope, slope))


def test_the_most_probable_rule_is_profiled():
    peaks = {"td": (0.8, -50.0), "exact": (0.6, -45.0)}

    def fit(own):
        best, top = peaks[own["rule"]]
        return fit_of([0.0, 0.0], top - 100 * (own["discount"] - best) ** 2)

    asked = [{"rule": one, "improvement": 0.0, "discount": 0.8} for one in peaks]
    (first, second), profile = profiled(asked, fit)
    assert (first["rule"], second) == ("exact", asked[0])
    assert first["discount"] == profile.best == pytest.approx(0.6, abs=1e-3)


def learned(seed, discount, *, n_states=6, episodes=200):
    """Exact learners of a game at random: its trace and the game."""
    rng = np.random.default_rng(seed)
    game = MarkovGame.from_tables(
        rng.integers(0, n_states, (n_states, 2, 2)),
        rewards=list(rng.normal(size=(2, n_states, 2, 2) if n_states == 1 else (2, n_states))),
        start=np.full(n_states, 1 / n_states),
    )
    learner = MaSpi(
        discount=discount, temperature=0.5, evaluation="exact", episodes=episodes, episode_length=20
    )
    stages = learner.learn(TabularEnv(game), n_stages=5, rng=np.random.default_rng([seed, 2]))
    return LearningTrace(tuple(one.observed for one in stages)), game.without_rewards()


@pytest.mark.slow  # a recovery for each of 12 traces, at a dozen discounts
def test_most_intervals_contain_the_ground_truth():
    """A 95 % interval misses more than 3 of 12 with a probability of 0.002."""
    inside, narrow = 0, 0
    for seed in range(12):
        discount = (0.5, 0.7, 0.8, 0.9)[seed % 4]
        trace, game = learned(seed, discount)
        own = OBSERVER.recover(trace, game=game, discount=None, temperature=None).diagnostics
        low, high = own["agent_0"]["discount_interval"]
        inside += low <= discount <= high
        narrow += high - low < 0.6
    assert inside >= 9
    assert narrow >= 6


def test_a_discount_that_changes_nothing_is_said_to_be_unidentified():
    trace, game = learned(0, 0.9, n_states=1, episodes=20)
    observer = MaLflBellman(learner="exact", improvement=0.0, reward_model="own_action")
    found = observer.recover(trace, game=game, discount=None, temperature=None)
    assert found.diagnostics["agent_0"]["discount_interval_open"] == ["lower", "upper"]
    assert "discount: not identified: all from 0 to 0.99 explain" in found.summary()
    assert "learning rule: exact\n" in found.summary()


def test_what_is_told_about_an_estimated_discount():
    trace, game = learned(8, 0.9)
    found = OBSERVER.recover(trace, game=game, discount=None, temperature=None)
    own = found.diagnostics["agent_0"]
    low, high = own["discount_interval"]
    assert low < own["discount"] < high
    words = f"discount: {own['discount']:.3g} (95 % interval {low:.3g} to {high:.3g}, by profile"
    assert words in " ".join(found.summary().split())
    told = MaLflBellman(learner="exact", improvement=0.0, prior="iid").recover(
        trace, game=game, discount=own["discount"], temperature=None
    )
    assert (found.sd["agent_0"] > told.sd["agent_0"]).all()
