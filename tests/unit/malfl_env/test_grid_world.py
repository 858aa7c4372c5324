"""The PettingZoo side of the grid world: dictionaries, seeds, copies, errors."""

from __future__ import annotations

import copy
import pickle
import time
import warnings

import numpy as np
import pettingzoo
import pytest
from gymnasium.spaces import Discrete, MultiDiscrete

import malfl_env
from malfl_env import grid_world, grid_world_v0
from malfl_env.grid_world import GridWorld
from malfl_env.vector import GridWorldVector

DOWN, UP, LEFT, RIGHT, STAY = range(5)
BOTH = ("agent_0", "agent_1")


def both(first: object, second: object) -> dict[str, object]:
    return {"agent_0": first, "agent_1": second}


def play(env: GridWorld, n_steps: int) -> list[tuple[int, ...]]:
    """States of an episode in which all agents always go right."""
    return [tuple(env.step(dict.fromkeys(env.agents, RIGHT))[0]["agent_0"]) for _ in range(n_steps)]


def test_an_episode_by_hand() -> None:
    env = grid_world_v0.parallel_env(size=2, rewards="heterogeneous", max_cycles=4)
    observations, infos = env.reset()
    assert infos == both({}, {})
    assert [observations[agent].tolist() for agent in BOTH] == [[0, 0, 0, 0]] * 2
    expected = [  # actions; observation after; rewards of the state before
        ((DOWN, STAY), [1, 0, 0, 0], (-2, -2)),
        ((RIGHT, UP), [1, 1, 0, 0], (-1 - 1, -2 + 1)),
        ((LEFT, RIGHT), [0, 0, 0, 1], (0 - 2, -2 + 2)),
        ((LEFT, DOWN), [0, 0, 1, 1], (-2 - 1, -1 + 1)),
    ]
    for cycle, (actions, observation, rewards) in enumerate(expected, start=1):
        seen, got, terminations, truncations, infos = env.step(both(*actions))
        assert [seen[agent].tolist() for agent in BOTH] == [observation] * 2
        assert env.state().tolist() == observation
        assert got == both(*rewards)
        assert {type(reward) for reward in got.values()} == {float}
        assert terminations == both(False, False)
        assert truncations == both(cycle == 4, cycle == 4)
        assert infos == both({}, {})
    assert env.agents == []
    assert env.possible_agents == list(BOTH)


def test_the_goal_cell_is_occupied_for_one_step() -> None:
    env = grid_world_v0.parallel_env(size=2)
    env.reset()
    env.step(both(RIGHT, STAY))
    assert env.step(both(DOWN, STAY))[0]["agent_0"].tolist() == [1, 1, 0, 0]
    assert env.step(both(STAY, STAY))[0]["agent_0"].tolist() == [0, 0, 0, 0]


def test_names_spaces_and_metadata() -> None:
    env = grid_world_v0.parallel_env(size=4, n_agents=3)
    assert env.possible_agents == ["agent_0", "agent_1", "agent_2"]
    assert env.agents == []
    for agent in env.possible_agents:
        assert env.observation_space(agent) == MultiDiscrete([4] * 6)
        assert env.observation_space(agent) is env.observation_space(agent)
        assert env.action_space(agent) == Discrete(5)
        assert env.action_space(agent) is env.action_space(agent)
    assert env.action_space("agent_0") is not env.action_space("agent_1")
    assert env.state_space == MultiDiscrete([4] * 6)
    assert str(env) == "grid_world_v0"
    assert str(grid_world_v0.env().unwrapped) == "grid_world_v0"
    assert env.metadata["is_parallelizable"] is True
    assert env.metadata["render_modes"] == ["human", "ansi", "rgb_array"]
    observation = env.reset()[0]["agent_0"]
    assert observation.dtype == np.int64
    assert observation in env.observation_space("agent_0")
    assert env.state() in env.state_space


def test_rewards_over_joint_actions_count_what_was_chosen() -> None:
    table = np.arange(81 * 25, dtype=float).reshape(81, 5, 5)
    env = grid_world_v0.parallel_env(rewards=[table, np.arange(81)], slip=1.0)
    observation = env.reset(seed=0)[0]["agent_0"]
    rng = np.random.default_rng(0)
    game = malfl_env.markov_game(env)
    for first, second in rng.integers(5, size=(50, 2)):
        state = game.state_index(observation)
        observations, rewards, *_ = env.step(both(first, second))
        observation = observations["agent_0"]
        assert rewards == both(table[state, first, second], float(state))
        assert {type(reward) for reward in rewards.values()} == {float}


