"""Stages played on many copies of a game are recorded as they happened."""

from __future__ import annotations

import numpy as np
import pytest
from network_games import (
    Bottomless,
    Corridor,
    Deserted,
    Late,
    Steered,
    Told,
    Uncopied,
)

from malfl_algos import LearningTrace
from malfl_algos.play import games_of, joined, play_stage
from malfl_env import grid_world_v0
from malfl_env.errors import InputError


def uniform(n_actions):
    return lambda agent, seen: np.full((len(seen), n_actions), 1 / n_actions)


def played(env, act, *, copies=4, episodes=10, episode_length=30, seed=0):
    games = games_of(env, copies)
    rng = np.random.default_rng(seed)
    parts = play_stage(games, act, episodes=episodes, episode_length=episode_length, rng=rng)
    return joined(parts)


def test_several_processes_play_the_same_games():
    def bytes_of(processes):
        games = games_of(Corridor(noise=0.2, box=True, max_cycles=9), 5, processes=processes)
        parts = play_stage(
            games, uniform(2), episodes=12, episode_length=20, rng=np.random.default_rng(3)
        )
        seen = joined(parts).observed.transitions
        return [
            seen.joint_actions.tobytes(),
            *(own.tobytes() for own in seen.observations.values()),
        ]

    assert bytes_of(1) == bytes_of(3)


def test_an_error_of_a_game_in_another_process_is_raised_here():
    games = games_of(Deserted(), 4, processes=2)
    with pytest.raises(InputError, match="must end together"):
        list(
            play_stage(
                games, uniform(2), episodes=4, episode_length=30, rng=np.random.default_rng(0)
            )
        )
    assert not any(process.is_alive() for process in games._processes)


def episodes_of(steps):
    ends = np.flatnonzero(steps.episode_ends) + 1
    return list(zip([0, *ends[:-1]], ends, strict=True))


@pytest.mark.parametrize(
    ("env", "n_actions", "lengths"),
    [
        (Corridor(), 2, {30}),
        (Corridor(max_cycles=7), 2, {7}),
        (Corridor(start=3, max_cycles=50), 2, {30}),
        (grid_world_v0.parallel_env(), 5, {30}),
        (grid_world_v0.parallel_env(observations="one_hot"), 5, {30}),
        (grid_world_v0.parallel_env(observations="coordinates"), 5, {30}),
        (grid_world_v0.parallel_env(max_cycles=8, n_agents=3, slip=0.2), 5, {8}),
    ],
)
def test_steps_of_an_episode_follow_one_another(env, n_actions, lengths):
    """The observation after a step is the one before the next step, except at an end."""
    stage = played(env, uniform(n_actions))
    seen = stage.observed.transitions
    spans = episodes_of(seen)
    assert len(spans) == 10
    assert {end - first for first, end in spans} == lengths
    for agent in env.possible_agents:
        before, after = seen.observations[agent], seen.next_observations[agent]
        for first, end in spans:
            np.testing.assert_array_equal(before[first + 1 : end], after[first : end - 1])
            np.testing.assert_array_equal(before[first], before[0])
    assert seen.terminations is None
    assert seen.joint_actions.max() == n_actions - 1
    spaces = tuple(env.observation_space(agent) for agent in env.possible_agents)
    n = len(env.possible_agents)
    LearningTrace((stage.observed,), tuple(env.possible_agents), (n_actions,) * n, spaces)


def test_the_last_observation_is_the_true_one():
    """No observation of the next episode is mixed in: the next cell follows from the action."""
    seen = played(Corridor(max_cycles=5), uniform(2)).observed.transitions
    own, after = seen.observations["left one"][:, 0], seen.next_observations["left one"][:, 0]
    moved = np.clip(own.astype(int) + 2 * seen.joint_actions[:, 0].astype(int) - 1, 0, 4)
    np.testing.assert_array_equal(after, moved)


