"""Dynamics drawn from their posterior, and what they add to the deviations of a reward."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from malfl_algos import LearningTrace
from malfl_algos.learners.ma_spi import MaSpi
from malfl_algos.ma_lfl.alternation import alternate
from malfl_algos.ma_lfl.learner_models import ExactEvaluation
from malfl_algos.ma_lfl.posterior import Given
from malfl_algos.ma_lfl.stages import StageArrays, drawn_game, estimated_game
from malfl_algos.ma_lfl.uncertain_dynamics import with_uncertain_dynamics
from malfl_algos.observers.bayesian import MaLflBellman
from malfl_env import MarkovGame, TabularEnv

DISCOUNT, TEMPERATURE = 0.9, 0.5


def random_game(rng: np.random.Generator, n_states: int = 5) -> MarkovGame:
    chances = rng.dirichlet(np.full(n_states, 0.5), size=(n_states, 3, 2))
    return MarkovGame.from_tables(
        transitions=chances, rewards=[rng.normal(size=n_states) for _ in range(2)]
    )


def dense(game: MarkovGame) -> np.ndarray:
    successors, chances = game.joint_successors()
    table = np.zeros((*successors.shape[:-1], game.n_states))
    for row in np.ndindex(*successors.shape[:-1]):
        np.add.at(table[row], successors[row], chances[row])
    return table


def learned(game: MarkovGame, seed: int, episodes: int) -> tuple[LearningTrace, dict]:
    learner = MaSpi(
        discount=DISCOUNT,
        temperature=TEMPERATURE,
        evaluation="exact",
        episodes=episodes,
        episode_length=20,
        keep_transitions=True,
    )
    rng = np.random.default_rng(seed)
    stages = list(learner.learn(TabularEnv(game), n_stages=5, rng=rng))
    policies = {a: np.stack([own.joint_policy[a] for own in stages]) for a in game.agents}
    return LearningTrace(tuple(own.observed for own in stages)), policies


def test_draws_have_the_moments_of_the_dirichlet_distribution() -> None:
    counts = np.array([6, 3, 1, 4])
    pairs, after = np.array([0, 0, 0, 3]), np.array([0, 1, 2, 1])
    rng = np.random.default_rng(0)
    drawn = np.stack(
        [
            dense(drawn_game(pairs, after, counts, n_states=3, n_actions=(2,), start=0, rng=rng))
            for _ in range(400)
        ]
    )
    share = counts[:3] / 10
    np.testing.assert_allclose(drawn[:, 0, 0].mean(axis=0), share, atol=0.03)
    np.testing.assert_allclose(drawn[:, 0, 0].var(axis=0), share * (1 - share) / 11, atol=5e-3)
    np.testing.assert_array_equal(drawn[:, 1, 1], np.tile([0.0, 1.0, 0.0], (400, 1)))
    np.testing.assert_allclose(drawn[:, 0, 1], drawn[:, 0, 0])  # as the other action there
    np.testing.assert_array_equal(drawn[:, 2], np.tile([0.0, 0.0, 1.0], (400, 2, 1)))  # unvisited


def test_an_action_that_was_never_played_leads_where_those_like_it_lead() -> None:
    """Two agents: (0, 0), (0, 1) and (1, 0) were played, so (1, 1) is like the last two."""
    pairs, after, counts = np.array([0, 1, 2]), np.array([0, 1, 2]), np.array([9, 1, 3])
    game, informed = estimated_game(pairs, after, counts, n_states=3, n_actions=(2, 2), start=0)
    np.testing.assert_allclose(dense(game)[0, 1, 1], [0, 0.5, 0.5])
    np.testing.assert_allclose(dense(game)[0, 0, 0], [1, 0, 0])
    np.testing.assert_allclose(dense(game)[1, 1, 1], [0, 1, 0])  # never visited
    assert informed.tolist() == [False] * 3


def test_draws_of_an_action_that_was_never_played() -> None:
    pairs, after = np.array([0, 1]), np.array([1, 2])
    rng = np.random.default_rng(1)
    found = [
        drawn_game(
            pairs, after, np.array([5, 5]), n_states=3, n_actions=(3,), start=0, rng=rng
        ).next_states[0]
        for _ in range(200)
    ]
    assert {tuple(own) for own in found} == {(1, 2, 1), (1, 2, 2)}
    assert 60 < sum(own[2] == 1 for own in found) < 140


@pytest.mark.parametrize("retained", [0.0, 0.4])
@pytest.mark.parametrize("featured", [False, True])
def test_the_move_of_the_mean_is_that_of_a_fit_with_other_dynamics(retained, featured) -> None:
    """A second route: the posterior mean is computed again with the other game."""
    game = random_game(np.random.default_rng(3))
    trace, policies = learned(game, 3, 50)
    stages = [StageArrays(own.counts) for own in trace.stages]
    table = dense(game)
    nearby = table + 1e-6 * (np.random.default_rng(4).dirichlet(np.ones(5), (5, 3, 2)) - table)
    other = MarkovGame.from_tables(transitions=nearby)
    features = np.random.default_rng(5).normal(size=(5, 4)) if featured else None

    def fits(own: MarkovGame):
        return alternate(
            stages,
            [ExactEvaluation(own, "state", DISCOUNT, TEMPERATURE)] * 2,
            known_policies=list(policies.values()),
            features=[features] * 2,
            temperature=TEMPERATURE,
            passes=2,
            given=Given(1e-3, 1.0, 1.0),
            retained=retained,
        )

    first, second = fits(game), fits(other)
    wide = with_uncertain_dynamics(first, stages, [other], features=[features] * 2)
    for one, two, found in zip(first, second, wide, strict=True):
        moved = two.posterior.mean - one.posterior.mean
        (column,) = found.posterior.spread.T
        # the part that the residuals carry is of the size of the residuals, and left out
        assert np.linalg.norm(column - moved) < 0.15 * np.linalg.norm(moved)
        assert found.further["dynamics_draws"] == 1
        expected = one.posterior.covariance() + np.outer(column, column)
        np.testing.assert_allclose(found.posterior.covariance(), expected, rtol=1e-9, atol=1e-14)


def test_a_fit_of_another_form_stays_as_it_was() -> None:
    game = random_game(np.random.default_rng(6))
    trace, policies = learned(game, 6, 20)
    stages = [StageArrays(own.counts) for own in trace.stages]
    model = ExactEvaluation(game, "state", DISCOUNT, TEMPERATURE)
    fits = alternate(
        stages,
        [model] * 2,
        known_policies=list(policies.values()),
        features=[None] * 2,
        temperature=TEMPERATURE,
        passes=1,
    )
    bare = [replace(own, data=None) for own in fits]
    for one, found in zip(
        bare, with_uncertain_dynamics(bare, stages, [game], features=[None] * 2), strict=True
    ):
        assert found.posterior is one.posterior
        assert found.further["dynamics_draws"] == 0


@pytest.mark.slow
def test_deviations_hold_where_the_dynamics_are_estimated() -> None:
    """With known policies the dynamics are all that is uncertain; without the draws, 48 percent of
    the values are within 2 standard deviations.
    """
    inside, draws = [], []
    observer = MaLflBellman(learner="exact", improvement=0.0)
    for seed in range(8):
        game = random_game(np.random.default_rng(seed))
        trace, policies = learned(game, seed, 100)
        found = observer.recover(
            trace,
            game=None,
            discount=DISCOUNT,
            temperature=TEMPERATURE,
            known_policies=policies,
        )
        for index, agent in enumerate(game.agents):
            truth = game.reward(index) - game.reward(index).mean()
            inside += (np.abs(found.rewards[agent] - truth) < 2 * found.sd[agent]).tolist()
            draws.append(found.diagnostics[agent]["dynamics_draws"])
    assert set(draws) == {20}
    assert 0.85 <= np.mean(inside) <= 0.99
