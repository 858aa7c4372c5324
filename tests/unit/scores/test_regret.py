import numpy as np
import pytest
from exact import exact_policies

from malfl_algos.scores.regret import regret, start_values, trained_policies, true_play
from malfl_env import grid_world_v0, markov_game
from malfl_env.markov_game import deterministic_game

LEARNERS = {"discount": 0.9, "temperature": 3.0}


@pytest.fixture(scope="module")
def play():
    game = markov_game(grid_world_v0.parallel_env(rewards="heterogeneous"))
    return true_play(game, **LEARNERS, n_stages=10)


def rewards_of(play, change=lambda reward: reward):
    game = play.game
    return {agent: change(game.reward(index)) for index, agent in enumerate(game.agents)}


def test_a_bandit_by_hand():
    """One agent, one state, rewards 0 and 1. From the first improvement on, the policy is a softmax
    of reward / temperature; the value is the probability of the better action times 1/(1-g).
    """
    game = deterministic_game(np.zeros((1, 2), int), start=0, rewards=[np.array([[0.0, 1.0]])])
    play = true_play(game, discount=0.5, temperature=2.0, n_stages=3)
    good = 1 / (1 + np.exp(-0.5))
    assert play.trained == pytest.approx((2 * good,))
    assert play.uniform == (1.0,)
    for scale in (-1.0, 0.5, 3.0):
        reached = 2 / (1 + np.exp(-scale / 2))
        expected = abs(reached - 2 * good) / (2 * good - 1)
        found = regret({"agent_0": np.array([[0.0, scale]])}, play)["agent_0"].value
        assert found == pytest.approx(expected)


def test_the_ground_truth_has_no_regret_whatever_its_mean_and_shape(play):
    assert {score.value for score in regret(rewards_of(play), play).values()} == {0.0}
    joint = rewards_of(play, lambda r: np.broadcast_to(r[:, None, None] + 7, (81, 5, 5)))
    for score in regret(joint, play).values():
        assert score.value == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("level", [0.0, -4.0])
def test_a_constant_reward_has_the_regret_of_uniform_play(play, level):
    for score in regret(rewards_of(play, lambda r: np.full(81, level)), play).values():
        assert score.value == pytest.approx(1.0, abs=1e-12)


def test_a_wrong_reward_has_a_larger_regret_than_a_noisy_one(play):
    rng = np.random.default_rng(0)
    noisy = regret(rewards_of(play, lambda r: r + 0.1 * rng.normal(size=81)), play)
    wrong = regret(rewards_of(play, np.negative), play)
    for agent in noisy:
        assert 0 < noisy[agent].value < 0.1 < wrong[agent].value


def test_agents_without_a_recovered_reward_learn_from_the_ground_truth(play):
    agent_0 = rewards_of(play, np.negative)["agent_0"]
    alone = regret({"agent_0": agent_0}, play)
    assert list(alone) == ["agent_0"]
    both = regret({"agent_0": agent_0, "agent_1": play.game.reward(1)}, play)
    assert both["agent_0"] == alone["agent_0"]


def test_training_is_the_recursion_of_the_learners(play):
    expected = exact_policies(play.game, 5, **LEARNERS)[-1]
    found = trained_policies(play.game, **LEARNERS, n_stages=4)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-13)
    assert np.all(trained_policies(play.game, **LEARNERS, n_stages=0)[0] == 0.2)


def test_start_values_are_means_of_returns(play):
    """The discounted return of many simulated episodes, long enough for the discount."""
    game, rng = play.game, np.random.default_rng(1)
    policies = trained_policies(game, **LEARNERS, n_stages=2)
    states, returns = np.full(4000, game.start), np.zeros((4000, 2))
    for step in range(120):
        returns += 0.9**step * np.stack([game.reward(i)[states] for i in (0, 1)], axis=1)
        draws = rng.random((2, 4000, 1))
        moves = [
            (draw > policy[states].cumsum(axis=1)[:, :-1]).sum(axis=1)
            for draw, policy in zip(draws, policies, strict=True)
        ]
        states = game.next_states[states, moves[0], moves[1]]
    error = returns.std(axis=0) / np.sqrt(4000)
    found = start_values(game, policies, discount=0.9)
    assert np.all(np.abs(returns.mean(axis=0) - found) < 4 * error)


def test_no_regret_where_uniform_play_is_as_good(play):
    game = play.game.with_rewards([np.full(81, 2.5), play.game.reward(1)])
    indifferent = true_play(game, **LEARNERS, n_stages=10)
    scores = regret({"agent_0": np.arange(81.0), "agent_1": game.reward(1)}, indifferent)
    assert scores["agent_0"].value is None
    assert scores["agent_0"].reason == (
        "agents trained on the ground-truth rewards reach the value of uniform play"
    )
    assert scores["agent_1"].value is not None
    for holed in (np.nan, np.inf):
        scores = regret({"agent_0": np.full(81, holed), "agent_1": game.reward(1)}, play)
        assert {score.value for score in scores.values()} == {None}
        assert "agent_0's reward has values that are not finite" in scores["agent_1"].reason


def test_invalid_arguments_are_rejected(play):
    with pytest.raises(ValueError, match=r"unknown agent agent_7; the agents .* agent_0, agent_1"):
        regret({"agent_7": np.zeros(81)}, play)
    with pytest.raises(ValueError, match=r"shape \(3,\)"):
        regret({"agent_0": np.zeros(3)}, play)


def test_a_regret_that_overflows_is_missing_with_a_reason(play):
    """Twice the largest numbers: their differences are infinite."""
    huge = rewards_of(play, lambda r: np.where(r > r.mean(), 1.7e308, -1.7e308))
    with np.errstate(all="ignore"):
        found = regret(huge, play)
    assert {score.value for score in found.values()} == {None}
    assert all("too large" in score.reason for score in found.values())