def test_games_that_terminate():
    stage = played(Corridor(ends=True, max_cycles=6), uniform(2), episodes=300, copies=64)
    seen = stage.observed.transitions
    reached = seen.next_observations["left one"][:, 0] == 4
    np.testing.assert_array_equal(seen.terminations, reached)
    lengths = np.array([end - first for first, end in episodes_of(seen)])
    assert len(lengths) == 300
    assert lengths.min() == 2
    assert lengths.max() == 6
    # the shortest way right, twice; counted by copies that are not begun anew in between
    assert abs(np.mean(lengths == 2) - 0.25) < 5 * np.sqrt(0.25 * 0.75 / 300)


@pytest.mark.parametrize("env", [Corridor(), grid_world_v0.parallel_env()])
def test_action_frequencies_agree_with_the_policies(env):
    n_actions = env.action_space(env.possible_agents[0]).n
    rng = np.random.default_rng(0)
    table = rng.dirichlet(np.ones(n_actions), size=(2, 5))  # by agent and first digit

    def act(agent, seen):
        return table[agent][seen.reshape(len(seen), -1)[:, 0]]

    stage = played(env, act, copies=50, episodes=100, episode_length=100)
    for index, agent in enumerate(env.possible_agents):
        digit = stage.observed.transitions.observations[agent][:, 0]
        np.testing.assert_array_equal(stage.truth.policies[agent], table[index][digit])
        for value in np.unique(digit):
            own = stage.observed.transitions.joint_actions[digit == value, index]
            shares = np.bincount(own, minlength=n_actions) / len(own)
            sd = np.sqrt(0.25 / len(own))
            assert np.abs(shares - table[index][value]).max() < 5 * sd


def test_rewards_are_those_of_the_game():
    stage = played(Corridor(), uniform(2))
    for agent in ("left one", "right one"):
        own = stage.observed.transitions.observations[agent][:, 0]
        np.testing.assert_array_equal(stage.truth.rewards[agent], own)
    env = grid_world_v0.parallel_env(rewards="heterogeneous")
    stage = played(env, uniform(5))
    game = env.markov_game()
    states = game.state_index(stage.observed.transitions.observations["agent_0"])
    for index, agent in enumerate(env.possible_agents):
        np.testing.assert_array_equal(stage.truth.rewards[agent], game.reward(index)[states])


def test_one_call_of_a_network_for_all_copies():
    calls = []

    def act(agent, seen):
        calls.append((agent, len(seen)))
        return np.full((len(seen), 2), 0.5)

    played(Corridor(), act, copies=20, episodes=30, episode_length=5)
    assert calls == [*[(0, 20), (1, 20)] * 5, *[(0, 10), (1, 10)] * 5]


def test_the_given_environment_is_unchanged():
    env = Corridor()
    env.reset(seed=3)
    env.step({"left one": 1, "right one": 0})
    before = list(env.cells), env.clock, env.rng.bit_generator.state
    played(env, uniform(2))
    assert (list(env.cells), env.clock, env.rng.bit_generator.state) == before


def test_a_function_in_place_of_an_environment():
    first = played(lambda: Corridor(noise=0.3), uniform(2))
    second = played(Corridor(noise=0.3), uniform(2))
    np.testing.assert_array_equal(
        first.observed.transitions.joint_actions, second.observed.transitions.joint_actions
    )
    played(Uncopied, uniform(2))


@pytest.mark.parametrize(
    ("env", "words"),
    [
        (Deserted(), "agents must end together: left one ended"),
        (Late(), "agents must begin and end together: right one did not begin"),
        (Bottomless(), "rewards that are not finite"),
        (Uncopied(), "give a function that makes one"),
        (Steered(), "left one: actions must be Discrete"),
        (Told(), "left one: observations must be arrays"),
        ("a name", "env must be a PettingZoo parallel environment"),
        (lambda: 3, "env must be a PettingZoo parallel environment"),
    ],
)
def test_environments_that_do_not_fit(env, words):
    with pytest.raises(ValueError, match=words):
        played(env, uniform(2))
