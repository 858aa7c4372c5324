"""The ready-made games: their published numbers, and PettingZoo's tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pettingzoo
import pytest
from pettingzoo.test import parallel_api_test, parallel_seed_test

from malfl_env import InputError, MarkovGame, TabularEnv, games, markov_game
from malfl_env.testing import check_parallel_env

MADE = {name: getattr(games, name) for name in games.ENVIRONMENTS}


@pytest.mark.parametrize("name", MADE)
def test_pettingzoo_accepts_every_game(name) -> None:
    make = MADE[name]
    parallel_api_test(make(max_cycles=20), num_cycles=50)
    parallel_seed_test(make, num_cycles=30)


@pytest.mark.slow
@pytest.mark.parametrize("name", MADE)
def test_our_own_test_accepts_every_game(name) -> None:
    check_parallel_env(MADE[name], n_steps=20, n_episodes=2)


@pytest.mark.parametrize("name", MADE)
def test_a_game_has_its_table_and_names(name) -> None:
    game = markov_game(MADE[name]())
    assert isinstance(game, MarkovGame)
    assert len(game.states) == game.n_states
    assert [len(own) for own in game.actions] == list(game.n_actions)


@pytest.mark.skipif(not hasattr(pettingzoo, "register"), reason="PettingZoo before 1.27")
@pytest.mark.parametrize("name", MADE)
def test_the_registries_make_every_game(name) -> None:
    made = pettingzoo.make("parallel", f"malfl/{name}-v0", max_cycles=7)
    assert isinstance(made, TabularEnv)
    assert made.max_cycles == 7
    in_turn = pettingzoo.make("aec", f"malfl/{name}-v0")
    in_turn.reset(seed=0)
    assert tuple(in_turn.agents) == made.game.agents


def best_replies(game: MarkovGame) -> list[list[int]]:
    """Per agent the best reply to every action of the other one, in a one-shot game."""
    own, other = game.reward(0)[0], game.reward(1)[0]
    return [own.argmax(axis=0).tolist(), other.argmax(axis=1).tolist()]


def test_best_replies_of_the_one_shot_games() -> None:
    dilemma = games.prisoners_dilemma(memory=0).game
    assert best_replies(dilemma) == [[1, 1], [1, 1]]  # to defect is dominant
    pennies = games.matching_pennies(memory=0).game
    assert best_replies(pennies) == [[0, 1], [1, 0]]  # one wants to match, the other not
    np.testing.assert_array_equal(pennies.reward(0), -pennies.reward(1))


def test_the_state_of_a_repeated_game_is_the_last_joint_action() -> None:
    payoffs = np.arange(6.0).reshape(2, 3), np.zeros((2, 3))
    game = games.matrix_game(payoffs).game
    expected = np.broadcast_to(np.arange(6).reshape(2, 3), (6, 2, 3))
    np.testing.assert_array_equal(game.next_states, expected)
    np.testing.assert_array_equal(game.reward(0)[4], payoffs[0])
    assert game.states[4] == "action 1,action 1"
    three = games.matrix_game([np.zeros((2, 2, 2))] * 3).game
    assert (three.n_agents, three.n_states) == (3, 8)


def test_prices_of_calvano_et_al() -> None:
    """Section II.B of the paper: Bertrand-Nash 1.473, monopoly 1.925."""
    np.testing.assert_allclose(games.nash_prices(), 1.473, atol=5e-4)
    np.testing.assert_allclose(games.monopoly_prices(), 1.925, atol=5e-4)
    nash, monopoly = games.nash_prices()[0], games.monopoly_prices()[0]
    game = games.pricing().game
    grid = [float(name) for name in game.actions[0]]
    assert len(grid) == 15
    np.testing.assert_allclose(grid[0], nash - 0.1 * (monopoly - nash), atol=1e-3)
    np.testing.assert_allclose(grid[-1], monopoly + 0.1 * (monopoly - nash), atol=1e-3)


def test_equilibrium_prices_are_best_replies_and_the_greatest_joint_profit() -> None:
    """A second route: a search on a fine grid, with firms that differ."""
    kind = {"quality": (2.0, 2.3), "cost": (1.0, 1.1), "outside": 0.2, "differentiation": 0.3}
    fine = np.linspace(1.0, 3.0, 2001)
    nash = games.nash_prices(**kind)
    for firm in range(2):
        tried = np.tile(nash, (len(fine), 1))
        tried[:, firm] = fine
        best = fine[games.profits(tried, **kind)[:, firm].argmax()]
        assert abs(best - nash[firm]) < 2e-3
    joint = games.monopoly_prices(**kind)
    top = games.profits(joint, **kind).sum()
    around = joint + np.random.default_rng(0).normal(scale=0.05, size=(500, 2))
    assert top >= games.profits(around, **kind).sum(axis=1).max()


def test_profits_of_the_pricing_game_follow_from_the_demand() -> None:
    game = games.pricing(prices=[1.2, 1.7]).game
    sold = np.exp([(2 - 1.2) / 0.25, (2 - 1.7) / 0.25])
    share = sold / (sold.sum() + 1)
    np.testing.assert_allclose(game.reward(0)[3, 0, 1], 0.2 * share[0])
    np.testing.assert_allclose(game.reward(1)[3, 0, 1], 0.7 * share[1])
    assert game.next_states[3, 0, 1] == 1
    assert game.states[1] == "1.200,1.700"


def test_chances_of_the_two_step_task() -> None:
    """Daw et al.: 70 % common transitions, 30 % rare ones; then the next trial."""
    env = games.two_step()
    successors, chances = env.game.joint_successors()
    table = np.zeros((3, 2, 3))
    for row in np.ndindex(3, 2):
        np.add.at(table[row], successors[row], chances[row])
    np.testing.assert_allclose(table[0], [[0, 0.7, 0.3], [0, 0.3, 0.7]])
    np.testing.assert_allclose(table[1:], np.broadcast_to([1.0, 0, 0], (2, 2, 3)))
    env.reset(seed=0)
    seen = []
    for _ in range(2000):
        seen.append(int(env.step({"agent_0": 0})[0]["agent_0"][0]))
        env.agents or env.reset()
    assert abs(np.mean([own == 1 for own in seen if own]) - 0.7) < 0.04


def test_the_labyrinth_is_a_tree_of_127_nodes() -> None:
    game = games.labyrinth().game
    moves = game.next_states
    assert moves.shape == (127, 4)
    for node in range(1, 127):
        parent = (node - 1) // 2
        assert node in moves[parent]
        assert parent in moves[node]
    changed = moves != np.arange(127)[:, None]
    degree = changed.sum(axis=1)
    assert (degree[0], set(degree[1:63]), set(degree[63:])) == (2, {3}, {1})
    assert np.flatnonzero(game.reward(0)).tolist() == [116]


def test_the_door_opens_with_the_key_and_shuts_at_the_goal() -> None:
    game = games.key_and_door().game
    down, up, left, right, stay = range(5)
    number = {state: place for place, state in enumerate(game.states)}

    def after(state, one, other):
        return game.states[game.next_states[number[state], one, other]]

    assert (game.n_states, game.n_agents) == (162, 2)
    assert after((1, 0, 0, 1, "shut"), down, right) == (2, 0, 0, 1, "shut")
    assert after((2, 0, 0, 1, "shut"), stay, right) == (2, 0, 0, 1, "open")
    assert after((2, 0, 0, 1, "open"), up, right) == (1, 0, 0, 2, "open")
    assert after((1, 1, 2, 2, "open"), right, left) == (1, 1, 2, 2, "open")
    assert after((2, 2, 2, 2, "open"), left, stay) == (0, 0, 0, 0, "shut")
    moved = game.next_states != np.arange(162)[:, None, None]
    assert len(np.unique(game.next_states[moved])) == 162
    np.testing.assert_allclose(game.start_distribution, 1 / 162)


def test_rewards_of_the_key_and_the_door() -> None:
    game = games.key_and_door().game
    number = {state: place for place, state in enumerate(game.states)}
    expected = {(2, 2, 2, 0, "open"): (1.5, 0.1), (0, 0, 2, 2, "shut"): (-0.8, 0.2)}
    for state, pair in expected.items():
        np.testing.assert_allclose([game.reward(own)[number[state]] for own in (0, 1)], pair)
    drawn = [games.key_and_door(rewards="random", seed=own).game.reward(0) for own in (1, 1, 2)]
    np.testing.assert_array_equal(drawn[0], drawn[1])
    assert abs(np.corrcoef(drawn[0], drawn[2])[0, 1]) < 0.3
    assert 0.8 < drawn[0].std() < 1.2


DATA = Path(__file__).parents[4] / "shared/data/labyrinth/trans_probs.npy"


@pytest.mark.skipif(not DATA.exists(), reason="the published trajectories are not here")
def test_the_labyrinth_is_that_of_the_published_trajectories() -> None:
    published = np.load(DATA).argmax(axis=-1)
    np.testing.assert_array_equal(games.labyrinth().game.next_states, published)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: games.matrix_game([[[1, 2]]]), "must be arrays of one shape"),
        (lambda: games.matrix_game(np.zeros((2, 2, 2)), memory=2), "memory must be 0 or 1, got 2"),
        (lambda: games.prisoners_dilemma(reward=6), "temptation > reward"),
        (lambda: games.pricing(differentiation=0), "differentiation must be > 0"),
        (lambda: games.pricing(prices=[2, 1]), "prices must be increasing"),
        (lambda: games.pricing(cost=1.0), "cost must be"),
        (lambda: games.two_step(common=1.5), "common must be a number from 0 to 1"),
        (
            lambda: games.key_and_door(rewards="mine"),
            "rewards must be one of 'natural', 'random'; got 'mine'",
        ),
        (lambda: games.labyrinth(port=200), "port must be a node 0..126, got 200"),
    ],
)
def test_wrong_options_are_named(make, message) -> None:
    with pytest.raises(InputError, match=message):
        make()


def test_a_wrong_option_names_the_function_that_was_called() -> None:
    with pytest.raises(TypeError, match=r"key_and_door\(\) got an unexpected keyword .*'foo'"):
        games.key_and_door(foo=1)
