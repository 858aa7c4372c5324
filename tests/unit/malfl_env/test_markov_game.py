"""The tabular model: its numbering, its checks, and how environments provide it."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
from pettingzoo.utils.conversions import aec_to_parallel, parallel_to_aec
from pettingzoo.utils.wrappers import BaseParallelWrapper

import malfl_env
from malfl_env import InputError, checks, grid_world_v0, markov_game
from malfl_env.markov_game import Factor, MarkovGame, deterministic_game
from malfl_env.rules import cell_successors, grid_rules


def two_state_factor(**changes: object) -> Factor:
    """One agent, two actions: stay or switch, the switch failing with probability 0.25."""
    options = {
        "agents": (0,),
        "successors": np.array([[[0, 0], [1, 0]], [[1, 1], [0, 1]]]),
        "probabilities": np.array([[[1.0, 0.0], [0.75, 0.25]], [[1.0, 0.0], [0.75, 0.25]]]),
    }
    return Factor(**{**options, **changes})


def test_all_81_joint_states_of_the_paper_game_are_reachable() -> None:
    game = markov_game(grid_world_v0.parallel_env())
    reached, frontier = set(), {game.start}
    while frontier:
        reached |= frontier
        frontier = {int(s) for state in frontier for s in game.next_states[state].flat} - reached
    assert reached == set(range(81))


def test_next_states_of_the_paper_game() -> None:
    game = markov_game(grid_world_v0.parallel_env())
    moves = cell_successors(grid_rules(), 0)
    expected = moves[:, None, :, None] * 9 + moves[None, :, None, :]
    assert game.next_states.dtype == np.int64
    np.testing.assert_array_equal(game.next_states, expected.reshape(81, 5, 5))
    assert (game.n_agents, game.n_states, game.n_actions) == (2, 81, (5, 5))
    assert game.agents == ("agent_0", "agent_1")
    assert game.deterministic


@pytest.mark.parametrize(
    "duplicate",
    [copy.copy, copy.deepcopy, lambda game: pickle.loads(pickle.dumps(game))],
    ids=["copy", "deepcopy", "pickle"],
)
@pytest.mark.parametrize("with_rewards", [True, False])
def test_arrays_of_copies_are_read_only(duplicate, with_rewards) -> None:
    game = markov_game(grid_world_v0.parallel_env(slip=0.1))
    twin = duplicate(game if with_rewards else game.without_rewards())
    tables = [array for f in twin.factors for array in (f.successors, f.probabilities)]
    tables += twin.rewards or ()
    assert len(tables) == (6 if with_rewards else 4)
    for table in tables:
        with pytest.raises(ValueError, match="read-only"):
            table[...] = 0
    np.testing.assert_array_equal(twin.factors[0].successors, game.factors[0].successors)
    np.testing.assert_array_equal(twin.factors[1].probabilities, game.factors[1].probabilities)
    assert (twin.start, twin.observation_shape) == (game.start, game.observation_shape)
    assert not with_rewards or np.array_equal(twin.reward(1), game.reward(1))


def test_rewards_over_joint_actions_are_kept() -> None:
    table = np.random.default_rng(0).standard_normal((81, 5, 5))
    game = markov_game(grid_world_v0.parallel_env(rewards=[table, "avoid"]))
    np.testing.assert_array_equal(game.reward(0), table)
    assert game.reward(1).shape == (81,)


@pytest.mark.parametrize(
    "make",
    [
        grid_world_v0.parallel_env,
        grid_world_v0.raw_env,
        grid_world_v0.env,
        lambda **options: BaseParallelWrapper(grid_world_v0.parallel_env(**options)),
        lambda **options: aec_to_parallel(grid_world_v0.env(**options)),
    ],
)
def test_every_form_and_wrapper_of_an_environment_has_the_model(make) -> None:
    game = markov_game(make(size=2, n_agents=3, slip=0.1))
    assert game.n_states == 64
    assert not game.deterministic


def test_other_environments_may_bring_their_own_model() -> None:
    class Other:
        def markov_game(self) -> MarkovGame:
            return deterministic_game(np.zeros((1, 2, 2), dtype=int), start=0)

    assert markov_game(Other()).n_states == 1


@pytest.mark.parametrize("env", [None, "grid", object()])
def test_environments_without_a_model_are_rejected(env: object) -> None:
    with pytest.raises(ValueError, match="env must be a grid world, or an environment with"):
        markov_game(env)


def test_large_games_are_rejected_before_memory_is_taken() -> None:
    env = grid_world_v0.parallel_env(size=50, n_agents=4)  # 2500 ** 4 joint states
    env.reset()
    env.step(dict.fromkeys(env.agents, 0))
    with pytest.raises(ValueError, match=r"size 50 with 4 agents would take 1\.16e\+06 GiB"):
        markov_game(env)
    env = grid_world_v0.parallel_env(size=100, n_agents=300)
    with pytest.raises(ValueError, match=r"would take 2\.4e\+1203 bytes"):
        markov_game(env)


def test_joint_tables_are_rejected_where_factors_are_not() -> None:
    game = markov_game(grid_world_v0.parallel_env(size=4, n_agents=4))
    assert game.reward(3).shape == (16**4,)
    game = markov_game(grid_world_v0.parallel_env(size=3, n_agents=5, slip=0.1))
    with pytest.raises(ValueError, match=r"59049 joint states would take .* GiB"):
        game.joint_successors()


def test_the_memory_limit_can_be_moved(monkeypatch: pytest.MonkeyPatch) -> None:
    env = grid_world_v0.parallel_env()
    monkeypatch.setattr(checks, "MAX_TABLE_BYTES", 1000)
    with pytest.raises(ValueError, match="would take 1296 bytes of memory, the limit is 1000"):
        markov_game(env)
    with pytest.raises(ValueError, match="would take 3856 bytes of memory, the limit is 1000"):
        grid_world_v0.parallel_env()


def test_state_index_and_observation() -> None:
    game = markov_game(grid_world_v0.parallel_env())
    assert game.state_index([0, 1, 2, 0]) == 1 * 9 + 6
    assert isinstance(game.state_index(np.array([0.0, 1.0, 2.0, 0.0])), int)
    assert game.state_index(np.zeros((4, 2, 4), dtype=int)).shape == (4, 2)
    assert game.observation(15).tolist() == [0, 1, 2, 0]
    assert game.local_states(15).tolist() == [1, 6]


@pytest.mark.parametrize(
    "observation",
    [[0, 0, 0], [0, 0, 0, 3], [0, -1, 0, 0], [0, 0.5, 0, 0], [0, 0, 0, np.nan], ["0"] * 4, 3, None],
)
def test_invalid_observations_are_rejected(observation: object) -> None:
    game = markov_game(grid_world_v0.parallel_env())
    with pytest.raises(ValueError, match="an observation must be 4 whole numbers"):
        game.state_index(observation)


def test_stochastic_games_have_no_next_states() -> None:
    game = MarkovGame((2,), (two_state_factor(),), start=0)
    with pytest.raises(ValueError, match="stochastic"):
        _ = game.next_states
    successors, probabilities = game.joint_successors()
    dense = np.zeros((2, 2, 2))
    for state, action in np.ndindex(2, 2):
        np.add.at(dense[state, action], successors[state, action], probabilities[state, action])
    assert dense.tolist() == [[[1, 0], [0.25, 0.75]], [[0, 1], [0.75, 0.25]]]


def test_a_factor_may_be_moved_by_agents_in_the_middle() -> None:
    """Three agents; agent 1 moves a switch alone, agents 0 and 2 together move a counter mod 3."""
    counter = (np.arange(3)[:, None, None] + np.arange(2)[:, None] + np.arange(2)) % 3
    counter = Factor((0, 2), counter[..., None], np.ones((3, 2, 2, 1)))
    switch = np.array([[0, 1], [1, 0]])
    switch = Factor((1,), switch[..., None], np.ones((2, 2, 1)))
    game = MarkovGame((2, 2, 2), (counter, switch), start=0)
    for state, a0, a1, a2 in np.ndindex(6, 2, 2, 2):
        count, light = divmod(state, 2)
        expected = (count + a0 + a2) % 3 * 2 + (light ^ a1)
        assert game.next_states[state, a0, a1, a2] == expected


def test_deterministic_game_gives_its_table_back() -> None:
    table = np.random.default_rng(0).integers(4, size=(4, 3, 2), dtype=np.int32)
    rewards = [np.arange(4), np.zeros((4, 3, 2))]
    game = deterministic_game(table, start=2, rewards=rewards)
    np.testing.assert_array_equal(game.next_states, table)
    assert game.next_states.dtype == np.int64
    assert game.n_actions == (3, 2)
    assert game.observation_shape == (4,)
    rewards[0][0] = 9
    assert game.reward(0).tolist() == [0, 1, 2, 3]


def test_stripped_games_have_no_rewards() -> None:
    game = markov_game(grid_world_v0.parallel_env())
    stripped = game.without_rewards()
    assert stripped.rewards is None
    assert game.rewards is not None
    with pytest.raises(ValueError, match="stripped of its rewards"):
        stripped.reward(0)
    with pytest.raises(ValueError, match=r"agent_index must be 0\.\.1, got -1"):
        game.reward(-1)
    assert not game.reward(0).flags.writeable


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"agents": (0, 1)}, "needs successors and probabilities of one shape with 4 axes"),
        ({"agents": (1, 1)}, "increasing"),
        ({"probabilities": np.ones((2, 2, 1))}, "one shape"),
        ({"successors": np.full((2, 2, 2), 2)}, r"local states 0\.\.1, got 2\.\.2"),
        ({"successors": np.zeros((2, 2, 2))}, "whole numbers"),
        ({"probabilities": np.full((2, 2, 2), 0.6)}, r"row \(0, 0\) is \[0\.6, 0\.6\]"),
        ({"probabilities": np.tile([1.5, -0.5], (2, 2, 1))}, r"row \(0, 0\) is \[1\.5, -0\.5\]"),
        ({"probabilities": np.full((2, 2, 2), np.nan)}, r"row \(0, 0\) is \[nan, nan\]"),
    ],
)
def test_bad_factors_are_rejected(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        two_state_factor(**changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_actions": (2, 2)}, r"exactly one factor, but .* by \[0\]"),
        ({"n_actions": (3,)}, r"tables for \(2,\) actions, expected \(3,\)"),
        ({"start": 2}, r"start must be a joint state 0\.\.1, got 2"),
        ({"observation_shape": (3,)}, "numbers 3 states, the game has 2"),
        ({"rewards": ()}, "rewards must be one table for each of 1 agents, got 0"),
        ({"rewards": (np.zeros(3),)}, r"shape \(3,\), expected \(2,\) or \(2, 2\)"),
        ({"rewards": (np.array([0, np.inf]),)}, "not finite"),
    ],
)
def test_games_whose_parts_do_not_fit_are_rejected(
    changes: dict[str, object], message: str
) -> None:
    options = {"n_actions": (2,), "factors": (two_state_factor(),), "start": 0}
    with pytest.raises(ValueError, match=message):
        MarkovGame(**{**options, **changes})


def test_the_function_and_the_module_live_side_by_side() -> None:
    assert callable(malfl_env.markov_game)
    assert malfl_env.MarkovGame is MarkovGame


class Passing(BaseParallelWrapper):
    """A wrapper that changes nothing."""


class Opposite(BaseParallelWrapper):
    def step(self, actions):
        observations, rewards, *rest = self.env.step(actions)
        return observations, {agent: -value for agent, value in rewards.items()}, *rest


class Elsewhere(BaseParallelWrapper):
    def reset(self, seed=None, options=None):
        self.env.reset(seed=seed, options=options)
        return self.env.step(dict.fromkeys(self.env.agents, 0))[0], {}


class Own(Opposite):
    def markov_game(self):
        return markov_game(self.env).without_rewards()


class Slower(grid_world_v0.parallel_env):
    def step(self, actions):
        return super().step({agent: 4 for agent in actions})


def test_wrappers_that_change_nothing_are_looked_through() -> None:
    plain = markov_game(grid_world_v0.parallel_env())
    for env in (
        Passing(Passing(grid_world_v0.parallel_env())),
        grid_world_v0.env(),
        grid_world_v0.raw_env(),
        aec_to_parallel(grid_world_v0.env()),
    ):
        game = markov_game(env)
        np.testing.assert_array_equal(game.next_states, plain.next_states)
        np.testing.assert_array_equal(game.reward(0), plain.reward(0))


@pytest.mark.parametrize("wrapper", [Opposite, Elsewhere])
def test_wrappers_that_play_another_game_are_rejected(wrapper) -> None:
    for wrapped in (
        wrapper(grid_world_v0.parallel_env()),
        Passing(wrapper(Passing(grid_world_v0.parallel_env()))),
        parallel_to_aec(wrapper(grid_world_v0.parallel_env())),
    ):
        with pytest.raises(InputError, match=f"the wrapper {wrapper.__name__} has its own"):
            markov_game(wrapped)


def test_a_wrapper_may_bring_the_model_of_the_game_it_plays() -> None:
    assert markov_game(Own(grid_world_v0.parallel_env())).rewards is None


def test_a_subclass_or_object_with_its_own_step_is_rejected() -> None:
    with pytest.raises(InputError, match=r"Slower has its own step\(\), but the markov_game"):
        markov_game(Slower())
    env = grid_world_v0.parallel_env()
    env.step = lambda actions: None
    with pytest.raises(InputError, match="has its own step"):
        markov_game(env)


def test_arrays_stay_as_they_were_checked() -> None:
    successors, rewards = np.zeros((1, 2, 2, 1), dtype=np.int64), np.zeros(1)
    factor = Factor((0, 1), successors, np.ones((1, 2, 2, 1)))
    game = MarkovGame((2, 2), (factor,), np.int64(0), rewards=(rewards, rewards))
    successors[:], rewards[:] = 10**8, np.nan
    assert game.next_states.max() == 0
    assert game.reward(0) == 0
    assert type(game.start) is int
    for array in (factor.successors, factor.probabilities, game.rewards[0], game.reward(1)):
        with pytest.raises(ValueError, match="read-only"):
            array[:] = 1
    stripped = game.without_rewards()
    assert stripped.factors[0].successors is factor.successors  # no copy of a copy
