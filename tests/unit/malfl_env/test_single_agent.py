"""The Gymnasium view: one agent's results, and the policies of the others."""

from __future__ import annotations

import copy

import gymnasium
import numpy as np
import pytest
from pettingzoo.utils import BaseParallelWrapper

from malfl_env import grid_world_v0, markov_game, single_agent_env

DOWN, RIGHT, STAY = 0, 3, 4


def episode(env: gymnasium.Env, n_steps: int = 60) -> list[list[int]]:
    return [env.step(STAY)[0].tolist() for _ in range(n_steps)]


def test_the_view_is_the_agents_row() -> None:
    env = single_agent_env(
        agent="agent_1", policies={"agent_0": lambda observation, rng: DOWN}, max_cycles=3
    )
    assert isinstance(env, gymnasium.Env)
    observation, info = env.reset(seed=0)
    assert (observation.tolist(), info) == ([0, 0, 0, 0], {})
    observation, reward, terminated, truncated, info = env.step(RIGHT)
    assert observation.tolist() == [1, 0, 0, 1]
    assert (reward, terminated, truncated, info) == (-4.0, False, False, {})
    assert type(reward) is float
    observation, reward, *_ = env.step(RIGHT)
    assert observation.tolist() == [2, 0, 0, 2]
    assert reward == -3.0 + 2.0
    assert env.step(STAY)[3] is True


def test_an_environment_or_options_but_not_both() -> None:
    parallel = grid_world_v0.parallel_env(size=4)
    assert single_agent_env(parallel).parallel_env is parallel
    assert single_agent_env(size=5).parallel_env.rules.size == 5
    with pytest.raises(ValueError, match=r"not both: \{'size': 5\}"):
        single_agent_env(parallel, size=5)
    with pytest.raises(ValueError, match="must be a PettingZoo parallel environment"):
        single_agent_env(grid_world_v0.env())


def test_tables_are_followed_state_by_state() -> None:
    parallel = grid_world_v0.parallel_env()
    game = markov_game(parallel)
    rng = np.random.default_rng(0)
    chosen = rng.integers(5, size=81)
    env = single_agent_env(parallel, policies={"agent_1": np.eye(5)[chosen]})
    observation, _ = env.reset(seed=0)
    for action in rng.integers(5, size=200):
        state = game.state_index(observation)
        observation = env.step(action)[0]
        assert game.state_index(observation) == game.next_states[state, action, chosen[state]]


def test_tables_are_sampled_with_their_probabilities() -> None:
    policy = np.array([0.0, 0.1, 0.2, 0.0, 0.7])
    env = single_agent_env(starts=(0, 1), policies={"agent_1": np.tile(policy, (81, 1))})
    counts = np.zeros(5)
    ends = {(1, 1): DOWN, (0, 0): 2, (0, 2): RIGHT}
    n_draws = 4000
    env.reset(seed=0)
    for _ in range(n_draws):
        observation = env.step(STAY)[0]
        counts[ends.get(tuple(observation[2:]), STAY)] += 1  # up bumps: one with stay
        env.reset()
    assert counts[DOWN] == counts[RIGHT] == 0
    assert counts[2] / n_draws == pytest.approx(0.2, abs=5 * np.sqrt(0.2 * 0.8 / n_draws))


def test_agents_without_a_policy_are_uniform() -> None:
    env = single_agent_env(size=5, starts=(2, 2), max_cycles=1)
    counts: dict[tuple[int, ...], int] = {}
    env.reset(seed=1)
    for _ in range(5000):
        other = tuple(env.step(STAY)[0][2:].tolist())
        counts[other] = counts.get(other, 0) + 1
        env.reset()
    assert set(counts) == {(3, 2), (1, 2), (2, 1), (2, 3), (2, 2)}
    statistic = sum((count - 1000) ** 2 / 1000 for count in counts.values())
    assert statistic < 18.5  # chi-square with 4 degrees of freedom: probability 0.001


def test_one_seed_determines_everything() -> None:
    def run(seed: int) -> list[list[list[int]]]:
        env = single_agent_env(slip=0.3)
        env.reset(seed=seed)
        episodes = [episode(env)]
        env.reset()
        return [*episodes, episode(env)]

    first = run(5)
    assert first == run(5)
    assert first[0] != first[1]
    assert first != run(6)


def test_reset_without_a_seed_keeps_both_generators() -> None:
    env = single_agent_env(slip=0.3)
    env.reset(seed=0)
    outer, inner = env.np_random, env.parallel_env.np_random
    env.reset()
    assert env.np_random is outer
    assert env.parallel_env.np_random is inner


def test_copies_can_be_seeded_apart() -> None:
    env = single_agent_env(slip=0.3)
    env.reset(seed=0)
    twin = copy.deepcopy(env)
    assert episode(twin) == episode(env)
    twin.reset(seed=1)
    env.reset(seed=2)
    assert episode(twin) != episode(env)


def test_rendering_is_the_games() -> None:
    env = single_agent_env(render_mode="rgb_array")
    env.reset()
    assert env.render_mode == "rgb_array"
    assert env.render().shape == (336, 336, 3)
    env.close()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"agent": "agent_2"}, r"agent must be one of 'agent_0', 'agent_1'; got 'agent_2'"),
        ({"policies": {"agent_0": None}}, r"an agent id must be one of 'agent_1'; got 'agent_0'"),
        ({"policies": {"agent_1": np.ones((81, 4)) / 4}}, r"must have shape \(81, 5\), got"),
        ({"policies": {"agent_1": np.ones((81, 5))}}, r"sum to 1 in every state; row 0 is \[1"),
        ({"policies": {"agent_1": np.tile([2.0, -1, 0, 0, 0], (81, 1))}}, "must hold probabil"),
        ({"policies": {"agent_1": np.full((81, 5), np.nan)}}, r"row 0 is \[nan"),
        ({"policies": {"agent_1": "uniform"}}, "must be an array of probabilities or a callable"),
    ],
)
def test_bad_options_are_named(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        single_agent_env(**options)


def test_observations_that_do_not_number_a_state_need_a_callable() -> None:
    class Renamed(BaseParallelWrapper):
        """Agents of other names, whose observations do not number the joint state."""

        possible_agents = ("left", "right")

        def observation_space(self, agent: str) -> gymnasium.spaces.Box:
            return gymnasium.spaces.Box(0.0, 1.0, (4,))

        def action_space(self, agent: str) -> gymnasium.spaces.Discrete:
            return gymnasium.spaces.Discrete(5)

    env = Renamed(grid_world_v0.parallel_env(observations="coordinates"))
    with pytest.raises(ValueError, match="the table of right must be a callable"):
        single_agent_env(env, agent="left", policies={"right": np.full((81, 5), 0.2)})