def test_a_seed_determines_this_episode_and_the_following() -> None:
    runs = []
    for _ in range(2):
        env = grid_world_v0.parallel_env(slip=0.5)
        env.reset(seed=3)
        episodes = [play(env, 40)]
        for _ in range(2):
            env.reset()
            episodes.append(play(env, 40))
        runs.append(episodes)
    assert runs[0] == runs[1]
    assert len({tuple(episode) for episode in runs[0]}) == 3
    env.reset(seed=3)
    assert play(env, 40) == runs[0][0]
    env.reset(seed=4)
    assert play(env, 40) != runs[0][0]


def test_unseeded_environments_differ() -> None:
    episodes = []
    for _ in range(2):
        env = grid_world_v0.parallel_env(slip=0.5)
        env.reset()
        episodes.append(play(env, 60))
    assert episodes[0] != episodes[1]


@pytest.mark.parametrize(
    "duplicate",
    [copy.copy, copy.deepcopy, lambda env: pickle.loads(pickle.dumps(env))],
    ids=["copy", "deepcopy", "pickle"],
)
def test_copies_go_on_from_where_they_are_and_can_be_seeded_apart(duplicate) -> None:
    env = grid_world_v0.parallel_env(slip=0.5, rewards=["approach", np.arange(81.0)])
    env.reset(seed=0)
    play(env, 3)
    twin = duplicate(env)
    assert twin.state().tolist() == env.state().tolist()
    twin.reset(seed=1)
    twins = play(twin, 40)
    env.reset(seed=2)
    assert play(env, 40) != twins
    env.reset(seed=1)
    assert play(env, 40) == twins
    assert twin.agents == list(BOTH)


def test_a_stepped_copy_leaves_the_original_where_it_is() -> None:
    env = grid_world_v0.parallel_env(max_cycles=3)
    env.reset()
    twin = copy.deepcopy(env)
    play(twin, 3)
    assert twin.agents == []
    assert env.agents == list(BOTH)
    assert env.state().tolist() == [0, 0, 0, 0]
    assert play(env, 3)[-1] == (0, 2, 0, 2)


def test_remembered_states_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grid_world, "_MAX_RECORDS", 5)
    small, large = (grid_world_v0.parallel_env(slip=1.0) for _ in range(2))
    small.reset(seed=0)
    first = [small.step(both(STAY, STAY))[1] for _ in range(200)]
    assert len(small._records) <= 5
    monkeypatch.undo()
    large.reset(seed=0)
    assert first == [large.step(both(STAY, STAY))[1] for _ in range(200)]
    assert len(large._records) > 5


def test_a_new_horizon_holds_from_the_next_reset() -> None:
    env = grid_world_v0.parallel_env(max_cycles=2)
    env.reset()
    env.max_cycles = 5
    play(env, 2)
    assert env.agents == []
    env.reset()
    play(env, 4)
    assert env.agents == list(BOTH)
    play(env, 1)
    assert env.agents == []
    with pytest.raises(ValueError, match="max_cycles must be a whole number >= 1, got 0"):
        env.max_cycles = 0


needs_registry = pytest.mark.skipif(
    not hasattr(pettingzoo, "register"), reason="PettingZoo has registries from 1.27 on"
)


@needs_registry
def test_the_registries_make_the_environment() -> None:
    parallel = pettingzoo.make("parallel", "malfl/grid_world-v0", size=4, max_cycles=7)
    assert isinstance(parallel, GridWorld)
    assert (parallel.rules.size, parallel.max_cycles) == (4, 7)
    aec = pettingzoo.make("aec", "malfl/grid_world_v0", n_agents=3)
    aec.reset(seed=0)
    assert len(aec.agents) == 3


@needs_registry
def test_registering_again_changes_nothing() -> None:
    before = pettingzoo.parallel_registry["malfl/grid_world-v0"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        malfl_env.grid_world_v0.register_environments()
    assert pettingzoo.parallel_registry["malfl/grid_world-v0"] is before


def test_registration_is_skipped_where_there_is_no_registry(monkeypatch) -> None:
    monkeypatch.delattr(pettingzoo, "register", raising=False)
    monkeypatch.delattr(pettingzoo, "parallel_registry", raising=False)
    malfl_env.grid_world_v0.register_environments()


TABLE = np.random.default_rng(0).normal(size=(81, 5, 5))


@pytest.mark.parametrize("number", [int, np.int8, np.uint64, np.array])
@pytest.mark.parametrize("rewards", ["homogeneous", [TABLE, TABLE]])
def test_an_action_means_the_same_whatever_its_type_and_the_rewards(number, rewards) -> None:
    plain, other = (grid_world_v0.parallel_env(rewards=rewards) for _ in range(2))
    for actions in ((1, 0), (0, 1), (1, 1)):
        plain.reset(seed=0)
        other.reset(seed=np.int64(0))
        expected = plain.step(both(*actions))
        found = other.step(both(*map(number, actions)))
        assert expected[1] == found[1]
        np.testing.assert_array_equal(expected[0]["agent_0"], found[0]["agent_0"])


@pytest.mark.parametrize("options", [{}, {"rewards": [TABLE, TABLE]}])
def test_pythons_true_is_the_action_1_as_its_space_says(options) -> None:
    env = grid_world_v0.parallel_env(**options)
    assert env.action_space("agent_0").contains(True)
    found = []
    for one in (1, True):
        env.reset(seed=0)
        found.append(env.step(both(one, 0)))
        view = malfl_env.single_agent_env(**options)
        view.reset(seed=0)
        found[-1] = (*found[-1][1].values(), view.step(one)[1])
    assert found[0] == found[1]


@pytest.mark.parametrize("truth", [np.True_, np.array(True)])
@pytest.mark.parametrize("options", [{}, {"slip": 0.5}, {"rewards": [TABLE, TABLE]}])
def test_numpys_booleans_are_no_actions_in_any_form(truth, options) -> None:
    """Whatever the rewards and the form of the environment."""
    env, view = grid_world_v0.parallel_env(**options), malfl_env.single_agent_env(**options)
    turns, batch = grid_world_v0.raw_env(**options), GridWorldVector(2, **options)
    for own in (env, view, turns, batch):
        own.reset(seed=0)
    words = "must be (a )?whole number"
    with pytest.raises(malfl_env.InputError, match=words):
        env.step(both(truth, 1))
    with pytest.raises(malfl_env.InputError, match=words):
        view.step(truth)
    turns.step(1)
    with pytest.raises(malfl_env.InputError, match=words):
        turns.step(truth)
    with pytest.raises(malfl_env.InputError, match=words):
        batch.step(np.full((2, 2), truth))
    partner = malfl_env.single_agent_env(policies={"agent_1": lambda seen, rng: truth}, **options)
    partner.reset(seed=0)
    with pytest.raises(malfl_env.InputError, match=words):
        partner.step(1)


def test_numpy_integers_are_whole_numbers_everywhere() -> None:
    three = np.int64(3)
    env = grid_world_v0.parallel_env(
        size=three, n_agents=three, max_cycles=three, starts=np.array([0, 1]), slip=np.float32(0.5)
    )
    view = malfl_env.single_agent_env(size=three)
    for seed in (7, np.int64(7), np.uint8(7)):
        observations, _ = env.reset(seed=seed)
        assert len(observations) == 3
        np.testing.assert_array_equal(view.reset(seed=seed)[0], [0, 0, 0, 0])
    with pytest.raises(malfl_env.InputError, match="seed must be a whole number >= 0, got -1"):
        view.reset(seed=-1)


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"size": 10**5}, "a grid world of size 100000 with 2 agents would take"),
        ({"size": 10**30}, "a grid world of size 1"),
        ({"n_agents": 10**5}, "a grid world of size 3 with 100000 agents would take"),
        ({"n_agents": 10**12}, "agents would take"),
    ],
)
def test_boards_that_would_fill_memory_are_rejected_at_once(options, what) -> None:
    began = time.process_time()
    with pytest.raises(malfl_env.InputError, match=what):
        grid_world_v0.parallel_env(**options)
    assert time.process_time() - began < 2
